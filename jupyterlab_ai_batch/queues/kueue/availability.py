"""How many Attempts of a Profile could start now, from the numbers of the pool's ClusterQueues. Pure.

Source: kueue.x-k8s.io/v1beta2 ClusterQueue ``spec.resourceGroups`` and ``status.flavorsReservation``: what the cohort's
queues own and nobody holds, up to the queue's borrowing limit. It says nothing of who else waits for it, and knows no
lending limits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from .api import Json
from .json_fields import amount, field, quantity, records
from .settings import KueueProfile

Amounts: TypeAlias = Counter[tuple[str, str]]  # by flavor and resource, in the resource's smallest unit
_MILLI = 1000


def count_available(profile: KueueProfile, queue: Json, cohort: Sequence[Json]) -> int | None:
    """None where the profile asks for nothing that is counted.

    Args:
        queue: The ClusterQueue that Submissions go to.
        cohort: All of the pool's, ``queue`` among them.
    """
    wanted, free, groups = requests_of(profile), _free(queue, cohort), _groups(queue)
    if set(wanted) - {name for group in groups for name in _names(group)}:
        return 0
    fitting = (_fitting(group, wanted, free) for group in groups)
    return min((count for count in fitting if count is not None), default=None)


def requests_of(profile: KueueProfile) -> Mapping[str, int]:
    """What one Attempt needs of each counted resource; cpu in thousandths."""
    shape = profile.profile
    wanted = {"cpu": shape.cpu_millicores or 0, "memory": shape.memory_bytes or 0}
    if profile.gpu_resource:
        wanted[profile.gpu_resource] = shape.gpu_slots
    return {name: each for name, each in wanted.items() if each > 0}


def _fitting(group: Json, wanted: Mapping[str, int], free: Amounts) -> int | None:
    """An Attempt takes all of a group's resources from one flavor."""
    needed = {name: each for name, each in wanted.items() if name in _names(group)}
    if not needed:
        return None
    flavors = [str(flavor.get("name")) for flavor in _flavors(group)]
    return sum(max(0, min(free[flavor, name] // each for name, each in needed.items())) for flavor in flavors)


def _free(queue: Json, cohort: Sequence[Json]) -> Amounts:
    free: Amounts = Counter()
    for member in cohort:
        free.update(_quotas(member, "nominalQuota"))
        free.subtract(_reserved(member))
    limits = _quotas(queue, "borrowingLimit")
    own = _quotas(queue, "nominalQuota")
    held = _reserved(queue)
    for key, limit in limits.items():
        free[key] = min(free[key], own[key] + limit - held[key])
    return free


def _quotas(queue: Json, kind: str) -> Amounts:
    """Of each flavor and resource; what is not given is left out."""
    flavors = [flavor for group in _groups(queue) for flavor in _flavors(group)]
    return Counter({key: value for flavor in flavors for key, value in _amounts(flavor, kind)})


def _reserved(queue: Json) -> Amounts:
    flavors = records(field(queue, "status", "flavorsReservation"))
    return Counter({key: value for flavor in flavors for key, value in _amounts(flavor, "total")})


def _amounts(flavor: Json, kind: str) -> Iterator[tuple[tuple[str, str], int]]:
    for entry in records(flavor.get("resources")):
        name, value = str(entry.get("name")), _smallest(str(entry.get("name")), entry.get(kind))
        if value is not None:
            yield (str(flavor.get("name")), name), value


def _smallest(name: str, value: object) -> int | None:
    if name != "cpu":
        return quantity(value)
    found = amount(value)
    return None if found is None else round(found * _MILLI)


def _groups(queue: Json) -> Sequence[Json]:
    return records(field(queue, "spec", "resourceGroups"))


def _flavors(group: Json) -> Sequence[Json]:
    return records(group.get("flavors"))


def _names(group: Json) -> frozenset[str]:
    covered = group.get("coveredResources")
    return frozenset(name for name in covered if isinstance(name, str)) if isinstance(covered, list) else frozenset()
