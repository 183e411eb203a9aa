"""When a Job, its Workload and its pod became what they are, seen by watches."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from servers import MeasurementError
from tests.cluster.queues import condition
from tests.cluster.reach import KUEUE, Cluster

KINDS = {"Job": "batch/v1", "Workload": KUEUE, "Pod": "v1"}
JOB_LABEL = "batch.kubernetes.io/job-name"
WITHIN_S = 120.0

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Sighting:
    at: float
    kind: str
    seen: Object


# In the order in which they come true; what kind of object shows it, and what is to be seen there.
POINTS: Mapping[str, tuple[str, Callable[[Object], bool]]] = {
    "job": ("Job", lambda _: True),
    "workload": ("Workload", lambda _: True),
    "admitted": ("Workload", lambda seen: condition(dict(seen), "Admitted") == "True"),
    "unsuspended": ("Job", lambda seen: not seen["spec"].get("suspend")),
    "pod": ("Pod", lambda _: True),
    "scheduled": ("Pod", lambda seen: condition(dict(seen), "PodScheduled") == "True"),
}


class Chronicle:
    """What happens in a namespace from now on."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._sightings: list[Sighting] = []
        self._changed = threading.Condition()
        for kind, api_version in KINDS.items():
            watching = (cluster, namespace, kind, api_version)
            threading.Thread(target=self._watch, args=watching, daemon=True, name=f"watch-{kind}").start()

    @property
    def sightings(self) -> list[Sighting]:
        """So far, in the order in which they came."""
        with self._changed:
            return list(self._sightings)

    def wait_for(self, job: str, point: str) -> float:
        """When ``point`` of a Job was seen to be there.

        Raises:
            MeasurementError: it does not come.
        """
        kind, holds = POINTS[point]

        def first() -> float | None:
            fitting = (one for one in self._sightings if one.kind == kind and belongs(one.seen, job))
            return next((one.at for one in fitting if holds(one.seen)), None)

        with self._changed:
            if not self._changed.wait_for(lambda: first() is not None, WITHIN_S):
                raise MeasurementError(f"not within {WITHIN_S:.0f} s: {point} of {job}")
            return first() or 0.0

    def points(self, job: str) -> dict[str, float]:
        return {point: self.wait_for(job, point) for point in POINTS}

    def _watch(self, cluster: Cluster, namespace: str, kind: str, api_version: str) -> None:
        while True:
            for seen in cluster.watch(api_version, kind, namespace=namespace):
                with self._changed:
                    self._sightings.append(Sighting(time.time(), kind, seen))
                    self._changed.notify_all()


def belongs(seen: Object, job: str) -> bool:
    """Whether an object is the Job, or its Workload, or its pod."""
    metadata = seen["metadata"]
    names = {metadata["name"], metadata.get("labels", {}).get(JOB_LABEL)}
    return job in names | {owner["name"] for owner in metadata.get("ownerReferences", [])}
