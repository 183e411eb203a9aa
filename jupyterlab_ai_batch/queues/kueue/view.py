"""A Reading of the cluster, parsed, and what is concluded from one. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ...models import Attempt, Explanation, PoolReading, QueuePosition
from ...words import SubmissionState
from .events import Event
from .pods import Pod
from .workloads import QUOTA_RESERVED, Job, Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What is known of what a Submission waits for: where it stands, and who holds the pool."""

    position: QueuePosition | None = None
    pool: PoolReading | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What the cluster, the runner and the registry said about one Submission.

    Attributes:
        pods: Oldest first.
        failure: The runner's ``failed`` event of the latest Attempt.
        history: The registry's Attempts, first to last.
    """

    observed_at: datetime
    cancel_asked: bool
    job: Job | None
    workload: Workload | None
    pods: Sequence[Pod]
    events: Sequence[Event]
    outlook: Outlook
    failure: Mapping[str, Any] | None
    history: Sequence[Attempt]

    @property
    def pod(self) -> Pod | None:
        """The newest."""
        return self.pods[-1] if self.pods else None

    @property
    def has_lingering_pod(self) -> bool:
        """Some pod has not ended yet: it runs, or saves what it has."""
        return any(not pod.has_ended for pod in self.pods)

    @property
    def holds_slot(self) -> bool:
        return self.workload is not None and self.workload.holds(QUOTA_RESERVED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a Submission stands, and why."""

    state: SubmissionState
    explanation: Explanation | None = None
