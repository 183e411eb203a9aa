"""Submission × Observation -> Submission: what a reading of a backend changes. Pure.

The service owns ``capturing``, ``collecting`` and everything after a collect; the backend owns the rest. A state that
ended stays ended, whatever a clock or a late reading says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from .errors import BatchError
from .explain import (
    explain_collecting,
    explain_lost,
    explain_outputs_waiting,
    explain_unreachable,
    explain_unwritten,
)
from .models import Attempt, Observation, OutputsSummary, Submission
from .queues.losses import lost_s
from .words import OutputsState, SubmissionState

REFRESH_S = 15.0  # an unchanged Submission's observed_at is written again after this long
POSITION_REFRESH_S = 4.0  # and a position's, which others change: less than a backend leaves between two readings

_COLLECTED_AUTOMATICALLY = frozenset({SubmissionState.SUCCEEDED, SubmissionState.FAILED})


def apply_observation(submission: Submission, observation: Observation, *, auto_collect: bool) -> Submission:
    """What is now known; a finished Attempt goes to ``collecting`` where its files are to come home by themselves."""
    if submission.state.is_terminal:
        return submission
    observed = replace(
        submission,
        state=_next_state(submission, observation, auto_collect=auto_collect),
        observed_at=observation.observed_at,
        stale=False,
        explanation=observation.explanation,
        position=observation.position,
        progress=observation.progress or submission.progress,
        capture=None,
        attempts=_merge_attempts(submission.attempts, observation, resumes=submission.resume),
        outputs=observation.outputs or submission.outputs,
    )
    if observed.state is SubmissionState.COLLECTING:
        return replace(observed, explanation=explain_collecting(since=observation.observed_at))
    if observed.state.is_terminal and observed.outputs is not None and observed.outputs.files:
        waiting = explain_outputs_waiting(
            ended=observation.explanation, outputs=observed.outputs, since=observation.observed_at
        )
        return replace(observed, explanation=waiting)
    return observed


def _merge_attempts(known: Sequence[Attempt], observation: Observation, *, resumes: bool) -> tuple[Attempt, ...]:
    """The Attempts as observed, with what the cluster has forgotten since: when and why former ones ended."""
    if _is_behind(known, observation):
        return tuple(known)
    seen = {attempt.number: attempt for attempt in observation.attempts}
    ended = {attempt.number: attempt for attempt in known if attempt.started_at and attempt.ended_at}
    latest = max(seen, default=0)
    merged = {
        number: _remember(ended.get(number), attempt, is_latest=number == latest, resumes=resumes)
        for number, attempt in seen.items()
    }
    return tuple(attempt for _, attempt in sorted({**ended, **merged}.items()))


def _is_behind(known: Sequence[Attempt], observation: Observation) -> bool:
    """The reading lacks the history so far: what runs has the number of an Attempt that had ended before it began."""
    if not known or not observation.attempts or observation.state.is_terminal:
        return False
    latest = observation.attempts[-1]
    ended_at = next((attempt.ended_at for attempt in known if attempt.number == latest.number), None)
    began_at = latest.started_at or latest.admitted_at
    return ended_at is not None and began_at > ended_at and latest.number < known[-1].number


def _remember(known: Attempt | None, seen: Attempt, *, is_latest: bool, resumes: bool) -> Attempt:
    if known is None or (is_latest and seen.ended_by is None):
        return seen
    if seen.ended_at is not None:
        because = known.ended_because if seen.ended_by == known.ended_by else ""
        return replace(seen, ended_because=seen.ended_because or because)
    merged = replace(
        seen,
        ended_at=known.ended_at,
        ended_by=known.ended_by or seen.ended_by,
        ended_because=known.ended_because or seen.ended_because,
        saved_at=seen.saved_at or known.saved_at,
    )
    return replace(merged, time_lost_s=lost_s(merged, resumes=resumes))


def _next_state(submission: Submission, observation: Observation, *, auto_collect: bool) -> SubmissionState:
    if auto_collect and observation.state in _COLLECTED_AUTOMATICALLY and is_collectable(observation.outputs):
        return SubmissionState.COLLECTING
    if submission.state is SubmissionState.CANCELLING and not observation.state.is_terminal:
        return SubmissionState.CANCELLING
    return observation.state


def is_collectable(outputs: OutputsSummary | None) -> bool:
    """Whether there is something of a finished run that is not home yet."""
    return outputs is not None and outputs.state in (OutputsState.AVAILABLE, OutputsState.PARTIAL)


def mark_stale(submission: Submission, error: BatchError, *, now: datetime) -> Submission:
    """The backend did not answer: the last state stays, and says so."""
    if submission.state.is_terminal:
        return submission
    explanation = explain_unreachable(error, last=submission.explanation, since=now)
    return replace(submission, stale=True, explanation=explanation)


def mark_unwritten(submission: Submission, error: BatchError, *, now: datetime) -> Submission:
    """The ledger could not be brought up to date: what it says is the last that it could take in."""
    if submission.state.is_terminal:
        return submission
    return replace(submission, stale=True, explanation=explain_unwritten(error, since=now))


def mark_lost(submission: Submission, *, now: datetime) -> Submission:
    """The backend answered that it does not know this one."""
    if submission.state.is_terminal:
        return submission
    cancelled = submission.state is SubmissionState.CANCELLING
    state = SubmissionState.CANCELLED if cancelled else SubmissionState.FAILED
    return replace(
        submission, state=state, stale=False, position=None, observed_at=now, explanation=explain_lost(since=now)
    )


def unless_unchanged(change: Callable[[Submission], Submission]) -> Callable[[Submission], Submission]:
    """``change``, but a result that differs only in when it was observed is dropped while that is recent."""

    def changed(before: Submission) -> Submission:
        after = change(before)
        return before if is_same(before, after) and not _is_old(before, after) else after

    return changed


def is_same(first: Submission, second: Submission) -> bool:
    """Equal but for the moments at which they were observed."""
    return _undated(first) == _undated(second)


def _undated(submission: Submission) -> Submission:
    epoch = submission.created_at
    position = replace(submission.position, observed_at=epoch) if submission.position else None
    explanation = replace(submission.explanation, since=None) if submission.explanation else None
    return replace(submission, observed_at=epoch, position=position, explanation=explanation)


def _is_old(before: Submission, after: Submission) -> bool:
    if before.position is not None and after.position is not None:
        age = after.position.observed_at - before.position.observed_at
        if age >= timedelta(seconds=POSITION_REFRESH_S):
            return True
    return abs(after.observed_at - before.observed_at) >= timedelta(seconds=REFRESH_S)
