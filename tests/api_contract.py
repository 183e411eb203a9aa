"""What every ClusterApi does: the one in memory, and the client against a real API server (tests/cluster).

Each story gets an api whose namespace is empty, and ``make_job(name, **labels)``: a Job that never starts.
"""

import asyncio
from contextlib import aclosing

from jupyterlab_ai_batch.queues.kueue.api import JOBS, PODS, ChangeKind, Resource
from jupyterlab_ai_batch.queues.kueue.store import name_of, uid_of

WAIT_S = 30


async def objects_come_and_go(api, make_job):
    """What is made can be read and is there once; what is removed is gone."""
    assert await api.get(JOBS, "a") is None
    made = await api.create(JOBS, make_job("a"))
    assert ("a", True) == (name_of(made), bool(uid_of(made)))
    assert await api.create(JOBS, make_job("a")) is None
    assert uid_of(made) == uid_of(await api.get(JOBS, "a"))
    assert not await api.delete(JOBS, "a", uid="00000000-0000-0000-0000-000000000000")
    assert await api.delete(JOBS, "a", uid=uid_of(made))
    assert await gone(api, "a")
    assert not await api.delete(JOBS, "a", uid=uid_of(made))


async def it_says_what_it_serves_and_to_whom(api, make_job):
    """Kinds by their version; the name of the account that asks."""
    assert make_job is not None
    assert [True, False] == [await api.serves(JOBS), await api.serves(Resource(version="batch/v0", plural="jobs"))]
    assert await api.identify()


async def a_dry_run_makes_nothing(api, make_job):
    assert name_of(await api.create(JOBS, make_job("a"), dry_run=True)) == "a"
    assert await api.get(JOBS, "a") is None


async def foreground_removal_ends(api, make_job):
    """A Job without pods is gone soon after it was asked to go."""
    made = await api.create(JOBS, make_job("a"))
    assert await api.delete(JOBS, "a", uid=uid_of(made), foreground=True)
    assert await gone(api, "a")


async def lists_choose_by_labels(api, make_job):
    await api.create(JOBS, make_job("a", team="red"))
    await api.create(JOBS, make_job("b", team="blue"))
    names = {labels: {name_of(item) for item in (await api.list(JOBS, labels=labels)).items} for labels in SELECTORS}
    assert {"team=red": {"a"}, "team": {"a", "b"}, "": {"a", "b"}, "other": set()} == names


SELECTORS = ("team=red", "team", "", "other")


async def a_watch_goes_on_from_a_listing(api, make_job):
    """Nothing is told twice, nothing is left out; it says first that it stands, and knows only what it should."""
    await api.create(JOBS, make_job("before", team="red"))
    listing = await api.list(JOBS, labels="team=red")
    made = await api.create(JOBS, make_job("after", team="red"))
    await api.create(JOBS, make_job("other", team="blue"))
    await api.delete(JOBS, "after", uid=uid_of(made))
    told = []
    async with aclosing(api.watch(JOBS, version=listing.version, labels="team=red")) as changes:
        async for change in changes:
            if change.kind is not ChangeKind.BOOKMARK:
                told.append((change.kind, name_of(change.item)))
            if change.kind is ChangeKind.GONE:
                break
    assert (ChangeKind.OPENED, "") == told[0]
    assert (ChangeKind.GONE, "after") == told[-1]
    between = set(told[1:-1])  # a real cluster goes on writing to what it was given
    assert (ChangeKind.PRESENT, "after") in between <= {(ChangeKind.PRESENT, name) for name in ("before", "after")}


async def what_is_not_there_says_nothing(api, _make_job):
    """The log of no pod, and the positions in no queue."""
    assert [] == [piece async for piece in api.stream_log("nobody")]
    assert await api.pending_workloads("nowhere") is None
    assert await api.may("create", PODS)


async def gone(api, name):
    async def wait():
        while await api.get(JOBS, name) is not None:
            await asyncio.sleep(0.05)
        return True

    return await asyncio.wait_for(wait(), WAIT_S)


STORIES = (
    objects_come_and_go,
    a_dry_run_makes_nothing,
    it_says_what_it_serves_and_to_whom,
    foreground_removal_ends,
    lists_choose_by_labels,
    a_watch_goes_on_from_a_listing,
    what_is_not_there_says_nothing,
)
