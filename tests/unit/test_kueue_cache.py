"""Everything that is known of this user's Jobs, put together."""

import asyncio

import pytest

from jupyterlab_ai_batch.errors import QueueForbiddenError, QueueTimeoutError, QueueUnreachableError
from jupyterlab_ai_batch.queues.kueue.api import EVENTS, JOBS, PODS, WORKLOADS
from jupyterlab_ai_batch.queues.kueue.cache import ClusterCache
from jupyterlab_ai_batch.queues.kueue.naming import MANAGED_BY, MANAGED_BY_LABEL, SUBMISSION_LABEL, job_name
from jupyterlab_ai_batch.queues.kueue.pauses import Pauses
from tests.memory_cluster import MemoryApi, MemoryCluster


def job(submission_id, **status):
    labels = {MANAGED_BY_LABEL: MANAGED_BY, SUBMISSION_LABEL: submission_id}
    return {
        "metadata": {"name": job_name(submission_id), "labels": labels, "uid": f"uid-{submission_id}"},
        "status": status,
    }


def owned(name, submission_id, *, created="2026-11-20T10:00:00Z", labels=None, **fields):
    metadata = {"name": name, "labels": labels or {}, "creationTimestamp": created}
    return {"metadata": {**metadata, "ownerReferences": [{"uid": f"uid-{submission_id}"}]}, **fields}


def pod(name, submission_id, phase="Pending", **options):
    return owned(name, submission_id, labels={SUBMISSION_LABEL: submission_id}, status={"phase": phase}, **options)


def happened(name, about, at="2026-11-20T10:00:00Z"):
    return {"metadata": {"name": name, "creationTimestamp": at}, "involvedObject": {"name": about}}


class World:
    def __init__(self):
        self.cluster = MemoryCluster()
        self.heard = asyncio.Event()
        self.cache = ClusterCache(
            MemoryApi(self.cluster), on_change=self.heard.set, make_pauses=lambda: Pauses(first_s=0, longest_s=0)
        )

    async def until(self, holds):
        async def wait():
            while not holds():
                self.heard.clear()
                await self.heard.wait()

        await asyncio.wait_for(wait(), 10)


def run(story):
    async def whole():
        world = World()
        try:
            await asyncio.wait_for(story(world), 30)
        finally:
            tasks = world.cache.stop()
            if tasks:
                await asyncio.wait(tasks)

    asyncio.run(whole())


def test_objects_are_joined():
    """A Job's Workload by label or owner, the newest unfinished first; its pods oldest first; nobody else's."""

    async def story(world):
        put = world.cluster.put
        for submission_id in ("a", "ab"):
            put(JOBS, job(submission_id))
        put(JOBS, {"metadata": {"name": "foreign"}})
        finished = {"conditions": [{"type": "Finished", "status": "True"}]}
        put(WORKLOADS, owned("w2", "a", created="2026-11-20T10:00:02Z", status=finished))
        put(WORKLOADS, owned("w1", "a", created="2026-11-20T10:00:01Z"))
        put(WORKLOADS, {"metadata": {"name": "w3", "labels": {"kueue.x-k8s.io/job-uid": "uid-ab"}}})
        put(PODS, pod("p2", "a", created="2026-11-20T10:00:02Z"))
        put(PODS, pod("p1", "a", created="2026-11-20T10:00:01Z"))
        put(PODS, {"metadata": {"name": "session"}})
        world.cache.start()
        await world.cache.ready()
        assert {job_name("a"), job_name("ab")} == {item["metadata"]["name"] for item in world.cache.jobs()}
        assert world.cache.job("../a") is None
        assert "w1" == world.cache.workload("uid-a")["metadata"]["name"]
        assert "w3" == world.cache.workload("uid-ab")["metadata"]["name"]
        assert world.cache.workload("") is None
        assert {"a": ["p1", "p2"]} == {
            name: [item["metadata"]["name"] for item in items] for name, items in world.cache.pods().items()
        }

    run(story)


def test_events_only_while_something_starts():
    """Events are followed while a Job does not run yet, and only those of our Jobs and pods are kept."""

    async def story(world):
        world.cache.start()
        await world.cache.ready()
        assert ("list", "events") not in world.cluster.requests
        world.cluster.put(EVENTS, happened("e2", f"{job_name('a')}-xyz", "2026-11-20T10:00:02Z"))
        world.cluster.put(EVENTS, happened("e1", job_name("a")))
        for number, about in enumerate(("jupyter-alice", f"{job_name('ab')}-xyz", 3)):
            world.cluster.put(EVENTS, happened(f"other{number}", about))
        world.cluster.put(JOBS, job("a"))
        await world.until(lambda: len(world.cache.events("a")) == 2)
        assert ["e1", "e2"] == [event["metadata"]["name"] for event in world.cache.events("a")]
        world.cluster.put(PODS, pod("p", "a", "Running"))
        await world.until(lambda: EVENTS not in world.cache._tasks)
        assert [] == list(world.cache.events("a"))

    run(story)


@pytest.mark.parametrize("resource", [WORKLOADS, PODS, EVENTS])
def test_lives_with_fewer_rights(resource):
    """What the account may not read is left out; the Jobs are there."""

    async def story(world):
        world.cluster.forbidden = {("list", str(resource))}
        world.cluster.put(JOBS, job("a"))
        world.cache.start()
        await world.cache.ready()
        assert world.cache.job("a") is not None

    run(story)


@pytest.mark.parametrize(
    "failure", [QueueUnreachableError("refused"), QueueTimeoutError("late"), QueueForbiddenError("no right")]
)
def test_no_view_is_an_error(failure):
    """Without a first view it is the cluster's own error, each time a new one."""

    async def story(world):
        world.cluster.failure = failure
        world.cache.start()
        raised = []
        for _ in range(2):
            with pytest.raises(type(failure), match=failure.message) as caught:
                await world.cache.ready()
            raised.append(caught.value)
        assert raised[0] is not raised[1]
        assert raised[0].details["age_s"] is None

    run(story)


def test_hostile_objects_do_no_harm():
    """Objects of any shape are carried, or left out; reading them raises nothing."""

    async def story(world):
        world.cluster.put(JOBS, job("a"))
        for number, junk in enumerate((None, 3, "x", [], {}, [{"uid": None}, 7])):
            metadata = {"name": f"j{number}", "labels": {SUBMISSION_LABEL: "a"}, "ownerReferences": junk}
            for resource in (WORKLOADS, PODS):
                world.cluster.put(resource, {"metadata": dict(metadata), "status": junk, "spec": junk})
            world.cluster.put(EVENTS, {"metadata": {"name": f"e{number}"}, "involvedObject": junk, "series": junk})
        world.cache.start()
        await world.cache.ready()
        assert world.cache.workload("uid-a") is None
        assert 6 == len(world.cache.pods()["a"])
        assert [] == list(world.cache.events("a"))

    run(story)
