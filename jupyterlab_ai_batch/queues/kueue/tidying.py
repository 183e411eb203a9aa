"""What is left over: Jobs that nobody needs any more, deletions that did not get through, old files."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from ...errors import BatchError
from ...oci.layout import ImageLayout
from ...oci.storage import remove_tree
from ...tasks import end_tasks
from .api import JOBS, ClusterApi, Json
from .cache import has_ended
from .entries import entry_of
from .fetching import forget_outputs
from .json_fields import field
from .memory import Memory, Remembered, expendable
from .paths import KueuePaths
from .store import name_of, uid_of
from .waiting import in_thread

INTERVAL_S = 60.0
KEEP_RELEASED = 200
KEEP_EMPTY = timedelta(days=1)

_log = logging.getLogger(__name__)


class Tidier:
    """Tidies up in the background, now and then while something is followed."""

    def __init__(
        self,
        api: ClusterApi,
        memory: Memory,
        paths: KueuePaths,
        layout: ImageLayout,
        *,
        now: Callable[[], datetime],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._memory = memory
        self._paths = paths
        self._layout = layout
        self._now = now
        self._clock = clock
        self._tidied_at: float | None = None
        self._task: asyncio.Task[None] | None = None

    def tidy(self, jobs: Sequence[Json]) -> None:
        """Finish what was begun with these Jobs, unless that was done just now."""
        if self._tidied_at is not None and self._clock() - self._tidied_at < INTERVAL_S:
            return
        if self._task is None or self._task.done():
            self._tidied_at = self._clock()
            self._task = asyncio.get_running_loop().create_task(self._tidy(list(jobs)))

    async def remove(self, job: Json) -> None:
        """Delete a Job that has ended and is not needed; what does not get through is tried again later."""
        try:
            await self._api.delete(JOBS, name_of(job), uid=uid_of(job))
        except BatchError as exc:
            _log.info("the Job %s is not deleted yet: %s", name_of(job), exc.message)

    async def prune(self) -> None:
        """Drop logs and outputs of old Submissions whose outputs are safe at home.

        Raises:
            StorageError
        """
        await in_thread(self._prune)

    async def stop(self) -> None:
        if self._task is not None:
            await end_tasks(self._task)

    async def _tidy(self, jobs: Sequence[Json]) -> None:
        try:
            for job in jobs:
                await self._finish(job)
        except BatchError as exc:
            _log.info("old Jobs are looked at again later: %s", exc.message)

    async def _finish(self, job: Json) -> None:
        entry = entry_of(job)
        remembered = await in_thread(self._memory.get, entry.submission.id) if entry is not None else None
        if remembered is None or field(job, "metadata", "deletionTimestamp"):
            return
        if not has_ended(job):
            if remembered.cancel_asked_at is not None:  # whoever was asked died before the Job was told
                await self._api.delete(JOBS, name_of(job), uid=uid_of(job), foreground=True)
        elif remembered.released_at is not None or self._left_nothing(remembered):
            await self.remove(job)

    def _left_nothing(self, remembered: Remembered) -> bool:
        """It ended long ago, and there is nothing that could come home."""
        ended = remembered.ended
        return ended is not None and ended.outputs is None and self._now() - ended.observed_at > KEEP_EMPTY

    def _prune(self) -> None:
        dropped = expendable(self._memory.everything(), keep=KEEP_RELEASED)
        for submission_id in dropped:
            forget_outputs(self._layout, submission_id)
            remove_tree(self._paths.logs(submission_id))
            self._memory.forget(submission_id)
        if dropped:
            self._layout.collect_garbage()
