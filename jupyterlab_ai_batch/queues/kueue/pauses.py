"""How long to wait before asking again. Pure but for the dice."""

from __future__ import annotations

import random
from collections.abc import Callable

from ...errors import QueueError

FIRST_S = 0.25
LONGEST_S = 10.0
LONGEST_ASKED_S = 120.0


class Pauses:
    """Growing pauses, each a random half to whole of its length, so that many servers do not ask in step."""

    def __init__(
        self, *, first_s: float = FIRST_S, longest_s: float = LONGEST_S, dice: Callable[[], float] = random.random
    ) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._dice = dice
        self._failures = 0

    @property
    def failures(self) -> int:
        """In a row."""
        return self._failures

    def next(self, error: QueueError | None = None) -> float:
        """Seconds to wait after one more failure; never less than the cluster asked for."""
        length_s = min(self._first_s * 2.0 ** min(self._failures, 30), self._longest_s)
        self._failures += 1
        return max(length_s * (0.5 + self._dice() / 2), asked_pause(error))

    def reset(self) -> None:
        """It worked."""
        self._failures = 0


def asked_pause(error: QueueError | None) -> float:
    """Seconds that the cluster asked to wait; 0 when it did not."""
    asked = error.details.get("retry_after_s") if error is not None else None
    return min(max(float(asked), 0.0), LONGEST_ASKED_S) if isinstance(asked, (int, float)) else 0.0
