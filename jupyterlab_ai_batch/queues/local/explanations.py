"""Why a Submission in the local queue waits, failed or ended, in words for the user. Pure; codes are stable."""

from __future__ import annotations

import re
import signal as signals
from collections.abc import Mapping
from typing import Any

from ...errors import BatchError
from ...models import Explanation

MAX_EVALUE_CHARS = 500
_CODE = re.compile(r"[a-z][a-z_]{0,60}\Z")


def waiting_for_slot(*, ahead: int, slots: int) -> Explanation:
    turn = "It is next" if ahead == 0 else f"{_count(ahead, 'submission')} will run before it"
    return Explanation(
        code="waiting_for_slot",
        summary=f"Your notebook waits until one of {_count(slots, 'slot')} is free. {turn}.",
    )


def waiting_for_gpu(*, wanted: int, total: int) -> Explanation:
    return Explanation(
        code="waiting_for_gpu",
        summary=f"Your notebook waits for {_count(wanted, 'free GPU slot')} of {total} on this machine.",
    )


def gpu_missing(*, wanted: int, total: int) -> Explanation:
    return Explanation(
        code="gpu_missing",
        summary=f"Your notebook asks for {_count(wanted, 'GPU slot')}, but this machine has {total}.",
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


def cancelling() -> Explanation:
    return Explanation(code="cancelling", summary="Your notebook is told to stop; what it has produced is kept.")


def cancelled_by_user() -> Explanation:
    return Explanation(code="cancelled_by_user", summary="You cancelled this submission.")


def worker_lost() -> Explanation:
    return Explanation(
        code="worker_lost",
        summary="The background worker ended while your notebook ran. It runs again from the start.",
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
        summary="The system asked your notebook to stop. It runs again from the start.",
        raw_reason="RunnerStopped",
    )


def cell_failed(error: Mapping[str, Any]) -> Explanation:
    """From the runner's ``failed`` event, which is text that the job wrote."""
    cell = error.get("cell")
    where = f"Cell {cell}" if isinstance(cell, int) and cell > 0 else "A cell"
    what = _clip(error.get("ename"), 100) or "an error"
    value = _clip(error.get("evalue"), MAX_EVALUE_CHARS)
    return Explanation(
        code="cell_failed",
        summary=f"{where} failed with {what}{': ' + value if value else ''}.",
        resolution="Open the executed notebook to see the traceback.",
        raw_reason=what,
    )


def run_failed(error: Mapping[str, Any]) -> Explanation:
    """A failure outside of any cell, by the runner's own code (``kernel_start_failed``, …)."""
    code = error.get("code")
    return Explanation(
        code=code if isinstance(code, str) and _CODE.match(code) else "run_failed",
        summary=_clip(error.get("evalue"), MAX_EVALUE_CHARS) or "Your notebook could not be executed.",
        resolution=_clip(error.get("hint"), MAX_EVALUE_CHARS) or "Look at the log, then submit it again.",
        raw_reason=_clip(error.get("ename"), 100) or None,
    )


def kernel_died(error: Mapping[str, Any]) -> Explanation:
    cell = error.get("cell")
    where = f" in cell {cell}" if isinstance(cell, int) and cell > 0 else ""
    number = error.get("signal")
    by = f" by {signal_name(number)}" if isinstance(number, int) and number > 0 else ""
    return Explanation(
        code="kernel_died",
        summary=f"The kernel died{by}{where}.",
        resolution="Look at the log; a crash in a compiled library and a lack of memory are the usual causes.",
        raw_reason="DeadKernelError",
    )


def time_limit(limit_s: float) -> Explanation:
    return Explanation(
        code="time_limit",
        summary=f"Your notebook was stopped after its time limit of {_duration(limit_s)}.",
        resolution="Submit it again with a longer time limit.",
    )


def out_of_memory(*, used_bytes: int | None, limit_bytes: int | None) -> Explanation:
    if limit_bytes is not None and used_bytes is not None:
        summary = f"Your notebook used {_size(used_bytes)} of memory; its profile allows {_size(limit_bytes)}."
        resolution = "Use less memory, or submit it with a larger profile."
    else:
        summary = "The system ended your notebook because the machine ran out of memory."
        resolution = "Use less memory, or run fewer things at the same time."
    return Explanation(code="out_of_memory", summary=summary, resolution=resolution, raw_reason="OOMKilled")


def killed_by_signal(number: int) -> Explanation:
    return Explanation(
        code="killed_by_signal",
        summary=f"Your notebook was ended by {signal_name(number)}.",
        resolution="Look at the log, then submit it again.",
        raw_reason=signal_name(number),
    )


def runner_crashed(status: int) -> Explanation:
    return Explanation(
        code="runner_crashed",
        summary=f"The program that executes your notebook ended unexpectedly with status {status}.",
        resolution="Look at the log; its last lines say why.",
        raw_reason=f"exit status {status}",
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


def signal_name(number: int) -> str:
    """``SIGKILL`` for 9; ``signal 99`` for one without a name."""
    try:
        return signals.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _clip(value: Any, limit: int) -> str:
    text = "".join(c if c.isprintable() else " " for c in value[: 4 * limit]).strip() if isinstance(value, str) else ""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _size(size: int) -> str:
    return f"{size / 1024**3:.1f} GiB" if size >= 1024**3 else f"{size / 1024**2:.0f} MiB"


def _duration(seconds: float) -> str:
    whole = int(seconds)
    parts = [(whole // 3600, "h"), (whole % 3600 // 60, "min"), (whole % 60, "s")]
    return " ".join(f"{value} {unit}" for value, unit in parts if value) or f"{seconds:g} s"
