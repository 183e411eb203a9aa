"""One kind of object, followed through everything that can happen to a watch."""

import asyncio
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyterlab_ai_batch.errors import QueueForbiddenError, QueueUnreachableError
from jupyterlab_ai_batch.queues.kueue.api import JOBS
from jupyterlab_ai_batch.queues.kueue.follower import Follower
from jupyterlab_ai_batch.queues.kueue.pauses import LONGEST_ASKED_S, Pauses
from tests.memory_cluster import MemoryApi, MemoryCluster

NO_PAUSE = {"first_s": 0.0, "longest_s": 0.0}


def job(name, value=0):
    return {"metadata": {"name": name, "labels": {"ours": "yes"}}, "value": value}


class World:
    """A cluster, and a follower of its Jobs that runs."""

    def __init__(self, api=None, **options):
        self.cluster = MemoryCluster()
        self.heard = asyncio.Event()
        self.now = 0.0
        options.setdefault("pauses", Pauses(**NO_PAUSE))
        self.follower = Follower(
            api(self.cluster) if api else MemoryApi(self.cluster),
            JOBS,
            labels="ours",
            on_change=self.heard.set,
            clock=lambda: self.now,
            **options,
        )

    async def __aenter__(self):
        self.task = asyncio.create_task(self.follower.run())
        return self

    async def __aexit__(self, *_):
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task

    async def until(self, holds):
        """Return once it holds; changes are told, so nobody has to look again and again."""

        async def wait():
            while not holds():
                self.heard.clear()
                await self.heard.wait()

        await asyncio.wait_for(wait(), 10)

    @property
    def names(self):
        return set(self.follower.objects)


def run(story):
    asyncio.run(asyncio.wait_for(story(), 30))


def test_follows_what_happens():
    """Objects that are made, changed and removed are known so."""

    async def story():
        async with World() as world:
            world.cluster.put(JOBS, job("a"))
            world.cluster.put(JOBS, {"metadata": {"name": "foreign"}})
            await world.until(lambda: world.names == {"a"})
            world.cluster.change(JOBS, "a", value=5)
            await world.until(lambda: world.follower.objects["a"]["value"] == 5)
            world.cluster.remove(JOBS, "a")
            await world.until(lambda: not world.names)

    run(story)


def test_lists_again_when_the_version_is_gone():
    """After a compaction everything is listed, and followed from there."""

    async def story():
        async with World() as world:
            world.cluster.put(JOBS, job("a"))
            await world.until(lambda: world.names == {"a"})
            world.cluster.put(JOBS, job("b"))
            world.cluster.remove(JOBS, "a")
            world.cluster.compact()
            await world.until(lambda: world.names == {"b"})
            assert 2 == world.cluster.requests[("list", "jobs")]
            world.cluster.put(JOBS, job("c"))
            await world.until(lambda: world.names == {"b", "c"})

    run(story)


def test_a_cut_watch_goes_on_where_it_was():
    """A server that ends the stream costs no listing."""

    async def story():
        async with World() as world:
            world.cluster.put(JOBS, job("a"))
            await world.until(lambda: world.names == {"a"})
            world.cluster.cut_watches()
            world.cluster.put(JOBS, job("b"))
            await world.until(lambda: world.names == {"a", "b"})
            assert 1 == world.cluster.requests[("list", "jobs")]

    run(story)


def test_knows_how_old_its_view_is():
    """The age is 0 while a watch stands, grows from when it fell, and both turns are told."""

    async def story():
        async with World() as world:
            assert world.follower.age_s is None
            world.cluster.put(JOBS, job("a"))
            await world.until(lambda: world.names == {"a"})
            world.now = 100.0
            assert 0.0 == world.follower.age_s
            world.cluster.failure = QueueUnreachableError("gone")
            world.cluster.cut_watches()
            await world.until(lambda: world.follower.error is not None)
            world.now = 107.0
            assert (7.0, {"a"}, "gone") == (world.follower.age_s, world.names, world.follower.error.message)
            world.cluster.failure = None
            await world.until(lambda: world.follower.error is None)
            assert 0.0 == world.follower.age_s

    run(story)


def test_settles_at_the_first_answer_whatever_it_is():
    """Who waits for a first view is told of a failure, too."""

    async def story():
        world = World(pauses=Pauses(first_s=60, longest_s=60))
        world.cluster.failure = QueueForbiddenError("no right")
        async with world:
            await asyncio.wait_for(world.follower.settled.wait(), 10)
            assert world.follower.is_forbidden

    run(story)


def test_garbage_does_not_end_it():
    """An answer that nobody foresaw is a failure like others: it is logged, and asked again."""

    class Broken(MemoryApi):
        async def list(self, resource, *, labels=""):
            if not self._cluster.requests:
                self._enter("list", resource)
                raise KeyError("metadata")
            return await super().list(resource, labels=labels)

    async def story():
        async with World(api=Broken) as world:
            world.cluster.put(JOBS, job("a"))
            await world.until(lambda: world.names == {"a"})

    run(story)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.sampled_from(["put", "remove", "cut", "compact", "fail", "heal", "turn"]), max_size=30), st.randoms()
)
def test_ends_at_the_state_of_the_cluster(actions, dice):
    """Whatever happens to objects and streams, in whatever order: in the end the view is the cluster's."""

    async def story():
        async with World() as world:
            for action in actions:
                name = dice.choice("abc")
                if action == "put":
                    world.cluster.put(JOBS, job(name, dice.randint(0, 2)))
                elif action == "remove":
                    world.cluster.remove(JOBS, name)
                elif action == "cut":
                    world.cluster.cut_watches()
                elif action == "compact":
                    world.cluster.compact()
                elif action in ("fail", "heal"):
                    world.cluster.failure = QueueUnreachableError("gone") if action == "fail" else None
                    world.cluster.cut_watches()
                for _ in range(dice.randint(0, 4)):
                    await asyncio.sleep(0)
            world.cluster.failure = None
            world.cluster.cut_watches()
            truth = {item["metadata"]["name"]: item["value"] for item in world.cluster.all(JOBS)}
            await world.until(lambda: {name: held["value"] for name, held in world.follower.objects.items()} == truth)

    run(story)


def test_pauses_grow_and_obey():
    """Pauses double up to a limit, are never less than asked for, never absurd, and begin anew after a success."""
    pauses = Pauses(first_s=1.0, longest_s=8.0, dice=lambda: 1.0)
    assert [1.0, 2.0, 4.0, 8.0, 8.0] == [pauses.next() for _ in range(5)]
    assert 30.0 == pauses.next(QueueUnreachableError("x", details={"retry_after_s": 30}))
    assert LONGEST_ASKED_S == pauses.next(QueueUnreachableError("x", details={"retry_after_s": 1e9}))
    assert 8.0 == pauses.next(QueueUnreachableError("x", details={"retry_after_s": "soon"}))
    pauses.reset()
    assert 1.0 == pauses.next()


@pytest.mark.parametrize("roll", [0.0, 0.3, 1.0])
def test_pauses_are_a_random_half_to_whole(roll):
    """Many servers that lose one cluster do not ask again in step."""
    assert 0.5 <= Pauses(first_s=1.0, dice=lambda: roll).next() <= 1.0
