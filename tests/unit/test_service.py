"""The service: submitting, captures that die, silence of the backend, cancelling, rebuilding, collecting."""

import asyncio
import json
import os
import signal
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest

from jupyterlab_ai_batch.capture_models import BaseReference
from jupyterlab_ai_batch.capturing import CaptureDirectory, read_order
from jupyterlab_ai_batch.errors import (
    IdempotencyConflictError,
    InvalidSubmissionError,
    NotebookMissingError,
    OutputMissingError,
    QueueUnreachableError,
    SubmissionNotFoundError,
    SubmissionStateError,
)
from jupyterlab_ai_batch.ledger import Ledger
from jupyterlab_ai_batch.models import Explanation, Observation, OutputsSummary, SubmissionRequest
from jupyterlab_ai_batch.oci.layout import ImageLayout
from jupyterlab_ai_batch.service import ServiceConfig, SubmissionService
from jupyterlab_ai_batch.words import OutputsState, SubmissionState
from tests.memory_backend import MemoryBackend

FAKE_CARRY = Path(__file__).parent / "fake_carry.py"
WAIT_S = 30.0


def utc_now():
    return datetime.now(timezone.utc)


class World:
    """One user's data directory, and services on it."""

    def __init__(self, tmp_path):
        self.root = tmp_path / "home"
        self.root.mkdir()
        self.data_dir = tmp_path / "data"
        self.data_dir.mkdir(mode=0o700)
        self.backend = MemoryBackend(clock=utc_now)
        self.told = []
        cell = {"cell_type": "code", "source": "n = 1", "metadata": {"tags": ["parameters"]}}
        self.notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [cell]}
        (self.root / "a.ipynb").write_text(json.dumps(self.notebook))

    def service(self, **config):
        return SubmissionService(
            backend=self.backend,
            ledger=Ledger(self.data_dir / "ledger.db", clock=utc_now),
            open_store=lambda: nullcontext(ImageLayout(self.data_dir / "store")),
            open_layout=ImageLayout,
            config=ServiceConfig(
                root_dir=self.root, data_dir=self.data_dir, child_command=(sys.executable, str(FAKE_CARRY)), **config
            ),
            clock=utc_now,
            on_change=self.told.append,
        )

    def request(self, title, **fields):
        return SubmissionRequest(notebook_path="a.ipynb", title=title, **fields)

    def see(self, submission_id, state, **fields):
        self.backend.see(Observation(submission_id=submission_id, state=state, observed_at=utc_now(), **fields))

    def capture(self, submission_id):
        return CaptureDirectory(self.data_dir, submission_id)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


async def reach(service, submission_id, *states):
    """The Submission once it is in one of the states; fails with the last that was seen."""
    return await until(service, submission_id, lambda submission: submission.state in states)


async def until(service, submission_id, holds):
    deadline = time.monotonic() + WAIT_S
    while not holds(submission := await service.get(submission_id)):
        assert time.monotonic() < deadline, submission
        await asyncio.sleep(0.02)
    return submission


def play(story, service):
    """Run a story against a started service."""

    async def run():
        await service.start()
        try:
            await story()
        finally:
            await service.stop()

    asyncio.run(run())


def test_a_capture_is_followed_and_handed_over(world):
    """Progress is shown while it captures; then the backend has it, and edits no longer matter."""
    service = world.service()

    async def story():
        submission, created = await service.submit(world.request("wait", parameters={"n": 5}))
        assert (created, submission.state, submission.parameters) == (True, SubmissionState.CAPTURING, {"n": 5})
        capturing = await until(service, submission.id, lambda s: s.capture is not None)
        assert "62 %" in capturing.explanation.summary
        (world.data_dir / "go").touch()
        queued = await reach(service, submission.id, SubmissionState.QUEUED)
        assert (queued.capture, queued.snapshot.work_root) == (None, str(world.root))
        entry = (await world.backend.list_entries())[0]
        assert (entry.run.notebook, entry.run.parameters) == ("a.ipynb", {"n": 5})
        await until(service, submission.id, lambda _: not world.capture(submission.id).path.exists())
        await until(service, submission.id, lambda _: world.told[-1].state is SubmissionState.QUEUED)

    play(story, service)
    assert world.told[0].state is SubmissionState.CAPTURING


@pytest.mark.parametrize(("title", "code"), [("die", "capture_interrupted"), ("fail", "file_unstable")])
def test_a_capture_that_ends_without_a_snapshot_fails(world, title, code):
    """A child that dies, or meets an error, leaves a failed Submission that says why and what to do."""
    service = world.service()

    async def story():
        submission, _ = await service.submit(world.request(title))
        failed = await reach(service, submission.id, SubmissionState.FAILED)
        assert failed.explanation.code == code
        assert failed.explanation.resolution

    play(story, service)


def test_a_server_killed_during_capture_loses_nothing(world):
    """The child goes on; the next server finds what it left and hands it over."""

    async def first():
        service = world.service()
        submission, _ = await service.submit(world.request("wait"))
        await service.stop()  # no watch was running: as if the server had been killed
        return submission.id

    submission_id = asyncio.run(first())
    (world.data_dir / "go").touch()
    service = world.service()

    async def second():
        await reach(service, submission_id, SubmissionState.QUEUED)

    play(second, service)


def test_a_killed_capture_is_found_by_the_next_server(world):
    """kill -9 of the child while no server is there."""

    async def first():
        service = world.service()
        submission, _ = await service.submit(world.request("wait"))
        await service.stop()
        return submission.id

    submission_id = asyncio.run(first())
    lock = world.capture(submission_id).lock
    deadline = time.monotonic() + WAIT_S
    while not lock.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(int(lock.read_text()), signal.SIGKILL)
    service = world.service()

    async def second():
        failed = await reach(service, submission_id, SubmissionState.FAILED)
        assert failed.explanation.code == "capture_interrupted"

    play(second, service)


def test_cancel_during_capture_ends_the_child(world):
    """Nothing is queued; the child is gone; cancelling again changes nothing."""
    service = world.service()

    async def story():
        submission, _ = await service.submit(world.request("wait"))
        await until(service, submission.id, lambda s: s.capture is not None)
        cancelled = await service.cancel(submission.id)
        assert (cancelled.state, cancelled.explanation.code) == (SubmissionState.CANCELLED, "capture_cancelled")
        assert not world.capture(submission.id).is_alive()
        assert (await service.cancel(submission.id)).state is SubmissionState.CANCELLED
        assert list(await world.backend.list_entries()) == []

    play(story, service)


def test_cancel_while_queued(world):
    """The backend is asked; what has run cannot be cancelled."""
    service = world.service()

    async def story():
        submission, _ = await service.submit(world.request("complete"))
        await reach(service, submission.id, SubmissionState.QUEUED)
        await service.cancel(submission.id)
        await reach(service, submission.id, SubmissionState.CANCELLED)
        other, _ = await service.submit(world.request("complete"))
        await reach(service, other.id, SubmissionState.QUEUED)
        world.see(other.id, SubmissionState.SUCCEEDED)
        await reach(service, other.id, SubmissionState.SUCCEEDED)
        with pytest.raises(SubmissionStateError):
            await service.cancel(other.id)

    play(story, service)


def test_where_things_wait_is_found_out_for_who_looks(world):
    """A server that nobody looks at does not ask for positions; the first look has them asked for at once."""
    service = world.service()

    async def asked(with_positions):
        deadline = time.monotonic() + WAIT_S
        while with_positions not in world.backend.looks:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)

    async def story():
        await service.submit(world.request("complete"))
        await asked(False)
        assert True not in world.backend.looks
        await service.queues()
        await asked(True)

    play(story, service)


def test_a_key_makes_one_submission(world):
    """Replays give the first one, also when the notebook is gone by then; another body is a conflict."""
    service = world.service()

    async def story():
        request = world.request("complete")
        first, created = await service.submit(request, idempotency_key="k")
        made = await asyncio.gather(*(service.submit(request, idempotency_key="k") for _ in range(5)))
        (world.root / "a.ipynb").unlink()
        again, created_again = await service.submit(request, idempotency_key="k")
        assert (created, created_again, again.id) == (True, False, first.id)
        assert {(submission.id, new) for submission, new in made} == {(first.id, False)}
        with pytest.raises(IdempotencyConflictError):
            await service.submit(world.request("die"), idempotency_key="k")
        for key in ("", "x" * 201, "a\nb"):
            with pytest.raises(InvalidSubmissionError):
                await service.submit(request, idempotency_key=key)

    play(story, service)


def test_a_race_of_one_key_starts_one_capture(world):
    """Five at once: one row, one child, no directory left behind."""
    service = world.service()

    async def story():
        made = await asyncio.gather(*(service.submit(world.request("wait"), idempotency_key="k") for _ in range(5)))
        assert sum(created for _, created in made) == 1
        assert len({submission.id for submission, _ in made}) == 1
        assert len(list((world.data_dir / "captures").iterdir())) == 1
        await service.cancel(made[0][0].id)

    play(story, service)


def test_silence_of_the_backend_is_shown_and_ends(world):
    """The last state stays, stale, with the reason; the next answer clears it."""
    service = world.service()

    async def story():
        submission, _ = await service.submit(world.request("complete"))
        await reach(service, submission.id, SubmissionState.QUEUED)
        world.backend.failure = QueueUnreachableError("No answer from the queue.")
        stale = await until(service, submission.id, lambda s: s.stale)
        assert (stale.state, stale.explanation.code) == (SubmissionState.QUEUED, "backend_unreachable")
        world.backend.failure = None
        world.see(submission.id, SubmissionState.RUNNING)
        running = await reach(service, submission.id, SubmissionState.RUNNING)
        assert running.stale is False

    play(story, service)


def test_what_another_backend_runs_is_left_alone(world):
    """An admin configured another one: its Submissions are stale and not lost, and come back with it."""
    known = []

    async def submit():
        submission, _ = await before.submit(world.request("complete"))
        known.append(await reach(before, submission.id, SubmissionState.QUEUED))

    before = world.service()
    play(submit, before)
    first, world.backend = world.backend, MemoryBackend(name="elsewhere", clock=utc_now)

    async def look():
        stale = await until(between, known[0].id, lambda s: s.stale)
        assert (stale.state, stale.explanation.code) == (SubmissionState.QUEUED, "backend_unreachable")
        assert "'elsewhere' only" in stale.explanation.summary
        with pytest.raises(SubmissionStateError):
            await between.cancel(known[0].id)
        assert (await between.get(known[0].id)).state is SubmissionState.QUEUED

    between = world.service()
    play(look, between)
    world.backend = first

    async def come_back():
        world.see(known[0].id, SubmissionState.RUNNING)
        assert (await reach(after, known[0].id, SubmissionState.RUNNING)).stale is False

    after = world.service()
    play(come_back, after)


def test_the_base_of_the_session_reaches_the_capture(world):
    """The backend says on which image Snapshots are put; when it cannot, nothing is submitted."""
    service = world.service()

    async def story():
        world.backend.image = BaseReference(image=f"registry.example/base@sha256:{'0' * 64}")
        submission, _ = await service.submit(world.request("wait"))
        order = read_order(world.data_dir, submission.id)
        assert order.base == world.backend.image
        await service.cancel(submission.id)
        world.backend.failure = QueueUnreachableError("No answer from the queue.")
        with pytest.raises(QueueUnreachableError):
            await service.submit(world.request("wait"))

    play(story, service)


def test_handing_over_waits_for_a_silent_backend(world):
    """A finished capture is not lost while the queue does not answer."""
    service = world.service()

    async def story():
        submission, _ = await service.submit(world.request("wait"))
        await until(service, submission.id, lambda s: s.capture is not None)
        world.backend.failure = QueueUnreachableError("No answer from the queue.")
        (world.data_dir / "go").touch()
        waiting = await until(service, submission.id, lambda s: s.stale)
        assert (waiting.state, waiting.explanation.code) == (SubmissionState.CAPTURING, "handing_over")
        world.backend.failure = None
        await reach(service, submission.id, SubmissionState.QUEUED)

    play(story, service)


def test_a_lost_ledger_is_rebuilt_from_the_backend(world):
    """What the backend knows is listed again, in its order."""

    async def before():
        service = world.service()
        await service.start()
        ids = []
        for _ in range(3):
            submission, _ = await service.submit(world.request("complete"))
            await reach(service, submission.id, SubmissionState.QUEUED)
            ids.append(submission.id)
        await service.stop()
        return ids

    ids = asyncio.run(before())
    for path in world.data_dir.glob("ledger.db*"):
        path.unlink()
    world.see(ids[0], SubmissionState.SUCCEEDED)
    service = world.service()

    async def after():
        await reach(service, ids[0], SubmissionState.SUCCEEDED)
        page = await service.list()
        assert [item["id"] for item in json.loads(page.json)] == ids[::-1]
        again = await service.resubmit(ids[0])
        assert (again.title, again.id in ids) == ("complete", False)

    play(after, service)


def test_resubmit_asks_for_the_same_again(world):
    """A new Submission with the title, parameters and choices of the first."""
    service = world.service()

    async def story():
        first, _ = await service.submit(world.request("complete", parameters={"n": 3}, profile="gpu", resume=True))
        second = await service.resubmit(first.id)
        assert second.id != first.id
        assert (first.resume, second.resume) == (True, True)
        assert (second.title, second.parameters, second.profile, second.max_duration_s) == (
            "complete",
            {"n": 3},
            "gpu",
            3600,
        )

    play(story, service)


def test_submitting_answers_at_once(world):
    """Whatever the capture takes: the answer comes within 0.3 s."""
    service = world.service()

    async def story():
        await service.submit(world.request("die"))
        times = []
        for _ in range(5):
            start = time.monotonic()
            await service.submit(world.request("wait"))
            times.append(time.monotonic() - start)
        (world.data_dir / "go").touch()
        assert sorted(times)[2] < 0.3, times

    play(story, service)


def test_bad_requests_leave_nothing_behind(world):
    """No row, no directory, no child."""
    service = world.service()

    async def story():
        for request, error in (
            (SubmissionRequest(notebook_path="none.ipynb"), NotebookMissingError),
            (SubmissionRequest(), InvalidSubmissionError),
            (world.request("x", parameters={"m": 1}), InvalidSubmissionError),
            (world.request("x", profile="huge"), InvalidSubmissionError),
        ):
            with pytest.raises(error):
                await service.submit(request)
        assert (await service.list()).json == "[]"
        assert not (world.data_dir / "captures").exists()
        for call in (service.get, service.cancel, service.resubmit, service.outputs, service.collect, service.read_log):
            with pytest.raises(SubmissionNotFoundError):
                await call("0" * 32)

    play(story, service)


def test_outputs_before_there_are_any(world):
    """Coded errors, an empty log, no manifest on the local backend."""
    service = world.service()

    async def story():
        submission, _ = await service.submit(world.request("complete"))
        await reach(service, submission.id, SubmissionState.QUEUED)
        with pytest.raises(OutputMissingError):
            await service.outputs(submission.id)
        with pytest.raises(SubmissionStateError):
            await service.collect(submission.id)
        with pytest.raises(SubmissionStateError):
            await service.manifest(submission.id)
        with pytest.raises(InvalidSubmissionError):
            await service.read_log(submission.id, offset=-1)
        chunk = await service.read_log(submission.id)
        assert (chunk.text, chunk.complete) == ("", False)

    play(story, service)


def test_a_collect_that_fails_keeps_the_state_and_the_files(world):
    """The run stays succeeded; the explanation says what to do; nothing is retried by itself."""
    service = world.service()

    async def story():
        submission, _ = await service.submit(world.request("complete"))
        await reach(service, submission.id, SubmissionState.QUEUED)
        available = OutputsSummary(state=OutputsState.AVAILABLE, files=1, bytes=1)
        ended = Explanation(code="cell_failed", summary="Cell 1 failed.")
        world.see(submission.id, SubmissionState.FAILED, outputs=available, explanation=ended)
        failed = await reach(service, submission.id, SubmissionState.FAILED)
        assert (failed.explanation.code, failed.outputs.state) == ("collect_failed", OutputsState.AVAILABLE)
        assert failed.explanation.summary.startswith("Cell 1 failed. Its files could not come home:")
        assert world.backend.released == []

    play(story, service)


def test_files_wait_where_nobody_collects_by_itself(world):
    """With automatic collection off, the run ends and says that its files wait."""
    service = world.service(auto_collect=False)

    async def story():
        submission, _ = await service.submit(world.request("complete"))
        await reach(service, submission.id, SubmissionState.QUEUED)
        available = OutputsSummary(state=OutputsState.AVAILABLE, files=2, bytes=10)
        world.see(submission.id, SubmissionState.SUCCEEDED, outputs=available)
        ended = await reach(service, submission.id, SubmissionState.SUCCEEDED)
        assert ended.explanation.code == "outputs_waiting"

    play(story, service)


def test_two_servers_see_each_others_submissions(world):
    """What one submits, the other tells about."""
    other = world.service()
    told = world.told
    world.told = []
    service = world.service()

    async def story():
        await other.start()
        try:
            submission, _ = await service.submit(world.request("complete"))
            await reach(service, submission.id, SubmissionState.QUEUED)
            deadline = time.monotonic() + WAIT_S
            while submission.id not in {s.id for s in told}:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)
        finally:
            await other.stop()

    play(story, service)


def test_parameters_and_pages(world):
    """What the form needs, and filters of the list."""
    service = world.service()

    async def story():
        described = await service.describe_parameters("a.ipynb")
        assert [(p.name, p.type, p.default) for p in described.parameters] == [("n", "int", 1)]
        submission, _ = await service.submit(world.request("die"))
        await reach(service, submission.id, SubmissionState.FAILED)
        found = await service.list(states=[SubmissionState.FAILED], notebook="a.ipynb")
        assert [item["id"] for item in json.loads(found.json)] == [submission.id]
        assert (await service.list(notebook="b.ipynb")).json == "[]"
        assert await service.find(submission.id[:8]) == submission.id

    play(story, service)


def test_a_submission_is_read_anew_where_nothing_watches(world):
    """A command sees the present state without a watch."""

    async def story():
        service = world.service()
        submission, _ = await service.submit(world.request("complete"))
        await reach(service, submission.id, SubmissionState.QUEUED)
        world.see(submission.id, SubmissionState.RUNNING)
        assert (await service.get(submission.id)).state is SubmissionState.RUNNING
        assert replace(submission).id == submission.id
        await service.stop()

    asyncio.run(story())
