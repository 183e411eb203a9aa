"""Ours, restic and borg behind one interface: take one more snapshot of these folders."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from processes import Run, measure
from programs import require
from servers import home_environment
from snapshot_registry import LocalRegistry
from snapshot_trees import NOTEBOOK

TOOLS = ("ours", "restic", "borg", "borg_zstd")
VENV = Path(sys.prefix)
RESTORE = Path(__file__).with_name("snapshot_restore.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a snapshot is taken of.

    Attributes:
        user: Whose: each has a home, caches and (ours) a repository of one's own.
        work: A folder with a notebook.
        environment: The prefix of the notebook's kernel.
        neighbour: Another user, whose repository may be read; "" for nobody.
    """

    user: str
    work: Path
    environment: Path
    neighbour: str = ""


class Tool(Protocol):
    """Something that keeps snapshots below a directory of its own."""

    name: str

    def begin(self) -> None:
        """Forget everything: an empty repository and empty caches."""

    def snapshot(self, subject: Subject) -> Run:
        """Take one more; its whole process is measured."""

    def stored_bytes(self) -> int:
        """What all snapshots since the beginning take on the disk."""

    def close(self) -> None: ...


@dataclass(slots=True)
class Ours:
    """This extension's command, pushing to a registry.

    Attributes:
        reference: Of the latest snapshot.
        uploads: Bytes uploaded by the latest snapshot, by the role of their layer, as the registry counted them.
        received_bytes: All that the registry's process read meanwhile: no less than what was sent to it.
    """

    directory: Path
    name: str = "ours"
    registry: LocalRegistry | None = None
    reference: str = ""
    uploads: Mapping[str, int] = field(default_factory=dict)
    received_bytes: int = 0
    _count: int = 0

    def begin(self) -> None:
        self.close()
        _empty(self.directory)
        self.registry = LocalRegistry(self.directory / "registry").__enter__()

    def snapshot(self, subject: Subject) -> Run:
        assert self.registry is not None
        self._count += 1
        repository, tag = f"{subject.user}/snapshots", f"snapshot-{self._count}"
        self.reference = f"{self.registry.address}/{repository}:{tag}"
        mounting = ["--mount-from", f"{subject.neighbour}/snapshots"] if subject.neighbour else []
        before = self.registry.received_bytes()
        run = self._run(subject, "--to", self.reference, *mounting)
        self.uploads = self.registry.take_uploads(repository, tag)
        self.received_bytes = self.registry.received_bytes() - before
        return run

    def plan(self, subject: Subject) -> Run:
        """Say what a snapshot would hold, without one."""
        return self._run(subject, "--dry-run")

    def _run(self, subject: Subject, *options: str) -> Run:
        home = self.directory / subject.user
        (home / "data").mkdir(parents=True, exist_ok=True)
        command = [
            *(sys.executable, "-m", "jupyterlab_ai_batch", "snapshot", str(subject.work / NOTEBOOK), *options),
            *("--root", str(subject.work), "--capture-from", "root", "--json"),
        ]
        env = home_environment(home, VENV, JUPYTER_PATH=str(subject.environment / "share/jupyter"))
        return measure(command, env=env, cwd=subject.work)

    def restore(self, part: str, target: Path) -> Run:
        """Write ``work`` or ``environment`` of the latest snapshot to ``target``; see snapshot_restore.py."""
        command = [sys.executable, str(RESTORE), part, self.reference, str(target)]
        return measure(command, env=home_environment(self.directory, VENV), cwd=self.directory)

    def stored_bytes(self) -> int:
        return _size_of(self.directory / "registry/storage")

    def close(self) -> None:
        if self.registry is not None:
            self.registry.close()
            self.registry = None


@dataclass(slots=True)
class Restic:
    """restic as it comes: encrypted, its default compression, a local repository."""

    directory: Path
    name: str = "restic"

    def begin(self) -> None:
        _empty(self.directory)
        (self.directory / "password").write_text("benchmark")
        subprocess.run([*self._command("first"), "init"], check=True, capture_output=True)

    def _command(self, user: str) -> list[str]:
        return [
            *(require("restic"), "--repo", str(self.directory / "repository"), "--quiet"),
            *(
                "--password-file",
                str(self.directory / "password"),
                "--cache-dir",
                str(self.directory / f"cache-{user}"),
            ),
        ]

    def snapshot(self, subject: Subject) -> Run:
        folders = [str(subject.work), str(subject.environment)]
        command = [*self._command(subject.user), "backup", "--host", subject.user, *folders]
        return measure(command, env=home_environment(self.directory, VENV), cwd=subject.work)

    def stored_bytes(self) -> int:
        return _size_of(self.directory / "repository")

    def close(self) -> None: ...


@dataclass(slots=True)
class Borg:
    """borg without encryption, a local repository."""

    directory: Path
    name: str
    compression: str
    _count: int = 0

    def begin(self) -> None:
        _empty(self.directory)
        command = [require("borg"), "init", "--encryption", "none", str(self.directory / "repository")]
        subprocess.run(command, check=True, capture_output=True, env=self._environment("first"))

    def _environment(self, user: str) -> dict[str, str]:
        return home_environment(
            self.directory / user,
            VENV,
            BORG_BASE_DIR=str(self.directory / user),
            BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK="yes",
        )

    def snapshot(self, subject: Subject) -> Run:
        self._count += 1
        (self.directory / subject.user).mkdir(exist_ok=True)
        archive = f"{self.directory / 'repository'}::{self._count}"
        folders = [str(subject.work), str(subject.environment)]
        command = [require("borg"), "create", "--compression", self.compression, archive, *folders]
        return measure(command, env=self._environment(subject.user), cwd=subject.work)

    def stored_bytes(self) -> int:
        return _size_of(self.directory / "repository")

    def close(self) -> None: ...


def make_tools(names: Sequence[str], scratch: Path) -> list[Tool]:
    """Those of ``TOOLS`` that are named, each below ``scratch``."""
    made: dict[str, Tool] = {
        "ours": Ours(scratch / "ours"),
        "restic": Restic(scratch / "restic"),
        "borg": Borg(scratch / "borg", name="borg", compression="lz4"),  # its default
        "borg_zstd": Borg(scratch / "borg-zstd", name="borg_zstd", compression="zstd,3"),
    }
    return [made[name] for name in names]


def _size_of(directory: Path) -> int:
    return sum(path.lstat().st_size for path in directory.rglob("*") if path.is_file())


def _empty(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
