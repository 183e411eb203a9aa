"""What an Attempt uses: memory and processor time of all of its processes, looked at every few seconds.

In a pod that is what its cgroup counts, without the page cache, which the kernel takes back when memory is short.
Elsewhere it is the sum over the runner and its descendants, in which shared pages count more than once.
"""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ..models import Usage

INTERVAL_S = 2.0
CGROUPS = Path("/sys/fs/cgroup")
PROCESSES = Path("/proc")

# Of version 2, and of version 1 where both are mounted.
_MEMORY = (("memory.stat", ("anon", "shmem")), ("memory/memory.stat", ("total_rss", "total_shmem")))
_MICROSECONDS, _NANOSECONDS = 1e-6, 1e-9


class UsageMeter:
    """Looks, and remembers the most.

    Args:
        is_alone: Whether the container has nothing but this run, so that its cgroup is the run.
    """

    def __init__(self, *, is_alone: bool, cgroups: Path = CGROUPS, processes: Path = PROCESSES) -> None:
        self._is_alone = is_alone
        self._cgroups = cgroups
        self._processes = processes
        self._peak_bytes = 0

    async def watch(self) -> None:
        """Look now and then, until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(INTERVAL_S)

    def look(self) -> None:
        """Note what is used at this moment."""
        used = self._cgroup_bytes() if self._is_alone else None
        self._peak_bytes = max(self._peak_bytes, self._process_bytes() if used is None else used)

    @property
    def usage(self) -> Usage:
        """So far."""
        cpu_s = self._cgroup_cpu_s() if self._is_alone else None
        return Usage(
            peak_memory_bytes=self._peak_bytes or None,
            cpu_s=round(_own_cpu_s() if cpu_s is None else cpu_s, 3),
        )

    def _cgroup_bytes(self) -> int | None:
        for path, names in _MEMORY:
            with suppress(OSError, ValueError):
                lines = (self._cgroups / path).read_text(encoding="ascii").splitlines()
                found = dict(line.split(" ", 1) for line in lines)
                return sum(int(found.get(name, 0)) for name in names)
        return None

    def _cgroup_cpu_s(self) -> float | None:
        with suppress(OSError, ValueError, KeyError):
            lines = (self._cgroups / "cpu.stat").read_text(encoding="ascii").splitlines()
            return int(dict(line.split(" ", 1) for line in lines)["usage_usec"]) * _MICROSECONDS
        with suppress(OSError, ValueError):
            return int((self._cgroups / "cpuacct/cpuacct.usage").read_text(encoding="ascii")) * _NANOSECONDS
        return None

    def _process_bytes(self) -> int:
        """Resident, of this process and its descendants."""
        found = {pid: (parent, size) for pid, parent, size in self._stats()}
        own, total = {os.getpid()}, 0
        pending = [os.getpid()]
        while pending:
            parent = pending.pop()
            total += found.get(parent, (0, 0))[1]
            children = [pid for pid, (above, _) in found.items() if above == parent and pid not in own]
            own.update(children)
            pending += children
        return total

    def _stats(self) -> Iterator[tuple[int, int, int]]:
        """(process, its parent, its resident bytes)."""
        page_bytes = os.sysconf("SC_PAGE_SIZE")
        with suppress(OSError):
            for entry in self._processes.iterdir():
                if entry.name.isdecimal():
                    with suppress(OSError, ValueError, IndexError):
                        fields = (
                            (entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
                        )
                        yield int(entry.name), int(fields[1]), int(fields[21]) * page_bytes


def _own_cpu_s() -> float:
    """Of this process, and of those that it has waited for."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(times.ru_utime + times.ru_stime for times in both)
