"""What the cluster says about a Submission -> where it stands, and why. Pure.

The rules stand in the order in which they are asked; the first that has an answer wins. A Job that is gone is told from
one that this server has not heard of yet by what it left behind: the cluster removes Workload and pods after it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from ...models import Attempt, Explanation, Observation, OutputsSummary, PoolReading, Progress, QueuePosition
from ...words import SubmissionState
from ..explanations import cancelled_by_user, cancelling
from . import explanations
from .attempts import build_attempts
from .events import JOB, newest_about, parse_events
from .evictions import deactivation_reason, eviction_clause, explain_eviction, explain_requeued
from .outcome import explain_deactivated, explain_outcome, explain_unfit
from .pending import explain_pending
from .pods import parse_pods
from .starting import stand_admitted
from .view import Outlook, Standing, View
from .workloads import ADMITTED, EVICTED, FINISHED, REQUEUED, parse_job, parse_workload

PICK_UP_PATIENCE_S = 10.0  # Kueue makes the Workload of a new Job in well under a second

_KEEPS_PROGRESS = frozenset(SubmissionState) - {
    SubmissionState.QUEUED,
    SubmissionState.BLOCKED,
    SubmissionState.STARTING,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Everything that the cluster and the registry said about one Submission at one moment.

    Attributes:
        job, workload, pods: The objects as JSON; ``workload`` is the newest of the Job's that has not finished, or the
            newest of all.
        events: Of the Job and its pods, newest last.
        position: From the visibility API, while it waits.
        pool: Who holds it, where the user may know.
        progress: From the log of the latest Attempt.
        failure: The ``failed`` event in that log.
        attempts: History from the registry's OutputSets; the pods complete it.
    """

    job: Mapping[str, Any] | None
    workload: Mapping[str, Any] | None
    pods: Sequence[Mapping[str, Any]] = ()
    events: Sequence[Mapping[str, Any]] = ()
    position: QueuePosition | None = None
    pool: PoolReading | None = None
    progress: Progress | None = None
    failure: Mapping[str, Any] | None = None
    attempts: Sequence[Attempt] = ()
    outputs: OutputsSummary | None = None
    observed_at: datetime


def observe(submission_id: str, reading: Reading, *, cancel_asked: bool = False) -> Observation | None:
    """Where the Submission stands; None when nothing is known of it.

    Args:
        cancel_asked: The user has cancelled it here, whatever has come of that so far.
    """
    view = _look(reading, cancel_asked=cancel_asked)
    if not (cancel_asked or view.job or view.workload or view.pods or view.history):
        return None
    standing = next(filter(None, (rule(view) for rule in _RULES)))
    return Observation(
        submission_id=submission_id,
        state=standing.state,
        observed_at=reading.observed_at,
        explanation=standing.explanation,
        position=reading.position if standing.state is SubmissionState.QUEUED else None,
        progress=reading.progress if standing.state in _KEEPS_PROGRESS else None,
        attempts=build_attempts(view, standing.state),
        outputs=reading.outputs,
    )


def _look(reading: Reading, *, cancel_asked: bool) -> View:
    return View(
        observed_at=reading.observed_at,
        cancel_asked=cancel_asked,
        job=parse_job(reading.job),
        workload=parse_workload(reading.workload),
        pods=parse_pods(reading.pods),
        events=parse_events(reading.events),
        outlook=Outlook(position=reading.position, pool=reading.pool),
        failure=reading.failure if isinstance(reading.failure, Mapping) else None,
        history=sorted(reading.attempts, key=lambda attempt: attempt.number),
    )


def _ended(view: View) -> Standing | None:
    """The Job is complete or failed, or Kueue has finished with it."""
    complete, failed = (view.job.condition(name) if view.job else None for name in ("Complete", "Failed"))
    finished = view.workload.condition(FINISHED) if view.workload else None
    reason = finished.reason if finished is not None and finished.holds else ""
    if (complete is not None and complete.holds) or reason == "Succeeded":
        return Standing(state=SubmissionState.SUCCEEDED)
    if (failed is not None and failed.holds) or reason == "Failed":
        since = failed.since if failed is not None and failed.holds else finished.since if finished else None
        return _failed(view, explain_outcome(view), since)
    if view.workload is not None and reason not in ("", "OwnerNotFound", "WorkloadSliceReplaced"):
        return _failed(view, explain_unfit(view.workload), None)
    return None


def _failed(view: View, explanation: Explanation, since: datetime | None) -> Standing:
    """A run that was cancelled may end badly: that is its cancellation."""
    if view.cancel_asked:
        return Standing(state=SubmissionState.CANCELLED, explanation=replace(cancelled_by_user(), since=since))
    dated = replace(explanation, since=explanation.since or since)
    return Standing(state=SubmissionState.FAILED, explanation=dated)


def _gone(view: View) -> Standing | None:
    """There is no Job any more."""
    if view.job is not None or _has_living_children(view):
        return None
    if view.has_lingering_pod:
        explanation = cancelling() if view.cancel_asked else explanations.deleted_elsewhere()
        return Standing(state=SubmissionState.CANCELLING, explanation=explanation)
    ended_by = view.history[-1].ended_by if view.history else None
    if ended_by == "succeeded":
        return Standing(state=SubmissionState.SUCCEEDED)
    if view.failure is not None or ended_by == "failed":
        return _failed(view, explain_outcome(view), None)
    explanation = cancelled_by_user() if view.cancel_asked else explanations.deleted_elsewhere()
    return Standing(state=SubmissionState.CANCELLED, explanation=explanation)


def _has_living_children(view: View) -> bool:
    """The Job's objects are there and nobody removes them: the Job itself was only not seen yet."""
    workload = view.workload
    orphaned = workload is None or workload.condition(FINISHED).reason == "OwnerNotFound"
    owned = workload is not None and workload.deleted_at is None and not orphaned
    return owned or any(not pod.has_ended and pod.deleted_at is None for pod in view.pods)


def _cancelling(view: View) -> Standing | None:
    deleted_at = view.job.deleted_at if view.job else None
    if not view.cancel_asked and deleted_at is None:
        return None
    explanation = cancelling() if view.cancel_asked else explanations.deleted_elsewhere()
    return Standing(state=SubmissionState.CANCELLING, explanation=replace(explanation, since=deleted_at))


def _deactivated(view: View) -> Standing | None:
    """Kueue or an admin took it out of the queue; what still runs is let to save its results first."""
    workload = view.workload
    if workload is None or workload.active:
        return None
    if view.holds_slot or view.has_lingering_pod:
        return Standing(state=SubmissionState.EVICTING, explanation=explain_eviction(workload))
    explanation = explain_deactivated(workload)
    if explanation is not None:
        return Standing(state=SubmissionState.FAILED, explanation=explanation)
    stopped = replace(
        explanations.stopped_by_admin(),
        raw_reason=deactivation_reason(workload),
        since=workload.condition(EVICTED).since,
    )
    return Standing(state=SubmissionState.BLOCKED, explanation=stopped)


def _evicting(view: View) -> Standing | None:
    """Kueue gives the slot away at once; the pod may take its grace period to save."""
    workload = view.workload
    if workload is None or not workload.holds(EVICTED) or not (view.holds_slot or view.has_lingering_pod):
        return None
    return Standing(state=SubmissionState.EVICTING, explanation=explain_eviction(workload))


def _admitted(view: View) -> Standing | None:
    return stand_admitted(view) if view.workload is not None and view.workload.holds(ADMITTED) else None


def _checking(view: View) -> Standing | None:
    """It has its slot and may not start yet."""
    if view.workload is None or not view.holds_slot:
        return None
    open_checks = [check for check in view.workload.checks if check.state != "Ready"]
    names = "; ".join(f"{check.name} ({check.message})" if check.message else check.name for check in open_checks)
    admitted = view.workload.condition(ADMITTED)
    explanation = replace(
        explanations.waiting_for_checks(names), raw_reason=admitted.reason or None, since=admitted.since
    )
    return Standing(state=SubmissionState.QUEUED, explanation=explanation)


def _backing_off(view: View) -> Standing | None:
    workload = view.workload
    if workload is None or workload.requeue_at is None or workload.requeue_at <= view.observed_at:
        return None
    condition = workload.condition(REQUEUED)
    if condition.holds is not False:
        return None
    explanation = explanations.backing_off(eviction_clause(workload), workload.requeue_at)
    dated = replace(explanation, raw_reason=condition.reason or None, since=condition.since)
    return Standing(state=SubmissionState.QUEUED, explanation=dated)


def _pending(view: View) -> Standing | None:
    """It waits for a slot; one that was interrupted before says so, unless it needs a person now."""
    workload = view.workload
    if workload is None:
        return None
    standing = explain_pending(workload, view.outlook)
    if standing.explanation is None or standing.state is SubmissionState.BLOCKED or not workload.times_evicted:
        return standing
    resumes = view.job is not None and view.job.resumes
    return replace(standing, explanation=explain_requeued(workload, standing.explanation, resumes=resumes))


def _unclaimed(view: View) -> Standing:
    """Kueue has made no Workload of the Job."""
    created_at = view.job.created_at if view.job else None
    is_new = created_at is not None and (view.observed_at - created_at).total_seconds() < PICK_UP_PATIENCE_S
    if view.job is None or not view.job.suspended:
        standing = stand_admitted(view)
        if view.job is None or is_new or standing.state is SubmissionState.EVICTING:
            return standing
        return replace(standing, explanation=replace(explanations.queue_bypassed(), since=created_at))
    if is_new:
        return Standing(
            state=SubmissionState.QUEUED, explanation=replace(explanations.entering_queue(), since=created_at)
        )
    warning = next((event for event in newest_about(view.events, JOB) if event.is_warning), None)
    explanation = explanations.not_picked_up(queue=view.job.queue, said=warning.message if warning else "")
    raw_reason = warning.reason if warning else None
    return Standing(
        state=SubmissionState.BLOCKED, explanation=replace(explanation, raw_reason=raw_reason, since=created_at)
    )


_RULES: tuple[Callable[[View], Standing | None], ...] = (
    _ended,
    _gone,
    _cancelling,
    _deactivated,
    _evicting,
    _admitted,
    _checking,
    _backing_off,
    _pending,
    _unclaimed,
)
