"""Everything of an Attempt that happens before its process starts: files, environment, run spec, command."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...capture_models import EnvironmentView
from ...models import QueueEntry, RunSpec
from ...oci.storage import ensure_private_directory, remove_tree, replace_file, storage_errors
from .environments import EnvironmentCache, Lease
from .outbox import find_former
from .paths import QueuePaths, RunPaths
from .records import encode
from .restorer import Restorer
from .sandbox import Isolation, build_launch

RUNNER = (sys.executable, "-m", "jupyterlab_ai_batch.runner")
_PACKAGE_PARENT = Path(__file__).resolve().parents[3]
_PYVENV_HOME = re.compile(r"^home\s*=\s*(\S.*?)\s*$", re.MULTILINE)


class AbandonedError(Exception):
    """Nobody wants the Attempt any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A run that can be started.

    Attributes:
        command: Starts the launcher.
        lease: The environment, to be given back at the end; None where the live one is used.
    """

    command: Sequence[str]
    lease: Lease | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparer:
    """Restores Snapshots into run directories."""

    paths: QueuePaths
    restorer: Restorer
    environments: EnvironmentCache
    isolation: Isolation
    runner: Sequence[str] = RUNNER

    def prepare(
        self, entry: QueueEntry, run: RunPaths, *, number: int, info_fd: int, is_wanted: Callable[[], bool]
    ) -> Prepared:
        """Make the run directory ready; ``is_wanted`` is asked between the steps.

        Raises:
            AbandonedError: it was not wanted any more.
            SnapshotCorruptError, StorageFullError, StorageError: it could not be made ready.
        """
        _check_wanted(is_wanted)
        self._restore_index(entry, run)
        _check_wanted(is_wanted)
        self._restore_work(entry, run)
        _check_wanted(is_wanted)
        lease = self.environments.acquire(entry.snapshot_digest) if self.isolation.bubblewrap else None
        try:
            _check_wanted(is_wanted)
            return Prepared(
                command=self._write_run(self._complete(entry.run, run, number), run, lease, info_fd), lease=lease
            )
        except BaseException:
            if lease is not None:
                self.environments.give_back(lease)
            raise

    def _restore_index(self, entry: QueueEntry, run: RunPaths) -> None:
        with storage_errors(run.root):
            run.base_index.write_bytes(self.restorer.read_base_index(entry.snapshot_digest))

    def _restore_work(self, entry: QueueEntry, run: RunPaths) -> None:
        with storage_errors(run.root):
            run.work.mkdir(mode=0o700)
        self.restorer.restore_work(entry.snapshot_digest, run.work)

    def _write_run(self, spec: RunSpec, run: RunPaths, lease: Lease | None, info_fd: int) -> Sequence[str]:
        view = lease.view if lease is not None else EnvironmentView()
        launch = build_launch(
            self.isolation,
            [*self.runner, str(run.spec)],
            run=run,
            data_dir=self.paths.data_dir,
            work_root=Path(spec.work_root),
            environment=view,
            needed=[Path(sys.prefix), Path(sys.base_prefix), _PACKAGE_PARENT, *interpreter_homes(view)],
            former=[Path(path) for path in spec.former],
            info_fd=info_fd,
        )
        with storage_errors(run.root):
            replace_file(run.spec, encode(spec).encode())
            return launch.write(run, parent=os.getpid())

    def _complete(self, spec: RunSpec, run: RunPaths, number: int) -> RunSpec:
        """The RunSpec with this machine's places; our own data is left out of the work tree like the environment."""
        isolated = self.isolation.bubblewrap is not None
        former = find_former(self.paths, spec.submission_id, before=number) if spec.resume else []
        return replace(
            spec,
            attempt=number,
            work_root=spec.work_root if isolated else str(run.work),
            environment_prefixes=(*spec.environment_prefixes, *([str(self.paths.data_dir)] if isolated else [])),
            base_index=str(run.base_index),
            outbox=str(run.outbox),
            former=tuple(map(str, former)),
        )


def make_run_directory(run: RunPaths) -> None:
    """An empty directory for a new Attempt.

    Raises:
        StorageFullError, StorageError: it could not be made.
    """
    remove_tree(run.root)
    ensure_private_directory(run.root.parent)
    for directory in (run.root, run.outbox, run.runtime):
        ensure_private_directory(directory)


def clean_run_directory(run: RunPaths) -> None:
    """Remove what only served the run; its log and stored outputs stay."""
    half_restored = run.root.glob(f".{run.work.name}.*")
    for directory in (run.work, run.overlays, run.runtime, *half_restored):
        remove_tree(directory)
    for path in (run.base_index, run.sandbox, run.heartbeat):
        path.unlink(missing_ok=True)


def interpreter_homes(view: EnvironmentView) -> list[Path]:
    """Installations that the virtual environments among the mounts take their interpreter from."""
    homes: list[Path] = []
    for mount in view.mounts:
        try:
            match = _PYVENV_HOME.search((mount.source / "pyvenv.cfg").read_text(encoding="utf-8", errors="replace"))
        except OSError:
            continue
        if match:
            homes.append(Path(os.path.realpath(match[1])).parent)
    return homes


def _check_wanted(is_wanted: Callable[[], bool]) -> None:
    if not is_wanted():
        raise AbandonedError
