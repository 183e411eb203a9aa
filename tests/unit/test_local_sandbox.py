"""The command that isolates a job."""

from pathlib import Path

from jupyterlab_ai_batch.capture_models import EnvironmentMount, EnvironmentView
from jupyterlab_ai_batch.queues.local.paths import RunPaths
from jupyterlab_ai_batch.queues.local.sandbox import Isolation, build_launch

FULL = Isolation(bubblewrap="/usr/bin/bwrap", pid_namespace=True, overlay=True)


def launch(tmp_path, isolation, mounts, *, work_root="/w/home", data_dir="/w/home/data", needed=()):
    run = RunPaths(tmp_path / "run")
    built = build_launch(
        isolation,
        ["python", "x"],
        run=run,
        data_dir=Path(data_dir),
        work_root=Path(work_root),
        environment=EnvironmentView(mounts=tuple(mounts)),
        needed=[Path(path) for path in needed],
        info_fd=9,
    )
    return run, built


def position(command, *arguments):
    return next(i for i in range(len(command)) if tuple(command[i : i + len(arguments)]) == tuple(map(str, arguments)))


def test_outer_before_inner(tmp_path):
    """Work tree, environment and our own data are mounted in the order of their depth."""
    mounts = [
        EnvironmentMount(source=Path("/env/0"), path=Path("/w/home/.venv")),
        EnvironmentMount(source=Path("/env/1"), path=Path("/w/home/.venv/src/editable")),
        EnvironmentMount(source=Path("/opt"), path=Path("/opt"), live=True),
    ]
    run, built = launch(tmp_path, FULL, mounts)
    places = [
        position(built.command, "--dev-bind", "/", "/"),
        position(built.command, "--ro-bind", "/opt", "/opt"),
        position(built.command, "--bind", run.work, "/w/home"),
        position(built.command, "--bind", run.overlays / "0" / "merged", "/w/home/.venv"),
        position(built.command, "--bind", run.overlays / "1" / "merged", "/w/home/.venv/src/editable"),
    ]
    assert sorted(places) == places
    assert (
        places[2]
        < position(built.command, "--tmpfs", "/w/home/data")
        < position(built.command, "--bind", run.outbox, run.outbox)
    )
    assert [Path("/env/0"), Path("/env/1")] == [lower for _, lower in built.overlays]


def test_read_only_without_overlay(tmp_path):
    """Where there is no overlay the restored environment is read only, with places for what lies inside."""
    mounts = [
        EnvironmentMount(source=Path("/env/0"), path=Path("/e")),
        EnvironmentMount(source=Path("/env/1"), path=Path("/e/src")),
    ]
    _, built = launch(tmp_path, Isolation(bubblewrap="/bwrap", pid_namespace=True), mounts)
    assert position(built.command, "--ro-bind", "/env/0", "/e") < position(
        built.command, "--ro-bind", "/env/1", "/e/src"
    )
    assert () == built.overlays
    assert Path("/env/0/src") in built.mount_points


def test_runner_stays_visible(tmp_path):
    """The runner's own interpreter is mounted where the work tree hides it, unless the Snapshot has it."""
    (tmp_path / "run" / "work" / "captured").mkdir(parents=True)
    needed = ["/w/home/venv", "/w/home/captured", "/usr", "/w/home/.env/lib"]
    mounts = [EnvironmentMount(source=Path("/env/0"), path=Path("/w/home/.env"))]
    _, built = launch(tmp_path, FULL, mounts, needed=needed)
    assert position(built.command, "--ro-bind", "/w/home/venv", "/w/home/venv")
    for path in ("/w/home/captured", "/usr", "/w/home/.env/lib"):
        assert path not in built.command


def test_nothing_to_isolate_with(tmp_path):
    """Without bubblewrap the command is executed as it is."""
    _, built = launch(tmp_path, Isolation(reason="x"), [])
    assert (("python", "x"), (), ()) == (built.command, built.overlays, built.mount_points)
