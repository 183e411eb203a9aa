"""Why a Workload without a slot waits: Kueue's reasons, old and new, and its messages. Pure.

Older versions, and newer ones with the feature gate UnadmittedWorkloadsObservability off, say ``Pending`` or
``Inadmissible`` for nearly everything: there the message decides.
Source: Workload condition QuotaReserved=False of Kueue v0.19.2.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import Enum

from ...models import Explanation
from ...words import SubmissionState
from . import explanations
from .json_fields import Condition
from .view import Outlook, Standing
from .workloads import QUOTA_RESERVED, Workload


class Obstacle(Enum):
    """What stands between a Workload and its slot."""

    TURN = "its turn has not come"
    QUOTA = "the quota is in use"
    PREEMPTED = "what it preempted has not ended"
    STARTS = "others have to start first"
    PLACEMENT = "no topology domain has room"
    GATE = "a gate is closed"
    HOLD = "it is on hold"
    QUEUE_STOPPED = "the queue is stopped"
    QUEUE_MISSING = "the queue is missing"
    NAMESPACE = "the pool does not take the namespace"
    TOO_LARGE = "it asks for more than there is"
    FLAVOR = "nothing fits"
    SETTINGS = "settings contradict each other"
    DEACTIVATED = "it was taken out of the queue"
    UNKNOWN = "a reason of a newer Kueue"


_GRANULAR = {
    "WaitingForQuota": Obstacle.QUOTA,
    "WaitingForPreemptedWorkloads": Obstacle.PREEMPTED,
    "WaitingForPodsReady": Obstacle.STARTS,
    "PendingEvaluation": Obstacle.TURN,
    "TopologyPlacementFailed": Obstacle.PLACEMENT,
    "ExceedsMaxQuota": Obstacle.TOO_LARGE,
    "NoMatchingFlavor": Obstacle.FLAVOR,
    "Deactivated": Obstacle.DEACTIVATED,
    "AdmissionGated": Obstacle.GATE,
    "OnHold": Obstacle.HOLD,
    "Waiting": Obstacle.STARTS,
    "": Obstacle.TURN,
}
_BY_MESSAGE = {  # and what is meant when the message says nothing known
    "Pending": Obstacle.TURN,
    "Inadmissible": Obstacle.SETTINGS,
    "Misconfigured": Obstacle.SETTINGS,
    "Suspended": Obstacle.QUEUE_STOPPED,
}
# In this order: quota that is in use in one flavor outweighs another flavor that is too small.
_MESSAGES = (
    (r"pending the preemption of|will fit after these preemptions", Obstacle.PREEMPTED),
    (r"insufficient unused quota|no longer fits|overlapping preemption targets", Obstacle.QUOTA),
    (r"maximum capacity", Obstacle.TOO_LARGE),
    (r"allows? to fit", Obstacle.PLACEMENT),
    (r"unavailable in clusterqueue|untolerated taint|match node affinity|flavor \S+ not found", Obstacle.FLAVOR),
    (r"it's gated|admission is gated", Obstacle.GATE),
    (r"queue .{0,253}(doesn't exist|not found|is terminating or missing)", Obstacle.QUEUE_MISSING),
    (r"queue .{0,253}is (inactive|stopped)", Obstacle.QUEUE_STOPPED),
    (r"match clusterqueue selector", Obstacle.NAMESPACE),
    (r"resources validation failed|limitrange", Obstacle.SETTINGS),
    (r"in podsready condition", Obstacle.STARTS),
)
_PATTERNS = tuple((re.compile(pattern, re.IGNORECASE), obstacle) for pattern, obstacle in _MESSAGES)
_TOO_LARGE = re.compile(
    r"insufficient quota for (\S{1,253}) in flavor .{0,400}?"
    r"current podset request \((\S{1,40})\) > maximum capacity \((\S{1,40})\)"
)
_IN_USE = re.compile(r"insufficient unused quota for (\S{1,253}) in flavor")
_NOT_OFFERED = re.compile(r"resource (\S{1,253}) unavailable in ClusterQueue")

_BLOCKING = frozenset(
    {
        Obstacle.HOLD,
        Obstacle.QUEUE_STOPPED,
        Obstacle.QUEUE_MISSING,
        Obstacle.NAMESPACE,
        Obstacle.TOO_LARGE,
        Obstacle.FLAVOR,
        Obstacle.SETTINGS,
        Obstacle.DEACTIVATED,
    }
)


def find_obstacle(condition: Condition) -> Obstacle:
    """What keeps a Workload from its slot, by the condition QuotaReserved."""
    if condition.reason in _BY_MESSAGE:
        said = (obstacle for pattern, obstacle in _PATTERNS if pattern.search(condition.message))
        return next(said, _BY_MESSAGE[condition.reason])
    return _GRANULAR.get(condition.reason, Obstacle.UNKNOWN)


def explain_pending(workload: Workload, outlook: Outlook) -> Standing:
    """Queued, or blocked until a person does something."""
    condition = workload.condition(QUOTA_RESERVED)
    obstacle = find_obstacle(condition)
    explanation = replace(
        _EXPLAIN[obstacle](condition, outlook),
        raw_reason=condition.reason or None,
        since=condition.since or workload.created_at,
    )
    state = SubmissionState.BLOCKED if obstacle in _BLOCKING else SubmissionState.QUEUED
    return Standing(state=state, explanation=explanation)


def _quota(condition: Condition, outlook: Outlook) -> Explanation:
    match = _IN_USE.search(condition.message)
    return explanations.waiting_for_quota(match.group(1) if match else "", outlook)


def _too_large(condition: Condition, _: Outlook) -> Explanation:
    match = _TOO_LARGE.search(condition.message)
    return explanations.exceeds_quota(*(match.groups() if match else ("", "", "")))


def _flavor(condition: Condition, _: Outlook) -> Explanation:
    match = _NOT_OFFERED.search(condition.message)
    return explanations.no_matching_flavor(match.group(1) if match else "", condition.message)


_EXPLAIN: Mapping[Obstacle, Callable[[Condition, Outlook], Explanation]] = {
    Obstacle.TURN: lambda _, outlook: explanations.waiting_in_queue(outlook),
    Obstacle.QUOTA: _quota,
    Obstacle.PREEMPTED: lambda _, outlook: explanations.waiting_for_preempted(outlook),
    Obstacle.STARTS: lambda _, outlook: explanations.waiting_for_other_starts(outlook),
    Obstacle.PLACEMENT: lambda said, outlook: explanations.waiting_for_placement(said.message, outlook),
    Obstacle.GATE: lambda said, _: explanations.admission_gated(said.message),
    Obstacle.HOLD: lambda said, _: explanations.on_hold(said.message),
    Obstacle.QUEUE_STOPPED: lambda said, _: explanations.queue_stopped(said.message),
    Obstacle.QUEUE_MISSING: lambda said, _: explanations.queue_missing(said.message),
    Obstacle.NAMESPACE: lambda _said, _outlook: explanations.namespace_refused(),
    Obstacle.TOO_LARGE: _too_large,
    Obstacle.FLAVOR: _flavor,
    Obstacle.SETTINGS: lambda said, _: explanations.misconfigured(said.message),
    Obstacle.DEACTIVATED: lambda _said, _outlook: explanations.stopped_by_admin(),
    Obstacle.UNKNOWN: lambda said, outlook: explanations.waiting_unknown(said.reason, said.message, outlook),
}
