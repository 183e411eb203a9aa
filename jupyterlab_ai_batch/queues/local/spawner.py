"""Sees to it that a worker lives, from a process that may end at any time."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Sequence

from ... import wire
from ...errors import BatchError
from ...oci.storage import replace_file, storage_errors
from .lock import worker_is_alive
from .paths import QueuePaths
from .settings import WorkerSettings

UNAVAILABLE_AFTER = 3
MAX_BACKOFF_S = 30.0
MAX_WORKER_LOG_BYTES = 4 * 1024**2


class WorkerSpawner:
    """Starts workers, detached: in a session of their own, so that neither terminal nor server takes them along."""

    def __init__(
        self,
        paths: QueuePaths,
        command: Sequence[str],
        settings: WorkerSettings,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._paths = paths
        self._command = list(command)
        self._settings = settings
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._failures = 0
        self._not_before = 0.0

    @property
    def unavailable(self) -> bool:
        """Whether the worker failed to start several times in a row."""
        return self._failures >= UNAVAILABLE_AFTER

    def ensure(self) -> None:
        """Start a worker unless one lives or is starting; a worker that fails is tried again more and more seldom.

        Raises:
            StorageFullError, StorageError: its log cannot be opened.
        """
        with self._lock:
            if worker_is_alive(self._paths.worker_lock):
                self._failures = 0
                self._reap()
                return
            if self._reap() and self._monotonic() >= self._not_before:
                self._spawn()

    def close(self) -> None:
        """Let go of a worker without ending it."""
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                self._process.returncode = 0  # it outlives us: nobody is going to wait for it
            self._process = None

    def _reap(self) -> bool:
        """Whether no worker of ours is left; counts one that failed."""
        if self._process is None:
            return True
        status = self._process.poll()
        if status is None:
            return False
        self._process = None
        if status > 0:
            self._failures += 1
            self._not_before = self._monotonic() + min(MAX_BACKOFF_S, 0.5 * 2**self._failures)
        return True

    def _spawn(self) -> None:
        with storage_errors(self._paths.root):
            self._write_settings()
            log = _open_log(self._paths)
            try:
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self._paths.root,
                    start_new_session=True,
                )
            finally:
                os.close(log)

    def _write_settings(self) -> None:
        content = wire.dumps(self._settings).encode()
        path = self._paths.worker_settings
        if not path.exists() or path.read_bytes() != content:
            replace_file(path, content)


def ensure_quietly(spawner: WorkerSpawner) -> None:
    """For a background thread: what fails now is tried again at the next look."""
    try:
        spawner.ensure()
    except BatchError:
        return


def _open_log(paths: QueuePaths) -> int:
    path = paths.worker_log
    if path.exists() and path.stat().st_size > MAX_WORKER_LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
