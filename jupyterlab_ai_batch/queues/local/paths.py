"""Where the local queue keeps its files, and how they are made, written and removed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...oci.storage import ensure_private_directory


@dataclass(frozen=True, slots=True)
class QueuePaths:
    """The layout of ``<data directory>/queue``."""

    data_dir: Path

    @property
    def root(self) -> Path:
        return self.data_dir / "queue"

    @property
    def database(self) -> Path:
        return self.root / "queue.db"

    @property
    def worker_lock(self) -> Path:
        return self.root / "worker.lock"

    @property
    def worker_log(self) -> Path:
        return self.root / "worker.log"

    @property
    def worker_settings(self) -> Path:
        return self.root / "worker.json"

    @property
    def environments(self) -> Path:
        return self.root / "environments"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    def run(self, submission_id: str, attempt: int) -> RunPaths:
        return RunPaths(self.runs / submission_id / str(attempt))

    def prepare(self) -> None:
        """Create the directories.

        Raises:
            StoragePermissionError: one of them belongs to somebody else.
            StorageError, StorageFullError: one of them cannot be created.
        """
        for directory in (self.data_dir, self.root, self.environments, self.runs):
            ensure_private_directory(directory)


@dataclass(frozen=True, slots=True)
class RunPaths:
    """The directory of one Attempt."""

    root: Path

    @property
    def work(self) -> Path:
        return self.root / "work"

    @property
    def overlays(self) -> Path:
        return self.root / "overlays"

    @property
    def runtime(self) -> Path:
        return self.root / "runtime"

    @property
    def outbox(self) -> Path:
        return self.root / "outbox"

    @property
    def spec(self) -> Path:
        return self.root / "run.json"

    @property
    def base_index(self) -> Path:
        return self.root / "base-index.gz"

    @property
    def sandbox(self) -> Path:
        return self.root / "sandbox.json"

    @property
    def heartbeat(self) -> Path:
        return self.root / "heartbeat"

    @property
    def log(self) -> Path:
        return self.root / "log.txt"
