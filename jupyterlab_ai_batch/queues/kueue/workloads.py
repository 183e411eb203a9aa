"""The Job of a Submission and its Workload, as far as they say where it stands. Pure.

Source: batch/v1 Job; kueue.x-k8s.io/v1beta2 Workload, of whose ``status``: conditions, requeueState, admissionChecks,
schedulingStats, accumulatedPastExecutionTimeSeconds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .json_fields import ABSENT, Condition, field, message, moment, parse_conditions, records, whole, word
from .naming import ADDED_ANNOTATION, RESUME_ANNOTATION

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"

QUOTA_RESERVED = "QuotaReserved"
ADMITTED = "Admitted"
PODS_READY = "PodsReady"
EVICTED = "Evicted"
PREEMPTED = "Preempted"
REQUEUED = "Requeued"
FINISHED = "Finished"
DEACTIVATION_TARGET = "DeactivationTarget"

_COUNT = re.compile(r"[0-9]{1,18}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a Job's object says.

    Attributes:
        deleted_at: When its deletion was asked for; it ends once its pods are gone.
        queue: The LocalQueue that it names; empty when it names none.
        deadline_s: Its own time limit over all pods, which our Jobs do not have.
        added_bytes: What its image has beyond the session's, uncompressed; None when it does not say so.
        resumes: Each Attempt begins with the files that the one before saved.
    """

    created_at: datetime | None
    deleted_at: datetime | None
    suspended: bool
    queue: str
    deadline_s: int | None
    added_bytes: int | None
    resumes: bool
    conditions: Mapping[str, Condition]

    def condition(self, name: str) -> Condition:
        return self.conditions.get(name, ABSENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvictionCount:
    """How often Kueue evicted a Workload for one reason."""

    reason: str
    cause: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionCheck:
    """A check that the pool makes before an admission, and where it stands: Pending, Ready, Retry or Rejected."""

    name: str
    state: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What a Workload's object says.

    Attributes:
        active: False once an admin, or Kueue itself, has taken it out of the queue.
        requeue_at: End of a back-off.
        max_execution_s: Kueue's own time limit over all Attempts.
        past_execution_s: Time that earlier Attempts were admitted for, all together.
    """

    active: bool
    created_at: datetime | None
    deleted_at: datetime | None
    queue: str
    requeue_at: datetime | None
    max_execution_s: int | None
    past_execution_s: int | None
    conditions: Mapping[str, Condition]
    checks: Sequence[AdmissionCheck]
    evictions: Sequence[EvictionCount]

    def condition(self, name: str) -> Condition:
        return self.conditions.get(name, ABSENT)

    def holds(self, name: str) -> bool:
        return self.condition(name).holds is True

    @property
    def times_evicted(self) -> int:
        counted = sum(eviction.count for eviction in self.evictions)
        return max(counted, 1) if self.holds(EVICTED) else counted

    @property
    def admitted_since(self) -> datetime | None:
        """When the present admission began; None when it is not admitted."""
        return self.condition(ADMITTED).since if self.holds(ADMITTED) else None


def parse_job(value: Any) -> Job | None:
    """None for anything that is not an object with fields."""
    if not isinstance(value, Mapping) or not value:
        return None
    return Job(
        created_at=moment(field(value, "metadata", "creationTimestamp")),
        deleted_at=moment(field(value, "metadata", "deletionTimestamp")),
        suspended=field(value, "spec", "suspend") is True,
        queue=word(field(value, "metadata", "labels", QUEUE_LABEL)),
        deadline_s=whole(field(value, "spec", "activeDeadlineSeconds")),
        added_bytes=_count(field(value, "metadata", "annotations", ADDED_ANNOTATION)),
        resumes=field(value, "metadata", "annotations", RESUME_ANNOTATION) == "true",
        conditions=parse_conditions(field(value, "status", "conditions")),
    )


def _count(text: Any) -> int | None:
    return int(text) if isinstance(text, str) and _COUNT.match(text) else None


def parse_workload(value: Any) -> Workload | None:
    """None for anything that is not an object with fields."""
    if not isinstance(value, Mapping) or not value:
        return None
    status = field(value, "status")
    return Workload(
        active=field(value, "spec", "active") is not False,
        created_at=moment(field(value, "metadata", "creationTimestamp")),
        deleted_at=moment(field(value, "metadata", "deletionTimestamp")),
        queue=word(field(value, "spec", "queueName")),
        requeue_at=moment(field(status, "requeueState", "requeueAt")),
        max_execution_s=whole(field(value, "spec", "maximumExecutionTimeSeconds")),
        past_execution_s=whole(field(status, "accumulatedPastExecutionTimeSeconds")),
        conditions=parse_conditions(field(status, "conditions")),
        checks=[_parse_check(check) for check in records(field(status, "admissionChecks"))],
        evictions=_parse_evictions(field(status, "schedulingStats", "evictions")),
    )


def _parse_check(value: Mapping[str, Any]) -> AdmissionCheck:
    return AdmissionCheck(
        name=word(value.get("name")), state=word(value.get("state")), message=message(value.get("message"))
    )


def _parse_evictions(value: Any) -> Sequence[EvictionCount]:
    found = []
    for entry in records(value):
        count = whole(entry.get("count"))
        if count is not None and count > 0:
            reason, cause = word(entry.get("reason")), word(entry.get("underlyingCause"))
            found.append(EvictionCount(reason=reason, cause=cause, count=count))
    return found
