"""Points inside a capture at which something may happen: calls to the system on its files, calls of its store.

``read`` points touch the captured files, ``within`` points are in the middle of reading a piece of one, ``write``
points touch our own data, ``port`` points are calls of the store, and at ``pause`` points a capture waits. Only at a
write point a lock may be held; elsewhere another capture may run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from jupyterlab_ai_batch.oci.port import BlobStore

READ, WITHIN, WRITE, PORT, PAUSE = "read", "within", "write", "port", "pause"
CALLS = frozenset({READ, WRITE, PORT})
UNLOCKED = frozenset({READ, PORT, PAUSE})
EVERYWHERE = CALLS | UNLOCKED
_KINDS = EVERYWHERE | {WITHIN}

_AUDITED = frozenset(
    {
        "open",
        "os.rename",
        "os.remove",
        "os.link",
        "os.mkdir",
        "os.scandir",
        "os.utime",
        "fcntl.flock",
        "sqlite3.connect",
    }
)
_ON_DESCRIPTORS = ("read", "pread", "readv", "preadv", "fstat")


@dataclass
class Fault:
    """Something that happens once, when the ``at``-th of its points is reached."""

    at: int
    where: frozenset[str]
    happen: Callable[[str], None]


class Points:
    """Counts points and lets faults happen. Installed once in a process, as audit hooks cannot be taken back."""

    def __init__(self) -> None:
        self._reads: tuple[str, ...] = ()
        self._writes: tuple[str, ...] = ()
        self._faults: list[Fault] = []
        self._armed = False
        self.counted: dict[str, int] = {}
        self.place: str | int | None = None  # path or descriptor that the present point is about
        self._real_read = os.read

    def install(self) -> None:
        sys.addaudithook(self._audit)
        for name in _ON_DESCRIPTORS:
            setattr(os, name, self._wrapped(getattr(os, name), READ))
        os.read = self._read
        for name, kind in {"lstat": READ, "readlink": READ, "fsync": WRITE}.items():
            setattr(os, name, self._wrapped(getattr(os, name), kind))

    def watch(self, *, reads: tuple[str, ...], writes: tuple[str, ...]) -> None:
        """Which absolute directories hold what is captured, and which our own data."""
        self._reads, self._writes = reads, writes

    @contextmanager
    def armed(self, faults: list[Fault]) -> Iterator[None]:
        """Within it, points are counted and faults happen."""
        before = self._faults, self.counted, self._armed
        self._faults, self.counted, self._armed = faults, dict.fromkeys(_KINDS, 0), True
        try:
            yield
        finally:
            counted = self.counted
            self._faults, self.counted, self._armed = before
            self.counted = counted

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Within it nothing counts: a fault is happening."""
        armed, self._armed = self._armed, False
        try:
            yield
        finally:
            self._armed = armed

    def reach(self, kind: str, place: str | int | None = None) -> None:
        if not self._armed:
            return
        self.place = place
        self.counted[kind] += 1
        for fault in self._faults:
            if kind in fault.where:
                fault.at -= 1
                if fault.at == 0:
                    with self.paused():
                        fault.happen(kind)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._armed or event not in _AUDITED or not arguments:
            return
        place = arguments[0]
        if event == "fcntl.flock":
            self.reach(WRITE)
        elif event == "sqlite3.connect":  # it says by errors of its own what is wrong
            self.reach(PAUSE)
        elif isinstance(place, (str, bytes, os.PathLike)):
            text = os.fsdecode(place)
            if text.startswith(self._writes):
                self.reach(WRITE)
            elif text.startswith(self._reads):
                self.reach(READ, text)

    def _wrapped(self, real: Callable[..., Any], kind: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if self._armed and (kind == WRITE or self._is_captured(arguments[0])):
                self.reach(kind, arguments[0])
            return real(*arguments, **options)

        return call

    def _is_captured(self, place: Any) -> bool:
        """Whether a path, or what a descriptor is open for, is among the files that are captured."""
        if isinstance(place, int):
            with self.paused():
                try:
                    place = os.readlink(f"/proc/self/fd/{place}")  # noqa: PTH115 - it may be no path
                except OSError:
                    return False
        return os.fsdecode(place).startswith(self._reads)

    def _read(self, fd: int, size: int) -> bytes:
        """A read in two parts, where something is to happen between them: writers are not held up by readers."""
        if not self._armed or not self._is_captured(fd):
            return self._real_read(fd, size)
        self.reach(READ, fd)
        first = b""
        if any(fault.at == 1 and WITHIN in fault.where for fault in self._faults):
            with self.paused():
                half = min(size, os.fstat(fd).st_size) // 2
            first = self._real_read(fd, half)
        self.reach(WITHIN, fd)
        return first + self._real_read(fd, size - len(first))


class FaultyStore:
    """A store whose every call is a point, before it and after it."""

    def __init__(self, store: BlobStore, points: Points) -> None:
        self._store = store
        self._points = points

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if not callable(method):
            return method

        def call(*arguments: Any, **options: Any) -> Any:
            self._points.reach(PORT)
            answer = method(*arguments, **options)
            self._points.reach(PORT)
            return answer

        return call

    @contextmanager
    def write_blob(self) -> Iterator[Any]:
        self._points.reach(PORT)
        with self._store.write_blob() as writer:
            yield FaultyStore(writer, self._points)
