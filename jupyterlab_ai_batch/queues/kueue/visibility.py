"""Where waiting Submissions stand, from Kueue's visibility API: asked for only while somebody looks.

One request per LocalQueue at most every ``INTERVAL_S``, while something waits in it and its positions were asked for
within ``INTEREST_S``. A cluster without the API, without the right to it, or whose Kueue restarts, gives no positions:
that is never an error. Source: visibility.kueue.x-k8s.io/v1beta2 PendingWorkloadsSummary.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime

from ...errors import QueueError
from ...models import QueuePosition
from .api import ClusterApi, Json
from .json_fields import field, records, whole
from .pauses import Pauses
from .waiting import wait_shortly

INTERVAL_S = 5.0
INTEREST_S = 20.0
FIRST_ANSWER_S = 2.0
LONGEST_PAUSE_S = 60.0


class Positions:
    """Positions of what waits in several LocalQueues, ``INTERVAL_S`` and an answer's time old at most."""

    def __init__(
        self,
        api: ClusterApi,
        *,
        now: Callable[[], datetime],
        on_change: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """``now``: aware UTC, for records; ``clock``: seconds of a clock that never goes back."""
        self._api = api
        self._now = now
        self._on_change = on_change
        self._clock = clock
        self._sleep = sleep
        self._queues: dict[str, _WatchedQueue] = {}

    async def want(self, queues: Collection[str]) -> None:
        """Keep the positions in exactly these LocalQueues fresh for a while; their first answers are waited for."""
        for name in [name for name in self._queues if name not in queues]:
            self._queues.pop(name).stop()
        for name in queues:
            if name not in self._queues:
                self._queues[name] = _WatchedQueue(self._ask(name), self._on_change, self._clock, self._sleep)
            self._queues[name].want()
        await wait_shortly([queue.answered.wait() for queue in self._queues.values()], FIRST_ANSWER_S)

    def of(self, queue: str, job_uid: str) -> QueuePosition | None:
        """Where the Workload of a Job stands; None when it does not wait there, or nobody knows."""
        watched = self._queues.get(queue)
        return watched.positions.get(job_uid) if watched is not None else None

    def first(self, queue: str) -> QueuePosition | None:
        """The best position of a LocalQueue; None when nothing waits there, or nobody knows."""
        watched = self._queues.get(queue)
        positions = watched.positions.values() if watched is not None else ()
        return min(positions, key=lambda position: position.in_cluster_queue, default=None)

    def stop(self) -> None:
        for queue in self._queues.values():
            queue.stop()
        self._queues.clear()

    def _ask(self, queue: str) -> Callable[[], Awaitable[Mapping[str, QueuePosition] | None]]:
        async def ask() -> Mapping[str, QueuePosition] | None:
            items = await self._api.pending_workloads(queue)
            return None if items is None else parse_positions(items, self._now())

        return ask


class _WatchedQueue:
    """One LocalQueue.

    Attributes:
        positions: By uid of the Job; empty when the cluster does not tell.
        answered: Set once the first answer, or its failure, is there.
    """

    def __init__(
        self,
        ask: Callable[[], Awaitable[Mapping[str, QueuePosition] | None]],
        on_change: Callable[[], None],
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[object]],
    ) -> None:
        self._ask = ask
        self._on_change = on_change
        self._clock = clock
        self._sleep = sleep
        self._wanted_at = clock()
        self._task: asyncio.Task[None] | None = None
        self.positions: Mapping[str, QueuePosition] = {}
        self.answered = asyncio.Event()

    def want(self) -> None:
        self._wanted_at = self._clock()
        if self._task is None or self._task.done():
            self.answered.clear()
            self._task = asyncio.get_running_loop().create_task(self._poll())

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _poll(self) -> None:
        pauses = Pauses(first_s=INTERVAL_S, longest_s=LONGEST_PAUSE_S)
        while self._clock() - self._wanted_at <= INTEREST_S:
            try:
                found = await self._ask()
            except QueueError as exc:
                self._tell({})
                await self._sleep(max(INTERVAL_S, pauses.next(exc)))
                continue
            self._tell(found or {})
            if found is None:
                await self._sleep(max(INTERVAL_S, pauses.next()))
                continue
            pauses.reset()
            await self._sleep(INTERVAL_S)
        self.positions = {}  # nobody asks: they would only grow old

    def _tell(self, found: Mapping[str, QueuePosition]) -> None:
        """A position that has not changed is news, too: it is as new as the answer."""
        is_news = bool(found or self.positions)
        self.positions = found
        self.answered.set()
        if is_news:
            self._on_change()


def parse_positions(items: Sequence[Json], observed_at: datetime) -> Mapping[str, QueuePosition]:
    """Positions by uid of the Workload's owners; what has none is left out."""
    found = {}
    for item in items:
        in_local_queue, in_cluster_queue = (
            whole(item.get(name)) for name in ("positionInLocalQueue", "positionInClusterQueue")
        )
        if in_local_queue is None or in_cluster_queue is None or min(in_local_queue, in_cluster_queue) < 0:
            continue
        position = QueuePosition(
            in_local_queue=in_local_queue, in_cluster_queue=in_cluster_queue, observed_at=observed_at
        )
        for owner in records(field(item, "metadata", "ownerReferences")):
            uid = owner.get("uid")
            if isinstance(uid, str):
                found[uid] = position
    return found
