"""The kernel's process: started with its output in our hands, and ended with everything that it started."""

from __future__ import annotations

import asyncio
import codecs
import ctypes
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic

from jupyter_client.kernelspec import NoSuchKernel
from jupyter_client.manager import AsyncKernelManager

from ..errors import KernelStartError, KernelUnknownError
from .progress import Reporter

SHUTDOWN_WAIT_S = 20.0
EXIT_WAIT_S = 10.0
ORPHAN_GRACE_S = 2.0
ORPHAN_LIMIT_S = 10.0
INTERRUPT_SHARE = 0.1  # of the grace period: what a cell gets that catches KeyboardInterrupt to write a checkpoint
TAIL_CHARS = 4000
PR_SET_CHILD_SUBREAPER = 36
_POLL_S = 0.02


class Kernel:
    """One kernel process, what it prints outside of cells, and its descendants.

    Attributes:
        manager: What nbclient works with.
        tail: The last ``TAIL_CHARS`` characters that the process itself wrote to its stdout and stderr.
    """

    def __init__(self, kernel_name: str, reporter: Reporter) -> None:
        self.manager = AsyncKernelManager(kernel_name=kernel_name)
        self.manager.shutdown_wait_time = SHUTDOWN_WAIT_S
        self.tail = ""
        self._name = kernel_name
        self._reporter = reporter
        self._returncode: int | None = None

    @property
    def language(self) -> str:
        """The kernelspec's language."""
        return str(getattr(self.manager.kernel_spec, "language", "") or "python")

    async def start(self, *, cwd: Path, environ: Mapping[str, str]) -> None:
        """Launch the process; it answers later.

        Raises:
            KernelUnknownError: no such kernelspec.
            KernelStartError: its program cannot be executed.
        """
        reading, writing = os.pipe()
        try:
            await self.manager.start_kernel(
                cwd=str(cwd), env=dict(environ), stdout=writing, stderr=writing, extra_arguments=self._arguments()
            )
        except NoSuchKernel as exc:
            os.close(reading)
            raise KernelUnknownError(
                f"There is no kernel named {self._name!r} where your notebook runs.",
                hint="Choose a kernel that is installed in the notebook's environment, then submit again.",
            ) from exc
        except (OSError, RuntimeError, ValueError) as exc:
            os.close(reading)
            raise KernelStartError(f"The kernel {self._name!r} cannot be started: {exc}.") from exc
        finally:
            os.close(writing)
        await self._read_output(reading)

    def _arguments(self) -> list[str]:
        spec = self.manager.kernel_spec
        is_ipython = spec is not None and getattr(self.manager, "ipykernel", False)
        return ["--HistoryManager.hist_file=:memory:"] if is_ipython else []

    def exit_status(self) -> int | None:
        """The process's end as subprocess has it (negative: a signal); None while it lives or when not known."""
        process = getattr(self.manager.provisioner, "process", None)
        if process is not None:
            self._returncode = process.poll()
        return self._returncode

    async def interrupt(self) -> None:
        """Let the running cell end with KeyboardInterrupt."""
        with suppress(RuntimeError, OSError):
            await self.manager.interrupt_kernel()

    async def wait_for_exit(self) -> None:
        """Give a kernel that was asked to exit the time for it."""
        until = monotonic() + EXIT_WAIT_S
        while self.exit_status() is None and monotonic() < until:  # noqa: ASYNC110 - processes tell no event
            await asyncio.sleep(_POLL_S)

    async def end(self, *, now: bool) -> None:
        """End the kernel, gently unless ``now``, and then whatever processes it left behind."""
        self.exit_status()
        group = getattr(self.manager.provisioner, "pgid", None)
        with suppress(RuntimeError, OSError):
            await self.manager.shutdown_kernel(now=now)
        if group is not None and group != os.getpgid(0):
            with suppress(OSError):
                os.killpg(group, signal.SIGKILL if now else signal.SIGTERM)
        await end_orphans(now=now)

    async def _read_output(self, fd: int) -> None:
        loop = asyncio.get_running_loop()
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        os.set_blocking(fd, False)

        def read() -> None:
            try:
                chunk = os.read(fd, 65536)
            except BlockingIOError:
                return
            if not chunk:
                loop.remove_reader(fd)
                os.close(fd)
                return
            text = decoder.decode(chunk)
            self.tail = (self.tail + text)[-TAIL_CHARS:]
            self._reporter.text("kernel", text)

        loop.add_reader(fd, read)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, so that it can be found and ended (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


async def end_orphans(*, now: bool) -> None:
    """End all children of this process: SIGTERM first unless ``now``, SIGKILL after ``ORPHAN_GRACE_S``."""
    begun = monotonic()
    asked: set[int] = set()
    while monotonic() - begun < ORPHAN_LIMIT_S:
        _reap()
        children = _children()
        if not children:
            return
        gentle = not now and monotonic() - begun < ORPHAN_GRACE_S
        for pid in children:
            if not gentle or pid not in asked:
                asked.add(pid)
                with suppress(OSError):
                    os.kill(pid, signal.SIGTERM if gentle else signal.SIGKILL)
        await asyncio.sleep(_POLL_S)


def _reap() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _children() -> list[int]:
    """Process ids whose parent is this process (Linux; elsewhere none are known)."""
    own = os.getpid()
    try:
        processes = [path.name for path in Path("/proc").iterdir() if path.name.isdecimal()]
    except OSError:
        return []
    return [int(pid) for pid in processes if _parent_of(pid) == own]


def _parent_of(pid: str) -> int | None:
    try:
        stat_line = Path("/proc", pid, "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return int(stat_line.rpartition(")")[2].split()[1])
