"""The registry's histories of this user's Submissions: read in threads, and again when there is reason to."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TypeVar

from ...errors import BatchError, RegistryDeniedError
from ...tasks import end_tasks
from .history import History, read_history
from .pauses import Pauses
from .repository import OutputsRepository
from .waiting import in_thread

T = TypeVar("T")
READS_AT_ONCE = 4

_log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class _Known:
    """Of one Submission: what was read last, and for what reason.

    Attributes:
        is_read: It was read at least once.
        reason: Anything that differs when it should be read again.
    """

    history: History = field(default_factory=History)
    is_read: bool = False
    reason: Hashable = None
    pauses: Pauses = field(default_factory=Pauses)
    task: asyncio.Task[None] | None = None


class Histories:
    """For one event loop."""

    def __init__(self, open_repository: Callable[[], OutputsRepository], *, on_change: Callable[[], None]) -> None:
        """``open_repository`` may block; it is called again when the registry does not let its credentials in.

        ``on_change``: a history was read that is otherwise than before.
        """
        self._open = open_repository
        self._on_change = on_change
        self._known: dict[str, _Known] = {}
        self._turns = asyncio.Semaphore(READS_AT_ONCE)
        self._repository: OutputsRepository | None = None
        self._opening = threading.Lock()

    def known(self, submission_id: str) -> History:
        """As last read; empty before."""
        known = self._known.get(submission_id)
        return known.history if known is not None else History()

    def want(self, submission_id: str, reason: Hashable) -> None:
        """Read it in the background, unless that was done for the same reason; until it has worked."""
        known = self._known.setdefault(submission_id, _Known())
        if known.reason == reason and known.task is not None:
            return
        known.reason = reason
        if known.task is None or known.task.done():
            known.task = asyncio.get_running_loop().create_task(self._read_patiently(submission_id, known))

    async def at_least_once(self, submission_id: str) -> History:
        """As last read; read now when it never was.

        Raises:
            RegistryError, StorageError
        """
        known = self._known.get(submission_id)
        return known.history if known is not None and known.is_read else await self.fresh(submission_id)

    async def fresh(self, submission_id: str) -> History:
        """As it is now.

        Raises:
            RegistryError, StorageError
        """
        known = self._known.setdefault(submission_id, _Known())
        async with self._turns:
            before = known.history
            known.history = await in_thread(self._read, submission_id, before)
        known.is_read = True
        if known.history != before:
            self._on_change()
        return known.history

    async def with_repository(self, work: Callable[[OutputsRepository], T]) -> T:
        """Do something with the repository, in a thread.

        Raises:
            RegistryError, StorageError
        """
        async with self._turns:
            return await in_thread(self._in_repository, work)

    def forget(self, submission_id: str) -> None:
        known = self._known.pop(submission_id, None)
        if known is not None and known.task is not None:
            known.task.cancel()

    async def stop(self) -> None:
        """Read no more, and let go of the connection."""
        tasks = [known.task for known in self._known.values() if known.task is not None]
        self._known.clear()
        await end_tasks(*tasks)
        repository, self._repository = self._repository, None
        if repository is not None:
            await in_thread(repository.close)

    async def _read_patiently(self, submission_id: str, known: _Known) -> None:
        reason = object()
        while reason != known.reason:
            reason = known.reason
            try:
                await self.fresh(submission_id)
            except BatchError as exc:
                _log.debug("%s: the registry's history cannot be read: %s", submission_id, exc.message)
                reason = object()
                await asyncio.sleep(known.pauses.next())
            else:
                known.pauses.reset()

    def _read(self, submission_id: str, before: History) -> History:
        return self._in_repository(lambda repository: read_history(repository, submission_id, known=before))

    def _in_repository(self, work: Callable[[OutputsRepository], T]) -> T:
        """In a thread. A connection that was not let in is not used again: credentials may be new by then."""
        with self._opening:
            if self._repository is None:
                self._repository = self._open()
            repository = self._repository
        try:
            return work(repository)
        except RegistryDeniedError:
            with self._opening:
                if self._repository is repository:
                    self._repository = None
                    repository.close()
            raise
