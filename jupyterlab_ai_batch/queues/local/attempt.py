"""One Attempt in its own thread: from admission to the Submission's next state."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from ...errors import BatchError
from ...models import Explanation, Profile, Progress, QueueEntry
from ...words import SubmissionState
from ..log_file import LogWriter
from . import explanations
from .job_environment import build_environment
from .job_process import InfoPipe, JobProcess
from .outbox import read_outbox, summarise
from .outcome import Asked, Verdict, cancelled, evicted, failed, judge, lost_s
from .paths import RunPaths
from .prepare import Prepared, Preparer, clean_run_directory, make_run_directory
from .processes import read_process
from .queue import LocalQueue
from .settings import WorkerSettings
from .supervise import Limits, Supervisor

RETRY_S = 2.0
_ASKING_INTERVAL_S = 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What all Attempts of a worker share.

    Attributes:
        environ: The worker's environment variables.
        has_gpus: Whether GPUs exist that a job without any must not see.
        stopping: Set when the worker is to end.
    """

    queue: LocalQueue
    preparer: Preparer
    settings: WorkerSettings
    environ: Mapping[str, str]
    has_gpus: bool
    stopping: threading.Event
    monotonic: Callable[[], float]
    logger: logging.Logger


class AttemptRun:
    """Runs one Attempt; ``run`` belongs in a thread that does nothing else."""

    def __init__(self, bench: Bench, submission_id: str, number: int, gpus: Sequence[str]) -> None:
        self._bench = bench
        self._queue = bench.queue
        self._id = submission_id
        self._number = number
        self._gpus = gpus
        self._run_paths: RunPaths = bench.preparer.paths.run(submission_id, number)
        self._elapsed_s = 0.0
        self._resumes = False
        self._data_version = -1
        self._asked: Asked | None = None
        self._ask_again_at = 0.0

    def run(self) -> None:
        """Never raises: whatever happens becomes the Submission's state."""
        try:
            verdict = self._carry_out()
        except BatchError as exc:
            self._bench.logger.warning("%s: %s: %s", self._id, exc.code, exc.message)
            verdict = failed(explanations.failed_to_start(exc))
        except Exception as exc:  # the thread's edge: the worker and the other Attempts go on
            self._bench.logger.exception("%s: attempt %s failed", self._id, self._number)
            verdict = failed(explanations.start_failed(exc))
        with suppress(OSError):
            clean_run_directory(self._run_paths)
        self._record(verdict)
        self._bench.logger.info("%s: attempt %s ended: %s", self._id, self._number, verdict.ended_by)
        self._queue.database.release_thread()

    def _carry_out(self) -> Verdict:
        entry, profile = self._queue.work_order(self._id)
        self._resumes = entry.run.resume
        make_run_directory(self._run_paths)
        log = LogWriter(self._run_paths.log, limit_bytes=self._bench.settings.log_limit_bytes)
        info = InfoPipe()
        try:
            prepared = self._prepare(entry, info)
            if isinstance(prepared, Verdict):
                return prepared
            try:
                return self._execute(entry, profile, prepared, info, log)
            finally:
                if prepared.lease is not None:
                    self._bench.preparer.environments.give_back(prepared.lease)
        except BatchError as exc:
            log.note(exc.message)
            raise
        finally:
            info.close()
            log.close()

    def _prepare(self, entry: QueueEntry, info: InfoPipe) -> Prepared | Verdict:
        """Restore in a thread of its own, so that a cancel shows at once though a restore cannot be interrupted."""
        done: list[Prepared | Exception] = []

        def restore() -> None:
            try:
                done.append(
                    self._bench.preparer.prepare(
                        entry,
                        self._run_paths,
                        number=self._number,
                        info_fd=info.write_fd,
                        is_wanted=lambda: told is None,
                    )
                )
            except Exception as exc:  # noqa: BLE001 - handed to the Attempt's thread
                done.append(exc)

        told: Verdict | None = None
        thread = threading.Thread(target=restore, name=f"restore-{self._id}", daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(0.05)
            if told is None and (told := self._abandon()) is not None:
                self._record(told)
        result = done[0]
        if told is not None:
            if isinstance(result, Prepared) and result.lease is not None:
                self._bench.preparer.environments.give_back(result.lease)
            return told
        if isinstance(result, Prepared):
            return result
        raise result

    def _abandon(self) -> Verdict | None:
        asked = self._asked_to_end()
        if asked is Asked.CANCEL:
            return cancelled()
        if asked is Asked.WORKER_STOP:
            return evicted("WorkerStopped", explanations.worker_stopped())
        return None

    def _execute(
        self, entry: QueueEntry, profile: Profile, prepared: Prepared, info: InfoPipe, log: LogWriter
    ) -> Verdict:
        isolation = self._bench.preparer.isolation
        for warning in [isolation.reason, *(prepared.lease.view.warnings if prepared.lease else ())]:
            if warning:
                log.note(f"Not fully isolated: {warning}.")
        job = JobProcess(
            prepared.command,
            environment=build_environment(
                self._bench.environ,
                environment_prefixes=entry.run.environment_prefixes,
                runtime_dir=self._run_paths.runtime,
                gpus=self._gpus if self._bench.has_gpus else None,
            ),
            cwd=self._run_paths.root,
            isolation=isolation,
            info=info,
        )
        try:
            return self._supervise(entry, profile, job, log)
        finally:
            job.close()

    def _supervise(self, entry: QueueEntry, profile: Profile, job: JobProcess, log: LogWriter) -> Verdict:
        process = read_process(job.pid)
        note = self._isolation_note()
        self._queue.set_running(
            self._id, self._number, pid=job.pid, pid_started=process.started if process else None, explanation=note
        )
        supervisor = Supervisor(
            job,
            log=log,
            limits=Limits(
                memory_bytes=profile.memory_bytes,
                duration_s=entry.submission.max_duration_s or profile.default_max_duration_s,
                grace_s=self._bench.settings.stop_grace_s,
            ),
            heartbeat=self._run_paths.heartbeat,
            wanted=self._asked_to_end,
            listener=self,
            monotonic=self._bench.monotonic,
        )
        end = supervisor.watch()
        self._elapsed_s = supervisor.elapsed_s
        self.on_stored()
        verdict = judge(end)
        if verdict.explanation is not None:
            log.note(verdict.explanation.summary)
            return verdict
        return Verdict(ended_by=verdict.ended_by, state=verdict.state, explanation=note)

    def _isolation_note(self) -> Explanation | None:
        isolation = self._bench.preparer.isolation
        return explanations.not_isolated(isolation.reason) if isolation.bubblewrap is None else None

    # --- What the supervisor tells --------------------------------------------------------------------------------

    def on_progress(self, progress: Progress) -> None:
        with suppress(BatchError):  # a full disk loses progress, not the run
            self._queue.set_progress(self._id, progress)

    def on_stored(self) -> None:
        try:
            stored = read_outbox(self._run_paths.outbox, submission_id=self._id, attempt=self._number)
            if stored is not None:
                found = stored.output_set
                self._queue.set_outputs(
                    self._id, self._number, summarise(stored), stored_at=found.stored_at, usage=found.usage
                )
        except BatchError as exc:
            self._bench.logger.warning("%s: stored outputs: %s", self._id, exc.message)

    def on_asked(self, asked: Asked) -> None:
        if asked is Asked.WORKER_STOP:
            with suppress(BatchError):
                self._queue.set_evicting(self._id, explanations.worker_stopped())

    # --------------------------------------------------------------------------------------------------------------

    def _asked_to_end(self) -> Asked | None:
        now = self._bench.monotonic()
        if self._asked is not Asked.CANCEL and now >= self._ask_again_at:
            self._ask_again_at = now + _ASKING_INTERVAL_S
            if self._is_cancelled():
                self._asked = Asked.CANCEL
        if self._asked is None and self._bench.stopping.is_set():
            return Asked.WORKER_STOP
        return self._asked

    def _is_cancelled(self) -> bool:
        try:
            version = self._queue.data_version()
            if version == self._data_version:
                return False
            self._data_version = version
            return self._queue.state(self._id) is SubmissionState.CANCELLING
        except BatchError as exc:
            self._bench.logger.warning("%s: %s", self._id, exc.message)
            return False

    def _lost_s(self) -> float:
        own = self._queue.attempts([self._id])[self._id][self._number - 1].attempt
        return lost_s(own, self._elapsed_s, resumes=self._resumes)

    def _record(self, verdict: Verdict) -> None:
        """Write the end down, however long a full disk takes; a worker that stops leaves it to the next one."""
        while True:
            try:
                self._queue.end_attempt(
                    self._id,
                    self._number,
                    ended_by=verdict.ended_by,
                    state=verdict.state,
                    explanation=verdict.explanation,
                    time_lost_s=self._lost_s() if verdict.is_eviction else 0.0,
                )
            except BatchError as exc:  # noqa: PERF203 - the loop is for it
                self._bench.logger.warning("%s: the end cannot be recorded: %s", self._id, exc.message)
                if self._bench.stopping.wait(RETRY_S):
                    return
            else:
                return
