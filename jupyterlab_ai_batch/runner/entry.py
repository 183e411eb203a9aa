"""``python -m jupyterlab_ai_batch.runner SPEC.json``: one Attempt, from its RunSpec to its OutputSet.

Exit status: 0 all cells were executed; 1 the run failed, a ``failed`` event said why; 75 stopped by SIGTERM or SIGINT
after saving; 64 no usable spec; anything else is a crash.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import BinaryIO

from .. import wire
from ..errors import BatchError
from ..models import RunSpec
from .progress import Reporter

FAILED = 1
USAGE = 64


def main(argv: Sequence[str] | None = None) -> int:
    """Run the spec named on the command line; returns the exit status."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m jupyterlab_ai_batch.runner SPEC.json\n")
        return USAGE
    try:
        spec = wire.loads(RunSpec, Path(arguments[0]).read_bytes())
    except (OSError, wire.WireError) as exc:
        sys.stderr.write(f"ai-batch: the run cannot be read: {exc}\n")
        return USAGE
    return asyncio.run(run(spec, _take_stdout(), clock=_now))


async def run(spec: RunSpec, stdout: BinaryIO, *, clock: Callable[[], datetime]) -> int:
    """Execute one Attempt and store what it produced; returns the exit status."""
    started_ns = time.time_ns()
    stop = asyncio.Event()
    reporter = Reporter(stdout, clock=clock, on_closed=stop.set)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    from .attempt import AttemptRun

    try:
        return await AttemptRun(spec, reporter, stop, clock=clock, started_ns=started_ns).execute()
    except BatchError as exc:
        error = {
            "cell": 0,
            "ename": type(exc).__name__,
            "evalue": exc.message,
            "code": exc.code,
            "hint": exc.hint or "",
        }
        reporter.failed(error)
        return FAILED


def _take_stdout() -> BinaryIO:
    """Stdout for the line protocol alone: what libraries print goes to stderr, and no child inherits it."""
    protocol = os.dup(1)
    with suppress(OSError):
        os.dup2(2, 1)
    sys.stdout = sys.stderr
    return os.fdopen(protocol, "wb")


def _now() -> datetime:
    return datetime.now(timezone.utc)
