"""What the local queue promises beyond the port: faults, limits, GPU slots."""

import asyncio
import os
import signal
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from queue_fakes import FULL, SLOW
from queue_worlds import eventually, in_cell, processes_mentioning, reach, worker_gone

from jupyterlab_ai_batch.errors import SnapshotCorruptError, StoragePermissionError
from jupyterlab_ai_batch.models import Profile
from jupyterlab_ai_batch.queues.local.lock import worker_pid
from jupyterlab_ai_batch.words import SubmissionState

WORLDS = ["local"]
RUNNING = SubmissionState.RUNNING


def waiting(world, name="go"):
    return f"progress(1, 1); wait_for({str(world.gate(name))!r}); store(True, result='42')"


def test_worker_killed_mid_run(world, play):
    """kill -9 of the worker takes its job along; the Submission runs again and succeeds with two Attempts."""

    async def story():
        await world.backend.submit(world.entry("s1", waiting(world)))
        await in_cell(world.backend, "s1")
        os.kill(pid := world.worker_pid(), signal.SIGKILL)
        await worker_gone(world, pid)

        async def job():
            return processes_mentioning(str(world.paths.run("s1", 1).spec))

        await eventually(job, lambda found: not found)
        world.gate("go").touch()
        seen = await reach(world.backend, "s1")
        assert SubmissionState.SUCCEEDED is seen.state
        assert ["WorkerLost", "succeeded"] == [attempt.ended_by for attempt in seen.attempts]
        assert not world.paths.run("s1", 1).work.exists()

    play(story)


def test_lost_time_is_told(world, play):
    """The Attempt that a dead worker leaves says how much run time was lost."""

    async def story():
        await world.backend.submit(world.entry("s1", waiting(world)))
        await in_cell(world.backend, "s1")
        heartbeat = world.paths.run("s1", 1).heartbeat

        async def beat():
            return float(heartbeat.read_text() or 0) if heartbeat.exists() else 0.0

        await eventually(beat, lambda elapsed: elapsed > 1.0)
        os.kill(world.worker_pid(), signal.SIGKILL)
        world.gate("go").touch()
        seen = await reach(world.backend, "s1")
        assert seen.attempts[0].time_lost_s > 1.0
        assert seen.attempts[1].time_lost_s == 0.0

    play(story)


def test_watch_alone_brings_a_worker_back(world, play):
    """While somebody only watches, a killed worker is replaced and the work goes on."""

    async def story():
        watch = world.backend.watch()
        await watch.__anext__()
        await world.backend.submit(world.entry("s1", waiting(world)))
        await in_cell(world.backend, "s1")
        os.kill(pid := world.worker_pid(), signal.SIGKILL)

        async def another():
            return world.worker_pid()

        await eventually(another, lambda now: now not in (None, pid))
        world.gate("go").touch()
        await reach(world.backend, "s1", SubmissionState.SUCCEEDED)
        await watch.aclose()

    play(story)


def test_worker_lost_repeatedly(world, play):
    """A Submission whose worker dies again and again fails at last, and says why."""

    async def story():
        backend = world.connect(max_worker_lost=2)
        await backend.submit(world.entry("s1", waiting(world)))
        for number in (1, 2):

            async def read():
                return (await backend.observe(["s1"]))["s1"]

            await eventually(read, lambda seen, n=number: len(seen.attempts) == n and seen.progress is not None)
            os.kill(world.worker_pid(), signal.SIGKILL)
        seen = await reach(backend, "s1")
        assert (SubmissionState.FAILED, "worker_lost_repeatedly") == (seen.state, seen.explanation.code)
        assert ["WorkerLost", "WorkerLost"] == [attempt.ended_by for attempt in seen.attempts]

    play(story)


def test_worker_stopped_cleanly(world, play):
    """SIGTERM of the worker lets the job save; the Submission goes back and runs again."""

    async def story():
        await world.backend.submit(world.entry("s1", waiting(world)))
        await in_cell(world.backend, "s1")
        os.kill(pid := world.worker_pid(), signal.SIGTERM)
        await worker_gone(world, pid)
        world.gate("go").touch()
        seen = await reach(world.backend, "s1")
        assert ["WorkerStopped", "succeeded"] == [attempt.ended_by for attempt in seen.attempts]
        assert world.paths.run("s1", 1).outbox.joinpath("index.json").exists()

    play(story)


def test_server_killed(world, play):
    """kill -9 of the process that submitted changes nothing for the job."""

    async def story():
        code = (
            "import asyncio, sys; sys.path.insert(0, sys.argv[1])\n"
            "from pathlib import Path\n"
            "from queue_worlds import LocalWorld\n"
            "world = LocalWorld.__new__(LocalWorld); base = Path(sys.argv[2])\n"
            "from jupyterlab_ai_batch.queues.local.paths import QueuePaths\n"
            "world.home, world.snapshots, world.data_dir = base / 'home', base / 'snapshots', base / 'data'\n"
            "world.paths, world._backends = QueuePaths(world.data_dir), []\n"
            "async def main():\n"
            "    await world.connect().submit(world.entry('s1', sys.argv[3]))\n"
            "    print('submitted', flush=True)\n"
            "    await asyncio.sleep(60)\n"
            "asyncio.run(main())\n"
        )
        here = str(Path(__file__).parent)
        arguments = [sys.executable, "-c", code, here, str(world.home.parent), waiting(world)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE) as server:
            assert server.stdout.readline() == b"submitted\n"
            server.kill()
        await in_cell(world.backend, "s1")
        world.gate("go").touch()
        seen = await reach(world.backend, "s1")
        assert ["succeeded"] == [attempt.ended_by for attempt in seen.attempts]

    play(story)


def test_one_worker_only(world, play):
    """Of two workers the second ends with status 0 and leaves the first alone."""

    async def story():
        await world.backend.submit(world.entry("s1", waiting(world)))
        await in_cell(world.backend, "s1")
        first = world.worker_pid()
        command = world.backend._spawner._command
        assert 0 == subprocess.run(command, check=False, capture_output=True, timeout=30).returncode
        assert first == world.worker_pid()
        world.gate("go").touch()
        assert 1 == len((await reach(world.backend, "s1")).attempts)

    play(story)


def test_two_servers_one_queue(world, play):
    """Two backends on one directory see the same Submissions and run each once."""

    async def story():
        other = world.connect()
        await asyncio.gather(
            *(b.submit(world.entry(f"s{i}", "store(True)")) for i, b in enumerate([world.backend, other] * 2))
        )
        for i in range(4):
            assert 1 == len((await reach(other, f"s{i}")).attempts)

    play(story)


def test_idle_worker_ends_and_returns(world, play):
    """A worker without work ends; the next Submission brings one back."""

    async def story():
        backend = world.connect(idle_exit_s=0.3)
        await backend.submit(world.entry("s1", "store(True)"))
        await reach(backend, "s1")
        await worker_gone(world, world.worker_pid() or -1)
        await backend.submit(world.entry("s2", "store(True)"))
        assert SubmissionState.SUCCEEDED is (await reach(backend, "s2")).state

    play(story)


def test_time_limit(world, play):
    """At its time limit a job may save, then it has failed with ``time_limit``."""

    async def story():
        await world.backend.submit(world.entry("s1", waiting(world), max_duration_s=1))
        seen = await reach(world.backend, "s1")
        assert (SubmissionState.FAILED, "time_limit") == (seen.state, seen.explanation.code)
        assert seen.outputs.files == 1

    play(story)


def test_stubborn_job_is_killed(world, play):
    """What ignores SIGTERM is killed with everything it started."""

    async def story():
        marker = f"stubborn-{os.getpid()}"
        code = (
            "import subprocess; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            f"arguments = [sys.executable, '-c', 'import time; time.sleep(300)', '{marker}']\n"
            "subprocess.Popen(arguments, start_new_session=True)\n"
            "progress(1, 1); time.sleep(300)"
        )
        backend = world.connect(stop_grace_s=0.5)
        await backend.submit(world.entry("s1", code))
        await in_cell(backend, "s1")
        assert processes_mentioning(marker)
        await backend.cancel("s1")
        seen = await reach(backend, "s1")
        assert SubmissionState.CANCELLED is seen.state

        async def left():
            return processes_mentioning(marker)

        await eventually(left, lambda found: not found)

    play(story)


def test_cancel_while_starting(world, play):
    """A cancel during a long restore shows at once, though the restore ends later."""

    async def story():
        await world.backend.submit(world.entry("s1", "store(True)", digest=SLOW))
        await reach(world.backend, "s1", SubmissionState.STARTING)
        await world.backend.cancel("s1")
        seen = await reach(world.backend, "s1")
        assert (SubmissionState.CANCELLED, "cancelled") == (seen.state, seen.attempts[0].ended_by)
        (world.snapshots / "go").touch()
        await world.backend.submit(world.entry("s2", "store(True)"))
        assert SubmissionState.SUCCEEDED is (await reach(world.backend, "s2")).state

    play(story)


@pytest.mark.parametrize(
    ("code", "expected", "raw"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "killed_by_signal", "SIGSEGV"),
        ("os._exit(3)", "runner_crashed", "exit status 3"),
        ("fail(cell=2, ename='DeadKernelError', evalue='', signal=11)", "kernel_died", "DeadKernelError"),
        ("fail(cell=0, ename='X', evalue='No kernel.', code='kernel_start_failed')", "kernel_start_failed", "X"),
        ("fail(cell=0, ename='X', evalue='No kernel.', code='<b>')", "run_failed", "X"),
    ],
)
def test_ends_that_went_wrong(world, play, code, expected, raw):
    """Signals are told by name, crashes by status, a dead kernel as such."""

    async def story():
        await world.backend.submit(world.entry("s1", code))
        seen = await reach(world.backend, "s1")
        assert (SubmissionState.FAILED, expected) == (seen.state, seen.explanation.code)
        assert raw == seen.explanation.raw_reason

    play(story)


def test_memory_limit(world, play):
    """Over its profile's memory the largest process is killed, and the limit and the use are told."""

    async def story():
        backend = world.connect(profiles=[Profile(name="cpu", title="", memory_bytes=200 * 1024**2)])
        code = (
            "import subprocess\n"
            "child = subprocess.Popen([sys.executable, '-c', 'import time; x = b\"x\" * (400 << 20); time.sleep(9)'])\n"
            "child.wait(); store(True, kept='yes')\n"
            "fail(cell=1, ename='DeadKernelError', evalue='', signal=-child.returncode)"
        )
        await backend.submit(world.entry("s1", code))
        seen = await reach(backend, "s1")
        assert (SubmissionState.FAILED, "out_of_memory") == (seen.state, seen.explanation.code)
        assert "200 MiB" in seen.explanation.summary
        assert seen.outputs.files == 1

    play(story)


def test_full_disk_while_restoring(world, play):
    """A restore without space fails with ``storage_full``; nothing of it is left."""

    async def story():
        await world.backend.submit(world.entry("s1", "store(True)", digest=FULL))
        seen = await reach(world.backend, "s1")
        assert (SubmissionState.FAILED, "storage_full") == (seen.state, seen.explanation.code)
        assert not world.paths.run("s1", 1).work.exists()

    play(story)


def test_slots(world, play):
    """With two slots two run at the same time and the third waits."""

    async def story():
        backend = world.connect(slots=2)
        for name in ("a", "b", "c"):
            await backend.submit(world.entry(name, waiting(world)))
        await in_cell(backend, "a")
        await in_cell(backend, "b")
        assert SubmissionState.QUEUED is (await backend.observe(["c"]))["c"].state
        (reading,) = await backend.list_queues()
        assert (2, 2, 1) == (reading.slots, reading.busy, reading.waiting)
        world.gate("go").touch()
        for name in ("a", "b", "c"):
            assert SubmissionState.SUCCEEDED is (await reach(backend, name)).state

    play(story)


def test_gpu_slots(world, play):
    """GPU slots are handed out one by one; who has none sees none; who asks for too many is blocked."""

    async def story():
        profiles = [
            Profile(name="cpu", title=""),
            Profile(name="gpu", title="", gpu_slots=1),
            Profile(name="gpu4", title="", gpu_slots=4),
        ]
        backend = world.connect(slots=3, gpus=("GPU-1", "MIG-2"), profiles=profiles)
        code = f"say('<' + os.environ['CUDA_VISIBLE_DEVICES'] + '>\\n'); {waiting(world)}"
        for name, profile in (("g1", "gpu"), ("g2", "gpu"), ("g3", "gpu"), ("c", "cpu"), ("x", "gpu4")):
            await backend.submit(world.entry(name, code, profile=profile))
        for name in ("g1", "g2", "c"):
            await in_cell(backend, name)
        seen = await backend.observe(["g3", "x"])
        assert (SubmissionState.QUEUED, 0) == (seen["g3"].state, seen["g3"].position.in_local_queue)
        assert (SubmissionState.BLOCKED, "gpu_missing") == (seen["x"].state, seen["x"].explanation.code)
        (reading,) = await backend.list_queues()
        assert (2, 2) == (reading.gpu_slots, reading.gpu_busy)
        world.gate("go").touch()
        logs = []
        for name in ("g1", "g2", "g3", "c"):
            await reach(backend, name)
            log = await backend.read_log(name, attempt=1, offset=0, limit_bytes=100)
            logs.append(log.text.partition("\n")[0])
        assert ["<GPU-1>", "<MIG-2>"] == logs[:2]
        assert "<>" == logs[3]
        await backend.cancel("x")
        assert SubmissionState.CANCELLED is (await backend.observe(["x"]))["x"].state

    play(story)


def test_hostile_outbox(world, play):
    """Links in the outbox are refused, whatever they point at; the run's own end is not affected."""

    async def story():
        code = (
            "store(True, result='x')\n"
            "blobs = Path(spec.outbox, 'blobs', 'sha256'); blob = next(blobs.iterdir())\n"
            "blob.unlink(); blob.symlink_to('/etc/passwd')"
        )
        await world.backend.submit(world.entry("s1", code))
        assert SubmissionState.SUCCEEDED is (await reach(world.backend, "s1")).state
        with pytest.raises(SnapshotCorruptError):
            await world.backend.latest_outputs("s1")

    play(story)


def test_clock_moved_back(world, play):
    """Order and durations do not suffer from a clock that moves back."""

    async def story():
        backend = world.backend
        await backend.submit(world.entry("first", waiting(world)))
        await reach(backend, "first", RUNNING)
        await backend.submit(world.entry("a", "store(True)"))
        backend._queue()._clock = lambda: datetime.now(timezone.utc) - timedelta(days=3)
        await backend.submit(world.entry("b", "store(True)"))
        seen = await backend.observe(["a", "b"])
        assert (0, 1) == (seen["a"].position.in_local_queue, seen["b"].position.in_local_queue)
        world.gate("go").touch()
        await reach(backend, "b")

    play(story)


def test_long_log_is_cut(world, play):
    """Output beyond the limit is dropped, with a line that says so, and the run goes on."""

    async def story():
        backend = world.connect(log_limit_bytes=1000)
        await backend.submit(world.entry("s1", "say('x' * 5000); progress(2, 2); store(True)"))
        seen = await reach(backend, "s1")
        log = await backend.read_log("s1", attempt=1, offset=0, limit_bytes=10_000)
        assert SubmissionState.SUCCEEDED is seen.state
        assert log.text.endswith("The log is longer than 1000 bytes; the rest is not kept.\n")
        assert log.complete

    play(story)


def test_old_runs_are_pruned(world, play):
    """Beyond ``keep_runs`` the files of released Submissions go; the Submissions stay known."""

    async def story():
        backend = world.connect(keep_runs=1)
        for name in ("a", "b", "c"):
            await backend.submit(world.entry(name, "store(True, result='x')"))
            await reach(backend, name)
            if name != "a":
                await backend.release(name)
        assert ["a", "c"] == sorted(path.name for path in world.paths.runs.iterdir())
        assert await backend.latest_outputs("b") is None
        assert 3 == len(await backend.list_entries())

    play(story)


def test_worker_that_does_not_start(world, play):
    """A worker that cannot start is tried again, and the Submission says so instead of just waiting."""

    async def story():
        world.backend._spawner._command = [sys.executable, "-c", "raise SystemExit(2)"]
        await world.backend.submit(world.entry("s1", "store(True)"))

        async def read():
            return (await world.backend.observe(["s1"]))["s1"]

        await eventually(read, lambda seen: seen.explanation.code == "worker_unavailable")
        checks = {check.name: check.ok for check in await world.backend.preflight()}
        assert checks["worker"] is False

    play(story)


def test_directories_are_private(world, play):
    """Directories are 0700 and files 0600; a directory of somebody else is refused."""

    async def story():
        await world.backend.submit(world.entry("s1", "store(True)"))
        await reach(world.backend, "s1")
        for path in (world.paths.root, world.paths.runs, world.paths.run("s1", 1).root):
            assert 0o700 == path.stat().st_mode & 0o777
        for path in (world.paths.database, world.paths.run("s1", 1).log, world.paths.worker_log):
            assert 0o600 == path.stat().st_mode & 0o777
        if os.geteuid() == 0:
            os.chown(world.data_dir, 65534, 65534)
            with pytest.raises(StoragePermissionError):
                await world.connect().list_entries()
            os.chown(world.data_dir, 0, 0)

    play(story)


def test_worker_pid_of_nobody(tmp_path):
    """Without a worker there is no pid, whatever an old lock file says."""
    lock = tmp_path / "worker.lock"
    assert worker_pid(lock) is None
    lock.write_text("1\n")
    assert worker_pid(lock) is None
