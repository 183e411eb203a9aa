"""What the run has produced so far, as an OutputSet: now and then while it runs, and all of it at the end."""

from __future__ import annotations

import hashlib
import io
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from ..errors import BlobMissingError
from ..models import OutputFile, OutputSet, RunSpec
from ..oci.outputset import CHANGED_MEANWHILE, OpenFile
from ..oci.storage import replace_file, storage_errors
from ..oci.work_index import WorkIndexEntry, read_work_index
from ..outputs.changes import BEING_WRITTEN, WorkTree
from ..words import FileChange
from .attempt_log import AttemptLog, LogPart
from .destination import Destination
from .resuming import Former, Resumed, Say, resume
from .usage import UsageMeter

EXECUTED_NOTEBOOK = "executed.ipynb"
LOG_FILE = "log.txt"
FINAL_TRIES = 5
RETRY_S = 0.5
SMALL_LOG_BYTES = 256 * 1024
LOG_GROWTH = 1.25

_PASSING = frozenset({BEING_WRITTEN, CHANGED_MEANWHILE})


class Outbox:
    """The OutputSets of one Attempt. Blocking: called from threads.

    Args:
        log: Stored with each OutputSet; None: the log is kept by whoever started the runner.
        meter: Says what was used so far; None: nobody looks.

    Raises (every method): StorageError, StorageFullError, SnapshotCorruptError.
    """

    def __init__(
        self,
        spec: RunSpec,
        destination: Destination,
        *,
        log: AttemptLog | None = None,
        meter: UsageMeter | None = None,
        clock: Callable[[], datetime],
        started_ns: int,
    ) -> None:
        self._spec = spec
        self._destination = destination
        self._log = log
        self._meter = meter
        self._clock = clock
        self._path = Path(spec.outbox)
        self._started_ns = started_ns
        self._base: dict[str, WorkIndexEntry] = {}
        self._tree: WorkTree | None = None
        self._scanning = threading.Lock()
        self._last: OutputSet | None = None
        self._resumed: Resumed | None = None

    @property
    def is_remote(self) -> bool:
        """Whether storing means to send."""
        return self._destination.is_remote

    @property
    def last_stored_at(self) -> datetime | None:
        """Of which time the last OutputSet is."""
        return None if self._last is None else self._last.stored_at

    def open(self) -> None:
        """Read the Snapshot's index of the work tree; before anything is stored.

        Raises:
            SnapshotCorruptError: it is damaged.
        """
        self._base = _read_base(self._spec.base_index)
        self._tree = WorkTree(
            Path(self._spec.work_root), self._base, started_ns=self._started_ns, left_out=_left_out(self._spec)
        )

    def claim(self) -> None:
        """Make sure early that something can be stored."""
        self._destination.claim()

    def resume(self, say: Say) -> None:
        """Put in place what a former Attempt has stored last; before anything else than ``claim``.

        What is stored of this Attempt then begins with it: nothing of it is lost however soon this one ends.

        Raises:
            RegistryUnreachableError, RegistryDeniedError: it cannot be told what that is.
        """

        def put_in_place(former: Sequence[Former]) -> Resumed | None:
            return resume(former, self._spec, left_out=_left_out(self._spec), say=say)

        self._resumed = self._destination.with_former(put_in_place)
        if self._resumed is not None:
            self._last = replace(
                self._resumed.output_set,
                attempt=self._spec.attempt,
                pod_uid="",
                log_sha256="",
                log_bytes=0,
                usage=None,
            )

    def give_up(self) -> None:
        """End what another thread is sending."""
        self._destination.give_up()

    def save_notebook(self, content: bytes) -> None:
        """Replace the executed notebook beside the blobs: what a run that is killed outright leaves at least."""
        with storage_errors(self._path):
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(self._path / EXECUTED_NOTEBOOK, content)

    def store(self, notebook: bytes) -> OutputSet:
        """Store what there is now; a file that is being written stays as it was stored last, or is left out."""
        before = self._last
        stored = self._store_changes(notebook, complete=False, log=self._log_for_checkpoint())
        moving = {path for path, reason in stored.skipped if reason in _PASSING}
        earlier = () if before is None else tuple(file for file in before.files if file.path in moving)
        if earlier:
            moving = {file.path for file in earlier}
            files = sorted((*stored.files, *earlier), key=lambda file: file.path)
            skipped = tuple((path, reason) for path, reason in stored.skipped if path not in moving)
            stored = self._put(replace(stored, files=tuple(files), skipped=skipped), self._open_known(notebook))
        self._destination.tidy()
        return stored

    def store_final(self, notebook: bytes, *, complete: bool) -> OutputSet:
        """Store the result of a run whose processes have ended; tries again while files still move."""
        for _ in range(FINAL_TRIES - 1):
            stored = self._store_changes(notebook, complete=complete, log=self._log_so_far())
            if not any(reason in _PASSING for _, reason in stored.skipped):
                return stored
            time.sleep(RETRY_S)
        return self._store_changes(notebook, complete=complete, log=self._log_so_far())

    def store_quickly(self, notebook: bytes) -> OutputSet:
        """Store notebook and log as they are now, and every other file as it was stored last: nothing is looked for."""
        executed = self._executed(notebook)
        known = () if self._last is None else self._last.files
        files = (executed, *(file for file in known if file.path != executed.path))
        return self._put(self._output_set(files, complete=False, log=self._log_so_far()), self._open_known(notebook))

    def store_log(self) -> OutputSet | None:
        """Store the last OutputSet (one without files, where there is none) again, with the log as it is now."""
        if self._log is None:
            return None
        now = self._log_so_far()
        last = self._last or self._output_set((), complete=False, log=now)
        return self._put(replace(last, log_sha256=now.sha256, log_bytes=now.size_bytes), self._open_known(None))

    def _store_changes(self, notebook: bytes, *, complete: bool, log: LogPart) -> OutputSet:
        tree = self._tree
        if tree is None:
            raise RuntimeError("the outbox is not open")
        with self._scanning:
            changes = tree.find_changes()
        executed = self._executed(notebook)

        def open_file(file: OutputFile) -> BinaryIO:
            return io.BytesIO(notebook) if file.path == executed.path else tree.open_file(file)

        output_set = self._output_set((executed, *changes.files), complete=complete, log=log)
        return self._put(replace(output_set, skipped=changes.skipped), open_file)

    def _put(self, output_set: OutputSet, open_file: OpenFile) -> OutputSet:
        part = LogPart(sha256=output_set.log_sha256, size_bytes=output_set.log_bytes)

        def open_log_content() -> BinaryIO:
            return io.BytesIO() if self._log is None else self._log.open(part)

        self._last = self._destination.put(output_set, open_file, open_log_content)
        return self._last

    def _output_set(self, files: tuple[OutputFile, ...], *, complete: bool, log: LogPart) -> OutputSet:
        return OutputSet(
            submission_id=self._spec.submission_id,
            attempt=self._spec.attempt,
            complete=complete,
            stored_at=self._clock(),
            executed_notebook=self._spec.notebook,
            files=tuple(sorted(files, key=lambda file: file.path)),
            log_sha256=log.sha256,
            log_bytes=log.size_bytes,
            usage=None if self._meter is None else self._meter.usage,
        )

    def _open_known(self, notebook: bytes | None) -> OpenFile:
        def open_file(file: OutputFile) -> BinaryIO:
            if notebook is not None and file.path == self._spec.notebook:
                return io.BytesIO(notebook)
            if self._resumed is not None:
                return self._resumed.open_file(file)
            raise BlobMissingError.of([f"sha256:{file.sha256}"])

        return open_file

    def _log_so_far(self) -> LogPart:
        return LogPart() if self._log is None else self._log.part()

    def _log_for_checkpoint(self) -> LogPart:
        """A long log is sent again only when it has grown by a quarter: each time is a whole blob."""
        now = self._log_so_far()
        last = self._last
        if last is None or now.size_bytes <= SMALL_LOG_BYTES or now.size_bytes >= last.log_bytes * LOG_GROWTH:
            return now
        return LogPart(sha256=last.log_sha256, size_bytes=last.log_bytes)

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
