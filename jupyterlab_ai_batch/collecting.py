"""Bring an OutputSet home: once at a time per Submission, whatever number of servers and commands look at it."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from .errors import BatchError, OutputError, OutputMissingError, SubmissionStateError
from .explain import explain_collect_failed, explain_collected
from .ledger import Ledger
from .models import Explanation, MergeReport, OutputsSummary, Submission
from .oci.port import BlobStore
from .oci.storage import ensure_private_directory, storage_errors
from .oci.work_index import read_work_index
from .outputs.merge import merge_outputs
from .queues.port import QueueBackend, StoredOutputs
from .words import OutputsState, SubmissionState

LOCK_WAIT_S = 60.0
_LOCKS = 256

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How the run ended, as its backend says it: what stays when the files are home."""

    state: SubmissionState
    explanation: Explanation | None = None


class Collector:
    """Merges OutputSets into the home, under a lock file of the Submission's own."""

    def __init__(
        self,
        *,
        backend: QueueBackend,
        ledger: Ledger,
        open_store: Callable[[], AbstractContextManager[BlobStore]],
        open_layout: Callable[[Path], BlobStore],
        data_dir: Path,
        clock: Callable[[], datetime],
    ) -> None:
        self._backend = backend
        self._ledger = ledger
        self._open_store = open_store
        self._open_layout = open_layout
        self._locks = data_dir / "collect"
        self._clock = clock

    async def collect(
        self, submission: Submission, *, dry_run: bool, replace_notebook: bool | None, root_dir: Path
    ) -> MergeReport:
        """Merge on demand, waiting for whoever merges it now.

        Raises:
            OutputMissingError: nothing is stored.
            SubmissionStateError: somebody else merges it for longer than a minute.
            OutputError, StorageError, SnapshotCorruptError: some files could not be installed; run it again later.
        """
        merge = _Merge(replace_notebook=replace_notebook, dry_run=dry_run, root_dir=root_dir)
        report = await self._collect(submission, merge, wait_s=LOCK_WAIT_S)
        if report is None:
            raise SubmissionStateError("Its files are coming home right now.", hint="Wait a moment.")
        return report

    async def collect_automatically(self, submission: Submission, *, root_dir: Path) -> bool:
        """Merge unless somebody else does or did; False when that is so. A failure is written down, not raised.

        Raises:
            QueueError: the backend does not answer; ask again later.
        """
        merge = _Merge(replace_notebook=None, dry_run=False, root_dir=root_dir, again=False)
        return await self._collect(submission, merge, wait_s=0.0, record_failure_only=True) is not None

    async def _collect(
        self, submission: Submission, merge: _Merge, *, wait_s: float, record_failure_only: bool = False
    ) -> MergeReport | None:
        ending, stored = await self._ask(submission)
        try:
            report = await asyncio.to_thread(self._merge_locked, submission, stored, ending, merge, wait_s)
        except BatchError as exc:
            await self._record_failure(submission, exc, ending, dry_run=merge.dry_run)
            if not record_failure_only:
                raise
            return None
        except Exception as exc:
            _log.exception("collecting %s failed", submission.id)
            error = OutputError(
                f"The files could not be installed ({type(exc).__name__}).", hint="See the server's log."
            )
            await self._record_failure(submission, error, ending, dry_run=merge.dry_run)
            if not record_failure_only:
                raise error from exc
            return None
        if report is not None and not merge.dry_run:
            await self._backend.release(submission.id)
        return report

    async def _ask(self, submission: Submission) -> tuple[Ending, StoredOutputs | None]:
        observed = (await self._backend.observe([submission.id])).get(submission.id)
        if observed is None:
            ending = Ending(state=submission.state, explanation=submission.explanation)
            return ending, None
        state = submission.state if submission.state.is_terminal else observed.state
        ending = Ending(state=state, explanation=observed.explanation)
        return ending, await self._backend.latest_outputs(submission.id)

    def _merge_locked(
        self, submission: Submission, stored: StoredOutputs | None, ending: Ending, merge: _Merge, wait_s: float
    ) -> MergeReport | None:
        with self._lock(submission.id, wait_s) as held:
            if not held or (not merge.again and _is_home(self._ledger.get(submission.id))):
                return None
            if stored is None:
                raise OutputMissingError("There are no files of this Submission to bring home.")
            report = self._merge(submission, stored, merge)
            if not merge.dry_run:
                self._ledger.update(submission.id, self._collected(stored, report, ending, merge), durable=True)
            return report

    def _merge(self, submission: Submission, stored: StoredOutputs, merge: _Merge) -> MergeReport:
        from .snapshot.restore import read_base_index

        if submission.snapshot is None:
            raise OutputMissingError("It is not known what this Submission started from.")
        home = Path(submission.snapshot.work_root)
        if not home.is_dir():
            raise OutputError(
                f"The folder {home} is no longer there.",
                hint=f"Make it again, or use 'jupyter ai-batch outputs {submission.short_id} --to DIR'.",
                details={"path": str(home)},
            )
        with self._open_store() as store:
            index = read_work_index(read_base_index(store, submission.snapshot.digest))
        wanted = submission.replace_notebook if merge.replace_notebook is None else merge.replace_notebook
        return merge_outputs(
            stored.output_set,
            self._opener(stored),
            {entry.path: entry.sha256 for entry in index if entry.type != "dir"},
            home,
            submission_short_id=submission.short_id,
            replace_notebook=wanted,
            dry_run=merge.dry_run,
            clock=self._clock,
        )

    def _opener(self, stored: StoredOutputs) -> Callable[[str], BinaryIO]:
        layout = self._open_layout(stored.layout)
        return lambda sha256: layout.open_blob(f"sha256:{sha256}")

    def fetch(self, submission: Submission, stored: StoredOutputs, directory: Path, *, dry_run: bool) -> MergeReport:
        """Copy an OutputSet into a directory of the user's choice: a merge that knows no base overwrites nothing."""
        with storage_errors(directory):
            directory.mkdir(parents=True, exist_ok=True)
        return merge_outputs(
            stored.output_set,
            self._opener(stored),
            {},
            directory,
            submission_short_id=submission.short_id,
            replace_notebook=False,
            dry_run=dry_run,
            clock=self._clock,
        )

    def _collected(
        self, stored: StoredOutputs, report: MergeReport, ending: Ending, merge: _Merge
    ) -> Callable[[Submission], Submission]:
        output_set = stored.output_set

        def collected(submission: Submission) -> Submission:
            now = self._clock()
            return replace(
                submission,
                state=ending.state,
                observed_at=now,
                stale=False,
                explanation=explain_collected(report, state=ending.state, ended=ending.explanation, since=now),
                outputs=OutputsSummary(
                    state=OutputsState.COLLECTED,
                    files=len(output_set.files),
                    bytes=sum(file.size_bytes for file in output_set.files),
                    conflicts=report.conflicts,
                ),
                executed_notebook=_api_path(submission, report, merge.root_dir),
            )

        return collected

    async def _record_failure(
        self, submission: Submission, error: BatchError, ending: Ending, *, dry_run: bool
    ) -> None:
        if dry_run:
            return

        def failed(before: Submission) -> Submission:
            if _is_home(before):
                return before
            now = self._clock()
            outputs = before.outputs and replace(before.outputs, state=OutputsState.AVAILABLE)
            explanation = explain_collect_failed(error, ended=ending.explanation, since=now)
            return replace(before, state=ending.state, observed_at=now, outputs=outputs, explanation=explanation)

        await asyncio.to_thread(self._ledger.update, submission.id, failed)

    @contextmanager
    def _lock(self, submission_id: str, wait_s: float) -> Iterator[bool]:
        ensure_private_directory(self._locks)
        number = int.from_bytes(submission_id[:4].encode(), "big") % _LOCKS
        with storage_errors(self._locks):
            fd = os.open(self._locks / f"{number:02x}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield _try_lock(fd, wait_s)
        finally:
            os.close(fd)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Merge:
    """What is asked for; ``again`` False leaves files that are home already."""

    replace_notebook: bool | None
    dry_run: bool
    root_dir: Path
    again: bool = True


def _try_lock(fd: int, wait_s: float) -> bool:
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # noqa: PERF203
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.05)
        else:
            return True


def _is_home(submission: Submission) -> bool:
    return submission.outputs is not None and submission.outputs.state is OutputsState.COLLECTED


def _api_path(submission: Submission, report: MergeReport, root_dir: Path) -> str | None:
    """Where the executed notebook lies, relative to the root directory of its Submission; absolute when outside."""
    if report.executed_notebook is None or submission.snapshot is None:
        return None
    path = Path(submission.snapshot.work_root) / report.executed_notebook
    for root in (root_dir, root_dir.resolve()):
        if path.is_relative_to(root):
            return path.relative_to(root).as_posix()
    return path.as_posix()
