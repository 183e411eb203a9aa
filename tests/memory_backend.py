"""A queue backend in memory, behind the port: it runs nothing, tests say what it observes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone

from jupyterlab_ai_batch.capture_models import BaseReference
from jupyterlab_ai_batch.errors import ProfileUnknownError, QueueUnknownError, SubmissionNotFoundError
from jupyterlab_ai_batch.models import LogChunk, Observation, PreflightCheck, Profile, QueueEntry, QueueReading
from jupyterlab_ai_batch.queues.port import StoredOutputs
from jupyterlab_ai_batch.words import SubmissionState

NOW = datetime(2026, 11, 20, 14, 3, 7, 250000, tzinfo=timezone.utc)
DEFAULT_PROFILE = Profile(name="default", title="This machine", available=1)
GPU_PROFILE = Profile(name="gpu", title="One GPU", gpu_slots=1, default_max_duration_s=3600, available=0)


class MemoryBackend:
    """Implements ``queues.port.QueueBackend``.

    Attributes:
        failure: Raised by every call while set.
        image: The image that Snapshots are put on.
        yaml: What every Submission is as YAML.
        released: Ids whose outputs are safe at home, in order.
    """

    def __init__(
        self,
        *,
        profiles: Sequence[Profile] = (DEFAULT_PROFILE, GPU_PROFILE),
        name: str = "local",
        queue: str = "local",
        clock: Callable[[], datetime] = lambda: NOW,
    ) -> None:
        self._profiles = tuple(profiles)
        self.name = name
        self._queue = queue
        self._clock = clock
        self._entries: dict[str, QueueEntry] = {}
        self._observations: dict[str, Observation] = {}
        self._logs: dict[tuple[str, int], tuple[bytes, bool]] = {}
        self._outputs: dict[str, StoredOutputs] = {}
        self._changed: set[asyncio.Event] = set()
        self.failure: Exception | None = None
        self.image: BaseReference | None = None
        self.yaml: str | None = None
        self.looks: list[bool] = []
        self.released: list[str] = []
        self.is_closed = False

    # --- what tests say -------------------------------------------------------------------------------------------

    def put(self, entry: QueueEntry, observation: Observation) -> None:
        """Know an entry, and observe it so."""
        self._entries[entry.submission.id] = entry
        self.see(observation)

    def see(self, observation: Observation) -> None:
        """Observe a known entry so from now on."""
        self._observations[observation.submission_id] = observation
        for event in self._changed:
            event.set()

    def write_log(self, submission_id: str, content: bytes, *, attempt: int = 1, complete: bool = True) -> None:
        self._logs[submission_id, attempt] = (content, complete)

    def store_outputs(self, submission_id: str, outputs: StoredOutputs) -> None:
        self._outputs[submission_id] = outputs

    # --- the port -------------------------------------------------------------------------------------------------

    async def submit(self, entry: QueueEntry) -> None:
        self._fail()
        submission = entry.submission
        if submission.profile not in {profile.name for profile in self._profiles}:
            raise ProfileUnknownError(f"There is no profile '{submission.profile}'.")
        if submission.queue != self._queue:
            raise QueueUnknownError(f"There is no queue '{submission.queue}'.")
        if submission.id not in self._entries:
            queued = Observation(submission_id=submission.id, state=SubmissionState.QUEUED, observed_at=self._clock())
            self.put(entry, queued)

    async def cancel(self, submission_id: str) -> None:
        self._fail()
        self._known(submission_id)
        observation = self._observations[submission_id]
        if not observation.state.is_terminal:
            self.see(replace(observation, state=SubmissionState.CANCELLED, observed_at=self._clock()))

    async def observe(self, submission_ids: Sequence[str], *, with_positions: bool = True) -> Mapping[str, Observation]:
        self._fail()
        self.looks.append(with_positions)
        return {
            submission_id: self._observations[submission_id]
            for submission_id in submission_ids
            if submission_id in self._observations
        }

    async def list_entries(self) -> Sequence[QueueEntry]:
        self._fail()
        return tuple(self._entries.values())

    async def watch(self) -> AsyncIterator[None]:
        event = asyncio.Event()
        self._changed.add(event)
        try:
            while True:
                self._fail()
                yield
                await event.wait()
                event.clear()
        finally:
            self._changed.discard(event)

    async def read_log(self, submission_id: str, *, attempt: int | None, offset: int, limit_bytes: int) -> LogChunk:
        self._fail()
        self._known(submission_id)
        numbers = [number for known, number in self._logs if known == submission_id]
        number = attempt or max(numbers, default=1)
        if attempt is not None and attempt not in numbers:
            raise SubmissionNotFoundError(f"There is no attempt {attempt}.")
        content, complete = self._logs.get((submission_id, number), (b"", False))
        piece = content[offset : offset + limit_bytes].decode(errors="ignore")
        end = offset + len(piece.encode())
        return LogChunk(
            attempt=number, text=piece, offset=offset, next_offset=end, complete=complete and end >= len(content)
        )

    async def latest_outputs(self, submission_id: str) -> StoredOutputs | None:
        self._fail()
        self._known(submission_id)
        return self._outputs.get(submission_id)

    async def release(self, submission_id: str) -> None:
        self._fail()
        self.released.append(submission_id)

    async def list_queues(self) -> Sequence[QueueReading]:
        self._fail()
        waiting = sum(seen.state is SubmissionState.QUEUED for seen in self._observations.values())
        busy = sum(seen.state is SubmissionState.RUNNING for seen in self._observations.values())
        return (
            QueueReading(
                name=self._queue,
                backend=self.name,
                slots=1,
                busy=busy,
                waiting=waiting,
                observed_at=self._clock(),
            ),
        )

    async def base(self) -> BaseReference | None:
        self._fail()
        return self.image

    async def manifest(self, submission_id: str) -> str | None:
        self._fail()
        self._known(submission_id)
        return self.yaml

    async def list_profiles(self) -> Sequence[Profile]:
        self._fail()
        return self._profiles

    async def preflight(self) -> Sequence[PreflightCheck]:
        self._fail()
        return (PreflightCheck(name="memory", ok=True, summary="Everything is in memory."),)

    async def close(self) -> None:
        self.is_closed = True

    def _known(self, submission_id: str) -> None:
        if submission_id not in self._entries:
            raise SubmissionNotFoundError("There is no such Submission.")

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure
