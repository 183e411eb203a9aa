"""Keeps the outbox up to date: an OutputSet of what the run has produced so far, and of all of it at the end."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from ..models import OutputFile, OutputSet, RunSpec
from ..oci.layout import ImageLayout
from ..oci.outputset import CHANGED_MEANWHILE, store_output_set
from ..oci.storage import replace_file, storage_errors
from ..oci.work_index import WorkIndexEntry, read_work_index
from ..outputs.changes import BEING_WRITTEN, WorkTree
from ..words import FileChange

EXECUTED_NOTEBOOK = "executed.ipynb"
SUPERSEDED_GRACE_S = 120.0
FINAL_TRIES = 5
RETRY_S = 0.5

_PASSING = frozenset({BEING_WRITTEN, CHANGED_MEANWHILE})


class Outbox:
    """The image layout that receives the OutputSets of one Attempt. Blocking: called from threads.

    Raises (every method): StorageError, StorageFullError.
    """

    def __init__(self, spec: RunSpec, *, clock: Callable[[], datetime], started_ns: int) -> None:
        self._spec = spec
        self._clock = clock
        self._path = Path(spec.outbox)
        self._store = ImageLayout(self._path)
        self._started_ns = started_ns
        self._base: dict[str, WorkIndexEntry] = {}
        self._tree: WorkTree | None = None

    def open(self) -> None:
        """Read the Snapshot's index of the work tree; before anything is stored.

        Raises:
            SnapshotCorruptError: it is damaged.
        """
        self._base = _read_base(self._spec.base_index)
        self._tree = WorkTree(
            Path(self._spec.work_root), self._base, started_ns=self._started_ns, left_out=_left_out(self._spec)
        )

    def save_notebook(self, content: bytes) -> None:
        """Replace the executed notebook beside the blobs: what a run that is killed outright leaves at least."""
        with storage_errors(self._path):
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(self._path / EXECUTED_NOTEBOOK, content)

    def store(self, notebook: bytes) -> OutputSet:
        """Store what there is now; files that are being written are left for the next time."""
        stored = self._store_once(notebook, complete=False)
        self._store.collect_garbage(grace_s=SUPERSEDED_GRACE_S)
        return stored

    def store_final(self, notebook: bytes, *, complete: bool) -> OutputSet:
        """Store the result of a run whose processes have ended; tries again while files still move."""
        for _ in range(FINAL_TRIES - 1):
            stored = self._store_once(notebook, complete=complete)
            if not any(reason in _PASSING for _, reason in stored.skipped):
                return stored
            time.sleep(RETRY_S)
        return self._store_once(notebook, complete=complete)

    def _store_once(self, notebook: bytes, *, complete: bool) -> OutputSet:
        tree = self._tree
        if tree is None:
            raise RuntimeError("the outbox is not open")
        changes = tree.find_changes()
        executed = self._executed(notebook)

        def open_file(file: OutputFile) -> BinaryIO:
            return io.BytesIO(notebook) if file.path == executed.path else tree.open_file(file)

        output_set = OutputSet(
            submission_id=self._spec.submission_id,
            attempt=self._spec.attempt,
            complete=complete,
            stored_at=self._clock(),
            executed_notebook=self._spec.notebook,
            files=tuple(sorted((executed, *changes.files), key=lambda file: file.path)),
            skipped=changes.skipped,
        )
        return store_output_set(self._store, output_set, open_file)[0]

    def _executed(self, notebook: bytes) -> OutputFile:
        base = self._base.get(self._spec.notebook)
        file = OutputFile(
            path=self._spec.notebook,
            change=FileChange.NEW,
            size_bytes=len(notebook),
            sha256=hashlib.sha256(notebook).hexdigest(),
            mtime_ns=time.time_ns(),
        )
        if base is None:
            return file
        return replace(file, change=FileChange.CHANGED, base_sha256=base.sha256, mode=base.mode)


def _read_base(base_index: str) -> dict[str, WorkIndexEntry]:
    if not base_index:
        return {}
    with storage_errors(Path(base_index)):
        content = Path(base_index).read_bytes()
    return {entry.path: entry for entry in read_work_index(content)}


def _left_out(spec: RunSpec) -> list[str]:
    """Relative paths in the work tree that are not the job's: the notebook, the environment, our own directory."""
    own = [str(Path(spec.outbox).parent)] if spec.outbox else []
    root = Path(spec.work_root)
    inside = [Path(path) for path in (*spec.environment_prefixes, *own) if Path(path).is_relative_to(root)]
    return [spec.notebook, *(str(path.relative_to(root)) for path in inside if path != root)]
