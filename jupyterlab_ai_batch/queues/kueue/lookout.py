"""Looks at the cluster and the registry while anybody asks, and puts together what they say about a Submission."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from datetime import datetime

from ...models import QueuePosition
from .api import JOBS, ClusterApi, Json
from .cache import ClusterCache, has_ended, is_owned_by, submission_of
from .conditions import Reading
from .histories import Histories
from .logs import Logs
from .naming import job_name
from .notifier import Notifier
from .paths import KueuePaths, is_safe_id
from .pauses import Pauses
from .queue_numbers import QueueNumbers
from .store import uid_of
from .visibility import Positions
from .workloads import QUOTA_RESERVED, parse_job, parse_workload

IDLE_S = 45.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """What there is of one Submission in the cluster.

    Attributes:
        pods: Of the Job, oldest first.
    """

    job: Json | None
    workload: Json | None
    pods: Sequence[Json]

    @property
    def pod_uid(self) -> str:
        """Of the newest pod; empty when there is none."""
        return uid_of(self.pods[-1]) if self.pods else ""

    @property
    def waits_in(self) -> str:
        """The LocalQueue in which it waits for a slot; empty when it does not wait."""
        job, workload = parse_job(self.job), parse_workload(self.workload)
        if self.job is None or job is None or workload is None or job.deleted_at or has_ended(self.job):
            return ""
        return job.queue if workload.active and not workload.holds(QUOTA_RESERVED) else ""


class Lookout:
    """Everything that is followed: objects, positions, logs, the registry. Begun by whoever asks, stopped when idle."""

    def __init__(
        self,
        api: ClusterApi,
        paths: KueuePaths,
        histories: Histories,
        notifier: Notifier,
        numbers: QueueNumbers,
        *,
        now: Callable[[], datetime],
        make_pauses: Callable[[], Pauses] = Pauses,
        idle_s: float = IDLE_S,
    ) -> None:
        """``now``: aware UTC. ``idle_s``: how long to go on when nobody asks any more."""
        self._api = api
        self._histories = histories
        self._notifier = notifier
        self._numbers = numbers
        self._now = now
        self._idle_s = idle_s
        self._cache = ClusterCache(api, on_change=self._on_objects, make_pauses=make_pauses)
        self._positions = Positions(api, now=now, on_change=notifier.notify)
        self._logs = Logs(api, paths, now=now, on_change=notifier.notify, make_pauses=make_pauses)
        self._holders = 0
        self._idle: asyncio.TimerHandle | None = None
        self._stopping: asyncio.Task[None] | None = None

    async def changes(self) -> AsyncGenerator[None, None]:
        """A notice at once, and after every change; everything is followed meanwhile."""
        with self._held():
            async with aclosing(self._notifier.listen()) as notices:
                async for _ in notices:
                    yield

    async def ready(self, *, with_positions: bool = False) -> None:
        """Have a view of the present, what runners say included, and where things wait if somebody looks.

        Raises:
            QueueError: there is none; ``details["age_s"]`` says how old the last one is, where there was one.
        """
        with self._held():
            await self._cache.ready()
            self._follow_logs()
            jobs = [self._sight(job) for job in self._cache.jobs()]
            if with_positions:
                await self._positions.want({sighting.waits_in for sighting in jobs} - {""})
            await self._logs.catch_up([uid_of(pod) for sighting in jobs for pod in sighting.pods])

    def knows(self, submission_id: str) -> bool:
        """Whether its Job is in the present view; False also while nothing is followed."""
        return self._cache.job(submission_id) is not None

    def present_pods(self, submission_id: str) -> Collection[str]:
        """Uids of the pods that are there."""
        return {uid_of(pod) for pod in self._cache.pods().get(submission_id, ())}

    def jobs(self) -> Sequence[Json]:
        """All Jobs of this user's Submissions."""
        return self._cache.jobs()

    def first_position(self, queue: str) -> QueuePosition | None:
        """Where the first Submission in a LocalQueue waits, as far as anybody has asked lately."""
        return self._positions.first(queue)

    async def sight(self, submission_id: str) -> Sighting:
        """What the cluster has; call it when ``ready``.

        Raises:
            QueueError
        """
        if not is_safe_id(submission_id):
            return Sighting(job=None, workload=None, pods=())
        job = self._cache.job(submission_id)
        if job is None:  # a Job that was made a moment ago need not be in the view yet
            job = await self._api.get(JOBS, job_name(submission_id))
        if job is not None and submission_of(job) == submission_id:
            return self._sight(job)
        return Sighting(job=None, workload=None, pods=self._cache.pods().get(submission_id, ()))

    def read(self, submission_id: str, sighting: Sighting) -> Reading:
        """All that is known of a Submission at this moment."""
        report = self._logs.report(sighting.pod_uid)
        job = parse_job(sighting.job)
        ended = sighting.job is not None and has_ended(sighting.job)
        self._histories.want(submission_id, (tuple(map(uid_of, sighting.pods)), report.stored, ended))
        history = self._histories.known(submission_id)
        newest = history.newest
        return Reading(
            job=sighting.job,
            workload=sighting.workload,
            pods=sighting.pods,
            events=self._cache.events(submission_id) if sighting.job is not None else (),
            position=self._positions.of(job.queue, uid_of(sighting.job)) if job and sighting.job else None,
            progress=report.progress,
            failure=report.failure,
            pool=self._numbers.pool,
            attempts=history.attempts,
            outputs=newest.outputs if newest is not None else None,
            observed_at=self._now(),
        )

    async def settle(self, sighting: Sighting) -> None:
        """Hear the newest pod, which has ended, to its last word."""
        with self._held():
            self._follow_logs()
            await self._logs.settle(sighting.pod_uid)

    async def stop(self) -> None:
        """Follow nothing more."""
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        self._positions.stop()
        tasks = [*self._logs.stop(), *self._cache.stop()]
        if tasks:
            await asyncio.wait(tasks)

    # --------------------------------------------------------------------------------------------------------------

    def _sight(self, job: Json) -> Sighting:
        uid = uid_of(job)
        pods = [pod for pod in self._cache.pods().get(submission_of(job), ()) if is_owned_by(pod, uid)]
        return Sighting(job=job, workload=self._cache.workload(uid), pods=pods)

    def _on_objects(self) -> None:
        self._follow_logs()
        self._notifier.notify()

    def _follow_logs(self) -> None:
        self._logs.follow(self._cache.pods())

    @contextmanager
    def _held(self) -> Iterator[None]:
        self._holders += 1
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        self._cache.start()
        try:
            yield
        finally:
            self._holders -= 1
            if not self._holders:
                self._idle = asyncio.get_running_loop().call_later(self._idle_s, self._begin_to_stop)

    def _begin_to_stop(self) -> None:
        self._idle = None
        if not self._holders:
            self._stopping = asyncio.get_running_loop().create_task(self.stop())
