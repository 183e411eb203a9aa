"""How far a capture is, told often enough for a progress bar and no more often."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..capture_models import CaptureProgress

_INTERVAL_S = 0.1


class Reporter:
    """Counts bytes and passes them on at most every 0.1 s, and at each change of phase."""

    def __init__(
        self, tell: Callable[[CaptureProgress], None], *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._tell = tell
        self._monotonic = monotonic
        self._told_at = 0.0
        self._phase = "plan"
        self._done = 0
        self._total = 0
        self._new = 0

    def begin(self, phase: str) -> None:
        self._phase = phase
        self._report()

    def expect(self, count: int) -> None:
        self._total += count

    def tick(self) -> None:
        if self._monotonic() - self._told_at >= _INTERVAL_S:
            self._report()

    def read(self, count: int) -> None:
        self._done += count
        self.tick()

    def wrote(self, count: int) -> None:
        self._new += count
        self.tick()

    def _report(self) -> None:
        self._told_at = self._monotonic()
        self._total = max(self._total, self._done)
        self._tell(
            CaptureProgress(phase=self._phase, done_bytes=self._done, total_bytes=self._total, new_bytes=self._new)
        )
