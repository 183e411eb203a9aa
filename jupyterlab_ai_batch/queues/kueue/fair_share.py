"""What a user's recent use does to the order, from the own LocalQueue. Pure.

Source: kueue.x-k8s.io/v1beta2 LocalQueue ``status.fairSharing.admissionFairSharingStatus`` and ``spec.fairSharing``.
Its ``weightedShare`` is always 0, and what others used is not for users to read: positions tell what comes of it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from ...explain import count_words
from ...models import FairShare, QueuePosition
from .api import Json
from .explanations import say
from .json_fields import amount, field, moment

_UNITS = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))
_SHOWN = 0.05  # less is 0.0 when it is shown


def read_share(
    queue: Json, *, resources: Collection[str], half_life_s: int, first: QueuePosition | None
) -> FairShare | None:
    """None where the pool does not order its users by their recent use.

    Args:
        resources: What counts as a GPU slot.
        half_life_s: 0: not told.
        first: Where the first of this user's Submissions waits; None when none does, or that is not known.
    """
    status = field(queue, "status", "fairSharing", "admissionFairSharingStatus")
    consumed = field(status, "consumedResources")
    if not isinstance(consumed, Mapping):
        return None
    weight = amount(field(queue, "spec", "fairSharing", "weight"))
    share = FairShare(
        used=sum(max(amount(consumed.get(name)) or 0.0, 0.0) for name in resources),
        weight=1.0 if weight is None else weight,
        half_life_s=half_life_s or None,
        sampled_at=moment(field(status, "lastUpdate")),
        summary="",
    )
    return replace(share, summary=say(_use(share), _weight(share.weight), _order(share, first)))


def _use(share: FairShare) -> str:
    if share.used < _SHOWN:
        return "You have used next to nothing lately."
    fades = f", and half of that is forgotten every {_duration(share.half_life_s)}" if share.half_life_s else ""
    return f"You have used {share.used:.1f} GPU slots on average lately{fades}."


def _weight(weight: float) -> str:
    if weight <= 0:
        return "Your queue has no weight: everybody else goes first."
    return "" if weight == 1 else f"Your queue's weight is {weight:g}: your use counts divided by it."


def _order(share: FairShare, first: QueuePosition | None) -> str:
    """Whoever has used less goes first; where somebody waits, what that means now."""
    if first is None:
        goes = "before" if share.used < _SHOWN else "after"
        than = "more" if share.used < _SHOWN else "less"
        return f"What you submit goes {goes} that of users who have used {than}."
    if not first.in_cluster_queue:
        return "What you submitted first is next in the pool."
    others = count_words(first.in_cluster_queue, "submission")
    verb = "goes" if first.in_cluster_queue == 1 else "go"
    return f"Users who have used less go first: {others} of others {verb} before your next one."


def _duration(seconds: int) -> str:
    """As people say it: ``7 days``, ``2 minutes``, ``day``."""
    name, size = next((name, size) for name, size in _UNITS if seconds % size == 0)
    return name if seconds == size else count_words(seconds // size, name)
