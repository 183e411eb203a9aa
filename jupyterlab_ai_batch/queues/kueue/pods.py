"""What a pod's status says. Pure.

Source: v1 Pod; the kubelet's and the scheduler's reasons of Kubernetes v1.36.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from .json_fields import ABSENT, Condition, field, message, moment, parse_conditions, quantity, records, whole, word

_BEFORE_ALL = datetime(1970, 1, 1, tzinfo=timezone.utc)
_ORDINARY_WAITS = frozenset({"", "ContainerCreating", "PodInitializing"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """The container that runs the notebook.

    Attributes:
        waiting: Why it does not run yet, in the kubelet's word; empty when it does or did.
        reason: Why it ended (``Completed``, ``Error``, ``OOMKilled``, ``StartError``, …).
        message: The kubelet's sentence about waiting or ending.
        exit_code: Known only once it has ended, and not always then.
    """

    running: bool = False
    has_ended: bool = False
    waiting: str = ""
    reason: str = ""
    message: str = ""
    exit_code: int | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def is_hindered(self) -> bool:
        """Something keeps it from being created, beyond what every container waits for."""
        return self.waiting not in _ORDINARY_WAITS


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """What a pod's object says.

    Attributes:
        deleted_at: When it is gone at the latest; set while it ends.
        reason: Why the kubelet ended or refused it as a whole (``DeadlineExceeded``, ``Evicted``, …).
        scheduled: Condition ``PodScheduled``.
        disruption: Condition ``DisruptionTarget``: the cluster ended it, not its program.
        deadline_s: Time limit of this Attempt.
        memory_limit_bytes: What its container may use.
    """

    name: str
    created_at: datetime | None
    deleted_at: datetime | None
    phase: str
    reason: str
    message: str
    image: str
    deadline_s: int | None
    memory_limit_bytes: int | None
    scheduled: Condition
    disruption: Condition
    container: Container

    @property
    def has_ended(self) -> bool:
        return self.phase in ("Succeeded", "Failed")

    @property
    def is_disrupted(self) -> bool:
        return self.disruption.holds is True

    @property
    def is_ending(self) -> bool:
        """It was told to end and has not yet."""
        return not self.has_ended and (self.deleted_at is not None or self.is_disrupted)

    @property
    def has_run(self) -> bool:
        """Its program runs, or did."""
        return self.container.running or self.container.has_ended


def parse_pods(values: Any) -> Sequence[Pod]:
    """The pods of a Job, oldest first."""
    return sorted((_parse_pod(value) for value in records(values)), key=lambda pod: (begun(pod), pod.name))


def begun(pod: Pod) -> datetime:
    """When it was created; before all others when it does not say."""
    return pod.created_at or _BEFORE_ALL


def _parse_pod(value: Mapping[str, Any]) -> Pod:
    main = _main_container(value)
    status = field(value, "status")
    conditions = parse_conditions(field(status, "conditions"))
    return Pod(
        name=word(field(value, "metadata", "name")),
        created_at=moment(field(value, "metadata", "creationTimestamp")),
        deleted_at=moment(field(value, "metadata", "deletionTimestamp")),
        phase=word(field(status, "phase")),
        reason=word(field(status, "reason")),
        message=message(field(status, "message")),
        image=message(field(main, "image")),
        deadline_s=whole(field(value, "spec", "activeDeadlineSeconds")),
        memory_limit_bytes=quantity(field(main, "resources", "limits", "memory")),
        scheduled=conditions.get("PodScheduled", ABSENT),
        disruption=conditions.get("DisruptionTarget", ABSENT),
        container=_parse_container(status, word(field(main, "name"))),
    )


def _main_container(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """The first container is ours; others, if any, were put in by the cluster."""
    containers = records(field(value, "spec", "containers"))
    return containers[0] if containers else {}


def _parse_container(status: Any, name: str) -> Container:
    known = {word(entry.get("name")): entry for entry in records(field(status, "containerStatuses"))}
    container = _parse_state(field(known.get(name) or next(iter(known.values()), None), "state"))
    if container.running or container.has_ended or container.is_hindered:
        return container
    # What the cluster put in before ours, for example to prepare a network, may be what keeps it waiting.
    before = [_parse_state(entry.get("state")) for entry in records(field(status, "initContainerStatuses"))]
    return next((other for other in before if other.is_hindered), container)


def _parse_state(state: Any) -> Container:
    ended, running, waiting = (field(state, name) for name in ("terminated", "running", "waiting"))
    if isinstance(ended, Mapping):
        return Container(
            has_ended=True,
            exit_code=whole(ended.get("exitCode")),
            reason=word(ended.get("reason")),
            message=message(ended.get("message")),
            started_at=moment(ended.get("startedAt")),
            finished_at=moment(ended.get("finishedAt")),
        )
    if isinstance(running, Mapping):
        return Container(running=True, started_at=moment(running.get("startedAt")))
    return Container(waiting=word(field(waiting, "reason")), message=message(field(waiting, "message")))
