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

from ... import wire
from ...errors import SnapshotCorruptError
from ...models import EnvironmentView
from ...oci.storage import replace_file, storage_errors
from .paths import remove_tree
from .restorer import Restorer

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})\Z")
_VIEW = "view.json"


@dataclass(frozen=True, slots=True)
class Lease:
    """An environment in use: it is not removed before it is given back."""

    directory: Path
    view: EnvironmentView


class EnvironmentCache:
    """Directories ``<digest>.<unique>/``, each with ``tree/`` and, written last, ``view.json``.

    A view that shows live directories holds only as long as they stay the same, so it is made anew every time.
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
            lease = self._find(match[1]) or self._make(match[1], snapshot_digest)
            self._users[lease.directory] += 1
        return lease

    def give_back(self, lease: Lease) -> None:
        with self._lock:
            self._users[lease.directory] -= 1
            if self._users[lease.directory] <= 0 and not (lease.directory / _VIEW).exists():
                remove_tree(lease.directory)

    def prune(self, keep: int) -> None:
        """Remove what is not in use, but for the ``keep`` most recently used."""
        with self._lock, os.scandir(self._root) as entries:
            unused = [Path(entry.path) for entry in entries if self._users[Path(entry.path)] <= 0]
            unused.sort(key=_last_use, reverse=True)
            for directory in unused[keep:] + [path for path in unused[:keep] if not (path / _VIEW).exists()]:
                remove_tree(directory)

    def _find(self, name: str) -> Lease | None:
        for directory in self._root.glob(f"{name}.*"):
            try:
                view = wire.loads(EnvironmentView, (directory / _VIEW).read_bytes())
            except (OSError, wire.WireError):
                continue
            if all(mount.source.exists() for mount in view.mounts):
                os.utime(directory / _VIEW)
                return Lease(directory, view)
        return None

    def _make(self, name: str, snapshot_digest: str) -> Lease:
        directory = self._root / f"{name}.{uuid.uuid4().hex[:8]}"
        try:
            with storage_errors(directory):
                directory.mkdir(mode=0o700)
                (directory / "tree").mkdir(mode=0o700)
            view = self._restorer.materialise_environment(snapshot_digest, directory / "tree")
            if not any(mount.live for mount in view.mounts):
                with storage_errors(directory):
                    replace_file(directory / _VIEW, wire.dumps(view).encode())
        except BaseException:
            remove_tree(directory)
            raise
        return Lease(directory, view)


def _last_use(directory: Path) -> float:
    with suppress(OSError):
        return (directory / _VIEW).stat().st_mtime
    return 0.0
