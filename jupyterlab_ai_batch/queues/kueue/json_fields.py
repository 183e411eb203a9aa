"""Fields of cluster JSON. Pure.

Whatever a cluster object holds was written by somebody else: a wrong type is as good as absent, a text is one line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ...wire import WireError, parse_time
from ..explanations import clip

MAX_REASON_CHARS = 100
MAX_MESSAGE_CHARS = 4096
_MAX_ITEMS = 256
_MAX_TIME_CHARS = 40
_WHOLE = 2**53
_YEARS = range(1970, 3000)  # a margin on both sides, so that adding to a time cannot overflow
_QUANTITY = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)(?:[eE]([+-]?\d{1,2})|([KMGTPE]i|[mkMGTPE]))?\Z", re.ASCII)
_DECIMAL = {"m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_BINARY = {f"{prefix}i": 1024.0**power for power, prefix in enumerate("KMGTPE", start=1)}
_SCALES = {**_DECIMAL, **_BINARY}


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One entry of an object's ``status.conditions``.

    Attributes:
        holds: None for ``Unknown``, and where the object has no such condition.
        reason: Verbatim but for its length.
        since: When ``holds`` last changed.
    """

    holds: bool | None = None
    reason: str = ""
    message: str = ""
    since: datetime | None = None


ABSENT = Condition()


def field(value: Any, *path: str) -> Any:
    """What lies at the end of a path of names; None where that is nothing."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def records(value: Any) -> Sequence[Mapping[str, Any]]:
    """The objects in an array: its last ones, when it has absurdly many."""
    if not isinstance(value, (list, tuple)):
        return ()
    return [item for item in value[-_MAX_ITEMS:] if isinstance(item, Mapping)]


def word(value: Any) -> str:
    """A name or reason; empty when there is none."""
    return clip(value, MAX_REASON_CHARS)


def message(value: Any) -> str:
    """A sentence; empty when there is none."""
    return clip(value, MAX_MESSAGE_CHARS)


def whole(value: Any) -> int | None:
    """A whole number that every reader of JSON can hold."""
    return value if type(value) is int and -_WHOLE < value < _WHOLE else None


def moment(value: Any) -> datetime | None:
    """A time as Kubernetes writes it (RFC 3339)."""
    if not isinstance(value, str) or len(value) > _MAX_TIME_CHARS:
        return None
    try:
        at = parse_time(value)
    except (WireError, OverflowError):
        return None
    return at if at.year in _YEARS else None


def quantity(value: Any) -> int | None:
    """A resource quantity (``8Gi``, ``500M``, ``1e9``) in its base unit: bytes for memory and storage."""
    found = amount(value)
    return int(found) if found is not None else None


def amount(value: Any) -> float | None:
    """A resource quantity with what is after the point: ``1500m`` is 1.5."""
    number = whole(value)
    if number is not None:
        return number
    match = _QUANTITY.match(value) if isinstance(value, str) else None
    if match is None:
        return None
    digits, exponent, suffix = match.groups()
    found = float(digits) * (10.0 ** int(exponent) if exponent else _SCALES.get(suffix, 1.0))
    return found if found < _WHOLE else None


def parse_conditions(value: Any) -> Mapping[str, Condition]:
    """An object's ``status.conditions`` by type."""
    holds = {"True": True, "False": False}
    found = {}
    for entry in records(value):
        status = entry.get("status")
        found[word(entry.get("type"))] = Condition(
            holds=holds.get(status) if isinstance(status, str) else None,
            reason=word(entry.get("reason")),
            message=message(entry.get("message")),
            since=moment(entry.get("lastTransitionTime")),
        )
    return found
