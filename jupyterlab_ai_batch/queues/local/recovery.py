"""What a new worker does about the Attempts of one that is gone, and which finished runs' files it lets go."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from ...models import Explanation
from ...oci.storage import remove_tree
from ...words import SubmissionState
from ..explanations import cancelled_by_user
from . import explanations
from .outcome import lost_s
from .paths import QueuePaths
from .prepare import clean_run_directory
from .processes import kill_leftover, read_process
from .queue import ADMITTED_STATES, LocalQueue
from .records import AttemptRecord, EntryRecord
from .settings import WorkerSettings
from .supervise import read_heartbeat

WORKER_LOST = "WorkerLost"
_DEATH_PATIENCE_S = 5.0


def recover(queue: LocalQueue, paths: QueuePaths, settings: WorkerSettings, logger: logging.Logger) -> None:
    """End every open Attempt as ``WorkerLost``; call only while holding the worker's lock."""
    lost = queue.in_states(ADMITTED_STATES)
    attempts = queue.attempts([record.id for record in lost])
    for record in lost:
        logger.warning("%s: its worker is gone while it was %s", record.id, record.state.value)
        _end_lost(queue, paths, settings, record, attempts.get(record.id, ()))


def _end_lost(
    queue: LocalQueue,
    paths: QueuePaths,
    settings: WorkerSettings,
    record: EntryRecord,
    attempts: Sequence[AttemptRecord],
) -> None:
    times = record.workers_lost + 1
    resumes = queue.work_order(record.id)[0].run.resume
    state, explanation = _after_loss(record, times, settings.max_worker_lost, resumes=resumes)
    latest = attempts[-1]
    if latest.pid is not None:
        kill_leftover(latest.pid, latest.pid_started)
        _wait_for_death(latest.pid, latest.pid_started)
    run = paths.run(record.id, latest.attempt.number)
    elapsed_s = read_heartbeat(run.heartbeat) if latest.attempt.started_at else 0.0
    clean_run_directory(run)
    queue.end_attempt(
        record.id,
        latest.attempt.number,
        ended_by="cancelled" if state is SubmissionState.CANCELLED else WORKER_LOST,
        state=state,
        explanation=explanation,
        time_lost_s=lost_s(latest.attempt, elapsed_s, resumes=resumes),
        workers_lost=times,
    )


def _after_loss(record: EntryRecord, times: int, limit: int, *, resumes: bool) -> tuple[SubmissionState, Explanation]:
    if record.state is SubmissionState.CANCELLING:
        return SubmissionState.CANCELLED, cancelled_by_user()
    if times >= limit:
        return SubmissionState.FAILED, explanations.worker_lost_repeatedly(times)
    return SubmissionState.QUEUED, explanations.worker_lost(resumes=resumes)


def _wait_for_death(pid: int, started: str | None) -> None:
    deadline = time.monotonic() + _DEATH_PATIENCE_S
    while time.monotonic() < deadline:
        process = read_process(pid)
        if process is None or process.started != started:
            return
        time.sleep(0.02)


def release_files(queue: LocalQueue, paths: QueuePaths, submission_id: str) -> None:
    """Remove all that only served the runs: keeps every log and the latest stored outputs."""
    attempts = queue.attempts([submission_id]).get(submission_id, ())
    with_outputs = [attempt.attempt.number for attempt in attempts if attempt.outputs is not None]
    for attempt in attempts:
        run = paths.run(submission_id, attempt.attempt.number)
        clean_run_directory(run)
        if with_outputs and attempt.attempt.number != with_outputs[-1]:
            remove_tree(run.outbox)


def prune(queue: LocalQueue, paths: QueuePaths, *, keep_runs: int) -> None:
    """Remove logs and stored outputs of old Submissions whose outputs are safe at home."""
    present = {path.name for path in paths.runs.iterdir()}
    if len(present) > keep_runs:
        for submission_id in present.intersection(queue.prunable(keep_runs)):
            remove_tree(paths.runs / submission_id)
