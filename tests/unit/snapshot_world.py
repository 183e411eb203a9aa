"""A home, an environment and a data directory to capture and restore in tests."""

from __future__ import annotations

import json
import os
import py_compile
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

from jupyterlab_ai_batch.capture_models import (
    CaptureProgress,
    CaptureRequest,
    EnvironmentDescription,
    EnvironmentView,
    SnapshotPlan,
    SnapshotSummary,
)
from jupyterlab_ai_batch.oci.layout import ImageLayout
from jupyterlab_ai_batch.snapshot import restore
from jupyterlab_ai_batch.snapshot.capture import capture
from jupyterlab_ai_batch.snapshot.index import SignatureIndex
from jupyterlab_ai_batch.snapshot.plan import plan_snapshot

NOTEBOOK = json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
OLD_S = 1_600_000_000


def now() -> datetime:
    return datetime.now(timezone.utc)


@dataclass
class World:
    base: Path
    progress: list[CaptureProgress] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.home = self.base / "home"
        self.data = self.base / "data"
        self.prefix = self.base / "env"
        self.notebook = self.home / "project" / "n.ipynb"
        self.store = ImageLayout(self.data / "store")
        self.notebook.parent.mkdir(parents=True)
        self.notebook.write_text(NOTEBOOK)
        make_environment(self.prefix)

    def request(self, **changes) -> CaptureRequest:
        environment = EnvironmentDescription(
            kernel_name="python3",
            executable=self.prefix / "bin/python",
            prefix=self.prefix,
            prefixes=(self.prefix,),
            editable_sources=changes.pop("editable_sources", ()),
            python_version="3.11.0",
        )
        values = {"root_dir": self.home, "notebook": self.notebook, "never": (self.data,), "environment": environment}
        return CaptureRequest(**{**values, **changes})

    def capture(
        self, tag: str = "snapshot-1", on_unstable="fail", progress=None, clock=now, **changes
    ) -> SnapshotSummary:
        with SignatureIndex(self.data / "index.db") as index:
            return capture(
                self.request(**changes),
                store=self.store,
                index=index,
                tag=tag,
                progress=progress or self.progress.append,
                clock=clock,
                on_unstable=on_unstable,
            )

    def plan(self, **changes) -> SnapshotPlan:
        with SignatureIndex(self.data / "index.db") as index:
            return plan_snapshot(self.request(**changes), store=self.store, index=index, clock=now)

    def restore(self, digest: str, name: str = "restored") -> Path:
        target = self.base / name
        target.mkdir()
        with SignatureIndex(self.data / "index.db") as index:
            restore.restore_work(self.store, digest, target, index=index)
        return target

    def materialise(self, digest: str, name: str = "made", earlier: Sequence[Path] = ()) -> EnvironmentView:
        with SignatureIndex(self.data / "index.db") as index:
            return restore.materialise_environment(self.store, digest, self.base / name, earlier=earlier, index=index)


def an_hour_later() -> datetime:
    """Captured then, no file of a test is so young that an unseen change is possible."""
    return now() + timedelta(hours=1)


def make_environment(prefix: Path, *, mtime_s: int = OLD_S) -> None:
    """A prefix with one distribution, a compiled module, a script, a link and an empty directory."""
    site = prefix / "lib/python3.11/site-packages"
    (site / "pack").mkdir(parents=True)
    (site / "empty").mkdir()
    (prefix / "bin").mkdir()
    (site / "pack/__init__.py").write_text("VALUE = 1\n")
    (site / "pack/tool.py").write_text("def use():\n    return 2\n")
    for name in ("__init__", "tool"):
        source = site / f"pack/{name}.py"
        os.utime(source, (mtime_s, mtime_s))
        py_compile.compile(
            str(source), cfile=str(site / f"pack/__pycache__/{name}.cpython-311.pyc"), dfile=f"{name}.py"
        )
    (site / "pack-1.0.dist-info").mkdir()
    (site / "pack-1.0.dist-info/RECORD").write_text("pack/__init__.py,,\npack/tool.py,,\n../../../bin/tool,,\n")
    (prefix / "bin/tool").write_text("#!/bin/sh\n")
    (prefix / "bin/tool").chmod(0o755)
    (prefix / "bin/python").symlink_to("/usr/bin/env")
    for path in prefix.rglob("*"):
        os.utime(path, (mtime_s, mtime_s), follow_symlinks=False)


def describe_tree(top: Path) -> dict[bytes, tuple]:
    """Everything that a restore must bring back, by relative path."""
    found: dict[bytes, tuple] = {}
    names: dict[tuple[int, int], list[bytes]] = {}
    stack = [os.fsencode(top)]
    while stack:
        directory = stack.pop()
        for entry in os.scandir(directory):
            status = entry.stat(follow_symlinks=False)
            path = os.path.relpath(entry.path, os.fsencode(top))
            common = (stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode), status.st_mtime_ns)
            if entry.is_dir(follow_symlinks=False):
                stack.append(entry.path)
                found[path] = common
            elif entry.is_symlink():
                found[path] = (*common, os.readlink(entry.path))  # noqa: PTH115 - bytes
            else:
                names.setdefault((status.st_dev, status.st_ino), []).append(path)
                found[path] = (*common, Path(os.fsdecode(entry.path)).read_bytes())
    groups = {tuple(sorted(group)) for group in names.values() if len(group) > 1}
    for group in groups:
        for path in group:
            found[path] = (*found[path], group)
    return found


def describe_environment(top: Path) -> dict[bytes, tuple]:
    """Everything that a job sees of its environment; each .pyc must be valid beside its source, whatever their time."""
    return {path: _without_time(top, path, entry) for path, entry in describe_tree(top).items()}


def _without_time(top: Path, path: bytes, entry: tuple) -> tuple:
    kind, mode, _, *content = entry
    if path.endswith(b".pyc"):
        directory, _, name = os.fsdecode(path).rpartition("/__pycache__/")
        source = top / directory / f"{name.partition('.')[0]}.py"
        assert int.from_bytes(content[0][8:12], "little") == int(source.stat().st_mtime), path
        content[0] = content[0][:8] + content[0][12:]
    return (kind, mode, *content[:1])
