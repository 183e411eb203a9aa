"""Pools of one test: the shape of the shared pool, under names of their own, in a cohort of their own."""

import os
from typing import Any

from .objects import QUEUE_LABEL, job, pod_spec
from .reach import KUEUE, Cluster, Namespace, unique, wait_for

GPU = os.environ.get("AI_BATCH_GPU_RESOURCE", "nvidia.com/mig-1g.5gb")
SLEEP = "trap 'exit 143' TERM; sleep 600 & wait"


class Kueue:
    """Makes pools, and removes them."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._made: list[tuple[str, str]] = []

    def make_pool(self, *, slices: int, fair: bool = True, flavor: dict[str, Any] | None = None) -> "Pool":
        """Sessions own all ``slices``; batch borrows them."""
        name = unique("pool")
        self._create("ResourceFlavor", name, flavor or {})
        owned = {"cpu": "1000", "memory": "1000Gi", GPU: str(slices)}
        nothing = dict.fromkeys(owned, "0")
        preemption = {"reclaimWithinCohort": "Any", "withinClusterQueue": "Never"}
        self._create("ClusterQueue", f"{name}-interactive", {**_queue(name, owned), "preemption": preemption})
        batch = {**_queue(name, nothing), "queueingStrategy": "BestEffortFIFO"}
        if fair:
            batch["admissionScope"] = {"admissionMode": "UsageBasedAdmissionFairSharing"}
        self._create("ClusterQueue", f"{name}-batch", batch)
        for kind in ("interactive", "batch"):
            wait_for(f"{kind} is active", lambda kind=kind: self._is_active(f"{name}-{kind}"))
        return Pool(name)

    def clean_up(self) -> None:
        for kind, name in reversed(self._made):
            self._cluster.delete(KUEUE, kind, name)

    def _create(self, kind: str, name: str, spec: dict[str, Any]) -> None:
        self._cluster.create({"apiVersion": KUEUE, "kind": kind, "metadata": {"name": name}, "spec": spec})
        self._made.append((kind, name))

    def _is_active(self, name: str) -> bool:
        found = self._cluster.get(KUEUE, "ClusterQueue", name) or {}
        return condition(found, "Active") == "True"


class Pool:
    """A cohort with an ``interactive`` and a ``batch`` queue."""

    def __init__(self, name: str) -> None:
        self.name = name

    def admit(self, namespace: Namespace) -> None:
        """Give a user's namespace a LocalQueue of each kind."""
        for kind in ("interactive", "batch"):
            spec: dict[str, Any] = {"clusterQueue": f"{self.name}-{kind}"}
            if kind == "batch":
                spec["fairSharing"] = {"weight": "1"}
            namespace.create({"apiVersion": KUEUE, "kind": "LocalQueue", "metadata": {"name": kind}, "spec": spec})


def batch_job(name: str, image: str, script: str = SLEEP, *, slices: int = 1) -> dict[str, Any]:
    """A Job for the batch queue."""
    return job(name, pod_spec(image, script, resources={GPU: str(slices)}), labels={QUEUE_LABEL: "batch"})


def condition(resource: dict[str, Any], kind: str) -> str | None:
    """The status of a condition; None where it is not there."""
    return find_condition(resource, kind).get("status")


def find_condition(resource: dict[str, Any], kind: str) -> dict[str, Any]:
    conditions = resource.get("status", {}).get("conditions", [])
    return next((one for one in conditions if one["type"] == kind), {})


def _queue(name: str, quota: dict[str, str]) -> dict[str, Any]:
    resources = [{"name": resource, "nominalQuota": amount} for resource, amount in quota.items()]
    flavors = [{"name": name, "resources": resources}]
    return {
        "cohortName": name,
        "namespaceSelector": {},
        "resourceGroups": [{"coveredResources": list(quota), "flavors": flavors}],
    }
