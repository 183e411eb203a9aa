"""What KueueBackend adds to the contract: other people's hands on its Jobs, silence, restarts, evictions."""

import asyncio
import json

import pytest
from kueue_world import QUEUE, condition
from queue_worlds import eventually, reach

from jupyterlab_ai_batch.errors import (
    AdmissionRefusedError,
    QueueError,
    QueueForbiddenError,
    QueueInactiveError,
    QueueUnknownError,
    QueueUnreachableError,
    RegistryUnreachableError,
    SubmissionNotFoundError,
)
from jupyterlab_ai_batch.queues.kueue.api import JOBS, LOCAL_QUEUES, PODS
from jupyterlab_ai_batch.queues.kueue.naming import ENTRY_ANNOTATION, job_name
from jupyterlab_ai_batch.words import OutputsState, SubmissionState

GOOD = "progress(1, 2); say('hello\\n'); progress(2, 2); store(True, result='42')"


WORLDS = ["kueue"]
POSITIONS = ("get", "pendingworkloads")


def waiting(world, name="go"):
    return f"progress(1, 1); say('begun\\n'); wait_for({str(world.gate(name))!r}); store(True, result='42')"


async def observe(backend, submission_id):
    return (await backend.observe([submission_id])).get(submission_id)


async def explained(backend, submission_id, code):
    """The Observation once it is explained so."""
    return await eventually(
        lambda: observe(backend, submission_id),
        lambda seen: seen is not None and seen.explanation is not None and seen.explanation.code == code,
    )


# --- submitting ------------------------------------------------------------------------------------------------------


def test_a_pod_that_the_cluster_refuses(world, play):
    """What Pod Security says of the pod refuses the Submission: there is no Job that would hold a slot without one."""
    words = 'violates PodSecurity "restricted:latest"'
    world.cluster.refuse = lambda resource, _body: words if resource == PODS else None

    async def story():
        with pytest.raises(AdmissionRefusedError, match="PodSecurity"):
            await world.backend.submit(world.entry("s1", GOOD))
        assert [] == world.cluster.all(JOBS)

    play(story)


def test_without_the_right_to_try(world, play):
    """An account that may make Jobs only submits all the same."""
    world.cluster.forbidden = {("create", "pods"), ("get", "localqueues.kueue.x-k8s.io")}

    async def story():
        await world.backend.submit(world.entry("s1", GOOD))
        assert SubmissionState.SUCCEEDED is (await reach(world.backend, "s1")).state

    play(story)


@pytest.mark.parametrize(
    ("queue", "error"),
    [
        (None, QueueUnknownError),
        ({"spec": {"stopPolicy": "Hold"}}, QueueInactiveError),
        ({"status": {"conditions": [condition("Active", status="False", message="no such pool")]}}, QueueInactiveError),
    ],
)
def test_a_queue_that_takes_nothing(world, play, queue, error):
    """Kueue would let the Job wait for ever; it is refused instead, and nothing is made."""
    if queue is None:
        world.cluster.remove(LOCAL_QUEUES, QUEUE)
    else:
        world.cluster.change(LOCAL_QUEUES, QUEUE, **queue)

    async def story():
        with pytest.raises(error):
            await world.backend.submit(world.entry("s1", GOOD))
        assert [] == world.cluster.all(JOBS)

    play(story)


@pytest.mark.parametrize("annotation", ["", "{", '{"submission": {"id": "other"}}'])
def test_a_job_of_something_else(world, play, annotation):
    """A Job of the same name that is not this Submission's is an error, and stays as it is."""
    foreign = {"metadata": {"name": job_name("s1"), "annotations": {ENTRY_ANNOTATION: annotation}}, "spec": {}}
    foreign["spec"] = {"suspend": True}

    async def story():
        made = world.cluster.put(JOBS, foreign)
        with pytest.raises(QueueError, match="another Job"):
            await world.backend.submit(world.entry("s1", GOOD))
        assert made["metadata"]["uid"] == world.cluster.find(JOBS, job_name("s1"))["metadata"]["uid"]
        assert [] == list(await world.backend.list_entries())
        with pytest.raises(SubmissionNotFoundError):
            await world.backend.cancel("s1")

    play(story)


@pytest.mark.parametrize("submission_id", ["../x", "a/b", "UPPER", "a" * 80, "", "a?b=c", "-a"])
def test_ids_that_are_no_names(world, play, submission_id):
    """An id that could leave a directory or a path is known nowhere, and asks the cluster nothing."""

    async def story():
        assert {} == dict(await world.backend.observe([submission_id]))
        for call in (
            world.backend.cancel(submission_id),
            world.backend.latest_outputs(submission_id),
            world.backend.read_log(submission_id, attempt=None, offset=0, limit_bytes=10),
        ):
            with pytest.raises(SubmissionNotFoundError):
                await call
        await world.backend.release(submission_id)
        assert ("get", "jobs") not in world.cluster.requests

    play(story)


def test_released_ones_do_not_run_again(world, play):
    """The Job is gone after a release; handing in the same id again makes no other one."""

    async def story():
        await world.backend.submit(world.entry("s1", GOOD))
        await reach(world.backend, "s1")
        await world.backend.latest_outputs("s1")
        await world.backend.release("s1")
        assert [] == world.cluster.all(JOBS)
        await world.backend.submit(world.entry("s1", GOOD))
        assert [] == world.cluster.all(JOBS)
        assert SubmissionState.SUCCEEDED is (await observe(world.backend, "s1")).state

    play(story)


# --- servers come and go ---------------------------------------------------------------------------------------------


def test_another_server_goes_on(world, play):
    """A server that starts anew knows progress, log and outputs of what runs, also on an empty disk."""

    async def story():
        await world.backend.submit(world.entry("s1", waiting(world)))
        await eventually(lambda: observe(world.backend, "s1"), lambda seen: seen.progress is not None)
        await world.backend.close()
        elsewhere = world.base / "elsewhere"
        elsewhere.mkdir(mode=0o700)
        for other in (world.connect(), world.connect(data_dir=elsewhere)):
            seen = await eventually(lambda other=other: observe(other, "s1"), lambda seen: seen.progress is not None)
            assert (SubmissionState.RUNNING, 1) == (seen.state, seen.attempts[-1].number)
            chunk = await eventually(
                lambda other=other: other.read_log("s1", attempt=1, offset=0, limit_bytes=100),
                lambda chunk: "begun" in chunk.text,
            )
            assert not chunk.complete
            assert ["s1"] == [entry.submission.id for entry in await other.list_entries()]
        world.gate("go").touch()
        for other in world._backends[1:]:
            assert SubmissionState.SUCCEEDED is (await reach(other, "s1")).state
            assert ["result"] == [file.path for file in (await other.latest_outputs("s1")).output_set.files]

    play(story)


def test_an_end_while_nobody_looked(world, play):
    """What failed, and with what, is known to a server that was not there."""

    async def story():
        await world.backend.submit(world.entry("s1", "say('x\\n'); fail(cell=3, ename='E', evalue='bad')"))
        await eventually(
            lambda: asyncio.sleep(0, world.cluster.find(JOBS, job_name("s1"))), lambda job: "status" in job
        )
        seen = await reach(world.connect(), "s1")
        assert (SubmissionState.FAILED, "cell_failed") == (seen.state, seen.explanation.code)

    play(story)


def test_a_cancel_that_died_before_the_job_was_told(world, play):
    """The wish was written down first: the next server carries it out, and the end is the user's."""

    async def story():
        await world.backend.submit(world.entry("s1", waiting(world)))
        await reach(world.backend, "s1", SubmissionState.RUNNING)
        world.cluster.forbidden = {("delete", "jobs.batch")}
        with pytest.raises(QueueForbiddenError):
            await world.backend.cancel("s1")
        await world.backend.close()
        world.cluster.forbidden = set()
        seen = await reach(world.connect(), "s1")
        assert (SubmissionState.CANCELLED, "cancelled_by_user") == (seen.state, seen.explanation.code)

    play(story)


# --- other hands -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_running", [True, False])
def test_somebody_deletes_the_job(world, play, is_running):
    """A Job that somebody else deleted ends as cancelled, not by the user; what it saved can come home."""

    async def story():
        await world.backend.submit(world.entry("first", waiting(world)))
        await eventually(lambda: observe(world.backend, "first"), lambda seen: seen.progress is not None)
        await world.backend.submit(world.entry("s2", GOOD))
        await reach(world.backend, "s2", SubmissionState.QUEUED)
        doomed = "first" if is_running else "s2"
        world.cluster.remove(JOBS, job_name(doomed))
        seen = await reach(world.backend, doomed)
        assert (SubmissionState.CANCELLED, "deleted_elsewhere") == (seen.state, seen.explanation.code)
        if is_running:
            assert OutputsState.PARTIAL is seen.outputs.state
        world.gate("go").touch()

    play(story)


def test_an_end_survives_the_job(world, play):
    """Once seen, an end stays what it was, whoever removes the Job, and over restarts."""

    async def story():
        await world.backend.submit(world.entry("s1", GOOD))
        await reach(world.backend, "s1")
        ended = await observe(world.backend, "s1")
        world.cluster.remove(JOBS, job_name("s1"))
        assert ended == await observe(world.backend, "s1")
        other = world.connect()
        assert ended == await observe(other, "s1")
        assert ["s1"] == [entry.submission.id for entry in await other.list_entries()]
        assert "hello" in (await other.read_log("s1", attempt=None, offset=0, limit_bytes=1000)).text

    play(story)


def test_what_a_deleted_job_left_comes_home(world, play):
    """A server that never saw the Job, and finds only its OutputSet in the registry, can still bring that home."""

    async def story():
        await world.backend.submit(world.entry("s1", GOOD))
        await reach(world.backend, "s1")
        await world.backend.close()
        world.cluster.remove(JOBS, job_name("s1"))
        elsewhere = world.base / "elsewhere"
        elsewhere.mkdir(mode=0o700)
        other = world.connect(data_dir=elsewhere)
        seen = await reach(other, "s1")
        assert (SubmissionState.SUCCEEDED, OutputsState.AVAILABLE) == (seen.state, seen.outputs.state)
        assert ["result"] == [file.path for file in (await other.latest_outputs("s1")).output_set.files]
        assert "hello" in (await other.read_log("s1", attempt=1, offset=0, limit_bytes=1000)).text

    play(story)


def test_an_evicted_attempt_is_history(world, play):
    """The second Attempt is number 2; the log of the first is still there, from the registry where need be."""

    async def story():
        await world.backend.submit(world.entry("s1", f"say('once\\n'); {waiting(world)}"))
        await eventually(lambda: observe(world.backend, "s1"), lambda seen: seen.progress is not None)
        await world.evict("s1")
        seen = await eventually(
            lambda: observe(world.backend, "s1"), lambda seen: seen.attempts and seen.attempts[-1].number == 2
        )
        world.gate("go").touch()
        seen = await reach(world.backend, "s1")
        assert [1, 2] == [attempt.number for attempt in seen.attempts]
        elsewhere = world.base / "elsewhere"
        elsewhere.mkdir(mode=0o700)
        for backend in (world.backend, world.connect(data_dir=elsewhere)):
            await reach(backend, "s1")
            for number in (1, 2):
                chunk = await backend.read_log("s1", attempt=number, offset=0, limit_bytes=1000)
                assert ("once\nbegun\n", True) == (chunk.text, chunk.complete)

    play(story)


# --- silence ---------------------------------------------------------------------------------------------------------


def test_a_cluster_that_falls_silent(world, play, monkeypatch):
    """While nobody answers it says so, with the age of its view; then everything is right again, by itself."""
    monkeypatch.setattr("jupyterlab_ai_batch.queues.kueue.cache.STALE_S", 0.0)

    async def story():
        await world.backend.submit(world.entry("s1", waiting(world)))
        await reach(world.backend, "s1", SubmissionState.RUNNING)
        watch = world.backend.watch()
        await watch.__anext__()
        world.cluster.failure = QueueUnreachableError("connection refused")
        world.cluster.cut_watches()

        async def silent():
            try:
                await world.backend.observe(["s1"])
            except QueueUnreachableError as exc:
                return exc
            return None

        refused = "connection refused"
        error = await eventually(silent, lambda found: found is not None and found.message == refused)
        assert error.details["age_s"] >= 0
        world.gate("go").touch()
        world.cluster.failure = None
        await eventually(silent, lambda found: found is None)
        assert SubmissionState.SUCCEEDED is (await reach(world.backend, "s1")).state
        await watch.aclose()

    play(story)


def test_a_registry_that_falls_silent(world, play):
    """A run that has ended waits for its results, and says so; nothing is lost, nothing is decided too early."""

    async def story():
        await world.backend.submit(world.entry("s1", waiting(world)))
        await eventually(lambda: observe(world.backend, "s1"), lambda seen: seen.progress is not None)
        open_repository, world.backend._histories._open = world.backend._histories._open, unreachable
        await world.backend._histories.stop()
        world.gate("go").touch()
        seen = await explained(world.backend, "s1", "results_unreadable")
        assert (SubmissionState.RUNNING, "registry_unreachable") == (seen.state, seen.explanation.raw_reason)
        world.backend._histories._open = open_repository
        seen = await reach(world.backend, "s1")
        assert (SubmissionState.SUCCEEDED, OutputsState.AVAILABLE) == (seen.state, seen.outputs.state)

    play(story)


def unreachable():
    raise RegistryUnreachableError("The registry gave no answer.")


def test_nobody_is_given_up_for_lost_too_early(world, play):
    """Of what is in neither cluster nor memory the registry has to say that it never was."""

    async def story():
        world.backend._histories._open = unreachable
        with pytest.raises(QueueUnreachableError):
            await world.backend.observe(["s1"])

    play(story)


def test_positions_are_no_condition(world, play):
    """A cluster that tells no positions says all the rest."""
    world.cluster.forbidden = {POSITIONS}

    async def story():
        await world.backend.submit(world.entry("first", waiting(world)))
        await reach(world.backend, "first", SubmissionState.RUNNING)
        await world.backend.submit(world.entry("s2", GOOD))
        seen = await reach(world.backend, "s2", SubmissionState.QUEUED)
        assert seen.position is None
        world.gate("go").touch()
        await reach(world.backend, "s2")

    play(story)


def test_positions_are_asked_for_who_looks(world, play):
    """A server that only follows its jobs asks for none."""

    async def follow(submission_id, state):
        await eventually(
            lambda: world.backend.observe([submission_id], with_positions=False),
            lambda seen: submission_id in seen and seen[submission_id].state is state,
        )

    async def story():
        await world.backend.submit(world.entry("first", waiting(world)))
        await follow("first", SubmissionState.RUNNING)
        await world.backend.submit(world.entry("s2", GOOD))
        await follow("s2", SubmissionState.QUEUED)
        assert POSITIONS not in world.cluster.requests
        await eventually(lambda: observe(world.backend, "s2"), lambda seen: seen.position is not None)
        world.gate("go").touch()
        await reach(world.backend, "s2")

    play(story)


def test_nothing_is_asked_while_nobody_looks(world, play):
    """Following begins with the first question and ends when nobody has asked for a while."""

    async def story():
        world.backend._lookout._idle_s = 0.05
        assert {} == world.cluster.requests
        await world.backend.observe([])
        assert {} == world.cluster.requests
        await world.backend.submit(world.entry("s1", GOOD))
        await reach(world.backend, "s1")
        await eventually(lambda: asyncio.sleep(0, world.backend._lookout._cache._tasks), lambda tasks: not tasks)
        before = dict(world.cluster.requests)
        await world.backend.observe(["s1"])
        assert before == world.cluster.requests

    play(story)


# --- before and after ------------------------------------------------------------------------------------------------


def test_queues_tell_what_their_users_may_know(world, play):
    """Counts of the LocalQueue; how large the pool is stays unknown."""
    usage = [{"name": "pool", "resources": [{"name": "nvidia.com/mig-1g.5gb", "total": "2"}]}]
    world.cluster.change(
        LOCAL_QUEUES,
        QUEUE,
        status={"pendingWorkloads": 3, "reservingWorkloads": 2, "flavorsReservation": usage},
    )

    async def story():
        (reading,) = await world.backend.list_queues()
        assert (QUEUE, None, 2, 3) == (reading.name, reading.slots, reading.busy, reading.waiting)

    play(story)


def test_manifest_is_the_job(world, play):
    """The Submission as a manifest, from the Job or from memory."""

    async def story():
        await world.backend.submit(world.entry("s1", GOOD))
        first = await world.backend.manifest("s1")
        await reach(world.backend, "s1")
        await world.backend.latest_outputs("s1")
        await world.backend.release("s1")
        assert first == await world.backend.manifest("s1")
        assert json.dumps(job_name("s1")) in first or job_name("s1") in first
        with pytest.raises(SubmissionNotFoundError):
            await world.backend.manifest("no")

    play(story)
