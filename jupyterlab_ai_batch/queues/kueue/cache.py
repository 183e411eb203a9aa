"""What the cluster has of this user's Submissions: one set of list-watches per process, while anybody looks at it.

Jobs carry the whole; Workloads, pods and Events complete it where the account may read them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from ...errors import BatchError, QueueUnreachableError
from .api import EVENTS, JOBS, PODS, WORKLOADS, ClusterApi, Json, Resource
from .follower import Follower
from .json_fields import field, moment, records
from .naming import MANAGED_BY, MANAGED_BY_LABEL, SUBMISSION_LABEL, job_name
from .paths import is_safe_id
from .pauses import Pauses
from .store import name_of, uid_of
from .waiting import wait_shortly

FIRST_VIEW_S = 15.0
STALE_S = 6.0
JOB_UID_LABEL = "kueue.x-k8s.io/job-uid"
_JOB_PREFIX = job_name("0").removesuffix("0")
_ALWAYS = (JOBS, WORKLOADS, PODS)
_FINISHED = frozenset({"Complete", "Failed"})
_BEGUN = frozenset({"Running", "Succeeded", "Failed"})


class ClusterCache:
    """Objects of this user's Submissions, as they are now or were a moment ago."""

    def __init__(
        self,
        api: ClusterApi,
        *,
        on_change: Callable[[], None],
        make_pauses: Callable[[], Pauses] = Pauses,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``on_change`` is told of every change, and of every time that the cluster falls silent or speaks again."""
        self._api = api
        self._on_change = on_change
        self._make_pauses = make_pauses
        self._clock = clock
        self._followers: dict[Resource, Follower] = {}
        self._tasks: dict[Resource, asyncio.Task[None]] = {}
        self._pods: Mapping[str, Sequence[Json]] | None = None
        self._workloads: Mapping[str, Sequence[Json]] | None = None

    # --- while it is needed ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Follow from now on."""
        for resource in _ALWAYS:
            self._follow(resource)

    def stop(self) -> Collection[asyncio.Task[None]]:
        """Follow no more, and forget what was known; the tasks that end now."""
        tasks, self._tasks, self._followers = list(self._tasks.values()), {}, {}
        self._pods = self._workloads = None
        for task in tasks:
            task.cancel()
        return tasks

    async def ready(self) -> None:
        """Return when there is a view that is not older than ``STALE_S``; it must have been started.

        Raises:
            QueueUnreachableError, QueueTimeoutError: there is none; ``details["age_s"]`` says how old the last one is.
            QueueForbiddenError: this account may not read Jobs.
        """
        followers = {resource: self._followers[resource] for resource in _ALWAYS}
        await wait_shortly([follower.settled.wait() for follower in followers.values()], FIRST_VIEW_S)
        for resource, follower in followers.items():
            age_s = follower.age_s
            is_fresh = age_s is not None and age_s <= STALE_S
            if not is_fresh and not (follower.is_forbidden and resource is not JOBS):
                raise _silent(follower.error, age_s)

    def _follow(self, resource: Resource) -> None:
        if resource in self._tasks:
            return
        labels = {JOBS: f"{MANAGED_BY_LABEL}={MANAGED_BY}", PODS: SUBMISSION_LABEL}
        self._followers[resource] = Follower(
            self._api,
            resource,
            labels=labels.get(resource, ""),
            keep=_is_about_us if resource is EVENTS else lambda _: True,
            on_change=self._changed,
            pauses=self._make_pauses(),
            clock=self._clock,
        )
        self._tasks[resource] = asyncio.get_running_loop().create_task(self._followers[resource].run())

    def _changed(self) -> None:
        self._pods = self._workloads = None
        self._follow_events()
        self._on_change()

    def _follow_events(self) -> None:
        """Events are many, and say something only while a Job does not run yet."""
        wanted = any(self._is_starting(job) for job in self._objects(JOBS).values())
        if wanted:
            self._follow(EVENTS)
        elif EVENTS in self._tasks:
            self._tasks.pop(EVENTS).cancel()
            del self._followers[EVENTS]

    # --- what is known --------------------------------------------------------------------------------------------

    def jobs(self) -> Sequence[Json]:
        return list(self._objects(JOBS).values())

    def job(self, submission_id: str) -> Json | None:
        return self._objects(JOBS).get(job_name(submission_id)) if is_safe_id(submission_id) else None

    def workload(self, job_uid: str) -> Json | None:
        """The Job's newest Workload that has not finished, else its newest."""
        if self._workloads is None:
            self._workloads = _grouped(self._objects(WORKLOADS).values(), _jobs_of)
        own = self._workloads.get(job_uid, ())
        return max(own, key=lambda item: (not _has_finished(item), _created(item)), default=None)

    def pods(self) -> Mapping[str, Sequence[Json]]:
        """By Submission, oldest first."""
        if self._pods is None:
            present = sorted(self._objects(PODS).values(), key=_created)
            self._pods = _grouped(present, lambda pod: {submission_of(pod)})
        return self._pods

    def events(self, submission_id: str) -> Sequence[Json]:
        """Of the Job and its pods, newest last."""
        name = job_name(submission_id)
        return sorted((item for item in self._objects(EVENTS).values() if _is_about(item, name)), key=_happened)

    def _objects(self, resource: Resource) -> Mapping[str, Json]:
        follower = self._followers.get(resource)
        return follower.objects if follower is not None else {}

    def _is_starting(self, job: Json) -> bool:
        if has_ended(job):
            return False
        pods = [pod for pod in self.pods().get(submission_of(job), ()) if is_owned_by(pod, uid_of(job))]
        return not any(field(pod, "status", "phase") in _BEGUN for pod in pods)


def submission_of(item: Json) -> str:
    """The id that our label names; empty when there is none."""
    labelled = field(item, "metadata", "labels", SUBMISSION_LABEL)
    return labelled if isinstance(labelled, str) else ""


def is_owned_by(item: Json, uid: str) -> bool:
    return bool(uid) and any(owner.get("uid") == uid for owner in records(field(item, "metadata", "ownerReferences")))


def has_ended(job: Json) -> bool:
    """Whether a Job is complete or has failed."""
    conditions = records(field(job, "status", "conditions"))
    return any(entry.get("type") in _FINISHED and entry.get("status") == "True" for entry in conditions)


def _jobs_of(workload: Json) -> Collection[str]:
    """Uids of the Jobs that a Workload may be of: what its label says, and its owners."""
    owners = (owner.get("uid") for owner in records(field(workload, "metadata", "ownerReferences")))
    named = (field(workload, "metadata", "labels", JOB_UID_LABEL), *owners)
    return {uid for uid in named if isinstance(uid, str) and uid}


def _grouped(items: Iterable[Json], keys_of: Callable[[Json], Collection[str]]) -> Mapping[str, Sequence[Json]]:
    found: dict[str, list[Json]] = {}
    for item in items:
        for key in keys_of(item):
            found.setdefault(key, []).append(item)
    return found


def _has_finished(workload: Json) -> bool:
    conditions = records(field(workload, "status", "conditions"))
    return any(entry.get("type") == "Finished" and entry.get("status") == "True" for entry in conditions)


def _is_about_us(event: Json) -> bool:
    return _subject(event).startswith(_JOB_PREFIX)


def _is_about(event: Json, job: str) -> bool:
    name = _subject(event)
    return name == job or name.startswith(f"{job}-")


def _subject(event: Json) -> str:
    name = field(event.get("regarding") or event.get("involvedObject"), "name")
    return name if isinstance(name, str) else ""


def _created(item: Json) -> tuple[float, str]:
    at = moment(field(item, "metadata", "creationTimestamp"))
    return (at.timestamp() if at else 0.0, name_of(item))


def _happened(event: Json) -> float:
    times = (
        field(event, "series", "lastObservedTime"),
        event.get("lastTimestamp"),
        event.get("eventTime"),
        field(event, "metadata", "creationTimestamp"),
    )
    at = next(filter(None, map(moment, times)), None)
    return at.timestamp() if at else 0.0


def _silent(error: BatchError | None, age_s: float | None) -> BatchError:
    if error is None:
        return QueueUnreachableError("The cluster has not answered yet.", details={"age_s": age_s})
    return type(error)(error.message, hint=error.hint, details={**error.details, "age_s": age_s})
