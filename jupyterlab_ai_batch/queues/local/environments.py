"""Restored environments, shared by Attempts whose Snapshots hold the same one."""

from __future__ import annotations

import os
import re
import threading
import uuid
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ...capture_models import EnvironmentView
from ...errors import SnapshotCorruptError
from ...oci.storage import remove_tree, replace_file, storage_errors
from .restorer import Restorer

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})\Z")
_COMPLETE = "complete"


@dataclass(frozen=True, slots=True)
class Lease:
    """An environment in use: it is not removed before it is given back."""

    directory: Path
    view: EnvironmentView


class EnvironmentCache:
    """Directories ``<digest>.<unique>/``, each with ``tree/`` and, written last, ``complete``.

    Before every use the restorer mends what has changed meanwhile. A view that shows live directories holds only as
    long as they stay the same: it is made anew every time.
    """

    def __init__(self, root: Path, restorer: Restorer) -> None:
        self._root = root
        self._restorer = restorer
        self._lock = threading.Lock()
        self._users: Counter[Path] = Counter()

    def acquire(self, snapshot_digest: str) -> Lease:
        """The environment of a Snapshot, ready to be mounted.

        Raises:
            SnapshotCorruptError, StorageFullError, StorageError: nothing was kept.
        """
        digest = self._restorer.environment_digest(snapshot_digest)
        match = _DIGEST.match(digest)
        if match is None:
            raise SnapshotCorruptError("The snapshot's environment has no digest.", details={"digest": digest[:80]})
        with self._lock:
            lease = self._find(match[1], snapshot_digest) or self._make(match[1], snapshot_digest)
            self._users[lease.directory] += 1
        return lease

    def give_back(self, lease: Lease) -> None:
        with self._lock:
            self._users[lease.directory] -= 1
            if self._users[lease.directory] <= 0 and not (lease.directory / _COMPLETE).exists():
                remove_tree(lease.directory)

    def prune(self, keep: int) -> None:
        """Remove what is not in use, but for the ``keep`` most recently used."""
        with self._lock, os.scandir(self._root) as entries:
            unused = [Path(entry.path) for entry in entries if self._users[Path(entry.path)] <= 0]
            unused.sort(key=_last_use, reverse=True)
            for directory in unused[keep:] + [path for path in unused[:keep] if not (path / _COMPLETE).exists()]:
                remove_tree(directory)

    def _find(self, name: str, snapshot_digest: str) -> Lease | None:
        for directory in self._root.glob(f"{name}.*"):
            if not (directory / _COMPLETE).exists():
                continue
            view = self._restorer.materialise_environment(snapshot_digest, directory / "tree")
            os.utime(directory / _COMPLETE)
            return Lease(directory, view)
        return None

    def _complete(self) -> list[Path]:
        """Environments that can be used, the last used first."""
        complete = [directory for directory in self._root.iterdir() if (directory / _COMPLETE).exists()]
        return sorted(complete, key=_last_use, reverse=True)

    def _make(self, name: str, snapshot_digest: str) -> Lease:
        directory = self._root / f"{name}.{uuid.uuid4().hex[:8]}"
        try:
            with storage_errors(directory):
                directory.mkdir(mode=0o700)
                (directory / "tree").mkdir(mode=0o700)
            earlier = [other / "tree" for other in self._complete()]
            view = self._restorer.materialise_environment(snapshot_digest, directory / "tree", earlier=earlier)
            if not any(mount.live for mount in view.mounts):
                with storage_errors(directory):
                    replace_file(directory / _COMPLETE, b"")
        except BaseException:
            remove_tree(directory)
            raise
        return Lease(directory, view)


def _last_use(directory: Path) -> float:
    with suppress(OSError):
        return (directory / _COMPLETE).stat().st_mtime
    return 0.0
