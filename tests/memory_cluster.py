"""A cluster's API in memory, behind the Kueue backend's own port; it obeys the same contract as a real API server.

``api_contract.py`` holds both to it. It stores and tells; what controllers do with objects, tests do.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from jupyterlab_ai_batch.errors import AdmissionRefusedError, QueueError, QueueForbiddenError
from jupyterlab_ai_batch.queues.kueue.api import (
    EVENTS,
    JOBS,
    LOCAL_QUEUES,
    PODS,
    REVIEWS,
    VISIBILITY,
    WORKLOADS,
    Change,
    ChangeKind,
    Json,
    Listing,
    Resource,
)

SERVED = frozenset({JOBS, PODS, EVENTS, WORKLOADS, LOCAL_QUEUES, VISIBILITY})
Key = tuple[Resource, str]


@dataclass
class PodLogText:
    """What a pod's program wrote: (time, line) pairs; ``ended`` once it writes no more."""

    lines: list[tuple[datetime, bytes]] = field(default_factory=list)
    ended: bool = False


class MemoryCluster:
    """One namespace of objects.

    Attributes:
        failure: Raised by every request while set.
        refuse: Gives the admission's message for a body that is to be refused.
        absent: Kinds that it does not serve.
        account: User name of who asks.
        forbidden: (verb, str(resource)) pairs without the right to them.
        pending: What waits in each LocalQueue, as the visibility API tells; absent: it does not tell.
        requests: Of each (verb, resource), how many came.
    """

    def __init__(self, namespace: str = "user-alice") -> None:
        self.namespace = namespace
        self.failure: QueueError | None = None
        self.refuse: Callable[[Resource, Json], str | None] = lambda _resource, _body: None
        self.absent: set[Resource] = set()
        self.account = f"system:serviceaccount:{namespace}:notebook"
        self.forbidden: set[tuple[str, str]] = set()
        self.pending: dict[str, list[Json]] = {}
        self.requests: dict[tuple[str, str], int] = {}
        self.logs: dict[str, PodLogText] = {}
        self._objects: dict[Key, Json] = {}
        self._versions = itertools.count(100)
        self._happened: list[tuple[int, Resource, Change]] = []
        self._oldest = 0
        self._ticks: set[asyncio.Event] = set()
        self._cut = 0

    # --- what controllers and tests do ----------------------------------------------------------------------------

    def put(self, resource: Resource, body: Json) -> Json:
        """Make or replace an object."""
        item = copy.deepcopy(dict(body))
        metadata = item.setdefault("metadata", {})
        before = self._objects.get((resource, metadata["name"]))
        defaults = before["metadata"] if before else {"uid": str(uuid.uuid4()), "creationTimestamp": stamp()}
        for name in ("uid", "creationTimestamp"):
            metadata.setdefault(name, defaults[name])
        return self._store(resource, item, ChangeKind.PRESENT)

    def change(self, resource: Resource, name: str, **fields: Any) -> Json:
        """Merge fields into an object, dictionaries deeply."""
        return self.put(resource, merge(self.find(resource, name), fields))

    def remove(self, resource: Resource, name: str) -> None:
        item = self._objects.pop((resource, name), None)
        if item is not None:
            self._store(resource, dict(item), ChangeKind.GONE)

    def find(self, resource: Resource, name: str) -> Json:
        return self._objects[(resource, name)]

    def all(self, resource: Resource) -> list[Json]:
        return [item for (kind, _), item in self._objects.items() if kind == resource]

    def compact(self) -> None:
        """Forget what happened: who watches from an earlier version has to list again."""
        self._oldest = next(self._versions)
        self._happened.clear()
        self.cut_watches()

    def cut_watches(self) -> None:
        """End every stream, as a server that restarts does."""
        self._cut += 1
        self.tick()

    def write_log(self, pod: str, text: bytes, *, at: datetime | None = None, ended: bool = False) -> None:
        """Add whole lines to a pod's log."""
        log = self.logs.setdefault(pod, PodLogText())
        log.lines += [(at or datetime.now(timezone.utc), line) for line in text.splitlines(keepends=True)]
        log.ended = log.ended or ended
        self.tick()

    def tick(self) -> None:
        """Wake up every stream."""
        for event in self._ticks:
            event.set()

    # --- for the API ----------------------------------------------------------------------------------------------

    def _store(self, resource: Resource, item: dict[str, Any], kind: ChangeKind) -> Json:
        version = next(self._versions)
        item["metadata"] = {**item["metadata"], "resourceVersion": str(version)}
        if kind is ChangeKind.PRESENT:
            self._objects[(resource, item["metadata"]["name"])] = item
        self._happened.append((version, resource, Change(kind=kind, item=copy.deepcopy(item))))
        self.tick()
        return copy.deepcopy(item)


class MemoryApi:
    """Implements ``queues.kueue.api.ClusterApi`` on a MemoryCluster."""

    def __init__(self, cluster: MemoryCluster) -> None:
        self._cluster = cluster
        self.is_closed = False

    @property
    def namespace(self) -> str:
        return self._cluster.namespace

    async def get(self, resource: Resource, name: str) -> Json | None:
        self._enter("get", resource)
        return copy.deepcopy(self._cluster._objects.get((resource, name)))

    async def create(self, resource: Resource, body: Json, *, dry_run: bool = False) -> Json | None:
        self._enter("create", resource)
        said = self._cluster.refuse(resource, body)
        if said is not None:
            raise AdmissionRefusedError(f"The cluster refuses the job: {said}")
        if (resource, body["metadata"]["name"]) in self._cluster._objects:
            return None
        return copy.deepcopy(dict(body)) if dry_run else self._cluster.put(resource, body)

    async def delete(self, resource: Resource, name: str, *, uid: str, foreground: bool = False) -> bool:
        self._enter("delete", resource)
        item = self._cluster._objects.get((resource, name))
        if item is None or item["metadata"]["uid"] != uid:
            return False
        owned = [key for key, other in self._cluster._objects.items() if _is_owned(other, uid)]
        if foreground and owned:
            if "deletionTimestamp" not in item["metadata"]:
                self._cluster.change(resource, name, metadata={"deletionTimestamp": stamp()})
            return True
        self._cluster.remove(resource, name)
        return True

    async def list(self, resource: Resource, *, labels: str = "") -> Listing:
        self._enter("list", resource)
        items = [copy.deepcopy(item) for item in self._cluster.all(resource) if matches(item, labels)]
        return Listing(items=items, version=str(next(self._cluster._versions)))

    async def watch(self, resource: Resource, *, version: str, labels: str = "") -> AsyncGenerator[Change, None]:
        self._enter("watch", resource)
        seen, cut = int(version or 0), self._cluster._cut
        if seen < self._cluster._oldest:
            yield Change(kind=ChangeKind.EXPIRED)
            return
        yield Change(kind=ChangeKind.OPENED)
        tick = asyncio.Event()
        self._cluster._ticks.add(tick)
        try:
            while True:
                for at, kind, change in list(self._cluster._happened):
                    if at > seen and kind == resource and matches(change.item, labels):
                        yield change
                    seen = max(seen, at)
                if self._cluster._cut != cut:
                    return
                await tick.wait()
                tick.clear()
        finally:
            self._cluster._ticks.discard(tick)

    async def pending_workloads(self, queue: str) -> Sequence[Json] | None:
        self._enter("get", Resource(version="visibility", plural="pendingworkloads"))
        if ("get", "positions") in self._cluster.forbidden:
            return None
        return self._cluster.pending.get(queue)

    async def stream_log(self, pod: str, *, since: str = "", follow: bool = True) -> AsyncGenerator[bytes, None]:
        self._enter("get", Resource(version="v1", plural="pods/log"))
        log, cut, done = self._cluster.logs.get(pod), self._cluster._cut, 0
        if log is None:
            return
        yield b""
        tick = asyncio.Event()
        self._cluster._ticks.add(tick)
        try:
            while True:
                for at, line in log.lines[done:]:
                    done += 1
                    if stamp(at) >= since:
                        yield _fine_stamp(at) + b" " + line
                if done < len(log.lines):
                    continue
                if self._cluster.logs.get(pod) is not log or log.ended or not follow or self._cluster._cut != cut:
                    return
                await tick.wait()
                tick.clear()
        finally:
            self._cluster._ticks.discard(tick)

    async def may(self, verb: str, resource: Resource, *, subresource: str = "") -> bool:
        self._enter("may", resource)
        name = f"{resource}/{subresource}" if subresource else str(resource)
        return (verb, name) not in self._cluster.forbidden

    async def serves(self, resource: Resource) -> bool:
        self._enter("get", resource, is_reading_versions=True)
        return resource in SERVED - self._cluster.absent

    async def identify(self) -> str:
        self._enter("create", REVIEWS)
        return self._cluster.account

    async def close(self) -> None:
        self.is_closed = True

    def _enter(self, verb: str, resource: Resource, *, is_reading_versions: bool = False) -> None:
        cluster = self._cluster
        cluster.requests[(verb, resource.plural)] = cluster.requests.get((verb, resource.plural), 0) + 1
        if cluster.failure is not None:
            raise type(cluster.failure)(cluster.failure.message, details=cluster.failure.details)
        if (verb, str(resource)) in cluster.forbidden and not is_reading_versions:
            raise QueueForbiddenError(f"Your server's account may not {verb} {resource}.")


def matches(item: Json, selector: str) -> bool:
    """``name=value`` or ``name``."""
    if not selector:
        return True
    name, equals, value = selector.partition("=")
    labels = item["metadata"].get("labels", {})
    return labels.get(name) == value if equals else name in labels


def merge(old: Any, new: Any) -> Any:
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return new
    return {**old, **{key: merge(old.get(key), value) for key, value in new.items()}}


def stamp(at: datetime | None = None) -> str:
    return (at or datetime.now(timezone.utc)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _fine_stamp(at: datetime) -> bytes:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%f000Z").encode()


def _is_owned(item: Json, uid: str) -> bool:
    return any(owner.get("uid") == uid for owner in item["metadata"].get("ownerReferences", ()))
