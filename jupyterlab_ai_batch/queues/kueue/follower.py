"""Follows one kind of object by list and watch, through every failure, and knows how old its view is."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import aclosing

from ...errors import BatchError, QueueError, QueueForbiddenError
from .api import ChangeKind, ClusterApi, Json, Resource
from .pauses import Pauses
from .store import ObjectStore

SETTLED_S = 5.0  # a watch that stood for so long was no failure
RELIST_AFTER = 3  # failed watches in a row: the version that we go on from may be what is wrong
FORBIDDEN_PAUSE_S = 60.0

_log = logging.getLogger(__name__)


class Follower:
    """One list-watch. ``run`` it in a task; read it any time.

    Attributes:
        error: Why it does not follow at present; None while it does.
    """

    def __init__(
        self,
        api: ClusterApi,
        resource: Resource,
        *,
        on_change: Callable[[], None],
        labels: str = "",
        keep: Callable[[Json], bool] = lambda _: True,
        pauses: Pauses | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``clock``: seconds of a clock that never goes back."""
        self._api = api
        self._resource = resource
        self._labels = labels
        self._on_change = on_change
        self._pauses = pauses or Pauses()
        self._clock = clock
        self._store = ObjectStore(keep=keep)
        self._known_at: float | None = None
        self._stands_since: float | None = None
        self.error: BatchError | None = None
        self.settled = asyncio.Event()

    @property
    def objects(self) -> Mapping[str, Json]:
        return self._store.objects

    @property
    def is_forbidden(self) -> bool:
        """This account may not follow it."""
        return isinstance(self.error, QueueForbiddenError)

    @property
    def age_s(self) -> float | None:
        """Seconds since the view was last known to be the present; 0 while it is; None before the first listing."""
        if self._stands_since is not None:
            return 0.0
        return None if self._known_at is None else max(0.0, self._clock() - self._known_at)

    async def run(self) -> None:
        """Follow until cancelled."""
        try:
            while True:
                pause_s = await self._follow_once()
                await asyncio.sleep(pause_s)
        finally:
            self._fell()

    async def _follow_once(self) -> float:
        """List where that is due, watch until that ends; the seconds to wait then."""
        error: BatchError | None = None
        try:
            if self._store.version is None:
                await self._list()
            await self._watch()
        except BatchError as exc:
            error = exc
        except Exception as exc:  # noqa: BLE001 - the task outlives whatever an answer does to it
            _log.exception("following %s failed", self._resource)
            error = QueueError(f"An answer of the cluster cannot be used ({type(exc).__name__}).")
        lasted_s = self._fell()
        if lasted_s >= SETTLED_S:
            self._pauses.reset()
        if error is not None:
            return self._failed(error)
        return 0.0 if lasted_s >= SETTLED_S else self._pauses.next()

    async def _list(self) -> None:
        listing = await self._api.list(self._resource, labels=self._labels)
        changed = self._store.replace(listing)
        self._known_at = self._clock()
        self.error = None
        self.settled.set()
        if changed:
            self._on_change()

    async def _watch(self) -> None:
        version = self._store.version or ""
        async with aclosing(self._api.watch(self._resource, version=version, labels=self._labels)) as changes:
            async for change in changes:
                if change.kind is ChangeKind.OPENED:
                    self._stood()
                elif self._store.apply(change):
                    self._on_change()

    def _stood(self) -> None:
        again = self.error is not None
        self._stands_since, self.error = self._clock(), None
        self.settled.set()
        if again:
            self._on_change()

    def _fell(self) -> float:
        """The watch has ended; the seconds for which it stood."""
        if self._stands_since is None:
            return 0.0
        self._known_at = self._clock()
        lasted_s, self._stands_since = self._known_at - self._stands_since, None
        return lasted_s

    def _failed(self, error: BatchError) -> float:
        first = self.error is None
        self.error = error
        self.settled.set()
        if self._pauses.failures + 1 >= RELIST_AFTER:
            self._store.version = None
        if first:
            _log.info("%s cannot be followed now: %s", self._resource, error.message)
            self._on_change()
        pause_s = self._pauses.next(error if isinstance(error, QueueError) else None)
        return FORBIDDEN_PAUSE_S if isinstance(error, QueueForbiddenError) else pause_s
