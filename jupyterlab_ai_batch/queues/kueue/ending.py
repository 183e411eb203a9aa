"""How a Submission ended: found out once, when everything that belongs to the answer is there, and written down.

The cluster says first that a Job has ended; what its runner said last, and what it stored, have to be read then. Until
that is done the Submission has not ended, and says so: a state that ended never changes again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from ...errors import BatchError
from ...models import Explanation, Observation, QueueEntry
from ...tasks import end_tasks
from ...words import OutputsState, SubmissionState
from .conditions import Reading, observe
from .explanations import deleted_elsewhere
from .histories import Histories
from .history import StoredAttempt
from .kept_logs import KeptLogs
from .log_lines import RunnerReport
from .lookout import Lookout
from .memory import Memory, with_end
from .pauses import Pauses
from .waiting import in_thread

PATIENCE_S = 2.0

_log = logging.getLogger(__name__)


class Endings:
    """Finds out how Submissions ended, each in a task of its own that goes on until it knows."""

    def __init__(
        self,
        lookout: Lookout,
        histories: Histories,
        kept_logs: KeptLogs,
        memory: Memory,
        *,
        on_change: Callable[[], None],
        make_pauses: Callable[[], Pauses] = Pauses,
    ) -> None:
        self._lookout = lookout
        self._histories = histories
        self._kept_logs = kept_logs
        self._memory = memory
        self._on_change = on_change
        self._make_pauses = make_pauses
        self._tasks: dict[str, asyncio.Task[Observation]] = {}
        self._errors: dict[str, BatchError] = {}

    async def find_out(self, seen: Observation, entry: QueueEntry | None) -> Observation:
        """How it ended, or where it stands until that is known.

        Args:
            seen: What the cluster alone says: that it has ended.
            entry: What is written down with the end; without one it is not.
        """
        submission_id = seen.submission_id
        task = self._tasks.get(submission_id)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._find_out(submission_id, entry))
            self._tasks[submission_id] = task
            await asyncio.wait({task}, timeout=PATIENCE_S)
        if not task.done():
            return _not_yet(seen, self._errors.get(submission_id))
        self._tasks.pop(submission_id, None)
        self._errors.pop(submission_id, None)
        return task.result()

    async def stop(self) -> None:
        tasks = list(self._tasks.values())
        self._tasks.clear()
        await end_tasks(*tasks)

    async def _find_out(self, submission_id: str, entry: QueueEntry | None) -> Observation:
        pauses = self._make_pauses()
        while True:
            try:
                return await self._read(submission_id, entry)
            except BatchError as exc:
                _log.info("%s has ended, but not all of it can be read: %s", submission_id, exc.message)
                self._errors[submission_id] = exc
            self._on_change()
            await asyncio.sleep(pauses.next())

    async def _read(self, submission_id: str, entry: QueueEntry | None) -> Observation:
        remembered = await in_thread(self._memory.get, submission_id)
        cancel_asked = remembered is not None and remembered.cancel_asked_at is not None
        sighting = await self._lookout.sight(submission_id)
        await self._lookout.settle(sighting)
        await self._histories.fresh(submission_id)
        reading = await self._with_kept_report(submission_id, self._lookout.read(submission_id, sighting))
        ended = observe(submission_id, reading, cancel_asked=cancel_asked)
        ended = ended or deleted_unseen(submission_id, reading.observed_at)
        if ended.state.is_terminal and entry is not None:
            await in_thread(self._memory.update, entry, with_end(ended))
        self._on_change()
        return ended

    async def _with_kept_report(self, submission_id: str, reading: Reading) -> Reading:
        """What the runner said, from the log in the registry where the pod's is gone."""
        stored = self._histories.known(submission_id).stored
        if reading.failure is not None or reading.progress is not None or not stored:
            return reading
        report = await self._kept_logs.report(submission_id, stored[-1])
        ended_by = _how(stored[-1], report)
        *earlier, last = reading.attempts
        attempts = (*earlier, replace(last, ended_by=last.ended_by or ended_by))
        return replace(reading, progress=report.progress, failure=report.failure, attempts=attempts)


def _how(stored: StoredAttempt, report: RunnerReport) -> str | None:
    """The end of an Attempt, by what it left; None when it did not come to its end, or that cannot be told.

    A runner says that it failed before it stores its last, complete OutputSet.
    """
    if not stored.log_sha256 or stored.outputs.state is not OutputsState.AVAILABLE:
        return None
    return "succeeded" if report.failure is None else "failed"


def deleted_unseen(submission_id: str, observed_at: datetime) -> Observation:
    """Its Job was there, is gone, and left nothing behind."""
    return Observation(
        submission_id=submission_id,
        state=SubmissionState.CANCELLED,
        observed_at=observed_at,
        explanation=deleted_elsewhere(),
    )


def _not_yet(seen: Observation, error: BatchError | None) -> Observation:
    """The same, not ended yet."""
    state = SubmissionState.CANCELLING if seen.state is SubmissionState.CANCELLED else SubmissionState.RUNNING
    return replace(seen, state=state, explanation=_reading_results() if error is None else _results_unreadable(error))


def _reading_results() -> Explanation:
    return Explanation(code="reading_results", summary="Your notebook has ended; what it produced is being looked up.")


def _results_unreadable(error: BatchError) -> Explanation:
    hint = f"{error.hint} " if error.hint else ""
    return Explanation(
        code="results_unreadable",
        summary=f"Your notebook has ended, but what it produced cannot be read now: {error.message}",
        resolution=f"{hint}It is tried again by itself; nothing is lost.",
        raw_reason=error.code,
    )
