"""Where the Kueue backend keeps what the cluster would forget."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_SAFE_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,52}[a-z0-9])?\Z")


def is_safe_id(submission_id: str) -> bool:
    """Whether an id, which may have come from anywhere, can be part of the names of files and objects."""
    return _SAFE_ID.match(submission_id) is not None


@dataclass(frozen=True, slots=True)
class KueuePaths:
    """The layout of ``<data directory>/kueue``; ids must be safe."""

    data_dir: Path

    @property
    def root(self) -> Path:
        return self.data_dir / "kueue"

    @property
    def records(self) -> Path:
        """``<id>.json`` for what is remembered of a Submission."""
        return self.root / "submissions"

    def record(self, submission_id: str) -> Path:
        return self.records / f"{submission_id}.json"

    @property
    def all_logs(self) -> Path:
        return self.root / "logs"

    def logs(self, submission_id: str) -> Path:
        """``<pod uid>.txt`` and ``.json``; ``attempt-<n>.txt`` for one that came from the registry."""
        return self.all_logs / submission_id

    @property
    def cluster_queues(self) -> Path:
        """Which ClusterQueue each LocalQueue belonged to when it was last seen: a JSON object."""
        return self.root / "cluster-queues.json"

    @property
    def outputs(self) -> Path:
        """An OCI image layout with the latest OutputSets."""
        return self.root / "outputs"
