"""Why a Submission in the local queue waits or was interrupted, in words for the user. Pure; codes are stable."""

from __future__ import annotations

from ...errors import BatchError
from ...explain import count_words
from ...models import Explanation

EVICTED_BECAUSE = {
    "WorkerLost": "because the background worker ended",
    "WorkerStopped": "because the background worker was stopped",
    "RunnerStopped": "because the system asked it to stop",
}


def waiting_for_slot(*, ahead: int, slots: int) -> Explanation:
    turn = "It is next" if ahead == 0 else f"{count_words(ahead, 'submission')} will run before it"
    return Explanation(
        code="waiting_for_slot",
        summary=f"Your notebook waits until one of {count_words(slots, 'slot')} is free. {turn}.",
    )


def waiting_for_gpu(*, wanted: int, total: int) -> Explanation:
    return Explanation(
        code="waiting_for_gpu",
        summary=f"Your notebook waits for {count_words(wanted, 'free GPU slot')} of {total} on this machine.",
    )


def gpu_missing(*, wanted: int, total: int) -> Explanation:
    return Explanation(
        code="gpu_missing",
        summary=f"Your notebook asks for {count_words(wanted, 'GPU slot')}, but this machine has {total}.",
        resolution="Cancel it and submit with another profile.",
    )


def worker_unavailable() -> Explanation:
    return Explanation(
        code="worker_unavailable",
        summary="The background worker that runs your notebooks does not start; it is tried again.",
        resolution="Look into queue/worker.log in the batch data directory, or ask your admin to.",
    )


def starting() -> Explanation:
    return Explanation(code="starting", summary="Your files and environment are being made ready.")


def not_isolated(reason: str) -> Explanation:
    return Explanation(
        code="not_isolated",
        summary="This system does not allow isolation: your notebook runs in a private copy of your files, but absolute"
        " paths and the environment are the live ones.",
        resolution="Use relative paths in the notebook; ask your admin to install bubblewrap.",
        raw_reason=reason,
    )


def worker_lost(*, resumes: bool) -> Explanation:
    again = "with the files that were saved last" if resumes else "from the start"
    return Explanation(
        code="worker_lost",
        summary=f"The background worker ended while your notebook ran. It runs again {again}.",
        raw_reason="WorkerLost",
    )


def worker_lost_repeatedly(times: int) -> Explanation:
    return Explanation(
        code="worker_lost_repeatedly",
        summary=f"The background worker ended {times} times in a row while your notebook ran: it is not tried again.",
        resolution="Check the memory that your notebook needs, then submit it again.",
        raw_reason="WorkerLost",
    )


def worker_stopped() -> Explanation:
    return Explanation(
        code="worker_stopped",
        summary="The background worker was stopped. Your notebook runs again when it is back.",
        raw_reason="WorkerStopped",
    )


def runner_stopped() -> Explanation:
    return Explanation(
        code="runner_stopped",
        summary="The system asked your notebook to stop. It runs again.",
        raw_reason="RunnerStopped",
    )


def failed_to_start(error: BatchError) -> Explanation:
    """A restore that failed: the error's own code and words."""
    return Explanation(code=error.code, summary=error.message, resolution=error.hint or "")


def start_failed(error: Exception) -> Explanation:
    return Explanation(
        code="start_failed",
        summary="Your notebook could not be started.",
        resolution="Look at the log, or at queue/worker.log in the batch data directory.",
        raw_reason=type(error).__name__,
    )
