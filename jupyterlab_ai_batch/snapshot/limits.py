"""What a restore accepts at most, whatever the layers say."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from .tarstream import corrupt

MAX_PATH_BYTES = 4096
MAX_NAME_BYTES = 255
MAX_DEPTH = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreLimits:
    """The caps of one restore.

    A cap on how far a layer may expand would be none: a file of zeros, which is a user's right, already expands as far
    as deflate can (1032 times).

    Attributes:
        unpacked_bytes: Of all layers that are read, headers included.
        entries: Of all layers that are read: files, directories, links, deletions.
    """

    unpacked_bytes: int = 256 << 30
    entries: int = 5_000_000


DEFAULT_LIMITS = RestoreLimits()


class Budget:
    """What is left of the limits; several threads draw on one.

    Raises (every method): SnapshotCorruptError: too little is left.
    """

    def __init__(self, limits: RestoreLimits) -> None:
        self._bytes = limits.unpacked_bytes
        self._entries = limits.entries
        self._lock = threading.Lock()

    def stop(self) -> None:
        """Nothing more may be read: another thread has failed."""
        self._bytes = self._entries = -1

    @property
    def is_stopped(self) -> bool:
        return self._entries < 0

    def draw_bytes(self, count: int) -> None:
        with self._lock:
            self._bytes -= count
        self.foresee(0)

    def draw_entry(self) -> None:
        with self._lock:
            self._entries -= 1
        if self._entries < 0:
            raise corrupt("more entries than a snapshot may hold")

    def foresee(self, count: int) -> None:
        """Refuse what a header announces before any of it is written."""
        if count > self._bytes:
            raise corrupt("more bytes than a snapshot may hold")
