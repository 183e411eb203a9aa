"""A thread that looks at the queue's version number, so that the event loop need not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ...errors import BatchError
from .queue import LocalQueue

POLL_S = 0.2
WORKER_CHECK_S = 2.0


class QueueWatcher:
    """Calls ``on_change`` after somebody else has committed something, and ``ensure_worker`` while there is work."""

    def __init__(self, queue: LocalQueue, *, on_change: Callable[[], None], ensure_worker: Callable[[], None]) -> None:
        self._queue = queue
        self._on_change = on_change
        self._ensure_worker = ensure_worker
        self._stopping = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="queue-watcher", daemon=True)

    def start(self) -> None:
        """Return when every later change is going to be told."""
        self._thread.start()
        self._ready.wait()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def request_stop(self) -> None:
        """Stop without waiting for it."""
        self._stopping.set()

    def _run(self) -> None:
        version = self._version()
        self._ready.set()
        check_at = 0.0
        while not self._stopping.wait(POLL_S):
            now = self._version()
            if now != version:
                version = now
                self._on_change()
            if time.monotonic() >= check_at:
                check_at = time.monotonic() + WORKER_CHECK_S
                self._see_to_worker()
        self._queue.database.release_thread()

    def _version(self) -> int | None:
        try:
            return self._queue.data_version()
        except BatchError:
            return None

    def _see_to_worker(self) -> None:
        try:
            if self._queue.has_active():
                self._ensure_worker()
        except BatchError:
            return  # tried again at the next look
