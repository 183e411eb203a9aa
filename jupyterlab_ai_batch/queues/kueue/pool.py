"""Who holds a pool's GPU slots, by class, from its ClusterQueues' numbers. Pure.

Source: kueue.x-k8s.io/v1beta2 ClusterQueue ``spec.resourceGroups`` and ``status``. They have totals only: nobody's name
is in them. A quota of the cohort itself is not seen.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from ...models import PoolReading
from .api import Json
from .json_fields import field, quantity, records, whole
from .settings import PoolQueues


def read_pool(
    found: Mapping[str, Json], *, queues: PoolQueues, resources: Collection[str], mine: int, observed_at: datetime
) -> PoolReading | None:
    """None where some of the ClusterQueues, or all GPU slots, are missing: half a pool would be a wrong picture.

    Args:
        found: ClusterQueues by name.
        resources: What counts as a GPU slot.
        mine: Slots that this user's jobs hold.
    """
    names = (*queues.interactive, *queues.batch)
    if not queues.batch or not all(name in found for name in names):
        return None
    interactive, batch = ([found[name] for name in group] for group in (queues.interactive, queues.batch))
    quotas = [quota for queue in (*interactive, *batch) for quota in _quotas(queue, resources)]
    held, by_batch = (sum(reserved(queue, resources) for queue in group) for group in (interactive, batch))
    slots = max(sum(amount for _, amount in quotas), held + by_batch)
    if not slots:
        return None
    kinds = {name for name, amount in quotas if amount}
    return PoolReading(
        resource=kinds.pop() if len(kinds) == 1 else "",
        slots=slots,
        mine=min(mine, by_batch),
        others_batch=max(by_batch - mine, 0),
        interactive=held,
        free=slots - held - by_batch,
        interactive_waiting=sum(
            max(0, whole(field(queue, "status", "pendingWorkloads")) or 0) for queue in interactive
        ),
        observed_at=observed_at,
    )


def reserved(queue: Json, resources: Collection[str]) -> int:
    """Of a LocalQueue or ClusterQueue, over all flavors."""
    flavors = records(field(queue, "status", "flavorsReservation"))
    entries = [entry for flavor in flavors for entry in records(flavor.get("resources"))]
    return sum(_amount(entry.get("total")) for entry in entries if entry.get("name") in resources)


def _quotas(queue: Json, resources: Collection[str]) -> Sequence[tuple[str, int]]:
    groups = records(field(queue, "spec", "resourceGroups"))
    flavors = [flavor for group in groups for flavor in records(group.get("flavors"))]
    entries = [entry for flavor in flavors for entry in records(flavor.get("resources"))]
    return [(entry["name"], _amount(entry.get("nominalQuota"))) for entry in entries if entry.get("name") in resources]


def _amount(value: object) -> int:
    return quantity(value) or 0
