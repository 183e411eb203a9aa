"""When results are kept: after a cell, every few seconds, at the end, and in a hurry when the run is to stop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any, TypeVar

from ..errors import BatchError, RegistryUnreachableError, StorageError
from ..models import OutputSet
from .checkpoint import Outbox
from .patience import Patience, try_patiently
from .progress import Reporter
from .threads import start_thread

SAVE_INTERVAL_S = 5.0
STOP_SHARE = 2 / 3  # of the grace period: the kernel ends first, and the log is stored last
MAX_NAMED = 5
_LET_GO_S = 1.0

T = TypeVar("T")


class Keeper:
    """Has the Outbox store what ``read`` (the notebook as it is now) gives, in threads, one thing at a time.

    Attributes:
        refusal: Why nothing can ever be stored: the registry answers, and says no.
        refused: Set with it.
    """

    def __init__(self, outbox: Outbox, reporter: Reporter, *, interval_s: float, grace_s: float = 30.0) -> None:
        self.refusal: BatchError | None = None
        self.refused = asyncio.Event()
        self._outbox = outbox
        self._reporter = reporter
        self._interval_s = interval_s
        self._stop_s = grace_s * STOP_SHARE
        self._patience = Patience()
        self._hurried = asyncio.Event()
        self._storing: asyncio.Future[None] | None = None
        self._saved_at = monotonic()
        self._is_lost = False

    def hurry(self) -> None:
        """The run is to stop: what has to be sent has ``STOP_SHARE`` of the grace period from now on."""
        if self._outbox.is_remote:
            self._patience.limit(self._stop_s)
            self._hurried.set()

    def claim(self) -> None:
        """Make sure that something can be stored, while the kernel starts."""
        if self._outbox.is_remote:
            self._storing = asyncio.ensure_future(self._claim())

    async def resume(self, stop: asyncio.Event) -> bool:
        """Put in place what was saved last, before anything runs; False when the run was told to stop meanwhile.

        Raises:
            BatchError: the registry refuses, or stays away.
        """
        loop = asyncio.get_running_loop()
        has_number = threading.Event()

        def say(line: str) -> None:
            loop.call_soon_threadsafe(self._reporter.say, f"ai-batch: {line}")

        def work() -> None:
            self._outbox.claim()
            has_number.set()
            self._outbox.resume(say)

        working = start_thread(self._patiently(work, failing="what was saved cannot be read yet"))
        working.add_done_callback(lambda done: done.cancelled() or done.exception())
        stopped: asyncio.Future[Any] = asyncio.ensure_future(stop.wait())
        waited: set[asyncio.Future[Any]] = {working, stopped}
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if stop.is_set():
            self._outbox.give_up()
            self._is_lost = not has_number.is_set()  # and no other thread takes another one for the log
            self._reporter.say("ai-batch: stopped before it began; what was saved before is kept")
            return False
        working.result()
        return True

    def save(self, read: Callable[[], bytes]) -> None:
        """Save the notebook after a cell, unless it was saved a moment ago or something is being stored."""
        if monotonic() - self._saved_at < SAVE_INTERVAL_S or (self._storing and not self._storing.done()):
            return
        self._saved_at = monotonic()
        self._storing = asyncio.ensure_future(self._save(read()))

    async def store_now_and_then(self, read: Callable[[], bytes]) -> None:
        """Store every ``interval_s``; a beat that comes while the last one still stores is left out."""
        if self._interval_s <= 0:
            return
        while True:
            await asyncio.sleep(self._interval_s)
            if self._storing is not None:
                await asyncio.shield(self._storing)
            self._storing = asyncio.ensure_future(self._store(read()))
            await asyncio.shield(self._storing)

    async def settle(self) -> None:
        """Wait for what is being stored; in a hurry, end it."""
        if self._storing is None:
            return
        await self._done_or_hurried(self._storing)
        if not self._storing.done():
            await asyncio.wait({self._storing}, timeout=_LET_GO_S)
        if self._storing.done():
            await self._storing
        else:
            self._outbox.give_up()

    async def finish(self, notebook: bytes, *, complete: bool) -> OutputSet:
        """Store the result, and return it; what is not to wait for is stored first.

        Raises:
            BatchError: it could not be stored; a registry that is away is waited for as long as there is time.
        """
        if self._outbox.is_remote:
            with suppress(StorageError):
                await start_thread(lambda: self._outbox.save_notebook(notebook))
        if self._hurried.is_set():
            with suppress(BatchError):
                await self._in_time(lambda: self._outbox.store_quickly(notebook))
        try:
            return await self._in_time(self._patiently(lambda: self._outbox.store_final(notebook, complete=complete)))
        except BatchError:
            self._is_lost = True
            raise

    async def store_log(self) -> None:
        """Store what the log has got since; what has been stored before counts, so a failure is none."""
        if self._outbox.is_remote and not self._is_lost:
            self.hurry()
            with suppress(BatchError):
                await self._in_time(self._outbox.store_log)

    def explain(self, error: BatchError) -> str:
        """What a user should know when the last OutputSet could not be stored."""
        kept_at = self._outbox.last_stored_at
        kept = f"; what was stored at {kept_at:%H:%M:%S} UTC is kept" if self._outbox.is_remote and kept_at else ""
        return f"ai-batch: the results could not be stored: {error.message}{kept}"

    def _patiently(
        self, store: Callable[[], T], *, failing: str = "the results could not be stored yet"
    ) -> Callable[[], T]:
        loop = asyncio.get_running_loop()

        def say(error: RegistryUnreachableError) -> None:
            line = f"ai-batch: {failing}, trying again: {error.message}"
            loop.call_soon_threadsafe(self._reporter.say, line)

        return lambda: try_patiently(store, self._patience, on_failure=say)

    async def _in_time(self, work: Callable[[], T]) -> T:
        """Do it in a thread; when the run is to stop, only for as long as there is time."""
        working = start_thread(work)
        await self._done_or_hurried(working)
        if self._patience.is_limited:
            await asyncio.wait({working}, timeout=self._patience.left_s)
        if not working.done():
            self._is_lost = True
            self._outbox.give_up()
            raise RegistryUnreachableError("There was no time left to send everything to the registry.")
        return working.result()

    async def _done_or_hurried(self, working: asyncio.Future[Any]) -> None:
        hurried: asyncio.Future[Any] = asyncio.ensure_future(self._hurried.wait())
        try:
            await asyncio.wait({working, hurried}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            hurried.cancel()

    async def _claim(self) -> None:
        try:
            await start_thread(self._outbox.claim)
        except BatchError as exc:
            if exc.retryable:
                self._say_not_stored(exc)
            else:
                self.refusal = exc
                self.refused.set()

    async def _store(self, notebook: bytes) -> None:
        try:
            await start_thread(lambda: self._outbox.store(notebook))
        except BatchError as exc:
            self._say_not_stored(exc)
        else:
            self._reporter.stored()

    async def _save(self, notebook: bytes) -> None:
        with suppress(StorageError):
            await start_thread(lambda: self._outbox.save_notebook(notebook))

    def _say_not_stored(self, error: BatchError) -> None:
        if not self._hurried.is_set():
            self._reporter.say(f"ai-batch: intermediate results could not be stored: {error.message}")


def describe_stored(stored: OutputSet) -> str:
    """What an OutputSet has, and what it lacks."""
    others = [file for file in stored.files if file.path != stored.executed_notebook]
    count = "1 other file" if len(others) == 1 else f"{len(others)} other files"
    size = sum(file.size_bytes for file in stored.files)
    said = f"the notebook and {count}, {size / 1e6:.1f} MB in all"
    lacking = ", ".join(f"{path} ({reason})" for path, reason in stored.skipped[:MAX_NAMED])
    more = f" and {len(stored.skipped) - MAX_NAMED} more" if len(stored.skipped) > MAX_NAMED else ""
    return f"{said}; not saved: {lacking}{more}" if lacking else said
