"""What must hold for a Submission to run on this machine. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ...models import PreflightCheck
from .sandbox import Isolation

LOW_SPACE_BYTES = 1024**3


def run_checks(
    *, isolation: Isolation, free_bytes: int, gpu_slots: int, worker_unavailable: bool
) -> Sequence[PreflightCheck]:
    return [
        PreflightCheck(name="backend", ok=True, summary="Jobs run on this machine."),
        _check_worker(worker_unavailable),
        _check_space(free_bytes),
        _check_isolation(isolation),
        PreflightCheck(name="gpu", ok=True, summary=f"GPU slots on this machine: {gpu_slots}."),
    ]


def _check_worker(unavailable: bool) -> PreflightCheck:
    if not unavailable:
        return PreflightCheck(name="worker", ok=True, summary="The background worker starts when there is work.")
    return PreflightCheck(
        name="worker",
        ok=False,
        summary="The background worker does not start.",
        resolution="Look into queue/worker.log in the batch data directory.",
    )


def _check_space(free_bytes: int) -> PreflightCheck:
    enough = free_bytes >= LOW_SPACE_BYTES
    return PreflightCheck(
        name="disk_space",
        ok=enough,
        summary=f"{free_bytes / 1024**3:.1f} GiB are free for batch submissions.",
        resolution="" if enough else "Free some space.",
    )


def _check_isolation(isolation: Isolation) -> PreflightCheck:
    if isolation.bubblewrap is None:
        return PreflightCheck(
            name="isolation",
            ok=None,
            summary=f"Jobs run without isolation: {isolation.reason}.",
            resolution="Install bubblewrap, so that jobs see your files as they were when you submitted.",
        )
    if isolation.reason:
        return PreflightCheck(name="isolation", ok=None, summary=f"Jobs are partly isolated: {isolation.reason}.")
    return PreflightCheck(name="isolation", ok=True, summary="Jobs see your files as they were when you submitted.")
