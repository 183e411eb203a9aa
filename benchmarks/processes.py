"""A command measured from outside: its wall time, and the memory of all of its processes together."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from servers import MeasurementError

SAMPLE_S = 0.02
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One measured run.

    Attributes:
        seconds: From the start of the process to its end.
        cpu_seconds: Of the process and of those of its descendants that it waited for.
        peak_rss_bytes: The largest sum of the resident memory of the process and its descendants, sampled every
            20 ms, or the kernel's own peak of a single one of them where that is more. Shared pages count twice.
    """

    seconds: float
    cpu_seconds: float
    peak_rss_bytes: int
    stdout: str


def measure(command: Sequence[str], *, env: Mapping[str, str], cwd: Path) -> Run:
    """Run ``command`` to its end.

    Raises:
        MeasurementError: it ended with another status than 0.
    """
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        started = time.perf_counter()
        process = subprocess.Popen(list(command), env=dict(env), cwd=cwd, stdout=stdout, stderr=stderr)
        sampler = _MemorySampler(process.pid)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        peak = max(sampler.stop(), usage.ru_maxrss * 1024)
        stdout.seek(0)
        stderr.seek(0)
        if process.returncode != 0:
            said = (stderr.read() + stdout.read()).decode(errors="replace")[-3000:]
            raise MeasurementError(f"{' '.join(command)[:300]}: status {process.returncode}\n{said}")
        return Run(
            seconds=seconds,
            cpu_seconds=usage.ru_utime + usage.ru_stime,
            peak_rss_bytes=peak,
            stdout=stdout.read().decode(errors="replace"),
        )


def describe_run(run: Run) -> str:
    return f"{run.seconds:.2f} s (CPU {run.cpu_seconds:.2f} s), {run.peak_rss_bytes / 1e6:.0f} MB"


class _MemorySampler:
    def __init__(self, pid: int) -> None:
        self._pid, self._peak, self._ended = pid, 0, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(SAMPLE_S):
            self._peak = max(self._peak, sum(map(_resident_bytes, _family(self._pid))))

    def stop(self) -> int:
        self._ended.set()
        self._thread.join()
        return self._peak


def _family(pid: int) -> list[int]:
    """The process and its descendants that still live."""
    found = [pid]
    for member in found:
        found += _children(member)
    return found


def _children(pid: int) -> list[int]:
    try:
        lists = [(thread / "children").read_text() for thread in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:  # it has just ended
        return []
    return [int(child) for children in lists for child in children.split()]


def _resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES
    except (OSError, IndexError):
        return 0
