"""One worker per data directory: a lock that the operating system takes away from a dead process."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from ...oci.storage import storage_errors

_PATIENCE_S = 1.0


class WorkerLock:
    """The lock file of the worker. The descriptor is never inherited, so no child keeps it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    def acquire(self) -> bool:
        """Become the one worker; False when another is. Waits out those who only look."""
        with storage_errors(self._path):
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + _PATIENCE_S
        while not _lock(fd, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                os.close(fd)
                return False
            time.sleep(0.02)
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._fd = fd
        return True

    def release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def worker_is_alive(path: Path) -> bool:
    """Whether some process holds the worker's lock."""
    return _held(path)


def worker_pid(path: Path) -> int | None:
    """The process id of the living worker; None when there is none."""
    if not _held(path):
        return None
    text = path.read_text(encoding="ascii", errors="replace").strip()
    return int(text) if text.isdigit() else None


def _held(path: Path) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _lock(fd, fcntl.LOCK_SH)
    finally:
        os.close(fd)


def _lock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
