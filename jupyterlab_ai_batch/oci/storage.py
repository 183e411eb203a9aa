"""Files of the batch store: private directories, atomic replacement, and operating-system errors as ours."""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import StorageError, StorageFullError, StoragePermissionError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Translate an OSError raised while ``path`` (the store, or a part of it) is read or written.

    Raises:
        StorageFullError: no space or no quota left.
        StoragePermissionError: not ours to read or write.
        StorageError: anything else.
    """
    try:
        yield
    except OSError as exc:
        raise _translate(exc, path) from exc


def _translate(exc: OSError, path: Path) -> StorageError:
    details = {"path": str(path), "errno": errno.errorcode.get(exc.errno or 0, str(exc.errno))}
    if exc.errno in _FULL:
        return StorageFullError(
            "There is no space left for the batch store.",
            hint=f"Free some space or quota on the file system of {path}, then submit again.",
            details=details,
        )
    if exc.errno in _DENIED:
        return StoragePermissionError(
            "The batch store cannot be written or read.",
            hint=f"Check that {path} belongs to you and is not read-only.",
            details=details,
        )
    return StorageError(f"The batch store failed: {exc.strerror or exc}.", hint=f"Check {path}.", details=details)


def ensure_private_directory(path: Path) -> None:
    """Create ``path`` (0700) where missing; refuse one that belongs to somebody else; close one of ours to others.

    Raises:
        StoragePermissionError: the directory belongs to another user or is a symlink to nowhere.
        StorageError, StorageFullError: it cannot be created.
    """
    with storage_errors(path):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
        check_owner(path, found)
        if found.st_mode & 0o077:
            path.chmod(0o700)


def check_owner(path: Path, found: os.stat_result) -> None:
    """Refuse what belongs to another user.

    Raises:
        StoragePermissionError: the owner is not the present user.
    """
    if found.st_uid != os.geteuid():
        raise StoragePermissionError(
            "The batch store belongs to another user.",
            hint=f"Choose a data directory of your own, or ask the owner of {path} to remove it.",
            details={"path": str(path)},
        )


def replace_file(path: Path, content: bytes) -> None:
    """Write ``path`` so that a reader or a crash sees either the old or the new content (mode 0600)."""
    fd, name = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    try:
        with os.fdopen(fd, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make renames and links in ``path`` durable; a file system that cannot is left alone."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):
            os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on the lock file ``path``, waiting for it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
