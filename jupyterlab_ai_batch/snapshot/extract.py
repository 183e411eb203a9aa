"""Putting the entries of a layer on disk, without ever leaving the target directory.

Each path is walked from the target's descriptor, one part at a time, never through a symlink; nothing that exists is
opened for writing. Modes and times of directories are set at the end.
"""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from ..oci.manifest import Layer
from ..oci.port import BlobStore
from .codec import open_decompressed
from .tarstream import TarReader, corrupt

MAX_ENTRIES = 5_000_000
MAX_BYTES = 256 << 30
CHUNK_BYTES = 1 << 20

_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class TreeWriter:
    """Creates entries below ``target``; a context manager. Raises OSError, and SnapshotCorruptError for bad paths.

    Args:
        keep_owner: Set uid and gid; only root can.
    """

    def __init__(self, target: Path, *, keep_owner: bool = False) -> None:
        self._root = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._keep_owner = keep_owner and os.geteuid() == 0
        self._parent_path = ""
        self._parent = os.dup(self._root)
        self._directories: dict[str, tuple[int, int, int, int]] = {}
        self._entries = 0
        self._bytes = 0

    def __enter__(self) -> TreeWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._parent)
        os.close(self._root)

    def add_directory(self, path: str, *, mode: int, mtime_ns: int, uid: int = 0, gid: int = 0) -> None:
        """Create it, or give its later mode to one that was created as a parent; ``""`` is the target itself."""
        self._count(0)
        if path:
            os.close(self._open_directory(path))
        self._directories[path] = (mode, mtime_ns, uid, gid)

    def add_file(
        self,
        path: str,
        chunks: Iterator[bytes],
        *,
        mode: int,
        mtime_ns: int,
        uid: int = 0,
        gid: int = 0,
    ) -> None:
        parent, name = self._locate(path)
        fd = os.open(name, _NEW_FILE_FLAGS, 0o600, dir_fd=parent)
        try:
            for chunk in chunks:
                self._count(len(chunk), entries=0)
                _write_all(fd, chunk)
            if self._keep_owner:
                os.fchown(fd, uid, gid)
            os.fchmod(fd, mode)
            os.utime(fd, ns=(mtime_ns, mtime_ns))
        finally:
            os.close(fd)

    def add_symlink(self, path: str, target: str, *, mtime_ns: int, uid: int = 0, gid: int = 0) -> None:
        if not target or "\0" in target:
            raise corrupt("bad link")
        parent, name = self._locate(path)
        os.symlink(target, name, dir_fd=parent)
        if self._keep_owner:
            os.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)
        os.utime(name, ns=(mtime_ns, mtime_ns), dir_fd=parent, follow_symlinks=False)

    def add_hard_link(self, path: str, first: str) -> None:
        """Another name of a file that this writer created."""
        first_parent, _, first_name = first.rpartition("/")
        source = self._open_directory(first_parent, create=False)
        try:
            parent, name = self._locate(path)
            os.link(first_name, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(source)

    def link_from(self, live: str, path: str) -> os.stat_result:
        """Give a live file another name; returns what it now is (its ctime has moved)."""
        parent, name = self._locate(path)
        os.link(live, name, dst_dir_fd=parent, follow_symlinks=False)
        return os.stat(name, dir_fd=parent, follow_symlinks=False)

    def remove_file(self, path: str) -> None:
        """Take away a name that this writer, or an earlier one, created."""
        parent, name = self._locate(path)
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=parent)

    def finish(self) -> None:
        """Set owners, modes and times of directories, inner ones first."""
        for path in sorted(self._directories, reverse=True):
            mode, mtime_ns, uid, gid = self._directories[path]
            fd = self._open_directory(path, create=False)
            try:
                if self._keep_owner:
                    os.fchown(fd, uid, gid)
                os.fchmod(fd, mode)
                os.utime(fd, ns=(mtime_ns, mtime_ns))
            finally:
                os.close(fd)

    def _locate(self, path: str) -> tuple[int, str]:
        """(descriptor of the parent directory, name); the descriptor is good until the next call."""
        self._count(0)
        parent, _, name = path.rpartition("/")
        check_parts([name])
        if parent != self._parent_path:
            opened = self._open_directory(parent)
            os.close(self._parent)
            self._parent, self._parent_path = opened, parent
        return self._parent, name

    def _open_directory(self, path: str, *, create: bool = True) -> int:
        fd = os.dup(self._root)
        parts = path.split("/") if path else []
        try:
            check_parts(parts)
            for part in parts:
                if create:
                    with suppress(FileExistsError):
                        os.mkdir(part, 0o700, dir_fd=fd)
                below = os.open(part, _DIRECTORY_FLAGS, dir_fd=fd)
                os.close(fd)
                fd = below
        except NotADirectoryError as exc:
            os.close(fd)
            raise corrupt(f"{path!r} is not a directory") from exc
        except OSError as exc:
            os.close(fd)
            if _is_loop(exc):
                raise corrupt(f"{path!r} leads through a link") from exc
            raise
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _count(self, size: int, *, entries: int = 1) -> None:
        self._entries += entries
        self._bytes += size
        if self._entries > MAX_ENTRIES or self._bytes > MAX_BYTES:
            raise corrupt("more than a snapshot may hold")


def check_parts(parts: list[str]) -> None:
    """Refuse path components that lead elsewhere.

    Raises:
        SnapshotCorruptError
    """
    for part in parts:
        if part in ("", ".", "..") or "\0" in part or "/" in part:
            raise corrupt(f"bad path component {part!r}")


@contextmanager
def opened_layer(store: BlobStore, layer: Layer) -> Iterator[TarReader]:
    """The entries of a layer; the blob is read to its end, which is what verifies its digest.

    Raises:
        SnapshotCorruptError: the blob is missing or damaged.
    """
    with store.open_blob(layer.digest) as blob:
        with open_decompressed(blob) as stream:
            yield TarReader(_Guarded(stream))
        while blob.read(CHUNK_BYTES):
            pass


class _Guarded:
    """A decompressed stream whose errors are ours."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def read(self, size: int) -> bytes:
        try:
            return self._stream.read(size)
        except (OSError, EOFError, zlib.error) as exc:
            raise corrupt(str(exc)) from exc


def chunks_of(reader: TarReader, seen: Callable[[bytes], None] = lambda _chunk: None) -> Iterator[bytes]:
    """The content of the reader's present entry."""
    while chunk := reader.read(CHUNK_BYTES):
        seen(chunk)
        yield chunk


def _write_all(fd: int, chunk: bytes) -> None:
    with memoryview(chunk) as view:
        written = 0
        while written < len(view):
            written += os.write(fd, view[written:])


def _is_loop(exc: OSError) -> bool:
    return exc.errno == errno.ELOOP
