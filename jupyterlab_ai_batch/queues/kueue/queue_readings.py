"""A LocalQueue's own numbers, which its users may read, as a QueueReading. Pure.

Source: kueue.x-k8s.io/v1beta2 LocalQueue ``status``. How much the pool has is the admin's to know: it is not there.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from ...models import QueueReading
from .api import Json
from .json_fields import field, quantity, records, whole


def read_queue(
    name: str, queue: Json, *, backend: str, gpu_resources: Collection[str], observed_at: datetime
) -> QueueReading:
    """``gpu_resources``: what counts as a GPU slot."""
    return QueueReading(
        name=name,
        backend=backend,
        slots=None,
        busy=_count(queue, "reservingWorkloads"),
        waiting=_count(queue, "pendingWorkloads"),
        gpu_busy=_used(queue, gpu_resources),
        observed_at=observed_at,
    )


def _count(queue: Json, name: str) -> int:
    return max(0, whole(field(queue, "status", name)) or 0)


def _used(queue: Json, resources: Collection[str]) -> int:
    """Reserved over all flavors."""
    flavors = records(field(queue, "status", "flavorsReservation"))
    entries = [entry for flavor in flavors for entry in records(flavor.get("resources"))]
    totals = [quantity(entry.get("total")) for entry in entries if entry.get("name") in resources]
    return sum(total for total in totals if total)
