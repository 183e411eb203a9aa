"""Watches over a running job: reads its output, holds it to its limits, tells it to end when asked to."""

from __future__ import annotations

import os
import selectors
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from ...models import Progress, RunnerEvent
from ..event_stream import EventStream
from ..log_file import LogWriter
from .job_process import JobProcess
from .outcome import Asked, RunEnd
from .processes import kernel_oom_kills

TICK_S = 0.1
MEMORY_INTERVAL_S = 0.5
HEARTBEAT_INTERVAL_S = 1.0
PROGRESS_INTERVAL_S = 0.25
_READ_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a job is held to; None means no limit."""

    memory_bytes: int | None
    duration_s: float | None
    grace_s: float


class Listener(Protocol):
    """Hears what becomes known while a job runs; called in the supervising thread."""

    def on_progress(self, progress: Progress) -> None: ...

    def on_stored(self) -> None: ...

    def on_asked(self, asked: Asked) -> None: ...


class Supervisor:
    """One job from its start to its end."""

    def __init__(
        self,
        job: JobProcess,
        *,
        log: LogWriter,
        limits: Limits,
        heartbeat: Path,
        wanted: Callable[[], Asked | None],
        listener: Listener,
        monotonic: Callable[[], float],
    ) -> None:
        """``wanted`` is asked several times a second whether the job should end, and why."""
        self._job = job
        self._log = log
        self._limits = limits
        self._heartbeat = heartbeat
        self._wanted = wanted
        self._listener = listener
        self._monotonic = monotonic
        self._started = monotonic()
        self._events = EventStream()
        self._asked: Asked | None = None
        self._asked_since = 0.0
        self._terminated = False
        self._killed = False
        self._failure: Mapping[str, Any] | None = None
        self._used_bytes: int | None = None
        self._progress: Progress | None = None
        self._due = {"memory": 0.0, "heartbeat": 0.0, "progress": 0.0}

    @property
    def elapsed_s(self) -> float:
        return max(0.0, self._monotonic() - self._started)

    def watch(self) -> RunEnd:
        """Return when the job has ended and its output is read."""
        oom_kills = kernel_oom_kills()
        with selectors.DefaultSelector() as selector:
            for stream in self._job.streams:
                os.set_blocking(stream.fileno(), False)
                selector.register(stream, selectors.EVENT_READ)
            while (status := self._job.poll()) is None:
                self._read_ready(selector)
                self._tick()
            for key in list(selector.get_map().values()):
                self._drain(key.fileobj)  # type: ignore[arg-type]
        self._log.write(self._events.finish())
        self._tell_progress(now=True)
        return RunEnd(
            status=status,
            asked=self._asked,
            failure=self._failure,
            used_bytes=self._used_bytes,
            memory_limit_bytes=self._limits.memory_bytes,
            time_limit_s=self._limits.duration_s,
            oom_kills=kernel_oom_kills() > oom_kills,
        )

    # --- Output ---------------------------------------------------------------------------------------------------

    def _read_ready(self, selector: selectors.BaseSelector) -> None:
        for key, _ in selector.select(TICK_S):
            stream: IO[bytes] = key.fileobj  # type: ignore[assignment]
            if self._read(stream) == b"":
                selector.unregister(stream)

    def _drain(self, stream: IO[bytes]) -> None:
        while self._read(stream):
            pass

    def _read(self, stream: IO[bytes]) -> bytes | None:
        """What was there; None when nothing is there yet, empty at the end."""
        try:
            content = os.read(stream.fileno(), _READ_BYTES)
        except BlockingIOError:
            return None
        if stream is self._job.streams[0]:
            events, content_text = self._events.feed(content)
            self._log.write(content_text)
            for event in events:
                self._handle(event)
        else:
            self._log.write(content)
        return content

    def _handle(self, event: RunnerEvent) -> None:
        if event.progress is not None:
            self._progress = event.progress
        if event.kind == "failed" and event.error is not None:
            self._failure = event.error
        if event.kind == "stored":
            self._tell_progress(now=True)
            self._listener.on_stored()

    def _tell_progress(self, *, now: bool) -> None:
        if self._progress is not None and (now or self._is_due("progress", PROGRESS_INTERVAL_S)):
            self._listener.on_progress(self._progress)
            self._progress = None

    # --- Limits ---------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        self._tell_progress(now=False)
        if self._is_due("heartbeat", HEARTBEAT_INTERVAL_S):
            with suppress(OSError):
                self._heartbeat.write_text(f"{self.elapsed_s:.3f}", encoding="ascii")
        if self._is_due("memory", MEMORY_INTERVAL_S):
            self._hold_to_memory()
        limit = self._limits.duration_s
        if self._asked is None and limit is not None and self.elapsed_s > limit:
            self._ask(Asked.TIME_LIMIT, f"The time limit of {limit:g} s is reached.")
        wanted = self._wanted()
        if wanted is not None and self._asked is not wanted and self._asked not in (Asked.CANCEL, Asked.TIME_LIMIT):
            self._ask(wanted, "The job is told to end.")
        if self._asked is not None:
            self._end()

    def _hold_to_memory(self) -> None:
        used = self._job.look()
        limit = self._limits.memory_bytes
        if limit is None or used <= limit:
            return
        used = self._job.proportional_bytes()
        if used <= limit:
            return
        self._used_bytes = max(used, self._used_bytes or 0)
        if not self._job.kill_largest():
            self._job.kill()
        if self._asked is None:
            self._ask(
                Asked.MEMORY, f"The job uses {used} bytes of memory; its limit is {limit}. Its process is killed."
            )

    def _ask(self, asked: Asked, sentence: str) -> None:
        self._log.note(sentence)
        if self._asked is None:
            self._asked_since = self._monotonic()
            self._job.look()  # who is there now can still be found when the runner has ended
        self._asked = asked
        self._listener.on_asked(asked)

    def _end(self) -> None:
        """SIGTERM, and SIGKILL after the grace period; a runner whose kernel was killed may first tell so itself."""
        waited = self._monotonic() - self._asked_since
        patience = self._limits.grace_s / 2 if self._asked is Asked.MEMORY else 0.0
        if not self._terminated and waited >= patience:
            self._terminated = self._job.terminate()
        if waited >= self._limits.grace_s and not self._killed:
            self._killed = True
            self._log.note("The job did not end in time and is killed.")
            self._job.kill()

    def _is_due(self, what: str, interval_s: float) -> bool:
        now = self._monotonic()
        if now < self._due[what]:
            return False
        self._due[what] = now + interval_s
        return True


def read_heartbeat(path: Path) -> float:
    """Seconds that a run was known to have lasted; 0 when it never ran."""
    try:
        return max(0.0, float(path.read_text(encoding="ascii")))
    except (OSError, ValueError):
        return 0.0
