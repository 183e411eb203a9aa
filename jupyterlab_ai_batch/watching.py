"""Keep the ledger up to date while something is going on: captures, the backend's readings, files to bring home."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

from .capturing import CaptureDirectory, fail_capture, settle
from .collecting import Collector
from .errors import BatchError, QueueError, QueueUnreachableError
from .explain import (
    explain_capture,
    explain_capture_cancelled,
    explain_capture_interrupted,
    explain_handing_over,
)
from .ledger import Ledger
from .models import Observation, QueueEntry, Submission
from .observing import apply_observation, is_same, mark_lost, mark_stale, unless_unchanged
from .queues.port import QueueBackend
from .tasks import end_tasks
from .words import SubmissionState

CAPTURE_TICK_S = 0.25
ACTIVE_TICK_S = 2.0
IDLE_TICK_S = 5.0
LOOK_S = 20.0  # longer than who looks leaves between two looks
MAX_BACK_OFF_S = 30.0

_log = logging.getLogger(__name__)


class Watcher:
    """Reads captures and the backend, writes what changed, brings finished runs home. One per service.

    Attributes:
        trouble: Why the ledger could not be brought up to date when that was last tried; None when it could.
    """

    def __init__(
        self,
        *,
        backend: QueueBackend,
        ledger: Ledger,
        collector: Collector,
        data_dir: Path,
        auto_collect: bool,
        root_dir_of: Callable[[str], Path],
        clock: Callable[[], datetime],
        on_change: Callable[[Submission], None],
    ) -> None:
        self._backend = backend
        self._ledger = ledger
        self._collector = collector
        self._data_dir = data_dir
        self._auto_collect = auto_collect
        self._root_dir_of = root_dir_of
        self._clock = clock
        self._on_change = on_change
        self._seen: dict[str, Submission] = {}
        self._collects: dict[str, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._failures = 0
        self._looked_at: float | None = None
        self.trouble: BatchError | None = None

    def look(self) -> None:
        """Somebody looks at the queues now: for a while it is found out, too, where things wait in them."""
        began = not self._is_looked_at
        self._looked_at = time.monotonic()
        if began:
            self.kick()

    @property
    def _is_looked_at(self) -> bool:
        return self._looked_at is not None and time.monotonic() < self._looked_at + LOOK_S

    def kick(self) -> None:
        """Look again now."""
        self._wake.set()

    async def run(self) -> None:
        """Watch until cancelled; an error is logged and tried again later."""
        listener: asyncio.Task[None] | None = None
        try:
            while True:
                active = await self._tick_safely()
                wanted = any(submission.state is not SubmissionState.CAPTURING for submission in active)
                if wanted and (listener is None or listener.done()):
                    listener = asyncio.create_task(self._listen())
                elif not wanted and listener is not None:
                    await end_tasks(listener)
                    listener = None
                await self._wait(active)
        finally:
            if listener is not None:
                await end_tasks(listener)
            await end_tasks(*self._collects.values())

    async def tick(self, *, collect: bool = True, with_positions: bool = True) -> Sequence[Submission]:
        """Bring every Submission that has not ended up to date and start to collect where due; returns them."""
        known = await asyncio.to_thread(self._ledger.active)
        active = [submission for submission in known if submission.backend == self._backend.name]
        present = await self._leave_alone([s for s in known if s.backend != self._backend.name])
        for submission in active:
            if submission.state is SubmissionState.CAPTURING:
                present[submission.id] = await self._look_at_capture(submission)
        queued = [s for s in (present.get(s.id, s) for s in active) if s.state is not SubmissionState.CAPTURING]
        present.update(await self._observe([s for s in queued if not s.state.is_terminal], with_positions))
        current = [present[submission.id] for submission in active]
        if collect:
            self._start_collects([s for s in current if s.state is SubmissionState.COLLECTING])
        await self._publish(present)
        return [s for s in current if not s.state.is_terminal]

    async def _leave_alone(self, submissions: Sequence[Submission]) -> dict[str, Submission]:
        """Those of a backend that was configured once, and may be again."""
        found: dict[str, Submission] = {}
        for submission in submissions:
            error = QueueUnreachableError(
                f"This server looks after jobs of the backend '{self._backend.name}' only.",
                hint=f"It is seen again where the backend '{submission.backend}' is configured; ask your admin.",
            )
            found |= await asyncio.to_thread(self._note_silence, [submission], error)
        return found

    # --- waiting --------------------------------------------------------------------------------------------------

    async def _tick_safely(self) -> Sequence[Submission]:
        try:
            active = await self.tick(with_positions=self._is_looked_at)
        except BatchError as exc:
            self._failures += 1
            self.trouble = exc
            _log.warning("the batch ledger cannot be brought up to date: %s", exc.message)
            return list(self._seen.values())
        except Exception:  # noqa: BLE001 - the watch outlives every reading
            self._failures += 1
            _log.exception("watching batch Submissions failed; it is tried again")
            return list(self._seen.values())
        self.trouble = None
        if not any(submission.stale for submission in active):
            self._failures = 0
        return active

    async def _wait(self, active: Sequence[Submission]) -> None:
        if self._failures:
            pause_s = min(2.0 ** min(self._failures, 10) / 2, MAX_BACK_OFF_S)
        elif any(submission.state is SubmissionState.CAPTURING for submission in active):
            pause_s = CAPTURE_TICK_S
        else:
            pause_s = ACTIVE_TICK_S
        if active or self._failures:
            await self._sleep(pause_s)
            return
        version = await asyncio.to_thread(self._ledger.version)
        while not await self._sleep(IDLE_TICK_S):
            if await asyncio.to_thread(self._ledger.version) != version:
                return

    async def _sleep(self, pause_s: float) -> bool:
        """Sleep unless kicked; True when kicked."""
        # Not wait_for: before Python 3.12 it swallows a cancellation that arrives together with the kick.
        waiter = asyncio.ensure_future(self._wake.wait())
        try:
            kicked, _ = await asyncio.wait({waiter}, timeout=pause_s)
        finally:
            waiter.cancel()
        if kicked:
            self._wake.clear()
        return bool(kicked)

    async def _listen(self) -> None:
        """Wake up at the backend's hints; when they fail, the ticks still come."""
        with suppress(QueueError):
            async for _ in self._backend.watch():
                self._wake.set()

    # --- captures -------------------------------------------------------------------------------------------------

    async def _look_at_capture(self, submission: Submission) -> Submission:
        directory = CaptureDirectory(self._data_dir, submission.id)
        if await asyncio.to_thread(directory.is_alive):
            return await asyncio.to_thread(self._note_progress, directory)
        latest = await asyncio.to_thread(self._ledger.get, submission.id)
        if latest.state is not SubmissionState.CAPTURING:  # it ended between the two looks
            return latest
        entry = await asyncio.to_thread(directory.entry)
        if entry is None or entry.submission.id != submission.id:
            return await asyncio.to_thread(self._note_interrupted, submission.id)
        return await self._hand_over(entry, directory)

    def _note_progress(self, directory: CaptureDirectory) -> Submission:
        progress = directory.progress()

        def noted(submission: Submission) -> Submission:
            if submission.state is not SubmissionState.CAPTURING:
                return submission
            now = self._clock()
            explanation = explain_capture(progress, since=submission.created_at, now=now)
            return replace(submission, capture=progress, observed_at=now, explanation=explanation)

        return self._ledger.update(directory.submission_id, unless_unchanged(noted))

    def _note_interrupted(self, submission_id: str) -> Submission:
        def interrupted(submission: Submission) -> Submission:
            if submission.state is not SubmissionState.CAPTURING:
                return submission
            now = self._clock()
            return replace(
                submission,
                state=SubmissionState.FAILED,
                observed_at=now,
                capture=None,
                explanation=explain_capture_interrupted(since=now),
            )

        return self._ledger.update(submission_id, interrupted, durable=True)

    async def _hand_over(self, entry: QueueEntry, directory: CaptureDirectory) -> Submission:
        """Finish for a child that died, or gave up waiting, after its Snapshot was complete."""
        submission_id = entry.submission.id
        try:
            await self._backend.submit(entry)
        except QueueError as exc:
            if exc.retryable:
                self._failures += 1
                return await asyncio.to_thread(self._note_handing_over, submission_id, exc)
            error: BatchError = exc
        except BatchError as exc:
            error = exc
        else:
            settled = await asyncio.to_thread(lambda: settle(entry, ledger=self._ledger, clock=self._clock))
            await asyncio.to_thread(directory.remove)
            return settled
        return await asyncio.to_thread(
            lambda: fail_capture(submission_id, error, ledger=self._ledger, clock=self._clock)
        )

    def _note_handing_over(self, submission_id: str, error: QueueError) -> Submission:
        def noted(submission: Submission) -> Submission:
            if submission.state is not SubmissionState.CAPTURING:
                return submission
            now = self._clock()
            return replace(submission, observed_at=now, stale=True, explanation=explain_handing_over(error, since=now))

        return self._ledger.update(submission_id, unless_unchanged(noted))

    # --- the backend ----------------------------------------------------------------------------------------------

    async def _observe(self, submissions: Sequence[Submission], with_positions: bool) -> Mapping[str, Submission]:
        if not submissions:
            return {}
        ids = [submission.id for submission in submissions]
        try:
            observations = await self._backend.observe(ids, with_positions=with_positions)
        except QueueError as exc:
            self._failures += 1
            return await asyncio.to_thread(self._note_silence, submissions, exc)
        return await asyncio.to_thread(self._note_observations, submissions, observations)

    def _note_silence(self, submissions: Sequence[Submission], error: QueueError) -> Mapping[str, Submission]:
        now = self._clock()
        stale = unless_unchanged(lambda submission: mark_stale(submission, error, now=now))
        return {submission.id: self._ledger.update(submission.id, stale) for submission in submissions}

    def _note_observations(
        self, submissions: Sequence[Submission], observations: Mapping[str, Observation]
    ) -> Mapping[str, Submission]:
        noted = {}
        for submission in submissions:
            change = self._change(submission, observations.get(submission.id))
            after = unless_unchanged(change)(submission)
            if after is not submission:
                ended = after.state.is_terminal
                after = self._ledger.update(submission.id, unless_unchanged(change), durable=ended)
            noted[submission.id] = after
        return noted

    def _change(self, submission: Submission, observation: Observation | None) -> Callable[[Submission], Submission]:
        if observation is not None:
            return lambda before: apply_observation(before, observation, auto_collect=self._auto_collect)
        if submission.state is SubmissionState.CANCELLING:
            directory = CaptureDirectory(self._data_dir, submission.id)
            if directory.is_alive():
                return lambda before: before
            if directory.path.exists():
                return self._capture_cancelled
        return lambda before: mark_lost(before, now=self._clock())

    def _capture_cancelled(self, submission: Submission) -> Submission:
        return capture_cancelled(submission, now=self._clock())

    # --- coming home ----------------------------------------------------------------------------------------------

    def _start_collects(self, submissions: Sequence[Submission]) -> None:
        for submission in submissions:
            if submission.id not in self._collects:
                task = asyncio.create_task(self._collect(submission))
                self._collects[submission.id] = task
                task.add_done_callback(partial(self._forget_collect, submission.id))

    def _forget_collect(self, submission_id: str, _: asyncio.Task[None]) -> None:
        self._collects.pop(submission_id, None)

    async def _collect(self, submission: Submission) -> None:
        try:
            root_dir = await asyncio.to_thread(self._root_dir_of, submission.id)
            await self._collector.collect_automatically(submission, root_dir=root_dir)
        except BatchError as exc:
            _log.warning("%s cannot be collected now: %s", submission.id, exc.message)
            await asyncio.sleep(ACTIVE_TICK_S)
        self.kick()

    async def _publish(self, present: Mapping[str, Submission]) -> None:
        """Tell about every Submission that differs from when it was last told about."""
        gone = [submission_id for submission_id in self._seen if submission_id not in present]
        ended = [await asyncio.to_thread(self._ledger.get, submission_id) for submission_id in gone]
        for submission in (*present.values(), *ended):
            before = self._seen.get(submission.id)
            if before is None or not is_same(before, submission):
                self._tell(submission)
            self._seen[submission.id] = submission
            if submission.state.is_terminal:
                del self._seen[submission.id]

    def _tell(self, submission: Submission) -> None:
        try:
            self._on_change(submission)
        except Exception:  # noqa: BLE001 - a listener's error is not the Submission's
            _log.exception("telling about a change failed")


def capture_cancelled(submission: Submission, *, now: datetime) -> Submission:
    """A Submission that was cancelled before the backend had it."""
    if submission.state.is_terminal:
        return submission
    return replace(
        submission,
        state=SubmissionState.CANCELLED,
        observed_at=now,
        capture=None,
        explanation=explain_capture_cancelled(since=now),
    )
