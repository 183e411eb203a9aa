"""What the system can isolate, and the command that runs a job in it. ``build_launch`` is pure but for path lookups."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...capture_models import EnvironmentView
from ...oci.storage import remove_tree
from .paths import RunPaths

LAUNCHER = Path(__file__).with_name("launcher.py")
PROBE_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Isolation:
    """What was found to work here.

    Attributes:
        bubblewrap: The program; None where jobs run without isolation.
        pid_namespace: Whether a job's processes can be given a namespace of their own, and so end with it.
        overlay: Whether an environment can be made writable for the job without touching the shared files.
        reason: What is missing, for the log; empty when nothing is.
    """

    bubblewrap: str | None = None
    pid_namespace: bool = False
    overlay: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How the launcher is to start a job.

    Attributes:
        command: Absolute program and arguments.
        overlays: (overlay directory, lower directory) pairs, to be made before.
        mount_points: Directories that must exist before.
    """

    command: tuple[str, ...]
    overlays: tuple[tuple[Path, Path], ...] = ()
    mount_points: tuple[Path, ...] = ()

    def write(self, run: RunPaths, *, parent: int) -> list[str]:
        """Make the directories and the launcher's config; returns the command that starts the launcher."""
        for directory, lower in self.overlays:
            for name in ("upper", "work", "merged"):
                (directory / name).mkdir(mode=0o755, parents=True)
            (directory / "lower").symlink_to(lower)
        for directory in self.mount_points:
            directory.mkdir(parents=True, exist_ok=True)
        return write_launcher_config(
            run.sandbox, command=self.command, overlays=[directory for directory, _ in self.overlays], parent=parent
        )


def write_launcher_config(path: Path, *, command: Sequence[str], overlays: Sequence[Path], parent: int) -> list[str]:
    config = {"parent": parent, "overlays": [str(directory) for directory in overlays], "command": list(command)}
    path.write_text(json.dumps(config), encoding="utf-8")
    path.chmod(0o600)
    return [sys.executable, "-I", "-S", str(LAUNCHER), str(path)]


def build_launch(
    isolation: Isolation,
    command: Sequence[str],
    *,
    run: RunPaths,
    data_dir: Path,
    work_root: Path,
    environment: EnvironmentView,
    needed: Sequence[Path],
    former: Sequence[Path] = (),
    info_fd: int,
) -> Launch:
    """The command that runs ``command`` with the restored files at their original paths.

    The environment is mounted where it belongs, inner directories after outer ones, the work tree in its place among
    them. ``needed`` are directories that the runner's own interpreter lives in: mounted read only where the work tree
    hides them; so are ``former``, outboxes that it may continue with. On ``info_fd``, which is open, bubblewrap tells
    the job's process id.
    """
    if isolation.bubblewrap is None:
        return Launch(command=tuple(command))
    mounts = _Mounts(isolation, run)
    mounts.add_work(work_root)
    for mount in environment.mounts:
        mounts.add_environment(mount.source, mount.path, live=mount.live)
    mounts.add_hidden(data_dir)
    for path in needed:
        mounts.add_needed(path)
    arguments = [isolation.bubblewrap, "--dev-bind", "/", "/", *mounts.arguments()]
    arguments += ["--dir", str(run.runtime), "--bind", str(run.outbox), str(run.outbox)]
    for path in (run.spec, run.base_index, *former):
        arguments += ["--ro-bind", str(path), str(path)]
    arguments += ["--info-fd", str(info_fd), "--die-with-parent", "--chdir", str(run.root)]
    if isolation.pid_namespace:
        arguments += ["--unshare-pid", "--proc", "/proc"]
    arguments += [*_dropped_capabilities(), "--", *command]
    return Launch(
        command=tuple(arguments), overlays=tuple(mounts.overlays), mount_points=tuple(mounts.missing_mount_points())
    )


class _Mounts:
    """Collects mounts and puts outer directories before the ones inside them."""

    def __init__(self, isolation: Isolation, run: RunPaths) -> None:
        self._isolation = isolation
        self._run = run
        self._mounts: dict[Path, tuple[str, Path | None, bool]] = {}
        self.overlays: list[tuple[Path, Path]] = []

    def add_work(self, work_root: Path) -> None:
        self._mounts[_real(work_root)] = ("--bind", self._run.work, True)

    def add_environment(self, source: Path, path: Path, *, live: bool) -> None:
        if live or not self._isolation.overlay:
            self._mounts[_real(path)] = ("--ro-bind", source, not live)
            return
        directory = self._run.overlays / str(len(self.overlays))
        self.overlays.append((directory, source))
        self._mounts[_real(path)] = ("--bind", directory / "merged", False)

    def add_hidden(self, directory: Path) -> None:
        self._mounts[_real(directory)] = ("--tmpfs", None, False)

    def add_needed(self, path: Path) -> None:
        """Mount the live ``path`` read only where the restored work tree hides it and has no copy of it."""
        path = _real(path)
        outer = self._enclosing(path)
        if outer is None or path in self._mounts:
            return
        option, source, _ = self._mounts[outer]
        if option == "--bind" and source == self._run.work and not (source / path.relative_to(outer)).exists():
            self._mounts[path] = ("--ro-bind", path, False)

    def arguments(self) -> list[str]:
        arguments: list[str] = []
        for path in sorted(self._mounts, key=lambda path: len(path.parts)):
            option, source, _ = self._mounts[path]
            arguments += [option, str(path)] if source is None else [option, str(source), str(path)]
        return arguments

    def missing_mount_points(self) -> list[Path]:
        """Places for inner mounts in the restored directories that hold them: bubblewrap cannot make them read only."""
        found: list[Path] = []
        for path in self._mounts:
            outer = self._enclosing(path, proper=True)
            if outer is None:
                continue
            _, source, ours = self._mounts[outer]
            if ours and source is not None:
                found.append(source / path.relative_to(outer))
        return found

    def _enclosing(self, path: Path, *, proper: bool = False) -> Path | None:
        outers = [outer for outer in self._mounts if path.is_relative_to(outer) and not (proper and outer == path)]
        return max(outers, key=lambda outer: len(outer.parts), default=None)


def _real(path: Path) -> Path:
    # bubblewrap would resolve a link in a mount point outside the new root.
    return Path(os.path.realpath(path))


def _dropped_capabilities() -> list[str]:
    return ["--cap-drop", "CAP_SYS_ADMIN"] if os.geteuid() == 0 else []


def probe(directory: Path, *, wanted: bool = True) -> Isolation:
    """Try what works, with files in ``directory`` (that of the runs: overlays depend on the file system)."""
    bubblewrap = shutil.which("bwrap") if sys.platform == "linux" else None
    if not wanted:
        return Isolation(reason="isolation is switched off")
    if bubblewrap is None:
        return Isolation(reason="bubblewrap is not installed")
    base = [bubblewrap, "--dev-bind", "/", "/", "--die-with-parent", *_dropped_capabilities()]
    pid_namespace = _succeeds([*base, "--unshare-pid", "--proc", "/proc", "--", sys.executable, "-I", "-S", "-c", ""])
    if not pid_namespace and not _succeeds([*base, "--", sys.executable, "-I", "-S", "-c", ""]):
        return Isolation(reason="bubblewrap is not allowed to work here")
    overlay = _probe_overlay(bubblewrap, directory)
    missing = [] if pid_namespace else ["no process namespace"]
    missing += [] if overlay else ["no overlay: the environment is read only in jobs"]
    return Isolation(
        bubblewrap=os.path.realpath(bubblewrap), pid_namespace=pid_namespace, overlay=overlay, reason="; ".join(missing)
    )


def _probe_overlay(bubblewrap: str, directory: Path) -> bool:
    base = Path(tempfile.mkdtemp(prefix=".probe-", dir=directory))
    try:
        for name in ("lower", "upper", "work", "merged", "target"):
            (base / name).mkdir()
        (base / "lower" / "file").write_text("old", encoding="ascii")
        target = base / "target" / "file"
        script = f"open({str(target)!r}, 'a').write('new')"
        command = [os.path.realpath(bubblewrap), "--dev-bind", "/", "/", "--bind", str(base / "merged")]
        command += [str(base / "target"), *_dropped_capabilities(), "--", sys.executable, "-I", "-S", "-c", script]
        launch = write_launcher_config(base / "config.json", command=command, overlays=[base], parent=os.getpid())
        written = base / "upper" / "file"
        return _succeeds(launch) and written.exists() and written.read_text(encoding="ascii") == "oldnew"
    finally:
        remove_tree(base)


def _succeeds(command: Sequence[str]) -> bool:
    try:
        finished = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PROBE_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return finished.returncode == 0
