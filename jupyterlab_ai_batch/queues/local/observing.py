"""Rows of the queue as Observations. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from ...models import Explanation, Observation, Profile, QueuePosition
from ...words import SubmissionState
from . import explanations
from .records import AttemptRecord, EntryRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What the explanation of a waiting Submission depends on.

    Attributes:
        busy: Attempts under way; ``gpu_busy`` the GPU slots they hold.
        unavailable: The worker does not start.
    """

    slots: int
    busy: int
    gpu_slots: int
    gpu_busy: int
    unavailable: bool


def build_observation(
    record: EntryRecord,
    attempts: Sequence[AttemptRecord],
    *,
    ahead: int | None,
    situation: Situation,
    observed_at: datetime,
) -> Observation:
    """``ahead`` counts the queued Submissions before this one; None unless it is queued itself."""
    outputs = [attempt.outputs for attempt in attempts if attempt.outputs is not None]
    explanation = record.explanation
    position = None
    if ahead is not None:
        explanation = _explain_waiting(record, ahead, situation)
        position = QueuePosition(in_local_queue=ahead, in_cluster_queue=ahead, observed_at=observed_at)
    return Observation(
        submission_id=record.id,
        state=record.state,
        observed_at=observed_at,
        explanation=replace(explanation, since=record.state_since) if explanation else None,
        position=position,
        progress=record.progress,
        attempts=tuple(attempt.attempt for attempt in attempts),
        outputs=outputs[-1] if outputs else None,
    )


def count_available(profile: Profile, situation: Situation) -> int:
    """How many Attempts of this shape could start now."""
    free = max(0, situation.slots - situation.busy)
    if profile.gpu_slots == 0:
        return free
    return min(free, max(0, situation.gpu_slots - situation.gpu_busy) // profile.gpu_slots)


def default_profiles(gpu_slots: int) -> tuple[Profile, ...]:
    """``cpu``, and ``gpu`` where the machine has any."""
    profiles = [Profile(name="cpu", title="This machine")]
    if gpu_slots:
        profiles.append(Profile(name="gpu", title="This machine, one GPU", gpu_slots=1))
    return tuple(profiles)


def _explain_waiting(record: EntryRecord, ahead: int, situation: Situation) -> Explanation:
    if situation.unavailable:
        return explanations.worker_unavailable()
    if record.explanation is not None and record.state is SubmissionState.QUEUED:
        return record.explanation
    if record.gpu_slots > situation.gpu_slots - situation.gpu_busy and situation.busy < situation.slots:
        return explanations.waiting_for_gpu(wanted=record.gpu_slots, total=situation.gpu_slots)
    return explanations.waiting_for_slot(ahead=ahead, slots=situation.slots)
