"""One place at home, and installs there that overwrite nothing.

An install writes ``.part``, flushes it and renames it. A replacement makes ``.part`` into ``.swap``, lets it change
places with the old file and looks at what came out; ``recover`` finishes or undoes what a killed merge left.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import BinaryIO

from ..models import OutputFile
from .naming import conflict_names, temporary_names

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2

_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_WRITE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_UNSUPPORTED = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTTY})
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
_CHUNK_BYTES = 1 << 20

OpenBlob = Callable[[str], BinaryIO]


@dataclass(frozen=True, slots=True)
class Content:
    """What a path holds: ``file`` and its sha256, ``symlink`` and its target, or ``other`` (directory, device, …)."""

    kind: str
    value: str = ""

    @property
    def digest(self) -> str:
        """The sha256 of a file's content or of a link's target; empty for everything else."""
        if self.kind == "symlink":
            return hashlib.sha256(os.fsencode(self.value)).hexdigest()
        return self.value


OTHER = Content("other")


class BlobMismatchError(OSError):
    """A blob does not have the size and digest that the OutputSet gives."""


def content_of(file: OutputFile) -> Content:
    """The content that the job left."""
    return Content("file", file.sha256) if file.link_target is None else Content("symlink", file.link_target)


class Place:
    """One name in an open directory at home; with a directory that does not exist nothing can be written.

    Attributes:
        path: Relative to the home.
        name: The last part of it.

    Args:
        is_durable: What is installed survives the end of the machine.
    """

    def __init__(self, directory: int | None, path: str, *, short_id: str, is_durable: bool = True) -> None:
        self.path = path
        self._is_durable = is_durable
        self.name = path.rpartition("/")[2]
        self._open_directory = directory
        self._short_id = short_id
        self._part, self._swap = temporary_names(self.name, short_id)

    @property
    def _directory(self) -> int:
        if self._open_directory is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.path)
        return self._open_directory

    def sibling(self, name: str) -> Place:
        """Another name in the same directory."""
        path = join(self.path.rpartition("/")[0], name)
        return Place(self._open_directory, path, short_id=self._short_id, is_durable=self._is_durable)

    def content(self) -> Content | None:
        """What is there now; None for nothing. A file that cannot be read is ``other``."""
        return self._content(self.name)

    def create(self, file: OutputFile, open_blob: OpenBlob) -> bool:
        """Install where there is nothing; False when something is there meanwhile.

        Raises:
            OSError: nothing was installed.
        """
        with self._written(file, open_blob):
            return self._rename_to_nothing(self._part, self.name)

    def replace(self, file: OutputFile, open_blob: OpenBlob, *, expected: Content) -> bool:
        """Install instead of ``expected``; False when home turned out to hold something else, which stays.

        Raises:
            OSError: home is as it was.
        """
        with self._written(file, open_blob):
            try:
                return self._replace_by_exchange(expected, content_of(file))
            except OSError as exc:
                if exc.errno not in _UNSUPPORTED:
                    raise
            return self._replace_by_backup(expected)

    def recover(self, *, base: str | None, job: Content) -> None:
        """Finish or undo what a killed merge of the same Submission left here; nothing of home is lost."""
        self._unlink(self._part)
        displaced = self._content(self._swap)
        if displaced is None:
            return
        present = self.content()
        if displaced == job or displaced.digest == base or self._same_inode(self._swap, self.name):
            self._unlink(self._swap)
        elif present is None:
            self._rename_to_nothing(self._swap, self.name)
        elif present == job:
            os.rename(self._swap, self.name, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        else:
            self._keep_aside(self._swap)

    def sync_directory(self) -> None:
        """Make the names in this place's directory durable."""
        os.fsync(self._directory)

    def _replace_by_exchange(self, expected: Content, job: Content) -> bool:
        os.rename(self._part, self._swap, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        try:
            _renameat2(self._directory, self._swap, self.name, RENAME_EXCHANGE)
        except FileNotFoundError:
            self._unlink(self._swap)
            return False
        except OSError:
            os.rename(self._swap, self._part, src_dir_fd=self._directory, dst_dir_fd=self._directory)
            raise
        if self._content(self._swap) == expected:
            self._unlink(self._swap)
            return True
        with suppress(FileNotFoundError):
            _renameat2(self._directory, self._swap, self.name, RENAME_EXCHANGE)
        self.recover(base=expected.digest, job=job)
        return False

    def _replace_by_backup(self, expected: Content) -> bool:
        """Where names cannot be exchanged: keep the old file under a second name until it is known to be ``expected``.

        An editor that renames its own new file into place between the last look and the rename is not noticed.
        """
        try:
            os.link(
                self.name,
                self._swap,
                src_dir_fd=self._directory,
                dst_dir_fd=self._directory,
                follow_symlinks=False,
            )
        except FileNotFoundError:
            return False
        if self._content(self._swap) != expected or not self._same_inode(self._swap, self.name):
            self._unlink(self._swap)
            return False
        os.rename(self._part, self.name, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        if self._content(self._swap) != expected:
            self._keep_aside(self._swap)
        else:
            self._unlink(self._swap)
        return True

    @contextmanager
    def _written(self, file: OutputFile, open_blob: OpenBlob) -> Iterator[None]:
        """The job's content, complete and flushed, as ``.part``; gone again where it was not installed."""
        try:
            if file.link_target is not None:
                os.symlink(file.link_target, self._part, dir_fd=self._directory)
            else:
                self._write(file, open_blob)
            yield
        finally:
            self._unlink(self._part)

    def _write(self, file: OutputFile, open_blob: OpenBlob) -> None:
        fd = os.open(self._part, _WRITE_FLAGS, 0o600, dir_fd=self._directory)
        with os.fdopen(fd, "wb", buffering=0) as target, open_blob(file.sha256) as source:
            sha256, size = hashlib.sha256(), 0
            while size <= file.size_bytes and (chunk := source.read(_CHUNK_BYTES)):
                sha256.update(chunk)
                size += len(chunk)
                _write_all(target, chunk)
            if size != file.size_bytes or sha256.hexdigest() != file.sha256:
                raise BlobMismatchError(errno.EIO, "what was stored is not what the job wrote")
            os.fchmod(fd, file.mode & 0o777 | 0o600)
            os.utime(fd, ns=(file.mtime_ns, file.mtime_ns))
            if self._is_durable:
                os.fsync(fd)

    def _content(self, name: str) -> Content | None:
        try:
            found = os.stat(name, dir_fd=self._directory, follow_symlinks=False)
            if stat.S_ISLNK(found.st_mode):
                return Content("symlink", os.readlink(name, dir_fd=self._directory))
            if not stat.S_ISREG(found.st_mode):
                return OTHER
            return Content("file", self._hash(name))
        except FileNotFoundError:
            return None
        except PermissionError:
            return OTHER

    def _hash(self, name: str) -> str:
        sha256 = hashlib.sha256()
        with os.fdopen(os.open(name, _READ_FLAGS, dir_fd=self._directory), "rb", buffering=0) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                sha256.update(chunk)
        return sha256.hexdigest()

    def _keep_aside(self, name: str) -> None:
        """Give a version of home that has no name any more one beside the file."""
        aside = conflict_names(self.name, self._short_id, origin="home")
        if not any(self._rename_to_nothing(name, candidate) for candidate in aside):
            raise FileExistsError(errno.EEXIST, "too many copies of this file")

    def _rename_to_nothing(self, old: str, new: str) -> bool:
        try:
            _renameat2(self._directory, old, new, RENAME_NOREPLACE)
        except FileExistsError:
            return False
        except OSError as exc:
            if exc.errno not in _UNSUPPORTED:
                raise
            return self._link_to_nothing(old, new)
        return True

    def _link_to_nothing(self, old: str, new: str) -> bool:
        try:
            os.link(old, new, src_dir_fd=self._directory, dst_dir_fd=self._directory, follow_symlinks=False)
        except FileExistsError:
            return False
        except OSError as exc:
            if exc.errno not in _NO_LINKS:
                raise
            return self._rename_onto_placeholder(old, new)
        self._unlink(old)
        return True

    def _rename_onto_placeholder(self, old: str, new: str) -> bool:
        """The last resort, on file systems without hard links: an empty file of ours holds the name."""
        try:
            os.close(os.open(new, _WRITE_FLAGS, 0o600, dir_fd=self._directory))
        except FileExistsError:
            return False
        os.rename(old, new, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        return True

    def _same_inode(self, one: str, other: str) -> bool:
        try:
            first, second = (os.stat(name, dir_fd=self._directory, follow_symlinks=False) for name in (one, other))
        except FileNotFoundError:
            return False
        return (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)

    def _unlink(self, name: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._directory)


def join(parent: str, name: str) -> str:
    """``name`` in the directory ``parent``, which is empty for the home itself."""
    return f"{parent}/{name}" if parent else name


def _write_all(target: BinaryIO, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[target.write(view) :]


def _renameat2(directory: int, old: str, new: str, flags: int) -> None:
    """Rename within one directory with ``flags``.

    Raises:
        OSError: with ENOSYS where the system has no such call.
    """
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if sys.platform == "linux" else None
    if function is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if function(directory, os.fsencode(old), directory, os.fsencode(new), ctypes.c_uint(flags)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), old)
