"""The detached worker: takes Submissions from the queue and runs them, several at a time, until nothing is left.

It inherits the environment variables of the process that started it: a server or a command of the same user.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from ... import wire
from ...errors import BatchError
from ...words import SubmissionState
from . import explanations, sandbox
from .attempt import AttemptRun, Bench
from .environments import EnvironmentCache
from .gpu import discover_gpus, select_gpus
from .lock import WorkerLock
from .paths import QueuePaths
from .prepare import RUNNER, Preparer
from .queue import LocalQueue
from .records import Waiting
from .recovery import prune, recover
from .restorer import Restorer
from .scheduling import choose
from .settings import WorkerSettings

POLL_S = 0.2
_LAST_JOIN_S = 15.0


def utc_now() -> datetime:
    return datetime.now(timezone.utc)


def read_settings(paths: QueuePaths) -> WorkerSettings:
    """The settings that the backend left for the worker; the defaults when there are none."""
    try:
        return wire.loads(WorkerSettings, paths.worker_settings.read_bytes())
    except (FileNotFoundError, wire.WireError):
        return WorkerSettings()


@dataclass(slots=True)
class _Slot:
    thread: threading.Thread
    gpus: Sequence[str]


class Worker:
    """Everything composed; ``run`` returns when idle, stopped, or when another worker is there already."""

    def __init__(
        self,
        data_dir: Path,
        restorer: Restorer,
        *,
        settings: WorkerSettings | None = None,
        environ: Mapping[str, str] | None = None,
        gpus: Callable[[], Sequence[str]] = discover_gpus,
        runner: Sequence[str] = RUNNER,
        clock: Callable[[], datetime] = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``settings`` None reads what the backend left; ``environ`` None takes this process's variables."""
        self._paths = QueuePaths(data_dir)
        self._restorer = restorer
        self._given_settings = settings
        self._environ = dict(os.environ if environ is None else environ)
        self._discover = gpus
        self._runner = runner
        self._clock = clock
        self._monotonic = monotonic
        self._stopping = threading.Event()
        self._slots: list[_Slot] = []
        self._logger = logging.getLogger("jupyterlab_ai_batch.worker")

    def run(self) -> int:
        """The exit status of the worker process: 0.

        Raises:
            StorageError, StoragePermissionError: the data directory cannot be used.
        """
        self._paths.prepare()
        lock = WorkerLock(self._paths.worker_lock)
        while lock.acquire():
            try:
                if not self._serve():
                    return 0
            finally:
                lock.release()
        self._logger.info("another worker is there already")
        return 0

    def stop(self) -> None:
        """Let running jobs save and end; they are queued again. Safe in a signal handler."""
        self._stopping.set()

    def install_signal_handlers(self) -> None:
        """End cleanly at SIGTERM and SIGINT; only in the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: self.stop())

    def _serve(self) -> bool:
        """Serve until idle or stopped; True when work arrived while this worker was on its way out."""
        settings = self._given_settings or read_settings(self._paths)
        queue = LocalQueue(self._paths, clock=self._clock)
        try:
            recover(queue, self._paths, settings, self._logger)
            isolation = sandbox.probe(self._paths.runs, wanted=settings.isolate)
            self._logger.info("slots: %s, isolation: %s", settings.slots, isolation)
            environments = EnvironmentCache(self._paths.environments, self._restorer)
            gpus = select_gpus(
                self._discover(), configured=settings.gpu_devices, visible=self._environ.get("CUDA_VISIBLE_DEVICES")
            )
            bench = Bench(
                queue=queue,
                preparer=Preparer(
                    paths=self._paths,
                    restorer=self._restorer,
                    environments=environments,
                    isolation=isolation,
                    runner=self._runner,
                ),
                settings=settings,
                environ=self._environ,
                has_gpus=bool(gpus),
                stopping=self._stopping,
                monotonic=self._monotonic,
                logger=self._logger,
            )
            self._loop(bench, gpus)
            self._drain(settings)
            prune(queue, self._paths, keep_runs=settings.keep_runs)
            environments.prune(settings.keep_environments)
            return queue.has_active() and not self._stopping.is_set()
        finally:
            queue.close()

    def _loop(self, bench: Bench, gpus: Sequence[str]) -> None:
        idle_since = self._monotonic()
        seen: tuple[int, int] | None = None
        while not self._stopping.is_set():
            self._slots = [slot for slot in self._slots if slot.thread.is_alive()]
            try:
                now_seen = (bench.queue.data_version(), len(self._slots))
                if now_seen != seen:
                    seen = now_seen
                    if self._admit(bench, gpus):
                        seen = None
            except BatchError as exc:
                self._logger.warning("the queue cannot be read: %s", exc.message)
                seen = None
            if self._slots:
                idle_since = self._monotonic()
            elif self._monotonic() - idle_since > bench.settings.idle_exit_s:
                return
            self._stopping.wait(POLL_S)

    def _admit(self, bench: Bench, gpus: Sequence[str]) -> bool:
        """Start what can start; whether anything was."""
        self._sort_out(bench.queue, len(gpus))
        free = [gpu for gpu in gpus if not any(gpu in slot.gpus for slot in self._slots)]
        chosen = choose(bench.queue.waiting(), free_slots=bench.settings.slots - len(self._slots), free_gpus=len(free))
        for waiting in chosen:
            taken, free = free[: waiting.gpu_slots], free[waiting.gpu_slots :]
            self._start(bench, waiting, taken)
        return bool(chosen)

    def _start(self, bench: Bench, waiting: Waiting, gpus: Sequence[str]) -> None:
        number = bench.queue.admit(waiting.id)
        if number is None:
            return
        self._logger.info("%s: attempt %s", waiting.id, number)
        run = AttemptRun(bench, waiting.id, number, gpus)
        thread = threading.Thread(target=run.run, name=f"attempt-{waiting.id}", daemon=True)
        thread.start()
        self._slots.append(_Slot(thread, gpus))

    @staticmethod
    def _sort_out(queue: LocalQueue, gpus: int) -> None:
        """Block what asks for more GPU slots than there are; unblock what no longer does."""
        for waiting in queue.waiting():
            if waiting.gpu_slots > gpus:
                queue.block(waiting.id, explanations.gpu_missing(wanted=waiting.gpu_slots, total=gpus))
        for record in queue.in_states([SubmissionState.BLOCKED]):
            if record.gpu_slots <= gpus:
                queue.unblock(record.id)

    def _drain(self, settings: WorkerSettings) -> None:
        """Wait for the Attempts that were told to end; what is left after that dies with this process."""
        deadline = time.monotonic() + settings.stop_grace_s + _LAST_JOIN_S
        for slot in self._slots:
            slot.thread.join(max(0.0, deadline - time.monotonic()))
        self._slots = [slot for slot in self._slots if slot.thread.is_alive()]
