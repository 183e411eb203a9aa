"""What a job on this machine sees, and what it cannot touch."""

import json
import os
import shutil

import pytest
from queue_worlds import in_cell, processes_mentioning, reach

from jupyterlab_ai_batch.queues.local.sandbox import probe
from jupyterlab_ai_batch.words import SubmissionState

WORLDS = ["local"]

needs_bubblewrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")


async def result(world, code, backend=None, **options):
    """What ``code`` left in the variable ``out``, as the job saw it."""
    backend = backend or world.backend
    whole = f"import json\n{code}\nsay('OUT' + json.dumps(out) + '\\n'); store(True)"
    await backend.submit(world.entry("s1", whole, **options))
    seen = await reach(backend, "s1")
    log = (await backend.read_log("s1", attempt=1, offset=0, limit_bytes=1 << 20)).text
    assert SubmissionState.SUCCEEDED is seen.state, log
    return json.loads(log.partition("OUT")[2].partition("\n")[0])


@needs_bubblewrap
def test_absolute_paths_are_the_snapshots(world, play):
    """At the original absolute path a job finds the captured file, not the edited one, and cannot change home."""

    async def story():
        (world.snapshots / "work" / "data.txt").write_text("captured")
        (world.home / "data.txt").write_text("edited since")
        path = str(world.home / "data.txt")
        out = await result(world, f"out = open({path!r}).read(); open({path!r}, 'w').write('by the job')")
        assert ("captured", "edited since") == (out, (world.home / "data.txt").read_text())

    play(story)


@needs_bubblewrap
def test_environment_is_writable_and_private(world, play, tmp_path):
    """A job can install into its environment; neither the live one nor the restored one changes."""

    async def story():
        captured, live = tmp_path / "captured-env", tmp_path / "env"
        for directory, text in ((captured, "old"), (live, "upgraded")):
            directory.mkdir()
            (directory / "package.py").write_text(text)
        world.mount(live, captured)
        code = (
            f"env = Path({str(live)!r}); out = [(env / 'package.py').read_text()]\n"
            "(env / 'package.py').write_text('by the job'); (env / 'new.py').write_text('new')\n"
            "out += [(env / 'package.py').read_text(), sorted(p.name for p in env.iterdir())]"
        )
        out = await result(world, code, prefixes=[live])
        assert ["old", "by the job", ["new.py", "package.py"]] == out
        assert {"package.py": "upgraded"} == {path.name: path.read_text() for path in live.iterdir()}
        (kept,) = world.paths.environments.glob("*/tree/0")
        assert {"package.py": "old"} == {path.name: path.read_text() for path in kept.iterdir()}

    if not probe(tmp_path).overlay:
        pytest.skip("no overlay here")
    play(story)


@needs_bubblewrap
def test_environment_inside_the_work_tree(world, play):
    """A virtual environment inside the home is mounted over the restored work tree."""

    async def story():
        captured = world.home.parent / "captured-venv"
        captured.mkdir()
        (captured / "marker").write_text("venv")
        (world.snapshots / "work" / "a.txt").write_text("work")
        world.mount(world.home / ".venv", captured)
        code = "out = [(root / 'a.txt').read_text(), (root / '.venv' / 'marker').read_text()]"
        assert ["work", "venv"] == await result(world, code)

    play(story)


@needs_bubblewrap
def test_our_own_data_is_hidden(world, play):
    """Queue, store and other runs are out of reach; the run's own outbox is there."""

    async def story():
        (world.data_dir / "ledger.db").write_text("mine")
        code = f"out = [sorted(os.listdir({str(world.data_dir)!r})), sorted(os.listdir(Path(spec.outbox).parent))]"
        top, run = await result(world, code)
        assert ["queue"] == top
        assert ["base-index.gz", "outbox", "run.json", "runtime"] == run

    play(story)


@needs_bubblewrap
def test_data_directory_inside_the_home(world, play):
    """The usual case: our data lies inside the work tree, which neither hides the outbox nor shows the queue."""

    async def story():
        world.home.rmdir()
        world.home = world.data_dir.parent
        code = f"out = [sorted(os.listdir(root)), sorted(os.listdir({str(world.data_dir)!r}))]"
        home, data = await result(world, code)
        assert (["data"], ["queue"]) == (home, data)
        assert str(world.data_dir) in json.loads(world.paths.run("s1", 1).spec.read_text())["environment_prefixes"]

    play(story)


@needs_bubblewrap
def test_home_behind_a_link(world, play, tmp_path):
    """A work root whose path holds a symlink is found under that path."""

    async def story():
        (world.snapshots / "work" / "a.txt").write_text("captured")
        link = tmp_path / "link"
        link.symlink_to(world.home)
        world.home = link
        assert "captured" == await result(world, f"out = open({str(link / 'a.txt')!r}).read()")

    play(story)


@needs_bubblewrap
def test_no_capability_to_undo_it(world, play):
    """The job cannot mount or unmount."""

    async def story():
        code = "out = int([l for l in open('/proc/self/status') if l.startswith('CapEff')][0].split()[1], 16)"
        assert not await result(world, code) & 1 << 21

    play(story)


@needs_bubblewrap
def test_processes_end_with_the_run(world, play):
    """What a job leaves running in the background is gone when it has ended."""

    async def story():
        marker = f"background-{os.getpid()}"
        code = (
            "import subprocess\n"
            f"arguments = [sys.executable, '-c', 'import time; time.sleep(300)', '{marker}']\n"
            "subprocess.Popen(arguments, start_new_session=True); out = os.getpid()"
        )
        assert await result(world, code) < 100
        assert [] == processes_mentioning(marker)

    play(story)


def test_variables(world, play, monkeypatch):
    """A job gets the variables of the server, but neither secrets nor the server's own, and knows what it is."""

    async def story():
        monkeypatch.setenv("MY_SETTING", "kept")
        for name in ("JUPYTERHUB_API_TOKEN", "GITHUB_TOKEN", "DB_PASSWORD", "OPENAI_API_KEY", "JPY_PARENT_PID"):
            monkeypatch.setenv(name, "no")
        out = await result(world, "out = dict(os.environ)")
        assert ("kept", "1") == (out["MY_SETTING"], out["AI_BATCH_JOB"])
        assert "no" not in out.values()
        assert str(world.paths.run("s1", 1).runtime) == out["JUPYTER_RUNTIME_DIR"]

    play(story)


def test_without_isolation(world, play):
    """Where nothing can be isolated the job runs in a private copy, and both log and explanation say so."""

    async def story():
        backend = world.connect(isolate=False)
        (world.snapshots / "work" / "a.txt").write_text("captured")
        out = await result(world, "out = [str(root), (root / 'a.txt').read_text()]", backend)
        assert [str(world.paths.run("s1", 1).work), "captured"] == out
        seen = (await backend.observe(["s1"]))["s1"]
        assert "not_isolated" == seen.explanation.code
        log = await backend.read_log("s1", attempt=1, offset=0, limit_bytes=1000)
        assert "Not fully isolated: isolation is switched off." in log.text
        assert {check.name: check.ok for check in await backend.preflight()}["isolation"] is None

    play(story)


def test_without_isolation_nothing_is_left(world, play):
    """Without a process namespace, too, background processes end with a cancelled run."""

    async def story():
        marker = f"loose-{os.getpid()}"
        backend = world.connect(isolate=False, stop_grace_s=1.0)
        code = (
            "import subprocess\n"
            f"arguments = [sys.executable, '-c', 'import time; time.sleep(300)', '{marker}']\n"
            "child = subprocess.Popen(arguments, start_new_session=True); progress(1, 1); child.wait()"
        )
        await backend.submit(world.entry("s1", code))
        await in_cell(backend, "s1")
        await backend.cancel("s1")
        assert SubmissionState.CANCELLED is (await reach(backend, "s1")).state
        assert [] == processes_mentioning(marker)

    play(story)
