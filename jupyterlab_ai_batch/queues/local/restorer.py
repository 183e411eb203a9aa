"""The port through which the worker gets a Snapshot's files back; ``cli`` composes it from ``snapshot.restore``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from ...capture_models import EnvironmentView


class Restorer(Protocol):
    """Reads Snapshots from the store. Synchronous, called from several threads at once.

    Raises (every method): SnapshotCorruptError, StorageFullError, StorageError.
    """

    def restore_work(self, digest: str, target: Path) -> None:
        """Fill the empty directory ``target`` with the content of the work root."""
        ...

    def environment_digest(self, digest: str) -> str:
        """Name the environment's content: equal for Snapshots whose environment is the same."""
        ...

    def materialise_environment(self, digest: str, target: Path, *, earlier: Sequence[Path] = ()) -> EnvironmentView:
        """Make the environment ready in the directory ``target``: empty, or made by an earlier call.

        In the latter case only what has changed since is mended. ``earlier`` are targets of other calls, whose files
        may be linked.
        """
        ...

    def read_base_index(self, digest: str) -> bytes:
        """The gzipped index of the captured work tree."""
        ...
