"""The numbers of LocalQueues and of the pool, asked for only by who looks, and once in five seconds for all of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime

from ...errors import QueueError, QueueForbiddenError
from ...models import PoolReading, QueuePosition, QueueReading
from .api import CLUSTER_QUEUES, LOCAL_QUEUES, ClusterApi, Json, Resource
from .availability import count_available
from .fair_share import read_share
from .json_fields import field, whole
from .pool import read_pool, reserved
from .settings import KueueSettings

BACKEND = "kueue"
INTERVAL_S = 5.0
REFUSED_S = 300.0  # a right that is missing now is hardly given in the next minutes
OLD_S = 60.0


class QueueNumbers:
    """Reads them; a pool that the account may not see, or that does not answer, is left out."""

    def __init__(
        self,
        api: ClusterApi,
        settings: KueueSettings,
        *,
        now: Callable[[], datetime],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``now``: aware UTC, for records; ``clock``: seconds of a clock that never goes back."""
        self._api = api
        self._settings = settings
        self._now = now
        self._clock = clock
        self._asking = asyncio.Lock()
        self._local: Mapping[str, Json] = {}
        self._pool: PoolReading | None = None
        self._members: Mapping[str, Json] = {}
        self._read_at: float | None = None
        self._pool_again_at = 0.0
        self._resources = frozenset(profile.gpu_resource for profile in settings.profiles if profile.gpu_resource)

    async def read(self, first: Callable[[str], QueuePosition | None]) -> Sequence[QueueReading]:
        """The LocalQueues that there are; ``first``: where the first Submission in one of them waits.

        Raises:
            QueueError: the cluster does not tell.
        """
        await self._refresh()
        return [self._reading(name, queue, first(name)) for name, queue in self._local.items()]

    async def available(self) -> Mapping[str, int | None]:
        """How many Attempts of each profile could start now, by its name; None where that cannot be told."""
        with suppress(QueueError):
            await self._refresh()
        default = self._local.get(self._settings.queues[0], {})
        queue = self._members.get(str(field(default, "spec", "clusterQueue")))
        return {
            profile.profile.name: count_available(profile, queue, [*self._members.values()])
            if queue is not None
            else None
            for profile in self._settings.profiles
        }

    @property
    def pool(self) -> PoolReading | None:
        """As it was read last, unless that is long ago; asks nobody."""
        return self._pool if self._read_at is not None and self._clock() < self._read_at + OLD_S else None

    async def _refresh(self) -> None:
        async with self._asking:
            if self._read_at is None or self._clock() >= self._read_at + INTERVAL_S:
                await self._ask()

    async def _ask(self) -> None:
        names = self._settings.queues
        queues = await asyncio.gather(*(self._get_or_nothing(LOCAL_QUEUES, name) for name in names))
        self._local = {name: queue for name, queue in zip(names, queues, strict=True) if queue is not None}
        self._members = await self._ask_members()
        self._pool = read_pool(
            self._members,
            queues=self._settings.pool_queues,
            resources=self._resources,
            mine=self._mine(),
            observed_at=self._now(),
        )
        self._read_at = self._clock()

    async def _ask_members(self) -> Mapping[str, Json]:
        """The pool's ClusterQueues by name; empty where some are missing, may not be seen, or do not answer."""
        queues = self._settings.pool_queues
        names = (*queues.interactive, *queues.batch)
        if not queues.batch or self._clock() < self._pool_again_at:
            return {}
        try:
            found = await asyncio.gather(*(self._api.get(CLUSTER_QUEUES, name) for name in names))
        except QueueForbiddenError:
            self._pool_again_at = self._clock() + REFUSED_S
            return {}
        except QueueError:
            return {}
        members = {name: queue for name, queue in zip(names, found, strict=True) if queue is not None}
        return members if len(members) == len(names) else {}

    def _mine(self) -> int:
        batch = self._settings.pool_queues.batch
        queues = (queue for queue in self._local.values() if field(queue, "spec", "clusterQueue") in batch)
        return sum(reserved(queue, self._resources) for queue in queues)

    def _reading(self, name: str, queue: Json, first: QueuePosition | None) -> QueueReading:
        is_batch = field(queue, "spec", "clusterQueue") in self._settings.pool_queues.batch
        return QueueReading(
            name=name,
            backend=BACKEND,
            slots=None,
            busy=_count(queue, "reservingWorkloads"),
            waiting=_count(queue, "pendingWorkloads"),
            gpu_busy=reserved(queue, self._resources),
            pool=self.pool if is_batch else None,
            share=read_share(
                queue, resources=self._resources, half_life_s=self._settings.usage_half_life_s, first=first
            ),
            observed_at=self._now(),
        )

    async def _get_or_nothing(self, resource: Resource, name: str) -> Json | None:
        """Without numbers where this account may not look at it."""
        try:
            return await self._api.get(resource, name)
        except QueueForbiddenError:
            return {}


def _count(queue: Json, name: str) -> int:
    return max(0, whole(field(queue, "status", name)) or 0)
