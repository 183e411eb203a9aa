"""What ``%batch`` returns: a handle on a Submission."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

from ..errors import BatchError
from ..models import OutputSet, Submission
from .client import BatchClient
from .display import as_html, as_text, plainly_raised

SHORTEST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 5.0


class BatchHandle:
    """A Submission, from the notebook's side. It stays valid as long as the Submission is known, in any kernel.

    Args:
        client: Talks to the server.
        submission: As last seen.
        notices: What the user should know about the request.
        sleep: Pauses, seconds.
    """

    def __init__(
        self,
        client: BatchClient,
        submission: Submission,
        *,
        notices: tuple[str, ...] = (),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._submission = submission
        self._notices = notices
        self._sleep = sleep

    @property
    def id(self) -> str:
        return self._submission.id

    @property
    def state(self) -> str:
        """The present state, one of ``SubmissionState``; asks the server unless it is over."""
        return self.refresh().state.value

    def refresh(self) -> Submission:
        """The whole record as it is now."""
        if not self._submission.state.is_terminal:
            with plainly_raised():
                self._submission = self._client.get(self.id)
        return self._submission

    def wait(self, timeout: float | None = None) -> str:
        """Wait until the Submission is over and return its last state.

        Args:
            timeout: Seconds; None waits as long as it takes. Interrupting the kernel ends only the waiting.

        Raises:
            TimeoutError: it is not over by then; the batch job goes on.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        pause_s = SHORTEST_PAUSE_S
        while not self.refresh().state.is_terminal:
            left_s = None if deadline is None else deadline - time.monotonic()
            if left_s is not None and left_s <= 0:
                raise TimeoutError(f"{self._submission.title} is still {self._submission.state.value}; it goes on.")
            self._sleep(pause_s if left_s is None else min(pause_s, left_s))
            pause_s = min(pause_s * 1.3, LONGEST_PAUSE_S)
        return self._submission.state.value

    def cancel(self) -> str:
        """Ask for the end of the batch job; returns its state, which may still be ``cancelling``."""
        with plainly_raised():
            self._submission = self._client.cancel(self.id)
        return self._submission.state.value

    def logs(self, attempt: int | None = None) -> str:
        """The log of an Attempt so far; of the latest when ``attempt`` is None."""
        texts, offset = [], 0
        with plainly_raised():
            while (chunk := self._client.read_log(self.id, attempt=attempt, offset=offset)).text:
                texts.append(chunk.text)
                offset = chunk.next_offset
        return "".join(texts)

    def outputs(self) -> OutputSet:
        """What the latest Attempt produced, file by file."""
        with plainly_raised():
            return self._client.outputs(self.id)

    def __repr__(self) -> str:
        return f"<batch {self._submission.short_id} {self._submission.title!r}: {self._submission.state.value}>"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self) if cycle else as_text(self._shown(), self._notices))

    def _repr_html_(self) -> str:
        return as_html(self._shown(), self._notices)

    def _shown(self) -> Submission:
        """As it is now; as last seen when the server does not answer: showing must never fail."""
        with contextlib.suppress(BatchError):
            self.refresh()
        return self._submission
