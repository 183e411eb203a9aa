"""The contract of QueueBackend, run against every backend."""

import asyncio
from datetime import datetime, timezone

import pytest
from queue_fakes import CORRUPT
from queue_worlds import eventually, in_cell, reach

from jupyterlab_ai_batch.errors import ProfileUnknownError, QueueUnknownError, SubmissionNotFoundError
from jupyterlab_ai_batch.oci.layout import ImageLayout
from jupyterlab_ai_batch.words import OutputsState, SubmissionState

GOOD = "progress(1, 2); say('hello ünïcode\\n'); progress(2, 2); store(True, result='42')"


def waiting(world, name="go"):
    return f"progress(1, 1); wait_for({str(world.gate(name))!r}); store(True, result='42')"


def test_runs_to_success(world, play):
    """A Submission that runs through ends succeeded, with one Attempt, its progress and its outputs."""

    async def story():
        await world.backend.submit(world.entry("s1", GOOD))
        seen = await reach(world.backend, "s1")
        assert SubmissionState.SUCCEEDED is seen.state
        assert [(1, "succeeded", 0.0)] == [(a.number, a.ended_by, a.time_lost_s) for a in seen.attempts]
        attempt = seen.attempts[0]
        assert attempt.admitted_at <= attempt.started_at <= attempt.ended_at
        assert (2, 2) == (seen.progress.cell, seen.progress.of)
        assert (OutputsState.AVAILABLE, 1, 2) == (seen.outputs.state, seen.outputs.files, seen.outputs.bytes)
        assert seen.explanation is None

    play(story)


@pytest.mark.parametrize("resume", [False, True])
def test_what_an_interrupted_attempt_saved(world, play, resume):
    """It can be opened while the next one has stored nothing; with resume this one begins with it."""
    code = "if (root / 'partial').exists(): store(True, result='on')\nelse:\n    say('from the start\\n')\n    "

    async def story():
        await world.backend.submit(world.entry("s1", code + waiting(world), resume=resume))
        await in_cell(world.backend, "s1")
        await world.evict("s1")

        async def stored():
            return await world.backend.latest_outputs("s1")

        partial = await eventually(stored, lambda found: found is not None and found.output_set.files)
        if not resume:
            (file,) = partial.output_set.files
            assert (1, "partial", False) == (partial.output_set.attempt, file.path, partial.output_set.complete)
            assert b"so far" == ImageLayout(partial.layout).read_blob(f"sha256:{file.sha256}", limit_bytes=100)
            world.gate("go").touch()
        seen = await reach(world.backend, "s1")
        assert SubmissionState.SUCCEEDED is seen.state
        first, second = seen.attempts
        assert first.ended_because
        assert (first.saved_at is not None, second.ended_because) == (True, "")
        log = (await world.backend.read_log("s1", attempt=2, offset=0, limit_bytes=1000)).text
        assert ("continues with 1 file saved by attempt 1\n" in log, "from the start" in log) == (resume, not resume)

    play(story)


def test_submit_twice_changes_nothing(world, play):
    """Handing in the same id again neither fails nor runs it again."""

    async def story():
        await world.backend.submit(world.entry("s1", GOOD))
        await reach(world.backend, "s1")
        await world.backend.submit(world.entry("s1", "fail(cell=1, ename='E', evalue='x')"))
        seen = await reach(world.backend, "s1")
        assert (SubmissionState.SUCCEEDED, 1) == (seen.state, len(seen.attempts))
        assert ["s1"] == [entry.submission.id for entry in await world.backend.list_entries()]

    play(story)


@pytest.mark.parametrize(
    ("option", "error"), [({"profile": "huge"}, ProfileUnknownError), ({"queue": "nowhere"}, QueueUnknownError)]
)
def test_refuses_what_it_does_not_have(world, play, option, error):
    """An unknown profile or queue is a coded error and enqueues nothing."""

    async def story():
        with pytest.raises(error):
            await world.backend.submit(world.entry("s1", GOOD, **option))
        assert [] == list(await world.backend.list_entries())

    play(story)


def test_unknown_ids(world, play):
    """Unknown ids are absent from observe and an error elsewhere."""

    async def story():
        assert {} == dict(await world.backend.observe(["no"]))
        for call in (
            world.backend.cancel("no"),
            world.backend.latest_outputs("no"),
            world.backend.read_log("no", attempt=None, offset=0, limit_bytes=100),
        ):
            with pytest.raises(SubmissionNotFoundError):
                await call
        await world.backend.release("no")

    play(story)


def test_order_and_position(world, play):
    """Higher priority first where it counts, then arrival; positions are 0-based and count who is ahead."""
    order = ["urgent", "b", "c"] if world.honours_priority else ["b", "c", "urgent"]

    async def story():
        backend = world.backend
        await backend.submit(world.entry("first", waiting(world)))
        await reach(backend, "first", SubmissionState.RUNNING)
        for name, priority in (("b", 0), ("c", 0), ("urgent", 5)):
            await backend.submit(world.entry(name, GOOD, priority=priority))

        async def places():
            seen = await backend.observe(order)
            return {name: one.position.in_local_queue for name, one in seen.items() if one.position is not None}

        expected = {name: place for place, name in enumerate(order)}
        await eventually(places, lambda found: found == expected)
        seen = await backend.observe(order)
        assert {observation.explanation.code for observation in seen.values()} <= world.waiting_codes
        world.gate("go").touch()
        ended = [await reach(backend, name) for name in order]
        starts = [observation.attempts[0].started_at for observation in ended]
        assert sorted(starts) == starts
        assert all(observation.position is None for observation in ended)

    play(story)


def test_cancel_while_queued(world, play):
    """A waiting Submission is cancelled without an Attempt; again changes nothing."""

    async def story():
        await world.backend.submit(world.entry("first", waiting(world)))
        await reach(world.backend, "first", SubmissionState.RUNNING)
        await world.backend.submit(world.entry("s2", GOOD))
        await world.backend.cancel("s2")
        await world.backend.cancel("s2")
        seen = await reach(world.backend, "s2")
        assert (SubmissionState.CANCELLED, (), "cancelled_by_user") == (
            seen.state,
            seen.attempts,
            seen.explanation.code,
        )
        world.gate("go").touch()

    play(story)


def test_cancel_while_running(world, play):
    """A running one is told to end, may save, and ends cancelled with what it stored."""

    async def story():
        await world.backend.submit(world.entry("s1", waiting(world)))
        await eventually_progress(world.backend, "s1")
        await world.backend.cancel("s1")
        seen = await reach(world.backend, "s1")
        assert (SubmissionState.CANCELLED, "cancelled") == (seen.state, seen.attempts[0].ended_by)
        assert OutputsState.PARTIAL is seen.outputs.state
        assert {"partial"} == {file.path for file in (await world.backend.latest_outputs("s1")).output_set.files}

    play(story)


def test_cancel_of_one_that_ended(world, play):
    """Cancelling what has ended leaves it as it is."""

    async def story():
        await world.backend.submit(world.entry("s1", GOOD))
        await reach(world.backend, "s1")
        await world.backend.cancel("s1")
        assert SubmissionState.SUCCEEDED is (await reach(world.backend, "s1")).state

    play(story)


def test_a_failing_cell(world, play):
    """A cell that fails is told with its number and exception; outputs are kept."""

    async def story():
        code = "store(True, result='x'); fail(cell=3, ename='ValueError', evalue='bad \\x1b[31mthing')"
        await world.backend.submit(world.entry("s1", code))
        seen = await reach(world.backend, "s1")
        assert (SubmissionState.FAILED, "cell_failed") == (seen.state, seen.explanation.code)
        assert seen.explanation.summary == "Cell 3 failed with ValueError: bad  [31mthing."
        assert (await world.backend.latest_outputs("s1")).output_set.complete

    play(story)


def test_a_damaged_snapshot(world, play):
    """A Snapshot that cannot be restored fails with the error's code; the next Submission runs."""
    if not world.restores:
        pytest.skip("something else restores")

    async def story():
        await world.backend.submit(world.entry("bad", GOOD, digest=CORRUPT))
        await world.backend.submit(world.entry("good", GOOD))
        assert "snapshot_corrupt" == (await reach(world.backend, "bad")).explanation.code
        assert SubmissionState.SUCCEEDED is (await reach(world.backend, "good")).state

    play(story)


def test_log_is_resumable(world, play):
    """The log is read in pieces of any size, cut at characters, and says when it is complete."""

    async def story():
        await world.backend.submit(world.entry("s1", "say('äöü€😀' * 40); store(True)"))
        await reach(world.backend, "s1")
        whole = await world.backend.read_log("s1", attempt=None, offset=0, limit_bytes=1 << 20)
        text, offset, complete = "", 0, False
        while not complete:
            chunk = await world.backend.read_log("s1", attempt=1, offset=offset, limit_bytes=7)
            assert chunk.offset == offset
            text, offset, complete = text + chunk.text, chunk.next_offset, chunk.complete
        assert (whole.text, True, 1) == (text, whole.complete, whole.attempt)
        assert "äöü€😀" * 40 in text
        with pytest.raises(SubmissionNotFoundError):
            await world.backend.read_log("s1", attempt=7, offset=0, limit_bytes=100)

    play(story)


def test_watch_tells_of_changes(world, play):
    """Watch yields at the start and after changes, and ends when closed."""

    async def story():
        watch = world.backend.watch()
        await watch.__anext__()
        await world.backend.submit(world.entry("s1", GOOD))
        while not (await world.backend.observe(["s1"]))["s1"].state.is_terminal:
            await asyncio.wait_for(watch.__anext__(), 40)
        await watch.aclose()

    play(story)


def test_release_keeps_log_and_outputs(world, play):
    """After release, twice even, the log and the outputs can still be read."""

    async def story():
        await world.backend.submit(world.entry("s1", GOOD))
        await reach(world.backend, "s1")
        await world.backend.release("s1")
        await world.backend.release("s1")
        stored = await world.backend.latest_outputs("s1")
        assert ["result"] == [file.path for file in stored.output_set.files]
        assert "hello" in (await world.backend.read_log("s1", attempt=1, offset=0, limit_bytes=1000)).text

    play(story)


def test_entries_come_back_whole(world, play):
    """What was handed in is what a lost ledger is rebuilt from, oldest first."""

    async def story():
        entries = []
        for minute, name in enumerate(("z", "a")):
            created_at = datetime(2026, 11, 20, 10, minute, tzinfo=timezone.utc)
            entries.append(world.entry(name, GOOD, created_at=created_at))
            await world.backend.submit(entries[-1])
        listed = await world.backend.list_entries()
        assert ["z", "a"] == [entry.submission.id for entry in listed]
        assert [entry.run for entry in entries] == [entry.run for entry in listed]

    play(story)


def test_queues_profiles_preflight(world, play):
    """There is a default queue and a default profile, and every check says something."""

    async def story():
        queues = await world.backend.list_queues()
        profiles = await world.backend.list_profiles()
        assert queues[0].slots is None or queues[0].slots >= 1
        assert {queue.backend for queue in queues} == {world.backend.name}
        assert profiles[0].name
        assert all(check.summary for check in await world.backend.preflight())

    play(story)


async def eventually_progress(backend, submission_id):
    async def read():
        return (await backend.observe([submission_id]))[submission_id]

    return await eventually(read, lambda seen: seen.progress is not None)


def test_base_and_manifest_belong_together(world, play):
    """Where Snapshots are put on an image, a Submission is YAML for a cluster; elsewhere there is neither."""

    async def story():
        base = await world.backend.base()
        await world.backend.submit(world.entry("s1", GOOD))
        manifest = await world.backend.manifest("s1")
        assert (base is None) == (manifest is None)
        if base is not None:
            assert "@sha256:" in base.image
            assert "kind: Job" in manifest
            with pytest.raises(SubmissionNotFoundError):
                await world.backend.manifest("nobody")
        await reach(world.backend, "s1")

    play(story)
