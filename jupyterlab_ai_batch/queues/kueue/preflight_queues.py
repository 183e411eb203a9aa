"""Whether Kueue is there, says who waits, and has queues that take what the profiles ask for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from ...errors import QueueError, QueueForbiddenError, StorageError
from ...models import PreflightCheck
from ...oci.storage import ensure_private_directory, replace_file, storage_errors
from . import fixes
from .api import LOCAL_QUEUES, VISIBILITY, ClusterApi, Json
from .json_fields import field, parse_conditions, records, word
from .paths import KueuePaths
from .settings import KueueProfile, KueueSettings
from .submitting import why_inactive

_NO_CLUSTER_QUEUE = "ClusterQueueDoesNotExist"
_MAX_NOTES_BYTES = 64 * 1024


class QueueChecks:
    """Asks the cluster."""

    def __init__(self, api: ClusterApi, settings: KueueSettings, paths: KueuePaths) -> None:
        self._api = api
        self._settings = settings
        self._paths = paths

    async def check_kueue(self) -> PreflightCheck:
        """Raises: QueueError."""
        if await self._api.serves(LOCAL_QUEUES):
            summary = f"Kueue's API {LOCAL_QUEUES.version} is there."
            return PreflightCheck(name="kueue", ok=True, summary=summary)
        return PreflightCheck(
            name="kueue",
            ok=False,
            summary=f"The cluster does not serve {LOCAL_QUEUES.version}: it has no Kueue, or one older than 0.15.",
            resolution="Ask your admin to install Kueue, or a newer one.",
            fix=fixes.kueue_installed(),
        )

    async def check_positions(self) -> PreflightCheck:
        """Whether the visibility API is there; without it nobody learns their position."""
        name, lacking = "positions", "Kueue does not tell the positions of jobs that wait"
        try:
            if await self._api.serves(VISIBILITY):
                return PreflightCheck(name=name, ok=True, summary="Kueue tells the positions of jobs that wait.")
        except QueueError as exc:
            summary = f"{lacking}: its API {VISIBILITY.version} does not answer. {exc.message}"
            fix = fixes.kueue_restarted()
        else:
            summary = f"{lacking}: there is no APIService for {VISIBILITY.version}."
            fix = fixes.visibility_api()
        resolution = "Jobs run all the same; ask your admin to apply the lines below."
        return PreflightCheck(name=name, ok=None, summary=summary, resolution=resolution, fix=fix)

    async def check_queue(self, queue: str) -> PreflightCheck:
        """Raises: QueueError."""
        name = f"queue {queue}"
        try:
            found = await self._api.get(LOCAL_QUEUES, queue)
        except QueueForbiddenError as exc:
            return PreflightCheck(name=name, ok=None, summary=exc.message, resolution=exc.hint or "")
        pool = await asyncio.to_thread(self._note_pool, queue, found)
        why = "there is no LocalQueue of that name." if found is None else why_inactive(found)
        if found is not None and why is None:
            return self._check_resources(name, queue, pool, found)
        return PreflightCheck(
            name=name,
            ok=False,
            summary=f"The queue {queue} takes no jobs: {why}",
            resolution=f"Ask your admin for an active LocalQueue {queue} in the namespace {self._api.namespace}.",
            fix=self._activated(queue, found, pool),
        )

    def _activated(self, queue: str, found: Json | None, pool: str) -> str:
        if found is None:
            return fixes.local_queue(self._api.namespace, queue, pool)
        if word(field(found, "spec", "stopPolicy")) not in ("", "None"):
            return fixes.commands(fixes.started_queue("localqueue", queue, self._api.namespace))
        active = parse_conditions(field(found, "status", "conditions")).get("Active")
        if active is not None and active.reason == _NO_CLUSTER_QUEUE:
            return fixes.cluster_queue(pool, _quotas(self._settings.profiles))
        says = (f"when it is not stopped: kubectl describe clusterqueue.kueue.x-k8s.io {pool}",)
        return fixes.commands(fixes.started_queue("clusterqueue", pool), says=says)

    def _check_resources(self, name: str, queue: str, pool: str, found: Json) -> PreflightCheck:
        """What a queue's pool can give is in its status; where it is not, nobody can tell here."""
        flavors = records(field(found, "status", "flavorsReservation"))
        given = {word(entry.get("name")) for flavor in flavors for entry in records(flavor.get("resources"))}
        asked = {one.gpu_resource: one for one in self._settings.profiles if one.gpu_resource}
        lacking = [resource for resource in asked if given and resource not in given]
        if not lacking:
            return PreflightCheck(name=name, ok=True, summary=f"The queue {queue} takes jobs.")
        resource = lacking[0]
        profile = asked[resource].profile
        return PreflightCheck(
            name=name,
            ok=False,
            summary=f"The queue {queue} gives no {resource}, which the profile {profile.name} asks for: its"
            f" ClusterQueue {pool} does not cover it.",
            resolution="Ask your admin to apply the lines below, or to name another gpu_resource in the profile.",
            fix=fixes.covered_resource(pool, resource, max(profile.gpu_slots, 1)),
        )

    def _note_pool(self, queue: str, found: Json | None) -> str:
        """The ClusterQueue of a LocalQueue, or the one it last had here: what is gone cannot be asked any more."""
        noted = self._read_notes()
        pool = word(field(found, "spec", "clusterQueue"))
        if pool and noted.get(queue) != pool:
            with suppress(StorageError), storage_errors(self._paths.root):
                ensure_private_directory(self._paths.data_dir)
                ensure_private_directory(self._paths.root)
                replace_file(self._paths.cluster_queues, json.dumps({**noted, queue: pool}).encode())
        return pool or word(noted.get(queue))

    def _read_notes(self) -> Mapping[str, Any]:
        try:
            with self._paths.cluster_queues.open("rb") as file:
                noted = json.loads(file.read(_MAX_NOTES_BYTES))
        except (OSError, ValueError, RecursionError):
            return {}
        return noted if isinstance(noted, dict) else {}


def _quotas(profiles: tuple[KueueProfile, ...]) -> Mapping[str, str]:
    """Enough for one job of any profile."""
    cpu = max((one.profile.cpu_millicores or 0) for one in profiles)
    memory = max((one.profile.memory_bytes or 0) for one in profiles)
    gpus = {one.gpu_resource: str(max(one.profile.gpu_slots, 1)) for one in profiles if one.gpu_resource}
    return {"cpu": f"{cpu}m", "memory": str(memory), **gpus}
