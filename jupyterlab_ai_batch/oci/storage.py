"""Files of the batch store: private directories, atomic replacement, and operating-system errors as ours."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import StorageError, StorageFullError, StoragePermissionError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
BUSY_TIMEOUT_S = 15.0
_SQLITE_NEEDS_BYTES = 64 * 1024
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Translate an OSError or an SQLite error raised while ``path`` (a file or directory of ours) is used.

    Raises:
        StorageFullError: no space or no quota left.
        StoragePermissionError: not ours to read or write.
        StorageError: anything else.
    """
    try:
        yield
    except OSError as exc:
        reason = errno.errorcode.get(exc.errno or 0, str(exc.errno))
        full, denied = exc.errno in _FULL, exc.errno in _DENIED
        raise _storage_error(path, exc.strerror or str(exc), reason, full=full, denied=denied) from exc
    except sqlite3.Error as exc:
        text = str(exc)
        denied = "readonly" in text or "unable to open" in text
        full = "full" in text or ("I/O" in text and not _has_space(path.parent))
        raise _storage_error(path, text, text[:200], full=full, denied=denied and not full) from exc


def _storage_error(path: Path, text: str, reason: str, *, full: bool, denied: bool) -> StorageError:
    details = {"path": str(path), "reason": reason}
    if full:
        return StorageFullError(
            "There is no space left for the batch store.",
            hint=f"Free some space or quota on the file system of {path}, then submit again.",
            details=details,
        )
    if denied:
        return StoragePermissionError(
            "The batch store cannot be written or read.",
            hint=f"Check that {path} belongs to you and is not read-only.",
            details=details,
        )
    return StorageError(f"The batch store failed: {text}.", hint=f"Check {path}, then try again.", details=details)


def _has_space(directory: Path) -> bool:
    """SQLite calls it an I/O error when its shared memory file finds no space."""
    try:
        free = os.statvfs(directory)
    except OSError:
        return True
    return free.f_bavail * free.f_frsize >= _SQLITE_NEEDS_BYTES


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


def remove_tree(directory: Path) -> None:
    """Remove a directory of ours, also where somebody took our own permissions away; a missing one is fine."""
    if directory.is_symlink() or not directory.exists():
        return

    def make_writable(_function: Callable[..., Any], path: str, _error: Any) -> None:
        with suppress(OSError):
            parent = Path(path).parent
            if parent != directory.parent:
                parent.chmod(0o700)
            if Path(path).is_dir() and not Path(path).is_symlink():
                Path(path).chmod(0o700)
                remove_tree(Path(path))
            else:
                Path(path).unlink(missing_ok=True)

    if sys.version_info >= (3, 12):
        shutil.rmtree(directory, onexc=make_writable)
    else:
        shutil.rmtree(directory, onerror=make_writable)
    with suppress(OSError):
        directory.rmdir()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on the lock file ``path``, waiting for it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def retry_locked(action: Callable[[], object]) -> None:
    """SQLite answers "locked" at once, without its busy timeout, while another process switches the journal."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            action()
        except sqlite3.OperationalError as exc:  # noqa: PERF203
            if "locked" not in str(exc) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return
