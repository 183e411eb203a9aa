"""What an admin can set about the local worker; it travels to the detached worker as ``queue/worker.json``."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """Limits and habits of the local worker.

    Attributes:
        slots: Attempts that run at the same time.
        gpu_devices: NVML UUIDs that Attempts may use; None means every MIG device and GPU that NVML lists.
        stop_grace_s: Seconds between SIGTERM, which lets the job save its results, and SIGKILL.
        idle_exit_s: Seconds without work after which the worker ends; the next Submission starts it again.
        log_limit_bytes: Bytes of output kept per Attempt.
        max_worker_lost: Evictions by ``WorkerLost`` in a row after which a Submission fails.
        keep_runs: Finished Submissions whose log and stored outputs are kept, the newest first.
        keep_environments: Restored environments kept for later Submissions, the most recently used first.
        isolate: Use bubblewrap where it works; False runs jobs without isolation.
    """

    slots: int = 1
    gpu_devices: tuple[str, ...] | None = None
    stop_grace_s: float = 30.0
    idle_exit_s: float = 60.0
    log_limit_bytes: int = 100 * 1024**2
    max_worker_lost: int = 5
    keep_runs: int = 200
    keep_environments: int = 3
    isolate: bool = True


def default_slots(cpu_count: int | None = None) -> int:
    """One Attempt at a time on a small machine, one for every 8 cores on a larger one."""
    return max(1, (cpu_count or os.cpu_count() or 1) // 8)
