"""The cluster's API as this backend needs it: plain JSON in, plain JSON out. Pure; ``api_client`` speaks to a real one.

Everything but ClusterQueues is in one namespace. What is not there (404) and what is there already (409) are values.
Every coroutine may raise ``QueueUnreachableError`` or ``QueueTimeoutError`` (safe to retry; where the cluster said
when, ``details["retry_after_s"]``), ``QueueForbiddenError`` (the account has no right to it) and ``QueueError``
(anything else).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A kind of object.

    Attributes:
        version: With its group where it has one: ``v1``, ``batch/v1``.
        plural: As in paths and Roles: ``jobs``.
        is_namespaced: False for what the whole cluster has once.
    """

    version: str
    plural: str
    is_namespaced: bool = True

    @property
    def group(self) -> str:
        """As in Roles: empty for the core group."""
        return self.version.rpartition("/")[0]

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


# Only created, to ask what they are about; never stored.
REVIEWS = Resource(version="authentication.k8s.io/v1", plural="selfsubjectreviews")
JOBS = Resource(version="batch/v1", plural="jobs")
PODS = Resource(version="v1", plural="pods")
EVENTS = Resource(version="v1", plural="events")
WORKLOADS = Resource(version="kueue.x-k8s.io/v1beta2", plural="workloads")
LOCAL_QUEUES = Resource(version="kueue.x-k8s.io/v1beta2", plural="localqueues")
CLUSTER_QUEUES = Resource(version="kueue.x-k8s.io/v1beta2", plural="clusterqueues", is_namespaced=False)
VISIBILITY = Resource(version="visibility.kueue.x-k8s.io/v1beta2", plural="localqueues")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """All objects of a kind at one moment.

    Attributes:
        version: Where a watch goes on from; opaque.
    """

    items: Sequence[Json]
    version: str


class ChangeKind(Enum):
    """What a watch says."""

    OPENED = "the watch stands: what follows is the present"
    PRESENT = "the object is there, as it is now"
    GONE = "the object was removed; this is how it last was"
    BOOKMARK = "nothing happened; go on from this version"
    EXPIRED = "the version is too old: list again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing that a watch says; ``item`` is empty where no object is meant."""

    kind: ChangeKind
    item: Json = field(default_factory=dict)

    @property
    def version(self) -> str:
        """Where a watch goes on after it; empty when it does not say."""
        metadata = self.item.get("metadata")
        version = metadata.get("resourceVersion") if isinstance(metadata, Mapping) else None
        return version if isinstance(version, str) else ""


class ClusterApi(Protocol):
    """Requests within ``namespace``."""

    @property
    def namespace(self) -> str: ...

    async def get(self, resource: Resource, name: str) -> Json | None:
        """None: there is none of that name."""
        ...

    async def create(self, resource: Resource, body: Json, *, dry_run: bool = False) -> Json | None:
        """The object as the cluster stored it; None: one of that name is there already.

        Args:
            dry_run: Everything is checked and nothing is stored.

        Raises:
            AdmissionRefusedError: the cluster's rules refuse it; the message is theirs.
        """
        ...

    async def delete(self, resource: Resource, name: str, *, uid: str, foreground: bool = False) -> bool:
        """Ask for its removal; False: that object (of this uid) is not there.

        Args:
            foreground: It stays, marked, until all that it owns is gone; else it goes at once and they follow.
        """
        ...

    async def list(self, resource: Resource, *, labels: str = "") -> Listing:
        """``labels``: a label selector."""
        ...

    def watch(self, resource: Resource, *, version: str, labels: str = "") -> AsyncGenerator[Change, None]:
        """What happens after ``version``; ends by itself now and then, to be asked again from the last version."""
        ...

    async def pending_workloads(self, queue: str) -> Sequence[Json] | None:
        """What waits in a LocalQueue, in the visibility API's words; None when that cannot be told now."""
        ...

    def stream_log(self, pod: str, *, since: str = "", follow: bool = True) -> AsyncGenerator[bytes, None]:
        """A pod's log in pieces cut anywhere, each line with its time before it; an empty piece first.

        Nothing at all comes where there is no log: the pod is gone, or its program has not begun.

        Args:
            since: Leave out lines before this time (RFC 3339; the cluster cuts it to the second).
            follow: Go on until the container ends, with breaks for the caller to mend.
        """
        ...

    async def may(self, verb: str, resource: Resource, *, subresource: str = "") -> bool:
        """Whether this account has the right to it."""
        ...

    async def serves(self, resource: Resource) -> bool:
        """Whether the cluster has such objects in this version at all."""
        ...

    async def identify(self) -> str:
        """The user name of this account; a ServiceAccount's is ``system:serviceaccount:NAMESPACE:NAME``."""
        ...

    async def close(self) -> None:
        """Let go of the connections; a later call opens new ones."""
        ...
