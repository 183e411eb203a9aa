"""When the runner stores, and how long that may take."""

from __future__ import annotations

import asyncio
import io
import threading
import time
from datetime import datetime, timezone

import pytest

from jupyterlab_ai_batch.errors import RegistryDeniedError, RegistryUnreachableError
from jupyterlab_ai_batch.models import OutputFile, OutputSet
from jupyterlab_ai_batch.runner import keeping, patience
from jupyterlab_ai_batch.runner.keeping import Keeper, describe_stored
from jupyterlab_ai_batch.runner.progress import Reporter
from jupyterlab_ai_batch.words import FileChange

AT = datetime(2026, 11, 22, 12, 30, tzinfo=timezone.utc)
pytestmark = pytest.mark.asyncio


class FakeOutbox:
    """Notes what it is asked; a method named in ``acts`` does that instead. ``give_up`` ends what hangs."""

    def __init__(self, *, is_remote=True, **acts):
        self.is_remote = is_remote
        self.last_stored_at = None
        self.calls = []
        self.released = threading.Event()
        self._acts = acts

    def hang(self):
        assert self.released.wait(60)
        raise RegistryUnreachableError("given up")

    def give_up(self):
        self.calls.append("give_up")
        self.released.set()

    def __getattr__(self, name):
        def call(*_arguments, **_options):
            self.calls.append(name)
            return self._acts.get(name, lambda _: None)(self)

        return call


def fail(error):
    def act(_):
        raise error

    return act


def made(outbox, *, interval_s=0.0, grace_s=0.3):
    said = io.BytesIO()
    return Keeper(outbox, Reporter(said, clock=lambda: AT), interval_s=interval_s, grace_s=grace_s), said


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(keeping, "_LET_GO_S", 0.05)


@pytest.mark.parametrize(
    ("is_remote", "hurried", "calls"),
    [
        (False, False, ["store_final"]),
        (False, True, ["store_final"]),
        (True, False, ["save_notebook", "store_final"]),
        (True, True, ["save_notebook", "store_quickly", "store_final"]),
    ],
)
async def test_what_is_stored_at_the_end(is_remote, hurried, calls):
    """Over a network what is quick comes first when time is short; beside the job nothing ever is in a hurry."""
    outbox = FakeOutbox(is_remote=is_remote)
    keeper, _ = made(outbox)
    if hurried:
        keeper.hurry()
    await keeper.finish(b"{}", complete=not hurried)
    assert outbox.calls == calls


async def test_what_hangs_is_given_up_when_time_is_over():
    """The pod ends within its grace period whatever the registry does."""
    outbox = FakeOutbox(store_final=FakeOutbox.hang)
    keeper, _ = made(outbox)
    keeper.hurry()
    with pytest.raises(RegistryUnreachableError, match="no time left"):
        await keeper.finish(b"{}", complete=False)
    assert outbox.calls[-1] == "give_up"
    await keeper.store_log()
    assert "store_log" not in outbox.calls


async def test_a_stop_ends_waiting_that_had_begun_before():
    """SIGTERM while the last OutputSet is on its way."""
    outbox = FakeOutbox(store_final=FakeOutbox.hang)
    keeper, _ = made(outbox)
    finishing = asyncio.create_task(keeper.finish(b"{}", complete=True))
    while "store_final" not in outbox.calls:
        await asyncio.sleep(0.01)
    assert not finishing.done()
    keeper.hurry()
    with pytest.raises(RegistryUnreachableError):
        await finishing


async def test_a_checkpoint_that_hangs_is_given_up_in_a_hurry():
    """Otherwise it is waited for; of its end nothing is said."""
    outbox = FakeOutbox(store=FakeOutbox.hang)
    keeper, said = made(outbox, interval_s=0.01)
    beat = asyncio.create_task(keeper.store_now_and_then(lambda: b"{}"))
    while "store" not in outbox.calls:
        await asyncio.sleep(0.01)
    settling = asyncio.create_task(keeper.settle())
    done, _ = await asyncio.wait({settling}, timeout=0.2)
    assert not done
    keeper.hurry()
    await settling
    beat.cancel()
    assert outbox.calls.count("give_up") == 1
    assert said.getvalue() == b""


async def test_a_checkpoint_that_fails_is_said_and_tried_again():
    """One line for each failure, an event for each success."""
    outcomes = iter([RegistryUnreachableError("It is away."), None])

    def store(_):
        error = next(outcomes, None)
        if error is not None:
            raise error

    outbox = FakeOutbox(store=store)
    keeper, said = made(outbox, interval_s=0.01)
    beat = asyncio.create_task(keeper.store_now_and_then(lambda: b"{}"))
    while b'"kind":"stored"' not in said.getvalue():
        await asyncio.sleep(0.01)
    beat.cancel()
    await keeper.settle()
    assert said.getvalue().startswith(b"ai-batch: intermediate results could not be stored: It is away.\n\x1e")


async def test_a_refusal_is_known_at_once():
    """The registry answers, and says no: nothing can ever be stored."""
    refusal = RegistryDeniedError("no")
    keeper, _ = made(FakeOutbox(claim=fail(refusal)))
    keeper.claim()
    await asyncio.wait_for(keeper.refused.wait(), 10)
    assert keeper.refusal is refusal
    await keeper.settle()


async def test_a_registry_that_is_away_at_the_start_refuses_nothing():
    """It may come back while the notebook runs."""
    keeper, said = made(FakeOutbox(claim=fail(RegistryUnreachableError("It is away."))))
    keeper.claim()
    await keeper.settle()
    assert keeper.refusal is None
    assert b"It is away." in said.getvalue()


async def test_waiting_at_the_end_is_said(monkeypatch):
    """Each time, and what is kept when it was in vain."""
    monkeypatch.setattr(patience, "UNREACHABLE_S", 1.5)
    outbox = FakeOutbox(store_final=fail(RegistryUnreachableError("It is away.")))
    keeper, said = made(outbox)
    begun = time.monotonic()
    with pytest.raises(RegistryUnreachableError) as caught:
        await keeper.finish(b"{}", complete=True)
    assert time.monotonic() - begun < 30
    assert said.getvalue() == b"ai-batch: the results could not be stored yet, trying again: It is away.\n"
    outbox.last_stored_at = AT
    assert keeper.explain(caught.value) == (
        "ai-batch: the results could not be stored: It is away.; what was stored at 12:30:00 UTC is kept"
    )


async def test_the_log_is_stored_last():
    """Over a network only; that it fails is no failure."""
    outbox = FakeOutbox(store_log=fail(RegistryUnreachableError("away")))
    keeper, _ = made(outbox)
    await keeper.finish(b"{}", complete=True)
    await keeper.store_log()
    assert outbox.calls[-1] == "store_log"
    local = FakeOutbox(is_remote=False)
    keeper, _ = made(local)
    await keeper.store_log()
    assert local.calls == []


async def test_what_was_saved_is_in_place_before_anything_runs():
    """After the number was claimed: what is stored next must not take the place of what was saved."""
    outbox = FakeOutbox()
    keeper, said = made(outbox)
    assert await keeper.resume(asyncio.Event())
    assert outbox.calls == ["claim", "resume"]
    assert said.getvalue() == b""


@pytest.mark.parametrize(
    ("hanging", "calls"),
    [("claim", ["claim", "give_up"]), ("resume", ["claim", "resume", "give_up", "store_log"])],
)
async def test_a_stop_while_saved_files_come_back(hanging, calls):
    """Nothing is waited for, and nothing but a log is stored; without a number yet, not even that."""
    stop = asyncio.Event()
    outbox = FakeOutbox(**{hanging: FakeOutbox.hang})
    keeper, said = made(outbox)
    resuming = asyncio.create_task(keeper.resume(stop))
    while hanging not in outbox.calls:
        await asyncio.sleep(0.01)
    stop.set()
    keeper.hurry()
    assert not await resuming
    await keeper.store_log()
    assert outbox.calls == calls
    assert said.getvalue() == b"ai-batch: stopped before it began; what was saved before is kept\n"


async def test_saved_files_are_worth_waiting_for(monkeypatch):
    """A registry that is away is asked again, and said so; one that stays away, or refuses, ends the run."""
    monkeypatch.setattr(patience, "UNREACHABLE_S", 1.5)
    outcomes = iter([RegistryUnreachableError("It is away.")])

    def come_back(_):
        error = next(outcomes, None)
        if error is not None:
            raise error

    keeper, said = made(FakeOutbox(resume=come_back))
    assert await keeper.resume(asyncio.Event())
    assert said.getvalue() == b"ai-batch: what was saved cannot be read yet, trying again: It is away.\n"
    for error in (RegistryUnreachableError("It is away."), RegistryDeniedError("no")):
        keeper, _ = made(FakeOutbox(resume=fail(error)))
        with pytest.raises(type(error)):
            await keeper.resume(asyncio.Event())


@pytest.mark.parametrize(
    ("files", "skipped", "words"),
    [
        ((), (), "the notebook and 0 other files, 0.5 MB in all"),
        (("a",), (), "the notebook and 1 other file, 1.5 MB in all"),
        (
            ("a", "b"),
            (("c", "it was being written"),),
            "2 other files, 2.5 MB in all; not saved: c (it was being written)",
        ),
        ((), tuple((f"f{n}", "gone") for n in range(7)), "f4 (gone) and 2 more"),
    ],
)
async def test_what_was_saved_is_said(files, skipped, words):
    """How much, and what is missing and why."""
    notebook = OutputFile(path="n.ipynb", change=FileChange.CHANGED, size_bytes=500_000)
    others = tuple(OutputFile(path=path, change=FileChange.NEW, size_bytes=1_000_000) for path in files)
    stored = OutputSet(
        submission_id="s",
        attempt=1,
        complete=False,
        stored_at=AT,
        executed_notebook="n.ipynb",
        files=(notebook, *others),
        skipped=skipped,
    )
    assert words in describe_stored(stored)
