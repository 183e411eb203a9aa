"""The Attempts of a Submission: the registry's history, completed by the pods and the Workload. Pure.

The runner numbers its Attempt when it begins, in the registry; a pod whose runner has not come that far is the next
one. A pod that ended before its program began is no Attempt: the following one gets its number.
Every time is one that an object bears: pods', conditions' and OutputSets'.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from ...models import Attempt
from ...words import SubmissionState
from ..losses import lost_s
from .evictions import (
    BY_PREEMPTION,
    clause_of,
    eviction_clause,
    last_eviction_reason,
    only_eviction_reason,
    past_eviction_clause,
)
from .pods import Pod, begun
from .view import View
from .workloads import EVICTED, QUOTA_RESERVED, Workload

_CLOCK_TOLERANCE_S = 2.0  # objects bear whole seconds of the apiserver's clock, OutputSets the node's
_WAITING = frozenset({SubmissionState.QUEUED, SubmissionState.BLOCKED})


def build_attempts(view: View, state: SubmissionState) -> tuple[Attempt, ...]:
    """First to last, numbered as in the registry; all but the last have ended, and that too once the state says so."""
    attempts = _with_pods(view)
    admitted = None if state.is_terminal else _admission_without_pod(view.workload, attempts)
    if admitted is not None:
        attempts.append(admitted)
    if not attempts:
        return ()
    *former, latest = attempts
    workload = view.workload
    over = [_evict(attempt, only_eviction_reason(workload)) for attempt in former]
    if state in _WAITING:
        clause, ended_at = eviction_clause(workload) if workload else "", _evicted_at(workload)
        over.append(_evict(latest, last_eviction_reason(workload), clause=clause, ended_at=ended_at))
        return _with_losses(over, view)
    if over:
        over[-1] = _evict(former[-1], only_eviction_reason(workload), clause=past_eviction_clause(workload))
    if state.is_terminal:
        latest = replace(latest, ended_by=state.value, ended_at=latest.ended_at or _end_of_job(view))
    return (*_with_losses(over, view), latest)


def _with_pods(view: View) -> list[Attempt]:
    """The history, each Attempt completed by its pod, and the pods that the registry does not know yet."""
    attempts = list({attempt.number: attempt for attempt in view.history}.values())
    for pod, following in zip(view.pods, (*view.pods[1:], None), strict=False):
        own = [index for index, attempt in enumerate(attempts) if _is_of(attempt, pod, following)]
        if own:
            attempts[own[-1]] = _complete(attempts[own[-1]], pod)
        elif _is_later(pod, attempts) and (pod.has_run or (following is None and not pod.has_ended)):
            number = attempts[-1].number + 1 if attempts else 1
            attempts.append(_complete(Attempt(number=number, admitted_at=_admitted_at(pod, view, attempts)), pod))
    return attempts


def _is_of(attempt: Attempt, pod: Pod, following: Pod | None) -> bool:
    """Whether the Attempt began in this pod's time; the pods of a Job never overlap."""
    start = _start(attempt)
    begins_here = (start - begun(pod)).total_seconds() >= -_CLOCK_TOLERANCE_S
    return begins_here and (following is None or (begun(following) - start).total_seconds() > _CLOCK_TOLERANCE_S)


def _is_later(pod: Pod, attempts: Sequence[Attempt]) -> bool:
    return not attempts or begun(pod) >= _start(attempts[-1])


def _complete(attempt: Attempt, pod: Pod) -> Attempt:
    container = pod.container
    started_at = attempt.started_at or container.started_at
    if not pod.has_ended and not container.has_ended:
        return replace(attempt, started_at=started_at, ended_at=None, ended_by=None)
    return replace(
        attempt,
        started_at=started_at,
        ended_at=container.finished_at or attempt.ended_at,
        ended_by=(pod.disruption.reason if pod.is_disrupted else None) or attempt.ended_by,
    )


def _admitted_at(pod: Pod, view: View, attempts: Sequence[Attempt]) -> datetime:
    """The admission; or the pod's creation when it replaces another pod under the same admission."""
    admitted = _admission(view.workload)
    created = pod.created_at or view.observed_at
    if admitted is None or (attempts and _start(attempts[-1]) >= admitted):
        return created
    return min(admitted, created)


def _admission(workload: Workload | None) -> datetime | None:
    if workload is None:
        return None
    reserved = workload.condition(QUOTA_RESERVED)
    return workload.admitted_since or (reserved.since if reserved.holds else None)


def _admission_without_pod(workload: Workload | None, attempts: Sequence[Attempt]) -> Attempt | None:
    """An admission that no pod has come of yet."""
    since = workload.admitted_since if workload else None
    if workload is None or since is None or workload.holds(EVICTED):
        return None
    if attempts and (_start(attempts[-1]) - since).total_seconds() >= -_CLOCK_TOLERANCE_S:
        return None
    return Attempt(number=attempts[-1].number + 1 if attempts else 1, admitted_at=since)


def _evict(attempt: Attempt, reason: str, *, clause: str = "", ended_at: datetime | None = None) -> Attempt:
    """Args: ``clause``: why Kueue evicted it, if it was Kueue and not something below that ended the pod."""
    ended_by = attempt.ended_by or reason or None
    is_by_queue = attempt.ended_by in (None, reason, BY_PREEMPTION)
    because = (clause if is_by_queue else "") or clause_of(ended_by or "")
    return replace(attempt, ended_by=ended_by, ended_because=because, ended_at=attempt.ended_at or ended_at)


def _evicted_at(workload: Workload | None) -> datetime | None:
    evicted = workload.condition(EVICTED) if workload else None
    return evicted.since if evicted is not None and evicted.holds else None


def _with_losses(evicted: Sequence[Attempt], view: View) -> tuple[Attempt, ...]:
    """Attempts with the run time that their Evictions threw away.

    Kueue adds up the time that all of them were admitted for: where there is one, that is how long it ran.
    """
    past_s = view.workload.past_execution_s if view.workload and len(evicted) == 1 else None
    resumes = view.job is not None and view.job.resumes
    return tuple(replace(attempt, time_lost_s=_lost_s(attempt, past_s, resumes=resumes)) for attempt in evicted)


def _lost_s(attempt: Attempt, past_s: int | None, *, resumes: bool) -> float:
    if attempt.ended_at is None and past_s is not None:
        attempt = replace(attempt, ended_at=_start(attempt) + timedelta(seconds=past_s))
    return attempt.time_lost_s if attempt.ended_at is None else lost_s(attempt, resumes=resumes)


def _start(attempt: Attempt) -> datetime:
    return attempt.started_at or attempt.admitted_at


def _end_of_job(view: View) -> datetime | None:
    conditions = [view.job.condition(name) for name in ("Complete", "Failed")] if view.job else []
    return next((condition.since for condition in conditions if condition.holds), None)
