"""What ``/proc`` tells about a job's processes: who belongs to it, what memory it uses, who was killed for memory.

Elsewhere than on Linux there is no ``/proc``: everything is unknown, and only process groups are used.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Process:
    """One line of ``/proc/<pid>/stat``. ``started`` is in clock ticks since boot: with the pid it names a process."""

    pid: int
    parent: int
    session: int
    started: str
    resident_bytes: int


def read_process(pid: int) -> Process | None:
    """None when there is no such process, or no ``/proc``; zombies count as gone."""
    try:
        content = (_PROC / str(pid) / "stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    fields = content.rpartition(")")[2].split()  # the name before may hold anything
    if fields[0] in "ZX":
        return None
    return Process(pid, int(fields[1]), int(fields[3]), fields[19], int(fields[21]) * _PAGE_BYTES)


def list_processes() -> Mapping[int, Process]:
    if not _PROC.is_dir():
        return {}
    found = (read_process(int(path.name)) for path in _PROC.iterdir() if path.name.isdigit())
    return {process.pid: process for process in found if process is not None}


def family(root: int, processes: Mapping[int, Process]) -> Sequence[Process]:
    """The process ``root``, its descendants, and what else is left of its session."""
    children: dict[int, list[Process]] = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process)
    members = {p.pid: p for p in processes.values() if root in (p.session, p.pid)}
    waiting = list(members)
    while waiting:
        for child in children.get(waiting.pop(), []):
            if child.pid not in members:
                members[child.pid] = child
                waiting.append(child.pid)
    return list(members.values())


def proportional_bytes(process: Process) -> int:
    """Memory of a process with shared pages divided among their users; the resident size where that is not told."""
    try:
        for line in (_PROC / str(process.pid) / "smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return process.resident_bytes


def first_child(pid: int) -> int | None:
    """The oldest living child."""
    children = [process for process in list_processes().values() if process.parent == pid]
    return min(children, key=lambda child: int(child.started)).pid if children else None


def kernel_oom_kills() -> int:
    """How often the kernel killed for memory, in the machine or in our control group; only a rise means anything."""
    total = _counter(_PROC / "vmstat", "oom_kill")
    for line in _lines(_PROC / "self" / "cgroup"):
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers == "":
            total += _counter(Path("/sys/fs/cgroup") / path.lstrip("/") / "memory.events", "oom_kill")
        elif "memory" in controllers.split(","):
            total += _counter(Path("/sys/fs/cgroup/memory") / path.lstrip("/") / "memory.oom_control", "oom_kill")
    return total


def signal_group(pid: int, number: signal.Signals) -> None:
    """Signal the process group that ``pid`` leads; one that is gone is fine."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def signal_process(pid: int, number: signal.Signals) -> None:
    """Signal one process; one that is gone is fine."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def kill_leftover(pid: int, started: str | None) -> None:
    """End the process group of a job whose worker is gone, if ``pid`` is still the process it was."""
    process = read_process(pid)
    if process is not None and started is not None and process.started == started:
        signal_group(pid, signal.SIGKILL)


def _counter(path: Path, name: str) -> int:
    for line in _lines(path):
        key, _, value = line.partition(" ")
        if key == name and value.strip().isdigit():
            return int(value)
    return 0


def _lines(path: Path) -> Sequence[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
