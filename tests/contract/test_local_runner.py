"""The local queue with the real runner and a real kernel."""

import os
import signal
from dataclasses import replace

import nbformat
import pytest
from queue_worlds import eventually, in_cell, reach, worker_gone

from jupyterlab_ai_batch.words import SubmissionState

WORLDS = ["local"]


def write_notebook(world, *cells):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, world.snapshots / "work" / "a.ipynb")


def entry(world, submission_id="s1", **options):
    made = world.entry(submission_id, "", **options)
    made.run.parameters.clear()
    return made


def test_notebook_runs_at_its_own_path(world, play):
    """A notebook is executed in its own directory; the files it writes and the notebook itself are stored."""

    async def story():
        write_notebook(world, "import os; print(os.getcwd())", "open('made.txt', 'w').write('made')")
        backend = world.connect(runner="-")
        await backend.submit(entry(world))
        seen = await reach(backend, "s1")
        log = await backend.read_log("s1", attempt=1, offset=0, limit_bytes=1 << 20)
        assert SubmissionState.SUCCEEDED is seen.state, (seen, log.text)
        assert str(world.home) in log.text
        assert (2, 2) == (seen.progress.cell, seen.progress.of)
        stored = await backend.latest_outputs("s1")
        assert {"a.ipynb", "made.txt"} == {file.path for file in stored.output_set.files}
        assert [] == list(world.home.iterdir())

    play(story)


def test_worker_killed_while_a_cell_runs(world, play):
    """kill -9 of the worker ends kernel and runner; the second Attempt succeeds."""

    async def story():
        code = f"import os, time\nwhile not os.path.exists({str(world.gate('go'))!r}): time.sleep(0.02)"
        write_notebook(world, code)
        backend = world.connect(runner="-")
        await backend.submit(entry(world))
        await in_cell(backend, "s1")
        os.kill(pid := world.worker_pid(), signal.SIGKILL)
        await worker_gone(world, pid)
        world.gate("go").touch()
        seen = await reach(backend, "s1")
        assert ["WorkerLost", "succeeded"] == [attempt.ended_by for attempt in seen.attempts]

    play(story)


def test_failing_cell_and_segfault(world, play):
    """The real runner's failures arrive as explanations."""

    async def story():
        backend = world.connect(runner="-")
        write_notebook(world, "1", "1 / 0")
        await backend.submit(entry(world, "s1"))
        seen = await reach(backend, "s1")
        assert ("cell_failed", "ZeroDivisionError") == (seen.explanation.code, seen.explanation.raw_reason)
        assert seen.explanation.summary.startswith("Cell 2 failed")
        write_notebook(world, "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
        await backend.submit(entry(world, "s2"))
        seen = await reach(backend, "s2")
        assert "kernel_died" == seen.explanation.code
        assert "SIGSEGV" in seen.explanation.summary

    play(story)


def test_time_limit_saves(world, play):
    """At the time limit the real runner saves what there is."""

    async def story():
        backend = world.connect(runner="-", stop_grace_s=20.0)
        write_notebook(world, "open('early.txt', 'w').write('early')\nimport time; time.sleep(300)")
        await backend.submit(entry(world, max_duration_s=4))
        seen = await reach(backend, "s1")
        assert "time_limit" == seen.explanation.code
        stored = await backend.latest_outputs("s1")
        assert "early.txt" in {file.path for file in stored.output_set.files}

    play(story)


def test_notebook_without_isolation(world, play):
    """Where nothing can be isolated the notebook runs in its private copy, and its files are stored all the same."""

    async def story():
        write_notebook(world, "import os; print(os.getcwd()); open('made.txt', 'w').write('made')")
        backend = world.connect(runner="-", isolate=False)
        await backend.submit(entry(world))
        seen = await reach(backend, "s1")
        log = await backend.read_log("s1", attempt=1, offset=0, limit_bytes=1 << 20)
        assert (SubmissionState.SUCCEEDED, "not_isolated") == (seen.state, seen.explanation.code), log.text
        assert str(world.paths.run("s1", 1).work) in log.text
        stored = await backend.latest_outputs("s1")
        assert {"a.ipynb", "made.txt"} == {file.path for file in stored.output_set.files}
        assert [] == list(world.home.iterdir())

    play(story)


EPOCHS = """
import os, pathlib, time
done = pathlib.Path("epoch.txt")
for epoch in range(int(done.read_text()) if done.exists() else 0, 6):
    print("epoch", epoch, flush=True)
    if epoch == 3:
        while not os.path.exists({gate!r}): time.sleep(0.02)
    done.write_text(str(epoch + 1))
    done.with_name(f"made-{{epoch}}.txt").write_text("x")
"""


@pytest.mark.parametrize("isolate", [True, False])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_second_attempt_goes_on_with_the_saved_files(world, play, isolate, number):
    """The worker is stopped, or killed after a checkpoint: no epoch is run twice, and every file comes home."""

    async def story():
        write_notebook(world, EPOCHS.format(gate=str(world.gate("go"))))
        backend = world.connect(runner="-", isolate=isolate, stop_grace_s=20.0)
        made = entry(world)
        made = replace(made, run=replace(made.run, resume=True, checkpoint_interval_s=0.3))
        await backend.submit(made)
        await eventually(lambda: stored_paths(backend), lambda paths: "made-2.txt" in paths)
        pid = world.worker_pid()
        os.kill(pid, number)
        await worker_gone(world, pid)
        world.gate("go").touch()
        seen = await reach(backend, "s1")
        logs = [(await backend.read_log("s1", attempt=n, offset=0, limit_bytes=1 << 20)).text for n in (1, 2)]
        assert SubmissionState.SUCCEEDED is seen.state, (seen, logs)
        assert "ai-batch: continues with 4 files saved by attempt 1\n" in logs[1]
        assert ["epoch 3", "epoch 4", "epoch 5"] == [line for line in logs[1].splitlines() if line.startswith("epoch")]
        assert {"a.ipynb", "epoch.txt", *(f"made-{n}.txt" for n in range(6))} == await stored_paths(backend)
        first, second = seen.attempts
        assert first.saved_at is not None
        assert first.ended_because.startswith("because the background worker ")
        assert 0 <= first.time_lost_s < (first.ended_at - first.started_at).total_seconds()
        assert ("succeeded", "") == (second.ended_by, second.ended_because)
        if number == signal.SIGTERM:
            assert "ai-batch: saved the notebook and 4 other files, " in logs[0]

    play(story)


async def stored_paths(backend):
    stored = await backend.latest_outputs("s1")
    return set() if stored is None else {file.path for file in stored.output_set.files}
