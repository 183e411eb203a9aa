"""LocalQueueBackend: the QueueBackend port on this machine's own queue."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from ...errors import ProfileUnknownError, QueueUnknownError, SubmissionNotFoundError
from ...models import LogChunk, Observation, PreflightCheck, Profile, QueueEntry, QueueReading
from ...words import SubmissionState
from ..log_file import read_log
from ..port import StoredOutputs
from . import explanations, sandbox
from .gpu import discover_gpus
from .observing import Situation, build_observation, count_available, default_profiles
from .outbox import read_outbox
from .paths import QueuePaths
from .preflight import run_checks
from .queue import ADMITTED_STATES, LocalQueue
from .recovery import prune, release_files
from .settings import WorkerSettings
from .spawner import WorkerSpawner, ensure_quietly
from .watching import QueueWatcher

QUEUE_NAME = "local"
T = TypeVar("T")


class LocalQueueBackend:
    """Runs Submissions on this machine, through a detached worker that it starts when there is work."""

    name = "local"

    def __init__(
        self,
        data_dir: Path,
        *,
        profiles: Sequence[Profile] = (),
        slots: int = 1,
        worker_command: Sequence[str],
        clock: Callable[[], datetime],
        settings: WorkerSettings | None = None,
        gpus: Callable[[], Sequence[str]] = discover_gpus,
    ) -> None:
        """Do no I/O.

        Without ``profiles`` there are ``cpu`` and, where NVML lists any, ``gpu``. ``worker_command`` starts a worker
        for the same data directory. ``gpus`` lists the GPU slots that exist, unless the settings do; it is called
        once, in a thread.
        """
        self._paths = QueuePaths(data_dir)
        self._profiles = tuple(profiles)
        self._settings = replace(settings or WorkerSettings(), slots=slots)
        self._clock = clock
        self._discover = gpus
        self._spawner = WorkerSpawner(self._paths, worker_command, self._settings)
        self._setup = threading.Lock()
        self._opened: LocalQueue | None = None
        self._gpu_count: int | None = None
        self._isolation: sandbox.Isolation | None = None
        self._watchers: set[QueueWatcher] = set()

    # --- The port -------------------------------------------------------------------------------------------------

    async def base(self) -> None:
        """Snapshots bring everything themselves."""

    async def submit(self, entry: QueueEntry) -> None:
        await asyncio.to_thread(self._submit, entry)

    async def cancel(self, submission_id: str) -> None:
        await asyncio.to_thread(self._cancel, submission_id)

    async def observe(
        self,
        submission_ids: Sequence[str],
        *,
        with_positions: bool = True,  # noqa: ARG002 - they are at hand
    ) -> Mapping[str, Observation]:
        return await asyncio.to_thread(self._observe, list(submission_ids))

    async def list_entries(self) -> Sequence[QueueEntry]:
        return await asyncio.to_thread(lambda: self._queue().entries())

    async def watch(self) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()

        def tell() -> None:
            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(changed.set)

        queue = await asyncio.to_thread(self._queue)
        watcher = QueueWatcher(queue, on_change=tell, ensure_worker=lambda: ensure_quietly(self._spawner))
        self._watchers.add(watcher)
        try:
            await asyncio.to_thread(watcher.start)
            yield
            while True:
                await changed.wait()
                changed.clear()
                yield
        finally:
            watcher.request_stop()
            self._watchers.discard(watcher)

    async def read_log(self, submission_id: str, *, attempt: int | None, offset: int, limit_bytes: int) -> LogChunk:
        return await asyncio.to_thread(self._read_log, submission_id, attempt, offset, limit_bytes)

    async def latest_outputs(self, submission_id: str) -> StoredOutputs | None:
        return await asyncio.to_thread(self._latest_outputs, submission_id)

    async def manifest(self, submission_id: str) -> None:
        """Nothing runs on Kubernetes."""

    async def release(self, submission_id: str) -> None:
        await asyncio.to_thread(self._release, submission_id)

    async def list_queues(self) -> Sequence[QueueReading]:
        return await asyncio.to_thread(self._list_queues)

    async def list_profiles(self) -> Sequence[Profile]:
        return await asyncio.to_thread(self._list_profiles)

    async def preflight(self) -> Sequence[PreflightCheck]:
        return await asyncio.to_thread(self._preflight)

    async def close(self) -> None:
        await asyncio.to_thread(self._close)

    # --- In threads -----------------------------------------------------------------------------------------------

    def _submit(self, entry: QueueEntry) -> None:
        submission = entry.submission
        profiles = {profile.name: profile for profile in self._known_profiles()}
        if submission.profile not in profiles:
            raise ProfileUnknownError(
                f"There is no profile named {submission.profile!r}.",
                hint=f"Choose one of: {', '.join(profiles)}.",
                details={"profiles": list(profiles)},
            )
        if submission.queue != QUEUE_NAME:
            raise QueueUnknownError(
                f"There is no queue named {submission.queue!r}.", hint=f"Choose the queue {QUEUE_NAME!r}."
            )
        profile = profiles[submission.profile]
        missing = profile.gpu_slots > self._gpus()
        blocked = explanations.gpu_missing(wanted=profile.gpu_slots, total=self._gpus()) if missing else None
        self._queue().add(entry, profile, blocked=blocked)
        self._ensure_worker()

    def _cancel(self, submission_id: str) -> None:
        self._queue().request_cancel(submission_id)
        self._ensure_worker()

    def _observe(self, submission_ids: Sequence[str]) -> Mapping[str, Observation]:
        queue = self._queue()
        records = queue.records(submission_ids)
        if any(not record.state.is_terminal for record in records):
            self._unblock(queue)
            self._ensure_worker()
        attempts = queue.attempts([record.id for record in records])
        queued = any(record.state is SubmissionState.QUEUED for record in records)
        order = {waiting.id: index for index, waiting in enumerate(queue.waiting())} if queued else {}
        situation = self._situation(queue)
        now = self._clock()
        return {
            record.id: build_observation(
                record,
                attempts.get(record.id, ()),
                ahead=order.get(record.id) if record.state is SubmissionState.QUEUED else None,
                situation=situation,
                observed_at=now,
            )
            for record in records
        }

    def _read_log(self, submission_id: str, attempt: int | None, offset: int, limit_bytes: int) -> LogChunk:
        queue = self._queue()
        record = queue.record(submission_id)
        attempts = {
            item.attempt.number: item.attempt for item in queue.attempts([submission_id]).get(submission_id, ())
        }
        if attempt is None and not attempts:
            return LogChunk(attempt=0, text="", offset=0, next_offset=0, complete=record.state.is_terminal)
        number = max(attempts) if attempt is None else attempt
        if number not in attempts:
            raise SubmissionNotFoundError(
                f"This submission has no attempt {number}.", details={"submission_id": submission_id, "attempt": number}
            )
        path = self._paths.run(submission_id, number).log
        ended = attempts[number].ended_at is not None
        return read_log(path, attempt=number, offset=offset, limit_bytes=limit_bytes, ended=ended)

    def _latest_outputs(self, submission_id: str) -> StoredOutputs | None:
        queue = self._queue()
        queue.record(submission_id)
        for attempt in reversed(queue.attempts([submission_id]).get(submission_id, ())):
            number = attempt.attempt.number
            outbox = self._paths.run(submission_id, number).outbox
            stored = read_outbox(outbox, submission_id=submission_id, attempt=number)
            if stored is not None:
                return stored
        return None

    def _release(self, submission_id: str) -> None:
        queue = self._queue()
        with suppress(SubmissionNotFoundError):
            if queue.mark_released(submission_id):
                release_files(queue, self._paths, submission_id)
                prune(queue, self._paths, keep_runs=self._settings.keep_runs)

    def _list_queues(self) -> Sequence[QueueReading]:
        queue = self._queue()
        situation = self._situation(queue)
        reading = QueueReading(
            name=QUEUE_NAME,
            backend=self.name,
            slots=situation.slots,
            busy=situation.busy,
            waiting=len(queue.waiting()),
            gpu_slots=situation.gpu_slots,
            gpu_busy=situation.gpu_busy,
            observed_at=self._clock(),
        )
        return [reading]

    def _list_profiles(self) -> Sequence[Profile]:
        situation = self._situation(self._queue())
        return [replace(profile, available=count_available(profile, situation)) for profile in self._known_profiles()]

    def _preflight(self) -> Sequence[PreflightCheck]:
        self._queue()
        if self._isolation is None:
            self._isolation = sandbox.probe(self._paths.runs, wanted=self._settings.isolate)
        return run_checks(
            isolation=self._isolation,
            free_bytes=shutil.disk_usage(self._paths.root).free,
            gpu_slots=self._gpus(),
            worker_unavailable=self._spawner.unavailable,
        )

    def _close(self) -> None:
        for watcher in list(self._watchers):
            watcher.stop()
        self._spawner.close()
        with self._setup:
            if self._opened is not None:
                self._opened.close()

    # --------------------------------------------------------------------------------------------------------------

    def _queue(self) -> LocalQueue:
        with self._setup:
            if self._opened is None:
                self._paths.prepare()
                self._opened = LocalQueue(self._paths, clock=self._clock)
            return self._opened

    def _gpus(self) -> int:
        with self._setup:
            if self._gpu_count is None:
                configured = self._settings.gpu_devices
                self._gpu_count = len(configured if configured is not None else self._discover())
            return self._gpu_count

    def _known_profiles(self) -> Sequence[Profile]:
        return self._profiles or default_profiles(self._gpus())

    def _situation(self, queue: LocalQueue) -> Situation:
        admitted = queue.in_states(ADMITTED_STATES)
        return Situation(
            slots=self._settings.slots,
            busy=len(admitted),
            gpu_slots=self._gpus(),
            gpu_busy=sum(record.gpu_slots for record in admitted),
            unavailable=self._spawner.unavailable,
        )

    def _unblock(self, queue: LocalQueue) -> None:
        for record in queue.in_states([SubmissionState.BLOCKED]):
            if record.gpu_slots <= self._gpus():
                queue.unblock(record.id)

    def _ensure_worker(self) -> None:
        if self._queue().has_active():
            self._spawner.ensure()
