"""What the end of a run means for its Attempt and its Submission. Pure."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ...models import Attempt, Explanation
from ...words import SubmissionState
from ..explanations import (
    cancelled_by_user,
    explain_failure,
    killed_by_signal,
    out_of_memory,
    runner_crashed,
    time_limit,
)
from . import explanations

SUCCEEDED, CELL_FAILED, STOPPED = 0, 1, 75
_SHELL_SIGNAL_BASE = 128


class Asked(str, Enum):
    """Why the worker told a run to end."""

    CANCEL = "cancel"
    TIME_LIMIT = "time_limit"
    MEMORY = "memory"
    WORKER_STOP = "worker_stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnd:
    """What was seen of a run.

    Attributes:
        status: Exit status; negative for a signal, as ``subprocess`` has it; bubblewrap says 128 + signal.
        failure: The error of the runner's ``failed`` event.
        used_bytes: Memory in use when the limit was passed; None when it was not.
        oom_kills: Whether the kernel killed something for memory meanwhile.
    """

    status: int
    asked: Asked | None = None
    failure: Mapping[str, Any] | None = None
    used_bytes: int | None = None
    memory_limit_bytes: int | None = None
    time_limit_s: float | None = None
    oom_kills: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How an Attempt ended, and where that leaves the Submission."""

    ended_by: str
    state: SubmissionState
    explanation: Explanation | None

    @property
    def is_eviction(self) -> bool:
        return self.state is SubmissionState.QUEUED


def judge(end: RunEnd) -> Verdict:  # noqa: PLR0911 - a table
    """Success counts however late it came; then what was asked for; then what the runner and the system say."""
    if end.status == SUCCEEDED:
        return Verdict(ended_by="succeeded", state=SubmissionState.SUCCEEDED, explanation=None)
    if end.asked is Asked.CANCEL:
        return cancelled()
    if end.used_bytes is not None:
        return failed(out_of_memory(used_bytes=end.used_bytes, limit_bytes=end.memory_limit_bytes))
    if end.asked is Asked.TIME_LIMIT:
        return failed(time_limit(end.time_limit_s or 0))
    if end.failure is not None:
        return failed(explain_failure(end.failure, out_of_memory=_memory_words() if end.oom_kills else None))
    if end.asked is Asked.WORKER_STOP:
        return evicted("WorkerStopped", explanations.worker_stopped())
    if end.status == STOPPED:
        return evicted("RunnerStopped", explanations.runner_stopped())
    return failed(_explain_status(end))


def cancelled() -> Verdict:
    return Verdict(ended_by="cancelled", state=SubmissionState.CANCELLED, explanation=cancelled_by_user())


def failed(explanation: Explanation) -> Verdict:
    return Verdict(ended_by="failed", state=SubmissionState.FAILED, explanation=explanation)


def evicted(reason: str, explanation: Explanation) -> Verdict:
    return Verdict(ended_by=reason, state=SubmissionState.QUEUED, explanation=explanation)


def lost_s(attempt: Attempt, elapsed_s: float, *, resumes: bool) -> float:
    """Run time that an Eviction threw away; see Attempt."""
    if not resumes or attempt.saved_at is None or attempt.started_at is None:
        return elapsed_s
    return max(0.0, elapsed_s - (attempt.saved_at - attempt.started_at).total_seconds())


def _explain_status(end: RunEnd) -> Explanation:
    number = -end.status if end.status < 0 else max(0, end.status - _SHELL_SIGNAL_BASE)
    if number == signal.SIGKILL and end.oom_kills:
        return _memory_words()
    if number:
        return killed_by_signal(number)
    return runner_crashed(end.status)


def _memory_words() -> Explanation:
    return out_of_memory(used_bytes=None, limit_bytes=None)
