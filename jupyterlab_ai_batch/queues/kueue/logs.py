"""The logs of all of this user's pods: followed while anybody looks, kept on this machine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime

from .api import ClusterApi, Json
from .log_lines import RunnerReport
from .log_spool import LogSpool
from .paths import KueuePaths, is_safe_id
from .pauses import Pauses
from .pod_log import LoggingPod, PodLog, parse_logging_pod
from .waiting import wait_shortly

MAX_FOLLOWED = 64
CAUGHT_UP_S = 2.0
SETTLED_S = 10.0

_NOTHING = RunnerReport()


class Logs:
    """Follows the log of every pod that it is shown."""

    def __init__(
        self,
        api: ClusterApi,
        paths: KueuePaths,
        *,
        now: Callable[[], datetime],
        on_change: Callable[[], None],
        make_pauses: Callable[[], Pauses] = Pauses,
    ) -> None:
        """``on_change``: some runner said something new."""
        self._api = api
        self._paths = paths
        self._now = now
        self._on_change = on_change
        self._make_pauses = make_pauses
        self._present: dict[str, LoggingPod] = {}
        self._logs: dict[str, PodLog] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def follow(self, pods: Mapping[str, Sequence[Json]]) -> None:
        """Follow these pods, by Submission; what is not among them is gone."""
        self._present = {}
        for submission_id, items in pods.items():
            for item in items if is_safe_id(submission_id) else ():
                pod = parse_logging_pod(item, now=self._now())
                if pod is not None:
                    self._present[pod.uid] = pod
                    self._start(submission_id, pod)
        for uid in [uid for uid, task in self._tasks.items() if task.done() and uid not in self._present]:
            del self._tasks[uid], self._logs[uid]

    def report(self, pod_uid: str) -> RunnerReport:
        """What the runner in a pod has said; nothing for a pod that is not followed."""
        log = self._logs.get(pod_uid)
        return log.report if log is not None else _NOTHING

    async def catch_up(self, pod_uids: Collection[str]) -> None:
        """Hear what these pods have said up to now; not for longer than ``CAUGHT_UP_S``."""
        waits = [self._logs[uid].caught_up.wait() for uid in pod_uids if uid in self._logs]
        await wait_shortly(waits, CAUGHT_UP_S)

    async def settle(self, pod_uid: str) -> None:
        """Hear a pod that has ended to its last word; not for longer than ``SETTLED_S``."""
        if pod_uid in self._tasks:
            await asyncio.wait({self._tasks[pod_uid]}, timeout=SETTLED_S)

    def stop(self) -> Collection[asyncio.Task[None]]:
        """Follow no more; the tasks that end now, when they have written what they heard."""
        tasks = list(self._tasks.values())
        self._tasks, self._logs, self._present = {}, {}, {}
        for task in tasks:
            task.cancel()
        return tasks

    def _start(self, submission_id: str, pod: LoggingPod) -> None:
        if pod.uid in self._tasks or sum(not task.done() for task in self._tasks.values()) >= MAX_FOLLOWED:
            return
        self._logs[pod.uid] = PodLog(
            self._api,
            pod,
            LogSpool(self._paths.logs(submission_id), pod.uid),
            look=lambda: self._present.get(pod.uid),
            on_change=self._on_change,
            pauses=self._make_pauses(),
        )
        self._tasks[pod.uid] = asyncio.get_running_loop().create_task(self._logs[pod.uid].run())
