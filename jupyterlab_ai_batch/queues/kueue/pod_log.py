"""Follows the log of one pod into a file, and hears what the runner says in it."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime

from ...errors import QueueError, StorageError
from .api import ClusterApi, Json
from .json_fields import field, moment, records
from .log_lines import LogReader, RunnerReport
from .log_spool import LogCursor, LogSpool
from .pauses import Pauses
from .store import name_of, uid_of
from .waiting import in_thread, with_silences

FLUSH_S = 0.2
LOOK_AGAIN_S = 1.0
_SAFE_NAME = re.compile(r"[A-Za-z0-9-]{1,64}\Z")
_ENDED = frozenset({"Succeeded", "Failed"})

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggingPod:
    """A pod whose program has begun.

    Attributes:
        has_ended: Nothing is added to its log any more.
    """

    name: str
    uid: str
    begun_at: datetime
    has_ended: bool


def parse_logging_pod(pod: Json, *, now: datetime) -> LoggingPod | None:
    """None for a pod that has no log yet, or whose uid is no name for a file."""
    uid = uid_of(pod)
    if not _SAFE_NAME.match(uid) or not name_of(pod) or not _has_begun(pod):
        return None
    return LoggingPod(
        name=name_of(pod),
        uid=uid,
        begun_at=moment(field(pod, "metadata", "creationTimestamp")) or now,
        has_ended=field(pod, "status", "phase") in _ENDED,
    )


def _has_begun(pod: Json) -> bool:
    states = [field(entry, "state") for entry in records(field(pod, "status", "containerStatuses"))]
    return any(isinstance(field(state, word), Mapping) for state in states for word in ("running", "terminated"))


class PodLog:
    """The log of one pod, followed until it has ended. ``run`` it in a task.

    Attributes:
        caught_up: Set once everything up to now was heard.
    """

    def __init__(
        self,
        api: ClusterApi,
        pod: LoggingPod,
        spool: LogSpool,
        *,
        look: Callable[[], LoggingPod | None],
        on_change: Callable[[], None],
        pauses: Pauses,
    ) -> None:
        """``look``: the pod as it is now; None when it is gone. ``on_change``: the runner said something new."""
        self._api = api
        self._pod = pod
        self._spool = spool
        self._look = look
        self._on_change = on_change
        self._pauses = pauses
        self._cursor = LogCursor(begun_at=pod.begun_at)
        self._reader = LogReader(self._cursor.place, self._cursor.report)
        self._unwritten = bytearray()
        self._written = self._cursor
        self._written_at = 0.0
        self._is_kept = True
        self.caught_up = asyncio.Event()

    @property
    def report(self) -> RunnerReport:
        return self._reader.report

    @property
    def is_complete(self) -> bool:
        """All of it is in the file."""
        return self._cursor.complete

    async def run(self) -> None:
        """Follow until the log has ended, or the pod is gone."""
        try:
            while not await self._take():  # noqa: ASYNC110 - another process holds the file
                await asyncio.sleep(LOOK_AGAIN_S)
            if not self.is_complete:
                await self._follow()
        except StorageError as exc:
            _log.warning("the log of %s cannot be kept: %s", self._pod.name, exc.message)
        finally:
            self.caught_up.set()
            self._spool.leave()
            self._on_change()

    async def _take(self) -> bool:
        """Whether it is ours to write, or done; else take over what another process has heard."""
        cursor = await in_thread(self._spool.take, self._pod.begun_at)
        is_ours = cursor is not None
        if cursor is None:
            cursor = await in_thread(self._spool.cursor)
            self.caught_up.set()
        if cursor is not None and cursor != self._cursor:
            self._cursor = self._written = cursor
            self._reader = LogReader(cursor.place, cursor.report)
            self._on_change()
        return is_ours or self.is_complete

    async def _follow(self) -> None:
        try:
            is_whole = await self._read_all()
        finally:
            await self._write()
        if is_whole and self._is_kept:
            self._hear(self._reader.finish())
            self._cursor = replace(self._cursor, complete=True)
            await self._write()

    async def _read_all(self) -> bool:
        """Read until nothing more can come; whether all of it was read."""
        is_whole = await self._read(follow=False)
        self.caught_up.set()
        while (pod := self._look()) is not None:
            is_whole = await self._read(follow=not pod.has_ended)
            if is_whole and pod.has_ended:
                return True
            await asyncio.sleep(self._pauses.next())
        return is_whole or await self._read(follow=False)

    async def _read(self, *, follow: bool) -> bool:
        """One stream of what is new; whether it stood, and ended by itself."""
        stands = False
        self._reader.begin()
        stream = self._api.stream_log(self._pod.name, since=self._reader.place.since, follow=follow)
        try:
            async with aclosing(stream), aclosing(with_silences(stream, FLUSH_S)) as pieces:
                async for piece in pieces:
                    stands = True
                    await self._note(piece)
        except QueueError as exc:
            _log.debug("the log of %s broke off: %s", self._pod.name, exc.message)
            return False
        return stands

    async def _note(self, piece: bytes | None) -> None:
        """A piece of the log, or None: it is silent."""
        if piece:
            self._pauses.reset()
            self._hear(self._reader.feed(piece))
        is_due = time.monotonic() - self._written_at >= FLUSH_S
        await (self._write() if piece is None or is_due else asyncio.sleep(0))

    def _hear(self, text: bytes) -> None:
        report = self._cursor.report
        self._cursor = replace(self._cursor, place=self._reader.place, report=self._reader.report)
        self._unwritten += text
        if report != self._cursor.report:
            self._on_change()

    async def _write(self) -> None:
        """Bring the file up to what was heard; a full disk loses text, never the run."""
        if not self._is_kept or (not self._unwritten and self._cursor == self._written):
            return
        try:
            await in_thread(self._append)
        except StorageError as exc:
            self._is_kept = False
            _log.warning("the log of %s is not kept any more: %s", self._pod.name, exc.message)
        self._written_at = time.monotonic()

    def _append(self) -> None:
        """In a thread; whoever waits for it touches nothing meanwhile."""
        size = self._spool.append(bytes(self._unwritten), self._cursor)
        self._unwritten.clear()
        self._cursor = self._written = replace(self._cursor, size_bytes=size)
