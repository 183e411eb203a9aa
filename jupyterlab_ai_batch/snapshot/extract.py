"""Putting the entries of layers on disk, without ever leaving the target directory.

Parents are opened below the target's descriptor, never through a symlink; nothing that exists is opened for writing.
Modes and times of directories are set at the end.
"""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from ..errors import SnapshotCorruptError
from ..oci.storage import remove_tree
from .beneath import open_beneath
from .limits import MAX_DEPTH, MAX_NAME_BYTES, MAX_PATH_BYTES
from .tarstream import corrupt

_TARGET_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NOT_A_PATH = frozenset({errno.ELOOP, errno.ENOTDIR, errno.EXDEV, errno.ENAMETOOLONG})
_FILE_MODE = 0o1777  # a file that runs as its owner is nothing that a layer may bring
_HOLE_BYTES = 1 << 20
_HOLE = bytes(_HOLE_BYTES)


@contextmanager
def built_beside(target: Path) -> Iterator[Path]:
    """A private directory that becomes ``target`` (missing or empty) at the end, and is removed on failure."""
    building = target.with_name(f"{building_prefix(target)}{uuid.uuid4().hex[:8]}")
    try:
        building.mkdir(mode=0o700)
        yield building
        with suppress(FileNotFoundError):
            target.rmdir()
        building.rename(target)
    except BaseException:
        remove_tree(building)
        raise


def building_prefix(target: Path) -> str:
    """How the names of directories begin that a killed restore of ``target`` leaves beside it."""
    return f".{target.name}."


class TreeWriter:
    """Creates entries below ``target`` (or its descriptor); a context manager.

    Raises (every method): OSError, and SnapshotCorruptError for a path that leads elsewhere or was there before.

    Args:
        keep_owner: Set uid and gid; only root can.
    """

    def __init__(self, target: Path | int, *, keep_owner: bool = False) -> None:
        self._root = open_beneath(target, "") if isinstance(target, int) else os.open(target, _TARGET_FLAGS)
        self._keep_owner = keep_owner and os.geteuid() == 0
        self._parent_path = ""
        self._parent = os.dup(self._root)
        self._directories: dict[str, tuple[int, int, int, int]] = {}

    def sibling(self) -> TreeWriter:
        """Another writer for the same target, for another thread; ``finish`` here serves both."""
        writer = TreeWriter(self._root, keep_owner=self._keep_owner)
        writer._directories = self._directories
        return writer

    def __enter__(self) -> TreeWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._parent)
        os.close(self._root)

    def add_directory(self, path: str, *, mode: int, mtime_ns: int, uid: int = 0, gid: int = 0) -> None:
        """Create it, or give its later mode to one that was created as a parent; ``""`` is the target itself."""
        if path:
            parent, name = self._locate(path)
            with suppress(FileExistsError):  # something else than a directory is found at the end
                os.mkdir(name, 0o700, dir_fd=parent)
        self._directories[path] = (mode, mtime_ns, uid, gid)

    def add_file(
        self, path: str, chunks: Iterable[bytes], *, mode: int, mtime_ns: int, uid: int = 0, gid: int = 0
    ) -> None:
        with self.new_file(path, mode=mode, mtime_ns=mtime_ns, uid=uid, gid=gid) as fd:
            _write_all(fd, chunks)

    @contextmanager
    def new_file(self, path: str, *, mode: int, mtime_ns: int, uid: int = 0, gid: int = 0) -> Iterator[int]:
        """The descriptor of an empty file, which gets its owner, mode and time afterwards."""
        parent, name = self._locate(path)
        with _new_entry(path):
            fd = os.open(name, _NEW_FILE_FLAGS, 0o600, dir_fd=parent)
        try:
            yield fd
            if self._keep_owner:
                os.fchown(fd, uid, gid)
            os.fchmod(fd, mode & _FILE_MODE)
            os.utime(fd, ns=(mtime_ns, mtime_ns))
        finally:
            os.close(fd)

    def add_symlink(self, path: str, target: str, *, mtime_ns: int, uid: int = 0, gid: int = 0) -> None:
        if not target or "\0" in target or len(os.fsencode(target)) >= MAX_PATH_BYTES:
            raise corrupt("bad link")
        parent, name = self._locate(path)
        with _new_entry(path):
            os.symlink(target, name, dir_fd=parent)
        if self._keep_owner:
            os.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)
        os.utime(name, ns=(mtime_ns, mtime_ns), dir_fd=parent, follow_symlinks=False)

    def add_hard_link(self, path: str, first: str) -> None:
        """Another name of a file that this writer created."""
        first_parent, _, first_name = first.rpartition("/")
        check_path(first)
        source = self._open(first_parent)
        try:
            parent, name = self._locate(path)
            with _new_entry(path):
                os.link(first_name, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(source)

    def link_from(self, live: str, path: str) -> os.stat_result:
        """Give a live file another name; returns what it now is (its ctime has moved)."""
        parent, name = self._locate(path)
        with _new_entry(path):
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
            fd = self._open(path)
            try:
                if self._keep_owner:
                    os.fchown(fd, uid, gid)
                os.fchmod(fd, mode)
                os.utime(fd, ns=(mtime_ns, mtime_ns))
            finally:
                os.close(fd)

    def _locate(self, path: str) -> tuple[int, str]:
        """(descriptor of the parent directory, name); the descriptor is good until the next call."""
        parent, _, name = path.rpartition("/")
        if parent == self._parent_path:
            check_name(name)
        else:
            check_path(path)
            opened = self._open_or_create(parent)
            os.close(self._parent)
            self._parent, self._parent_path = opened, parent
        return self._parent, name

    def _open_or_create(self, path: str) -> int:
        try:
            return self._open(path)
        except FileNotFoundError:
            pass
        parent, _, name = path.rpartition("/")
        above = self._open_or_create(parent)
        try:
            with suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=above)
        finally:
            os.close(above)
        return self._open(path)

    def _open(self, path: str) -> int:
        try:
            return open_beneath(self._root, path)
        except OSError as exc:
            if exc.errno in _NOT_A_PATH:
                raise corrupt(f"{path!r} is not a directory") from exc
            raise


def check_path(path: str) -> None:
    """Refuse a relative path that leads elsewhere, or that no file system holds.

    Raises:
        SnapshotCorruptError
    """
    if len(os.fsencode(path)) >= MAX_PATH_BYTES or path.count("/") > MAX_DEPTH:
        raise corrupt(f"a path of {len(path)} characters")
    for part in path.split("/"):
        check_name(part)


def check_name(name: str) -> None:
    """The same for one part of a path.

    Raises:
        SnapshotCorruptError
    """
    if name in ("", ".", "..") or "\0" in name or len(os.fsencode(name)) > MAX_NAME_BYTES:
        raise corrupt(f"bad path component {name[:MAX_NAME_BYTES]!r}")


@contextmanager
def _new_entry(path: str) -> Iterator[None]:
    """The directory is private: what is there already came from another entry of the layers."""
    try:
        yield
    except FileExistsError as exc:
        raise _twice(path) from exc


def _twice(path: str) -> SnapshotCorruptError:
    return corrupt(f"{path!r} appears twice")


def _write_all(fd: int, chunks: Iterable[bytes]) -> None:
    """Write to a new file; long runs of zeros become holes."""
    hole = False
    for chunk in chunks:
        hole = len(chunk) == _HOLE_BYTES and chunk == _HOLE
        if hole:
            os.lseek(fd, _HOLE_BYTES, os.SEEK_CUR)
            continue
        written = os.write(fd, chunk)
        while written < len(chunk):
            written += os.write(fd, memoryview(chunk)[written:])
    if hole:
        os.ftruncate(fd, os.lseek(fd, 0, os.SEEK_CUR))
