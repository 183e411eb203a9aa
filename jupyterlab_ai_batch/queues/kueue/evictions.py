"""Why Kueue, or the cluster below it, ended an Attempt. Pure.

Source: Workload conditions Evicted and Preempted, ``status.schedulingStats``; Pod condition DisruptionTarget.
"""

from __future__ import annotations

import re
from dataclasses import replace

from ...models import Explanation
from . import explanations, pod_explanations
from .pods import Pod
from .workloads import DEACTIVATION_TARGET, EVICTED, PREEMPTED, Workload

BY_PREEMPTION = "Preempted"
BY_NODE_FAILURE = "NodeFailures"
DEACTIVATED = "Deactivated"
DUE_TO = "DueTo"
TIME_OVER = "MaximumExecutionTimeExceeded"
TRIES_OVER = "RequeuingLimitExceeded"
CHECK = "AdmissionCheck"

_PREEMPTOR = re.compile(r"preemptor path: /?(?:[^\s;/]+/)*([^\s;/]{1,253})(?:;|$)")
_CLAUSES = {
    "PodsReadyTimeout": "because it did not start in time",
    CHECK: "because one of the pool's admission checks asked for another try",
    "ClusterQueueStopped": "because an admin stopped the pool",
    "LocalQueueStopped": "because an admin stopped your queue",
    BY_NODE_FAILURE: "because its node failed",
    "FlavorMigration": "to move to hardware that suits it better",
    "EvictedOnManagerCluster": "because the cluster that manages the pool took it back",
    DEACTIVATED: "because an admin stopped it",
    f"{DEACTIVATED}{DUE_TO}{TIME_OVER}": "because its time limit was over",
    f"{DEACTIVATED}{DUE_TO}{TRIES_OVER}": "because it did not start in time again and again",
    f"{DEACTIVATED}{DUE_TO}{CHECK}": "because one of the pool's admission checks refused it",
}
_DISRUPTION_CLAUSES = {
    "DeletionByTaintManager": "because its node failed",
    "DeletionByPodGC": "because its node failed",
    "EvictionByEvictionAPI": "because its node was emptied",
    "TerminationByKubelet": "because its node ran short of something, or was shut down",
    "PreemptionByScheduler": "to make room on its node for a pod of higher priority",
}
_RECLAMATION = "InCohortReclamation"
_PREEMPTION_CLAUSES = {
    "InClusterQueue": "to make room for work of higher priority in the same queue",
    "InCohortFairSharing": "to make room for a queue that has used less than its share",
    "InCohortReclaimWhileBorrowing": "to make room for more important work of another queue",
}
_BY_MESSAGE = (  # what is left of the reason when Kueue has put "Previously: " before its message
    ("while borrowing", "InCohortReclaimWhileBorrowing"),
    ("fair sharing", "InCohortFairSharing"),
    ("prioritization", "InClusterQueue"),
    ("reclamation", _RECLAMATION),
)
_TO_ACCOMMODATE = "Preempted to accommodate"
OFTEN = 3
_AGAIN = {
    True: "It continues with the files that it saved as soon as it has a slot.",
    False: "It runs again from the start as soon as it has a slot.",
}
_AGAIN_AND_AGAIN = {
    True: "Nothing that it saved is lost: it continues with its files each time. Where it comes no further, let it save"
    " more often, choose a smaller profile, or ask your admin when the pool is quiet.",
    False: "It runs from the start each time. Cancel it, let the notebook save checkpoints, and submit it with"
    " 'resume': then it continues with them. Or ask your admin when the pool is quiet.",
}


def explain_eviction(workload: Workload) -> Explanation:
    """The Attempt is being ended now."""
    condition = workload.condition(EVICTED)
    reason = condition.reason if workload.holds(EVICTED) else deactivation_reason(workload)
    if reason == BY_PREEMPTION:
        explanation = explanations.preempted(_clause(reason, workload))
        detail = workload.condition(PREEMPTED).reason if workload.holds(PREEMPTED) else ""
        reason = f"{reason}/{detail}" if detail else reason
    elif reason == BY_NODE_FAILURE:
        explanation = pod_explanations.node_lost(reason, again=True)
    else:
        explanation = explanations.evicted(_clause(reason, workload) or "by the queue")
    return replace(explanation, raw_reason=reason or None, since=condition.since)


def eviction_clause(workload: Workload) -> str:
    """Why the latest Eviction happened, to follow "interrupted"; empty when that is no longer known."""
    return _clause(last_eviction_reason(workload), workload)


def past_eviction_clause(workload: Workload | None) -> str:
    """Why the latest Eviction happened, of a Workload that has a slot again; empty when that is no longer known."""
    if workload is None or workload.holds(EVICTED):
        return ""
    said = workload.condition(EVICTED).message
    if _TO_ACCOMMODATE not in said:
        return ""
    detail = next((detail for words, detail in _BY_MESSAGE if words in said.lower()), "")
    return _clause_of_preemption(detail or BY_PREEMPTION, said)


def clause_of(reason: str) -> str:
    """The clause of a reason that needs no more to be understood; empty for others."""
    return _CLAUSES.get(reason) or _DISRUPTION_CLAUSES.get(reason, "")


def explain_requeued(workload: Workload, waiting: Explanation, *, resumes: bool) -> Explanation:
    """It was interrupted, and waits again for the reason that ``waiting`` gives; what to do when that happens often."""
    times = workload.times_evicted
    explanation = replace(
        explanations.requeued(times, eviction_clause(workload), waiting),
        resolution=waiting.resolution or _AGAIN[resumes],
        raw_reason=last_eviction_reason(workload) or waiting.raw_reason,
        since=workload.condition(EVICTED).since or waiting.since,
    )
    if times < OFTEN:
        return explanation
    return replace(explanation, code="interrupted_often", resolution=_AGAIN_AND_AGAIN[resumes])


def _clause(reason: str, workload: Workload) -> str:
    if reason == BY_PREEMPTION:
        return _preemption_clause(workload)
    return _CLAUSES.get(reason) or (f"by the queue ({reason})" if reason else "")


def last_eviction_reason(workload: Workload | None) -> str:
    """Kueue's word for the latest Eviction; empty when that is no longer known.

    Once a Workload has a slot again the condition is gone, and the counters alone do not tell the order.
    """
    if workload is not None and workload.holds(EVICTED):
        return workload.condition(EVICTED).reason
    return only_eviction_reason(workload)


def only_eviction_reason(workload: Workload | None) -> str:
    """Kueue's word for every Eviction so far; empty when they had several reasons."""
    evictions = workload.evictions if workload else ()
    reasons = {_full_reason(eviction.reason, eviction.cause) for eviction in evictions}
    return reasons.pop() if len(reasons) == 1 else ""


def deactivation_reason(workload: Workload) -> str:
    """``Deactivated``, or ``DeactivatedDueTo…`` when Kueue itself did it."""
    evicted = workload.condition(EVICTED).reason
    if evicted.startswith(DEACTIVATED):
        return evicted
    target = workload.condition(DEACTIVATION_TARGET)
    if target.reason:
        return _full_reason(DEACTIVATED, target.reason)
    causes = {entry.cause for entry in workload.evictions if entry.reason == DEACTIVATED and entry.cause}
    return _full_reason(DEACTIVATED, causes.pop() if len(causes) == 1 else "")


def name_preemptor(said: str) -> str:
    """The queue that needed the slot, from Kueue's message; never a person or a notebook. Empty when unknown."""
    match = _PREEMPTOR.search(said)
    return match.group(1) if match and match.group(1) != "UNKNOWN" else ""


def explain_disruption(pod: Pod) -> Explanation:
    """Something below the queue ends the pod; the Job then starts another one, unless it was told to end by hand."""
    reason, said = pod.disruption.reason, pod.disruption.message
    if not pod.is_disrupted:
        return pod_explanations.pod_stopped()
    if reason == "TerminationByKubelet":
        explanation = pod_explanations.node_pressure(reason, said, again=True)
    elif reason == "EvictionByEvictionAPI":
        explanation = pod_explanations.node_drained(reason)
    elif reason == "PreemptionByScheduler":
        explanation = pod_explanations.outranked(reason)
    else:
        explanation = pod_explanations.node_lost(reason, again=True)
    return replace(explanation, since=pod.disruption.since)


def _preemption_clause(workload: Workload) -> str:
    condition = workload.condition(PREEMPTED) if workload.holds(PREEMPTED) else workload.condition(EVICTED)
    return _clause_of_preemption(condition.reason, condition.message)


def _clause_of_preemption(detail: str, said: str) -> str:
    queue = name_preemptor(said)
    if detail not in (*_PREEMPTION_CLAUSES, _RECLAMATION, BY_PREEMPTION):
        return "to make room for other work" + (f" ({detail})" if detail else "")
    if "interactive" in queue.lower():
        return "to make room for an interactive session"
    if detail in _PREEMPTION_CLAUSES:
        return _PREEMPTION_CLAUSES[detail]
    if detail == BY_PREEMPTION:
        return "to make room for other work" + (f" of the queue {queue}" if queue else "")
    return f"to give back a slot of the queue {queue}" if queue else "to give back a slot that it had borrowed"


def _full_reason(reason: str, cause: str) -> str:
    return f"{reason}{DUE_TO}{cause}" if reason == DEACTIVATED and cause else reason
