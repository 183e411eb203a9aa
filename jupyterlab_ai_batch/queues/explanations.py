"""What every queue says in the same words: how a run was cancelled, failed or ended. Pure; codes are stable."""

from __future__ import annotations

import re
import signal as signals
from collections.abc import Mapping
from typing import Any

from ..models import Explanation

MAX_EVALUE_CHARS = 500
_MAX_NUMBER = 1_000_000
_CODE = re.compile(r"[a-z][a-z_]{0,60}\Z")


def cancelling() -> Explanation:
    return Explanation(code="cancelling", summary="Your notebook is told to stop; what it has produced is kept.")


def cancelled_by_user() -> Explanation:
    return Explanation(code="cancelled_by_user", summary="You cancelled this submission.")


def explain_failure(failure: Mapping[str, Any], *, out_of_memory: Explanation | None) -> Explanation:
    """From the runner's ``failed`` event, which is text that the job wrote.

    Args:
        out_of_memory: What a kernel's death means when the system ended something for memory; None when it did not.
    """
    if failure.get("ename") == "DeadKernelError":
        return out_of_memory or kernel_died(failure)
    in_cell = failure.get("code", "cell_failed") == "cell_failed"
    return cell_failed(failure) if in_cell else run_failed(failure)


def cell_failed(error: Mapping[str, Any]) -> Explanation:
    cell = _number(error.get("cell"))
    what = clip(error.get("ename"), 100) or "an error"
    value = clip(error.get("evalue"), MAX_EVALUE_CHARS)
    return Explanation(
        code="cell_failed",
        summary=f"{f'Cell {cell}' if cell else 'A cell'} failed with {what}{': ' + value if value else ''}.",
        resolution="Open the executed notebook to see the traceback.",
        raw_reason=what,
    )


def run_failed(error: Mapping[str, Any]) -> Explanation:
    """A failure outside of any cell, by the runner's own code (``kernel_start_failed``, …)."""
    code = error.get("code")
    return Explanation(
        code=code if isinstance(code, str) and _CODE.match(code) else "run_failed",
        summary=clip(error.get("evalue"), MAX_EVALUE_CHARS) or "Your notebook could not be executed.",
        resolution=clip(error.get("hint"), MAX_EVALUE_CHARS) or "Look at the log, then submit it again.",
        raw_reason=clip(error.get("ename"), 100) or None,
    )


def kernel_died(error: Mapping[str, Any]) -> Explanation:
    cell, number = _number(error.get("cell")), _number(error.get("signal"))
    by = f" by {signal_name(number)}" if number else ""
    return Explanation(
        code="kernel_died",
        summary=f"The kernel died{by}{f' in cell {cell}' if cell else ''}.",
        resolution="Look at the log; a crash in a compiled library and a lack of memory are the usual causes.",
        raw_reason="DeadKernelError",
    )


def time_limit(limit_s: float | None) -> Explanation:
    limit = f" of {format_duration(limit_s)}" if limit_s is not None else ""
    return Explanation(
        code="time_limit",
        summary=f"Your notebook was stopped after its time limit{limit}.",
        resolution="Submit it again with a longer time limit.",
    )


def out_of_memory(*, used_bytes: int | None, limit_bytes: int | None) -> Explanation:
    resolution = "Use less memory, or submit it with a larger profile."
    if limit_bytes is None:
        summary = "The system ended your notebook because the machine ran out of memory."
        resolution = "Use less memory, or run fewer things at the same time."
    elif used_bytes is None:
        summary = f"Your notebook used more than the {format_size(limit_bytes)} of memory that its profile allows."
    else:
        used, limit = format_size(used_bytes), format_size(limit_bytes)
        summary = f"Your notebook used {used} of memory; its profile allows {limit}."
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


def signal_name(number: int) -> str:
    """``SIGKILL`` for 9; ``signal 99`` for one without a name."""
    try:
        return signals.Signals(number).name
    except ValueError:
        return f"signal {number}"


def clip(value: Any, limit: int) -> str:
    """A text of somebody else as one printable line of at most ``limit`` characters; empty for anything else."""
    text = "".join(c if c.isprintable() else " " for c in value[: 4 * limit]).strip() if isinstance(value, str) else ""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def format_size(size_bytes: int) -> str:
    return f"{size_bytes / 1024**3:.1f} GiB" if size_bytes >= 1024**3 else f"{size_bytes / 1024**2:.0f} MiB"


def format_duration(seconds: float) -> str:
    whole = int(seconds)
    parts = [(whole // 3600, "h"), (whole % 3600 // 60, "min"), (whole % 60, "s")]
    return " ".join(f"{value} {unit}" for value, unit in parts if value) or f"{seconds:g} s"


def _number(value: Any) -> int:
    """A plausible cell or signal number; 0 for anything else."""
    return value if type(value) is int and 0 < value < _MAX_NUMBER else 0
