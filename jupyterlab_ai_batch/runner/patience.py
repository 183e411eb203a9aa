"""How long it is worth trying to store: for a while after the run, and only for a moment once the run is to end."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from time import monotonic
from typing import TypeVar

from ..errors import RegistryUnreachableError

UNREACHABLE_S = 300.0
LONGEST_PAUSE_S = 15.0

T = TypeVar("T")


class Patience:
    """A deadline that one thread sets while another pauses between its tries. Seconds of ``clock``."""

    def __init__(self, *, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._until = math.inf

    @property
    def is_limited(self) -> bool:
        return self._until < math.inf

    @property
    def left_s(self) -> float:
        return max(0.0, self._until - self._clock())

    def limit(self, seconds: float) -> None:
        """From now on there are at most so many seconds left."""
        with self._changed:
            self._until = min(self._until, self._clock() + seconds)
            self._changed.notify_all()

    def pause(self, seconds: float) -> bool:
        """Wait; False, at once, where there is no time left for another try after that."""
        with self._changed:
            end = self._clock() + seconds
            while (rest := min(end, self._until) - self._clock()) > 0 and end < self._until:
                self._changed.wait(rest)
            return end < self._until


def try_patiently(
    store: Callable[[], T],
    patience: Patience,
    *,
    on_failure: Callable[[RegistryUnreachableError], None],
    clock: Callable[[], float] = monotonic,
) -> T:
    """Try ``store`` again, with growing pauses, while the registry is away: for ``UNREACHABLE_S`` after it first was.

    Raises:
        RegistryUnreachableError: it stayed away for so long, or there was no more time.
    """
    pauses = _pauses()
    give_up_at = math.inf
    while True:
        try:
            return store()
        except RegistryUnreachableError as exc:  # noqa: PERF203 - a loop of pauses
            give_up_at = min(give_up_at, clock() + UNREACHABLE_S)
            pause_s = next(pauses)
            if clock() + pause_s > give_up_at or not patience.pause(pause_s):
                raise
            on_failure(exc)


def _pauses() -> Iterator[float]:
    pause_s = 1.0
    while True:
        yield pause_s
        pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
