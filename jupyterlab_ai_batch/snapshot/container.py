"""The container that a session runs in: what tells its image's own files from later ones."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import NamedTuple

_NS = 10**9
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)
_START_TIME = 19  # field 22 of /proc/PID/stat, counted after the program's name, which may hold anything


class Container(NamedTuple):
    """This container.

    Attributes:
        started_ns: When it started, by its own clock; None when nothing tells.
        device: ``st_dev`` of its root filesystem.
    """

    started_ns: int | None
    device: int

    @classmethod
    def observe(cls, started_at: datetime | None) -> Container:
        """Args: started_at: What is known from elsewhere; None lets the container tell."""
        told = container_start() if started_at is None else (started_at - _EPOCH) // _MICROSECOND * 1000
        return cls(told, os.lstat("/").st_dev)


def container_start(*, dev: str = "/dev", proc: str = "/proc") -> int | None:
    """When this container started, by its own clock, in nanoseconds since the epoch; None when nothing tells.

    The runtime makes the link /dev/fd after the image is unpacked and before any program runs, on the same clock that
    files get their times from. Process 1 is asked only where there is no such link: in a pod that shares its
    processes it belongs to the pod, which is older than the image on this node.
    """
    with suppress(OSError):
        return os.lstat(os.path.join(dev, "fd")).st_ctime_ns
    try:
        stat_line = Path(proc, "1/stat").read_text(errors="replace")
        boot = next(line for line in Path(proc, "stat").read_text().splitlines() if line.startswith("btime "))
        ticks = int(stat_line.rpartition(")")[2].split()[_START_TIME])
        return (int(boot.split()[1]) - 1) * _NS + ticks * _NS // os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, StopIteration):
        return None
