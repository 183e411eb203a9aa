"""The whole story of a Submission in one place: submit, cancel, list, observe, collect."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from .capture_models import SnapshotPlan
from .capturing import CaptureDirectory, CaptureOrder, fail_capture
from .collecting import Collector
from .errors import (
    BatchError,
    InvalidSubmissionError,
    OutputMissingError,
    SnapshotError,
    SubmissionNotFoundError,
    SubmissionStateError,
)
from .explain import explain_cancelling, explain_capture
from .ledger import Ledger, SubmissionPage
from .models import (
    LogChunk,
    MergeReport,
    OutputFile,
    OutputSet,
    PreflightCheck,
    Profile,
    QueueReading,
    Submission,
    SubmissionRequest,
)
from .observing import mark_unwritten
from .oci.port import BlobStore
from .planning import plan_in_child
from .queues.port import QueueBackend, StoredOutputs
from .rightsize import hint_for
from .tasks import end_tasks
from .validation import CheckedNotebook, NotebookParameters, check_notebook, check_request
from .watching import Watcher, capture_cancelled
from .wire import dumps, format_time, from_json, loads
from .words import FileChange, SubmissionState

MAX_KEY_CHARS = 200
PLANS_AT_ONCE = 2
_REBUILT = "rebuilt_at"

MAX_RECENT = 50  # finished Submissions that hints are made of
CollectableStates = frozenset(
    {SubmissionState.COLLECTING, SubmissionState.SUCCEEDED, SubmissionState.FAILED, SubmissionState.CANCELLED}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceConfig:
    """What the service needs to know.

    Attributes:
        root_dir: Absolute; notebook paths are relative to it.
        data_dir: Absolute; the store, the ledger and the queue live there (0700).
        snapshot_limit_bytes: Uncompressed size that a work tree may have.
        exclude: Ignore patterns (gitignore syntax) for every Submission.
        never: Directories that are never captured, besides ``data_dir``.
        auto_collect: Bring files home as soon as a run ends.
        checkpoint_interval_s: Seconds between two stored OutputSets while running.
        plan_timeout_s: Seconds that a plan may take.
        child_command: How this package is started as a program.
        composition: What a capture child needs to build the same backend; opaque here.
    """

    root_dir: Path
    data_dir: Path
    snapshot_limit_bytes: int = 2 * 1024**3
    exclude: tuple[str, ...] = ()
    never: tuple[Path, ...] = ()
    auto_collect: bool = True
    checkpoint_interval_s: float = 30.0
    plan_timeout_s: float = 120.0
    child_command: tuple[str, ...] = (sys.executable, "-m", "jupyterlab_ai_batch")
    composition: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Origin:
    """What the ledger keeps of a request, so that it can be made again from anywhere."""

    root_dir: Path
    request: SubmissionRequest


class SubmissionService:
    """Submissions of one user. Coroutines that never block the event loop; construct it with ``compose``."""

    def __init__(
        self,
        *,
        backend: QueueBackend,
        ledger: Ledger,
        open_store: Callable[[], AbstractContextManager[BlobStore]],
        open_layout: Callable[[Path], BlobStore],
        config: ServiceConfig,
        clock: Callable[[], datetime],
        on_change: Callable[[Submission], None] = lambda _: None,
    ) -> None:
        self._backend = backend
        self._ledger = ledger
        self._open_layout = open_layout
        self._config = config
        self._clock = clock
        self._collector = Collector(
            backend=backend,
            ledger=ledger,
            open_store=open_store,
            open_layout=open_layout,
            data_dir=config.data_dir,
            clock=clock,
        )
        self._watcher = Watcher(
            backend=backend,
            ledger=ledger,
            collector=self._collector,
            data_dir=config.data_dir,
            auto_collect=config.auto_collect,
            root_dir_of=lambda submission_id: self._origin(submission_id).root_dir,
            clock=clock,
            on_change=on_change,
        )
        self._watch: asyncio.Task[None] | None = None
        self._plans = asyncio.Semaphore(PLANS_AT_ONCE)

    async def start(self) -> None:
        """Rebuild the ledger when it was lost, settle what happened while nobody looked, and watch."""
        await self.rebuild()
        if self._watch is None:
            self._watch = asyncio.create_task(self._watcher.run())

    async def stop(self) -> None:
        """Let go of everything but the Submissions."""
        if self._watch is not None:
            await end_tasks(self._watch)
            self._watch = None
        await self._backend.close()
        await asyncio.to_thread(self._ledger.close)

    async def rebuild(self) -> None:
        """Fill a new ledger with what the backend still knows; a silent backend is asked again at the next start."""
        if await asyncio.to_thread(self._ledger.fact, _REBUILT) is not None:
            return
        try:
            entries = await self._backend.list_entries()
        except BatchError:
            return

        def fill() -> None:
            for entry in entries:
                self._ledger.create(entry.submission)
            self._ledger.set_fact(_REBUILT, format_time(self._clock()))

        await asyncio.to_thread(fill)

    # --- submitting -----------------------------------------------------------------------------------------------

    async def submit(
        self, request: SubmissionRequest, *, idempotency_key: str | None = None
    ) -> tuple[Submission, bool]:
        """Check, write down, start the capture; (the Submission, whether it is new).

        Raises:
            InvalidSubmissionError and its kinds, IdempotencyConflictError, QueueError, StorageError
        """
        origin = _Origin(root_dir=self._config.root_dir, request=request)
        return await self._submit(origin, idempotency_key)

    async def resubmit(self, submission_id: str) -> Submission:
        """The same request again, with the files and the environment of now.

        Raises:
            SubmissionNotFoundError, and what ``submit`` raises.
        """
        submission = await asyncio.to_thread(self._ledger.get, submission_id)
        origin = await asyncio.to_thread(self._origin, submission_id)
        request = replace(origin.request, title=submission.title)
        return (await self._submit(replace(origin, request=request), None))[0]

    async def _submit(self, origin: _Origin, key: str | None) -> tuple[Submission, bool]:
        body_hash = hashlib.sha256(dumps(origin).encode()).hexdigest()
        if key is not None:
            _check_key(key)
            known = await asyncio.to_thread(self._ledger.replayed, key, body_hash)
            if known is not None:
                return known, False
        notebook, request = await self._check(origin)
        submission = self._new_submission(request)
        order = await self._order(submission.id, origin.root_dir, notebook, request)
        kept, created = await asyncio.to_thread(self._write_down, submission, order, dumps(origin), key, body_hash)
        self._watcher.kick()
        return kept, created

    async def _check(self, origin: _Origin) -> tuple[CheckedNotebook, SubmissionRequest]:
        path = origin.request.notebook_path
        if path is None:
            raise InvalidSubmissionError("Say which notebook to submit.", details={"field": "notebook_path"})
        notebook = await asyncio.to_thread(check_notebook, origin.root_dir, path)
        profiles, queues = await asyncio.gather(self._backend.list_profiles(), self._backend.list_queues())
        checked = check_request(origin.request, notebook, profiles=profiles, queues=queues, backend=self._backend.name)
        return notebook, checked

    def _new_submission(self, request: SubmissionRequest) -> Submission:
        now = self._clock()
        return Submission(
            id=uuid.uuid4().hex,
            state=SubmissionState.CAPTURING,
            title=str(request.title),
            notebook_path=str(request.notebook_path),
            backend=self._backend.name,
            target=str(request.target),
            profile=str(request.profile),
            queue=str(request.queue),
            created_at=now,
            observed_at=now,
            priority=request.priority,
            parameters=request.parameters,
            max_duration_s=request.max_duration_s,
            replace_notebook=request.replace_notebook,
            resume=bool(request.resume),
            explanation=explain_capture(None, since=now, now=now),
        )

    async def _order(
        self, submission_id: str, root_dir: Path, notebook: CheckedNotebook, request: SubmissionRequest
    ) -> CaptureOrder:
        config = self._config
        return CaptureOrder(
            submission_id=submission_id,
            data_dir=config.data_dir,
            root_dir=root_dir,
            notebook=notebook.path,
            kernel_name=notebook.kernel_name,
            request=request,
            limit_bytes=config.snapshot_limit_bytes,
            exclude=(*config.exclude, *request.exclude),
            never=config.never,
            checkpoint_interval_s=config.checkpoint_interval_s,
            base=await self._backend.base(),
            composition=config.composition,
        )

    def _write_down(
        self, submission: Submission, order: CaptureOrder, origin: str, key: str | None, body_hash: str
    ) -> tuple[Submission, bool]:
        """Lock first, ledger second, child third: whoever sees the row can tell whether its capture lives."""
        directory = CaptureDirectory(order.data_dir, submission.id)
        lock_fd = directory.prepare(order)
        try:
            kept, created = self._ledger.create(submission, request=origin, key=key, body_hash=body_hash)
            if created:
                self._start_child(directory, lock_fd)
        except BaseException:
            directory.remove()
            raise
        finally:
            os.close(lock_fd)
        if not created:
            directory.remove()
        return kept, created

    def _start_child(self, directory: CaptureDirectory, lock_fd: int) -> None:
        try:
            directory.start(self._config.child_command, self._config.data_dir, lock_fd)
        except OSError as exc:
            error = SnapshotError(f"The capture could not be started: {exc.strerror}.", hint="Try again in a moment.")
            fail_capture(directory.submission_id, error, ledger=self._ledger, clock=self._clock)
            raise error from exc

    def _origin(self, submission_id: str) -> _Origin:
        text = self._ledger.request_of(submission_id)
        if text is not None:
            return loads(_Origin, text)
        submission = self._ledger.get(submission_id)
        request = SubmissionRequest(
            notebook_path=submission.notebook_path,
            profile=submission.profile,
            queue=submission.queue,
            parameters=submission.parameters,
            title=submission.title,
            max_duration_s=submission.max_duration_s,
            target=submission.target,
            priority=submission.priority,
            replace_notebook=submission.replace_notebook,
            resume=submission.resume,
        )
        return _Origin(root_dir=self._config.root_dir, request=request)

    # --- one Submission -------------------------------------------------------------------------------------------

    async def get(self, submission_id: str) -> Submission:
        """The last that is known; read anew where nothing watches.

        Raises:
            SubmissionNotFoundError, StorageError
        """
        submission = await asyncio.to_thread(self._ledger.get, submission_id)
        self._watcher.look()
        if self._watch is not None or submission.state.is_terminal:
            return self._as_known(submission)
        await self._watcher.tick(collect=False)
        return await asyncio.to_thread(self._ledger.get, submission_id)

    @property
    def trouble(self) -> BatchError | None:
        """Why the ledger cannot be brought up to date at present; None when it can."""
        return self._watcher.trouble

    def _as_known(self, submission: Submission) -> Submission:
        if self.trouble is None:
            return submission
        return mark_unwritten(submission, self.trouble, now=self._clock())

    async def find(self, prefix: str) -> str:
        """The id that an abbreviation of at least 4 characters stands for.

        Raises:
            SubmissionNotFoundError: none, or more than one.
        """
        return await asyncio.to_thread(self._ledger.find, prefix)

    async def cancel(self, submission_id: str) -> Submission:
        """Ask for its end; what it has produced so far is kept.

        Raises:
            SubmissionNotFoundError, QueueError
            SubmissionStateError: it has run already.
        """
        submission = await asyncio.to_thread(self._ledger.update, submission_id, self._ask_to_end, durable=True)
        if submission.state is not SubmissionState.CANCELLING:
            return submission
        await asyncio.to_thread(CaptureDirectory(self._config.data_dir, submission_id).stop)
        try:
            await self._backend.cancel(submission_id)
        except SubmissionNotFoundError:
            submission = await asyncio.to_thread(
                self._ledger.update,
                submission_id,
                lambda before: capture_cancelled(before, now=self._clock()),
                durable=True,
            )
            await asyncio.to_thread(CaptureDirectory(self._config.data_dir, submission_id).remove)
        self._watcher.kick()
        return submission

    def _ask_to_end(self, submission: Submission) -> Submission:
        if submission.state in (SubmissionState.CANCELLING, SubmissionState.CANCELLED):
            return submission
        if submission.backend != self._backend.name:
            raise SubmissionStateError(
                f"It belongs to the backend '{submission.backend}', which this server does not look after.",
                hint="Cancel it where that backend is configured; ask your admin.",
                details={"backend": submission.backend},
            )
        if submission.state.is_terminal or submission.state is SubmissionState.COLLECTING:
            raise SubmissionStateError(
                "It has already run, so there is nothing to cancel.", details={"state": submission.state.value}
            )
        now = self._clock()
        return replace(
            submission, state=SubmissionState.CANCELLING, observed_at=now, explanation=explain_cancelling(since=now)
        )

    async def list(
        self,
        *,
        states: Sequence[SubmissionState] = (),
        notebook: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> SubmissionPage:
        """A page, newest first, as text that is already JSON.

        Raises:
            InvalidSubmissionError: a limit or a cursor that is none.
        """
        if self._watch is None:
            await self._watcher.tick(collect=False)
        page = await asyncio.to_thread(self._ledger.page, states=states, notebook=notebook, limit=limit, cursor=cursor)
        if self.trouble is None:
            return page
        known = [self._as_known(from_json(Submission, item)) for item in json.loads(page.json)]
        return replace(page, json=dumps(known))

    async def read_log(
        self, submission_id: str, *, attempt: int | None = None, offset: int = 0, limit_bytes: int = 65536
    ) -> LogChunk:
        """A piece of an Attempt's log (None: the latest); empty before there is one.

        Raises:
            SubmissionNotFoundError: no such Submission or Attempt.
            InvalidSubmissionError: a negative offset, or a limit outside 1 byte .. 1 MiB.
        """
        submission = await asyncio.to_thread(self._ledger.get, submission_id)
        if offset < 0 or not 1 <= limit_bytes <= 1024**2:
            raise InvalidSubmissionError("The piece of the log is out of range.", details={"field": "offset"})
        try:
            return await self._backend.read_log(submission_id, attempt=attempt, offset=offset, limit_bytes=limit_bytes)
        except SubmissionNotFoundError:
            if attempt is not None or submission.attempts:
                raise
        ended = submission.state.is_terminal
        return LogChunk(attempt=1, text="", offset=offset, next_offset=offset, complete=ended)

    async def manifest(self, submission_id: str) -> str:
        """The Submission as YAML that ``kubectl apply`` takes.

        Raises:
            SubmissionStateError: its backend has none, or does not have it yet.
            QueueError
        """
        submission = await asyncio.to_thread(self._ledger.get, submission_id)
        manifest = None
        if submission.backend == self._backend.name:
            try:
                manifest = await self._backend.manifest(submission_id)
            except SubmissionNotFoundError as exc:
                raise SubmissionStateError(
                    "The cluster has no Job of this Submission.",
                    hint="It has one from the end of its capture until its files are long home.",
                    details={"state": submission.state.value},
                ) from exc
        if manifest is None:
            raise SubmissionStateError(
                f"This Submission runs on the backend '{submission.backend}', which has no Kubernetes manifest.",
                hint="Only Submissions to a cluster have one.",
                details={"backend": submission.backend},
            )
        return manifest

    # --- outputs --------------------------------------------------------------------------------------------------

    async def outputs(self, submission_id: str) -> OutputSet:
        """The latest OutputSet, complete or partial.

        Raises:
            OutputMissingError: none is stored.
        """
        return (await self._stored(submission_id)).output_set

    async def output_file(self, submission_id: str, path: str) -> tuple[OutputFile, BinaryIO]:
        """One file of the latest OutputSet, opened; the caller closes it.

        Raises:
            OutputMissingError: there is no such file in it, or it has no content (a link, a deletion).
        """
        stored = await self._stored(submission_id)
        found = next((file for file in stored.output_set.files if file.path == path), None)
        if found is None or found.change is FileChange.DELETED or found.link_target is not None:
            raise OutputMissingError("There is no such file among the outputs.", details={"path": path})
        layout = self._open_layout(stored.layout)
        return found, await asyncio.to_thread(layout.open_blob, f"sha256:{found.sha256}")

    async def collect(
        self, submission_id: str, *, dry_run: bool = False, replace_notebook: bool | None = None
    ) -> MergeReport:
        """Bring the files home, or say what that would do.

        Raises:
            SubmissionStateError: it still runs.
            OutputMissingError, OutputError, StorageError, QueueError
        """
        submission = await asyncio.to_thread(self._ledger.get, submission_id)
        if submission.state not in CollectableStates:
            raise SubmissionStateError(
                "It has not ended yet, so its files stay where they are.",
                hint="They come home when it ends. What is stored so far: jupyter ai-batch outputs ID --to DIR",
                details={"state": submission.state.value},
            )
        origin = await asyncio.to_thread(self._origin, submission_id)
        report = await self._collector.collect(
            submission, dry_run=dry_run, replace_notebook=replace_notebook, root_dir=origin.root_dir
        )
        self._watcher.kick()
        return report

    async def fetch(self, submission_id: str, directory: Path, *, dry_run: bool = False) -> MergeReport:
        """Copy the latest outputs, complete or partial, into a directory; what lies there is never overwritten.

        Raises:
            OutputMissingError, OutputError, StorageError, QueueError
        """
        submission = await asyncio.to_thread(self._ledger.get, submission_id)
        stored = await self._stored(submission_id)
        return await asyncio.to_thread(self._collector.fetch, submission, stored, directory, dry_run=dry_run)

    async def _stored(self, submission_id: str) -> StoredOutputs:
        submission = await asyncio.to_thread(self._ledger.get, submission_id)
        try:
            stored = await self._backend.latest_outputs(submission_id)
        except SubmissionNotFoundError:
            stored = None
        if stored is None:
            hint = None if submission.state.is_terminal else "It stores its first files a moment after it starts."
            raise OutputMissingError("There are no outputs of this Submission.", hint=hint)
        return stored

    # --- before submitting ----------------------------------------------------------------------------------------

    async def plan(self, request: SubmissionRequest) -> SnapshotPlan:
        """What a capture would hold; nothing is written but the signature cache.

        Raises:
            InvalidSubmissionError and its kinds, SnapshotError and its kinds
        """
        order = await self.capture_order(request)
        async with self._plans:
            return await plan_in_child(order, command=self._config.child_command, timeout_s=self._config.plan_timeout_s)

    async def capture_order(self, request: SubmissionRequest) -> CaptureOrder:
        """The order of a capture that belongs to no Submission.

        Raises:
            InvalidSubmissionError and its kinds
        """
        notebook = await asyncio.to_thread(check_notebook, self._config.root_dir, request.notebook_path or "")
        return await self._order("prepared", self._config.root_dir, notebook, request)

    async def describe_parameters(self, notebook_path: str) -> NotebookParameters:
        """Kernel, language and parameters of a notebook as it is saved.

        Raises:
            InvalidSubmissionError and its kinds
        """
        notebook = await asyncio.to_thread(check_notebook, self._config.root_dir, notebook_path)
        return NotebookParameters(
            kernel_name=notebook.kernel_name,
            language=notebook.language,
            parameters=notebook.tagged or (),
            resume=notebook.resume,
        )

    async def queues(self) -> Sequence[QueueReading]:
        """The LocalQueues that this user may submit to, the default first; asking is looking at what waits in them."""
        self._watcher.look()
        return await self._backend.list_queues()

    async def profiles(self, notebook: str | None = None) -> Sequence[Profile]:
        """What this user may ask for, the default first, each with a hint from the user's own runs.

        Args:
            notebook: API path: where this one has run with a profile, only its runs count.
        """
        profiles = await self._backend.list_profiles()
        return await asyncio.to_thread(self._with_hints, profiles, notebook)

    def _with_hints(self, profiles: Sequence[Profile], notebook: str | None) -> Sequence[Profile]:
        finished = self._finished(None)
        own = self._finished(notebook) if notebook is not None else ()
        hinted = []
        for profile in profiles:
            of_notebook = [run for run in own if run.profile == profile.name]
            hinted.append(replace(profile, hint=hint_for(profile, profiles, of_notebook or finished)))
        return hinted

    def _finished(self, notebook: str | None) -> Sequence[Submission]:
        states = [state for state in SubmissionState if state.is_terminal]
        page = self._ledger.page(states=states, notebook=notebook, limit=MAX_RECENT)
        return [from_json(Submission, item) for item in json.loads(page.json)]

    async def preflight(self) -> Sequence[PreflightCheck]:
        return await self._backend.preflight()


def _check_key(key: str) -> None:
    if not 1 <= len(key) <= MAX_KEY_CHARS or not key.isprintable():
        raise InvalidSubmissionError(
            f"An Idempotency-Key has 1 to {MAX_KEY_CHARS} characters.", details={"field": "Idempotency-Key"}
        )
