"""``python -m jupyterlab_ai_batch.runner [SPEC.json]``: one Attempt, from its RunSpec to its OutputSet.

Without an argument the RunSpec is the JSON text in ``AI_BATCH_RUN``, and ``AI_BATCH_POD_UID`` says which pod this is.
The kernel sees neither, nor any other variable of ours but ``AI_BATCH_JOB=1``.

Exit status: 0 all cells were executed; 1 the run failed, a ``failed`` event said why; 75 stopped by SIGTERM or SIGINT
after saving; 64 no usable spec; anything else is a crash.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
import uuid
from collections.abc import Callable, MutableMapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from .. import wire
from ..errors import BatchError
from ..models import RunSpec
from .progress import LineStream, Reporter

if TYPE_CHECKING:
    from .attempt_log import AttemptLog
    from .checkpoint import Outbox
    from .usage import UsageMeter

FAILED = 1
USAGE = 64
RUN_VARIABLE = "AI_BATCH_RUN"
POD_VARIABLE = "AI_BATCH_POD_UID"
MAX_POD_UID = 64

_OWN_PREFIX = "AI_BATCH_"
_FOR_THE_KERNEL = "AI_BATCH_JOB"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the spec named on the command line, or else in the environment; returns the exit status."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    own = {} if arguments else take_own_variables(os.environ)
    if len(arguments) > 1 or not (arguments or RUN_VARIABLE in own):
        sys.stderr.write(f"usage: python -m jupyterlab_ai_batch.runner SPEC.json, or with {RUN_VARIABLE} set\n")
        return USAGE
    try:
        spec = wire.loads(RunSpec, Path(arguments[0]).read_bytes() if arguments else own[RUN_VARIABLE])
    except (OSError, wire.WireError) as exc:
        sys.stderr.write(f"ai-batch: the run cannot be read: {exc}\n")
        return USAGE
    pod_uid = own.get(POD_VARIABLE, "")[:MAX_POD_UID] or uuid.uuid4().hex
    return run_remotely(spec, pod_uid) if spec.outputs_to else run_locally(spec)


def take_own_variables(environ: MutableMapping[str, str]) -> dict[str, str]:
    """Remove from ``environ``, and return, the variables of ours that are not for the kernel."""
    names = [name for name in environ if name.startswith(_OWN_PREFIX) and name != _FOR_THE_KERNEL]
    return {name: environ.pop(name) for name in names}


def run_locally(spec: RunSpec) -> int:
    """Run with the outbox for everything; who reads stdout and stderr keeps the log."""
    return asyncio.run(run(spec, _take_stdout(), clock=_now))


def run_remotely(spec: RunSpec, pod_uid: str) -> int:
    """Run in a pod: OutputSets and the log go to a registry. Does not return."""
    from .attempt_log import AttemptLog
    from .checkpoint import LOG_FILE

    log = AttemptLog(_take_stdout(), Path(spec.outbox, LOG_FILE))
    log.take_descriptors()
    status = FAILED
    try:
        status = asyncio.run(run(spec, log, clock=_now, log=log, pod_uid=pod_uid))
    except BaseException:  # noqa: BLE001 - os._exit would say nothing of it
        sys.excepthook(*sys.exc_info())
    log.close()
    # A thread may hang in a connection that was given up, and Python would wait for it past the pod's grace period.
    os._exit(status)


async def run(
    spec: RunSpec,
    stdout: LineStream,
    *,
    clock: Callable[[], datetime],
    log: AttemptLog | None = None,
    pod_uid: str = "",
) -> int:
    """Execute one Attempt and store what it produced; returns the exit status."""
    started_ns = time.time_ns()
    stop = asyncio.Event()
    reporter = Reporter(stdout, clock=clock, on_closed=stop.set)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    from .attempt import AttemptRun
    from .usage import UsageMeter

    meter = UsageMeter(is_alone=bool(spec.outputs_to))
    outbox = _make_outbox(spec, log, pod_uid, meter, clock=clock, started_ns=started_ns)
    attempt = AttemptRun(spec, reporter, stop, outbox, meter)
    try:
        return await attempt.execute()
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
    finally:
        await attempt.store_log()


def _make_outbox(
    spec: RunSpec,
    log: AttemptLog | None,
    pod_uid: str,
    meter: UsageMeter,
    *,
    clock: Callable[[], datetime],
    started_ns: int,
) -> Outbox:
    from .checkpoint import Outbox
    from .destination import LayoutDestination

    if not spec.outputs_to:
        here = LayoutDestination(Path(spec.outbox), former=[Path(path) for path in spec.former])
        return Outbox(spec, here, meter=meter, clock=clock, started_ns=started_ns)
    from .claim import Claim
    from .remote import open_repository

    claim = Claim(spec.submission_id, pod_uid=pod_uid, notebook=spec.notebook, clock=clock)
    destination = open_repository(spec, claim, environ=dict(os.environ))
    return Outbox(spec, destination, log=log, meter=meter, clock=clock, started_ns=started_ns)


def _take_stdout() -> BinaryIO:
    """Stdout for the line protocol alone: what libraries print goes to stderr, and no child inherits it."""
    protocol = os.dup(1)
    with suppress(OSError):
        os.dup2(2, 1)
    sys.stdout = sys.stderr
    return os.fdopen(protocol, "wb")


def _now() -> datetime:
    return datetime.now(timezone.utc)
