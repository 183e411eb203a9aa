"""Positions: asked for while somebody looks, once in five seconds, and never an error."""

import asyncio
from datetime import datetime, timezone

import pytest

from jupyterlab_ai_batch.errors import QueueUnreachableError
from jupyterlab_ai_batch.queues.kueue.visibility import INTEREST_S, INTERVAL_S, Positions, parse_positions
from tests.memory_cluster import MemoryApi, MemoryCluster

NOW = datetime(2026, 11, 20, 10, tzinfo=timezone.utc)
ASKED = ("get", "pendingworkloads")


def item(uid, local=0, cluster=0):
    return {
        "metadata": {"name": f"job-{uid}", "ownerReferences": [{"uid": uid}]},
        "positionInLocalQueue": local,
        "positionInClusterQueue": cluster,
    }


class World:
    """Positions with a clock that only sleeping moves: each wake is let go by the test."""

    def __init__(self):
        self.cluster = MemoryCluster()
        self.now = 0.0
        self.told = 0
        self.sleeping = asyncio.Queue()
        self.positions = Positions(
            MemoryApi(self.cluster), now=lambda: NOW, on_change=self.tell, clock=lambda: self.now, sleep=self.sleep
        )

    def tell(self):
        self.told += 1

    async def sleep(self, seconds):
        wake = asyncio.Event()
        await self.sleeping.put((seconds, wake))
        await wake.wait()

    async def pass_time(self):
        """Let the next sleeper wake; how long it slept."""
        seconds, wake = await asyncio.wait_for(self.sleeping.get(), 5)
        self.now += seconds
        wake.set()
        for _ in range(5):
            await asyncio.sleep(0)
        return seconds

    @property
    def asked(self):
        return self.cluster.requests.get(ASKED, 0)


def run(story):
    async def whole():
        world = World()
        try:
            await asyncio.wait_for(story(world), 20)
        finally:
            world.positions.stop()

    asyncio.run(whole())


def test_first_answer_is_waited_for():
    """Who asks first gets an answer, not a promise."""

    async def story(world):
        world.cluster.pending["batch"] = [item("a", 1, 7)]
        await world.positions.want({"batch"})
        found = world.positions.of("batch", "a")
        assert (1, 7, NOW) == (found.in_local_queue, found.in_cluster_queue, found.observed_at)
        assert world.positions.of("batch", "b") is None
        assert world.positions.of("other", "a") is None

    run(story)


def test_one_request_in_five_seconds():
    """However often somebody asks; an answer is told even if it is the same: it is newer."""

    async def story(world):
        world.cluster.pending["batch"] = [item("a")]
        for _ in range(20):
            await world.positions.want({"batch"})
        assert (1, 1) == (world.asked, world.told)
        assert INTERVAL_S == await world.pass_time()
        assert (2, 2) == (world.asked, world.told)
        world.cluster.pending["batch"] = [item("b"), item("a", 1, 1)]
        await world.pass_time()
        assert (3, 3, 1) == (world.asked, world.told, world.positions.of("batch", "a").in_local_queue)

    run(story)


def test_ends_when_nobody_asks():
    """A minute after the last question nothing is asked, and nothing old is shown; then it begins anew."""

    async def story(world):
        world.cluster.pending["batch"] = [item("a")]
        await world.positions.want({"batch"})
        for _ in range(int(INTEREST_S / INTERVAL_S) + 1):
            await world.pass_time()
        assert world.sleeping.empty()
        assert world.positions.of("batch", "a") is None
        before = world.asked
        await world.positions.want({"batch"})
        assert before + 1 == world.asked
        assert world.positions.of("batch", "a") is not None

    run(story)


def test_ends_when_nothing_waits():
    """A queue in which nothing waits any more is not asked."""

    async def story(world):
        world.cluster.pending["batch"] = [item("a")]
        await world.positions.want({"batch"})
        await world.positions.want(set())
        assert world.positions.of("batch", "a") is None
        assert 1 == world.asked

    run(story)


@pytest.mark.parametrize("failing", [True, False])
def test_no_answer_is_no_position(failing):
    """Whether the API is missing or the cluster silent: no position, longer and longer pauses, and back again."""

    async def story(world):
        world.cluster.failure = QueueUnreachableError("gone") if failing else None
        await world.positions.want({"batch"})
        assert world.positions.of("batch", "a") is None
        pauses = [await world.pass_time() for _ in range(3)]
        assert all(pause >= INTERVAL_S for pause in pauses)
        assert pauses[-1] > INTERVAL_S
        world.cluster.failure = None
        world.cluster.pending["batch"] = [item("a")]
        await world.positions.want({"batch"})
        await world.pass_time()
        assert world.positions.of("batch", "a") is not None

    run(story)


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {**item("a"), "positionInLocalQueue": "first"},
        {**item("a"), "positionInClusterQueue": -1},
        {**item("a"), "positionInClusterQueue": 1e3},
        {**item("a"), "metadata": []},
        {**item("a"), "metadata": {"ownerReferences": [{"uid": 3}, "x"]}},
    ],
)
def test_what_makes_no_sense_is_left_out(broken):
    assert ["b"] == list(parse_positions([broken, item("b")], NOW))
