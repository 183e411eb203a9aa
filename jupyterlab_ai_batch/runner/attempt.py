"""One Attempt: kernel, cells, checkpoints and the end, whichever way it comes."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BatchError, KernelStartError
from ..models import RunSpec
from .checkpoint import Outbox
from .keeping import Keeper, describe_stored
from .kernel import INTERRUPT_SHARE, Kernel, adopt_orphans
from .progress import Reporter
from .usage import UsageMeter

if TYPE_CHECKING:
    from .execute import JobClient

SUCCEEDED = 0
FAILED = 1
STOPPED = 75
JOB_VARIABLE = "AI_BATCH_JOB"


class AttemptRun:
    """The run of one RunSpec; ``execute`` is called once."""

    def __init__(
        self,
        spec: RunSpec,
        reporter: Reporter,
        stop: asyncio.Event,
        outbox: Outbox,
        meter: UsageMeter,
    ) -> None:
        self._spec = spec
        self._reporter = reporter
        self._stop = stop
        self._kernel = Kernel(spec.kernel_name, reporter)
        self._outbox = outbox
        self._meter = meter
        self._keeper = Keeper(outbox, reporter, interval_s=spec.checkpoint_interval_s, grace_s=spec.grace_s)
        self._error: Mapping[str, Any] | None = None
        self._stopped = False

    async def execute(self) -> int:
        """Run to the end; returns the exit status.

        Raises:
            BatchError: nothing could be executed, or the result could not be stored.
        """
        adopt_orphans()
        hurrying = asyncio.create_task(self._hurry_when_stopped())
        try:
            if self._spec.resume and not await self._keeper.resume(self._stop):
                return STOPPED
            client = await self._run()
            return await self._finish(client)
        finally:
            hurrying.cancel()

    async def store_log(self) -> None:
        """Store what the log has got since ``execute`` stored it."""
        await self._keeper.store_log()

    async def _run(self) -> JobClient:
        """Run the cells and end every process."""
        healthy = False
        try:
            client = await self._prepare()
            healthy = await self._run_until_stopped(client)
        finally:
            if healthy and await client.ask_to_exit():
                await self._kernel.wait_for_exit()
            await self._kernel.end(now=not healthy)
            await self._keeper.settle()
        return client

    async def _prepare(self) -> JobClient:
        """Start the kernel, and read everything else while it starts."""
        notebook_file = Path(self._spec.work_root, self._spec.notebook)
        environ = {**os.environ, JOB_VARIABLE: "1", "JPY_SESSION_NAME": str(notebook_file)}
        await self._kernel.start(cwd=notebook_file.parent, environ=environ)
        self._keeper.claim()
        with _without_iri_grammar():
            from .execute import JobClient
            from .notebook import inject_parameters, read_notebook

        notebook = read_notebook(notebook_file)
        inject_parameters(notebook, self._spec.parameters, self._kernel.language)
        self._outbox.open()
        client = JobClient(
            notebook,
            self._reporter,
            km=self._kernel.manager,
            kernel_name=self._spec.kernel_name,
            on_cell_end=lambda: self._keeper.save(lambda: self._content(client)),
        )
        self._reporter.progress(0, client.of)
        return client

    async def _run_until_stopped(self, client: JobClient) -> bool:
        """Run the cells; True when the kernel is well afterwards and may end in peace."""
        cells = asyncio.create_task(self._run_cells(client))
        stopped = asyncio.create_task(self._stop.wait())
        refused = asyncio.create_task(self._keeper.refused.wait())
        beat = asyncio.create_task(self._keeper.store_now_and_then(lambda: self._content(client)))
        metering = asyncio.create_task(self._meter.watch())
        try:
            await asyncio.wait({cells, stopped, refused}, return_when=asyncio.FIRST_COMPLETED)
            if cells.done():
                healthy = cells.result()
                if self._error is not None:
                    self._reporter.failed(self._error)
                return healthy
            if self._keeper.refusal is not None:
                raise self._keeper.refusal
            self._stopped = True
            self._reporter.say("ai-batch: stopping; results so far are being saved")
            client.stop_after_cell()
            await self._kernel.interrupt()
            await asyncio.wait({cells}, timeout=self._spec.grace_s * INTERRUPT_SHARE)
            return False
        finally:
            self._meter.look()
            tasks = (cells, stopped, refused, beat, metering)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _run_cells(self, client: JobClient) -> bool:
        from nbclient.exceptions import CellExecutionError, DeadKernelError

        try:
            await client.connect()
        except (RuntimeError, OSError) as exc:
            raise self._start_error(exc) from exc
        try:
            await client.run_cells()
        except CellExecutionError as exc:
            self._fail(client, code="cell_failed", ename=exc.ename, evalue=exc.evalue)
        except DeadKernelError:
            self._fail_dead(client)
            return False
        return True

    def _start_error(self, exc: Exception) -> KernelStartError:
        said = [line.strip() for line in self._kernel.tail.splitlines() if line.strip()]
        return KernelStartError(
            f"The kernel {self._spec.kernel_name!r} did not start: {said[-1] if said else exc}",
            hint="Start the notebook once in JupyterLab; when that works, submit it again.",
        )

    def _fail_dead(self, client: JobClient) -> None:
        status = self._kernel.exit_status()
        if status is not None and status < 0:
            text = f"The kernel was ended by signal {-status}."
            self._fail(client, code="kernel_died", ename="DeadKernelError", evalue=text, signal=-status)
        else:
            text = f"The kernel ended by itself with status {status}."
            self._fail(client, code="kernel_died", ename="DeadKernelError", evalue=text)

    def _fail(self, client: JobClient, **error: Any) -> None:
        self._error = {"cell": client.current_cell, **error}

    async def _finish(self, client: JobClient) -> int:
        stopped = self._stopped
        try:
            stored = await self._keeper.finish(self._content(client), complete=not stopped)
        except BatchError as exc:
            if self._error is None and not stopped:
                raise
            self._reporter.say(self._keeper.explain(exc))
        else:
            if stopped:
                self._reporter.say(f"ai-batch: saved {describe_stored(stored)}")
            self._reporter.stored()
        if stopped:
            return STOPPED
        if self._error is not None:
            return FAILED
        self._reporter.finished()
        return SUCCEEDED

    async def _hurry_when_stopped(self) -> None:
        await self._stop.wait()
        self._keeper.hurry()

    @staticmethod
    def _content(client: JobClient) -> bytes:
        from .notebook import write_notebook

        client.settle()
        return write_notebook(client.nb)


@contextmanager
def _without_iri_grammar() -> Iterator[None]:
    """Import nbformat without a grammar for IRIs, which no notebook field needs.

    jsonschema, which nbformat imports, compiles one (0.9 s of CPU) where ``rfc3987_syntax`` is installed.
    """
    modules: dict[str, Any] = sys.modules
    hidden = modules.setdefault("rfc3987_syntax", None)
    try:
        yield
    finally:
        if hidden is None:
            modules.pop("rfc3987_syntax", None)
