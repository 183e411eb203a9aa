"""Numbers of queues and pool: asked once in five seconds, whoever looks, and never more than the account may read."""

import asyncio

import pytest
from kueue_objects import NOW, SLICE, cluster_queue

from jupyterlab_ai_batch.errors import QueueError, QueueUnreachableError
from jupyterlab_ai_batch.models import Profile
from jupyterlab_ai_batch.queues.kueue.api import CLUSTER_QUEUES, LOCAL_QUEUES
from jupyterlab_ai_batch.queues.kueue.queue_numbers import INTERVAL_S, OLD_S, REFUSED_S, QueueNumbers
from jupyterlab_ai_batch.queues.kueue.settings import KueueProfile, KueueSettings, PoolQueues
from tests.memory_cluster import MemoryApi, MemoryCluster

LOCAL, POOL = ("get", "localqueues"), ("get", "clusterqueues")
SETTINGS = KueueSettings(
    namespace="user-alice",
    queues=("batch", "missing"),
    profiles=(KueueProfile(profile=Profile(name="slice", title="One slice", gpu_slots=1), gpu_resource=SLICE),),
    repository="registry.example.org/users/alice",
    pool_queues=PoolQueues(interactive=("sessions",), batch=("shared",)),
)


class World:
    def __init__(self, settings=SETTINGS):
        self.cluster = MemoryCluster(SETTINGS.namespace)
        self.now = 1000.0
        held = [{"name": "a", "resources": [{"name": SLICE, "total": "2"}]}]
        status = {"reservingWorkloads": 2, "pendingWorkloads": 1, "flavorsReservation": held}
        queue = {"metadata": {"name": "batch"}, "spec": {"clusterQueue": "shared"}, "status": status}
        self.cluster.put(LOCAL_QUEUES, queue)
        self.cluster.put(CLUSTER_QUEUES, {"metadata": {"name": "sessions"}, **cluster_queue(small=("7", "1"))})
        self.cluster.put(CLUSTER_QUEUES, {"metadata": {"name": "shared"}, **cluster_queue(small=("0", "5"))})
        self.numbers = QueueNumbers(MemoryApi(self.cluster), settings, now=lambda: NOW, clock=lambda: self.now)

    async def read(self):
        return await self.numbers.read(lambda _: None)

    def asked(self, what):
        return self.cluster.requests.get(what, 0)


def run(story, **options):
    asyncio.run(story(World(**options)))


def test_queue_and_pool():
    """The queue that there is, with the own part of the pool."""

    async def story(world):
        (reading,) = await world.read()
        assert (reading.name, reading.backend, reading.busy, reading.waiting) == ("batch", "kueue", 2, 1)
        assert (reading.slots, reading.gpu_busy, reading.observed_at) == (None, 2, NOW)
        pool = reading.pool
        assert (pool.mine, pool.others_batch, pool.interactive, pool.free) == (2, 3, 1, 1)
        assert world.numbers.pool == pool

    run(story)


def test_many_look_and_one_asks():
    """Whatever the number of tabs."""

    async def story(world):
        await asyncio.gather(*(world.read() for _ in range(20)))
        assert (world.asked(LOCAL), world.asked(POOL)) == (2, 2)
        world.now += INTERVAL_S - 0.1
        await world.read()
        assert (world.asked(LOCAL), world.asked(POOL)) == (2, 2)
        world.now += 0.1
        await world.read()
        assert (world.asked(LOCAL), world.asked(POOL)) == (4, 4)

    run(story)


def test_without_the_right_the_pool_is_unknown():
    """No error, and no asking again every few seconds."""

    async def story(world):
        world.cluster.forbidden = {("get", str(CLUSTER_QUEUES))}
        (reading,) = await world.read()
        assert (reading.pool, reading.busy, world.numbers.pool) == (None, 2, None)
        asked = world.asked(POOL)
        world.now += INTERVAL_S
        await world.read()
        assert world.asked(POOL) == asked
        world.cluster.forbidden = set()
        world.now += REFUSED_S
        (reading,) = await world.read()
        assert reading.pool.free == 1

    run(story)


def test_what_could_start_now():
    """By profile, from the same answers; unknown without the pool's numbers."""

    async def story(world):
        assert await world.numbers.available() == {"slice": 1}
        await world.read()
        assert world.asked(POOL) == 2
        world.cluster.remove(CLUSTER_QUEUES, "sessions")
        world.now += INTERVAL_S
        assert await world.numbers.available() == {"slice": None}

    run(story)


def test_an_old_pool_explains_nothing():
    async def story(world):
        await world.read()
        world.now += OLD_S
        assert world.numbers.pool is None

    run(story)


def test_a_pool_that_is_not_named_is_not_asked_for():
    async def story(world):
        (reading,) = await world.read()
        assert (reading.pool, world.asked(POOL)) == (None, 0)

    settings = KueueSettings(
        namespace="user-alice", queues=("batch",), profiles=SETTINGS.profiles, repository=SETTINGS.repository
    )
    run(story, settings=settings)


def test_a_cluster_that_does_not_answer_is_an_error():
    """What was read before is not told as if it were the present."""

    async def story(world):
        await world.read()
        world.now += INTERVAL_S
        world.cluster.failure = QueueUnreachableError("gone")
        with pytest.raises(QueueError):
            await world.read()
        world.cluster.failure = None
        assert await world.read()

    run(story)
