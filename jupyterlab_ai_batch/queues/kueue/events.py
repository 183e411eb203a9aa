"""What the cluster said about a Job and its pods on the way: Kubernetes Events. Pure.

Source: v1 Event and events.k8s.io/v1 Event, which call the same things by different names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .json_fields import field, message, moment, records, word

JOB = "Job"
POD = "Pod"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened to an object.

    Attributes:
        at: When it happened last.
        is_warning: The cluster thinks that somebody should look at it.
    """

    kind: str
    name: str
    reason: str
    message: str
    is_warning: bool
    at: datetime | None


def parse_events(values: Any) -> Sequence[Event]:
    """Events in the order in which they came."""
    return [_parse_event(value) for value in records(values)]


def newest_about(events: Sequence[Event], kind: str, name: str = "") -> Iterator[Event]:
    """The newest first, of one object; of any of its kind without a name."""
    return (event for event in reversed(events) if event.kind == kind and name in ("", event.name))


def _parse_event(value: Mapping[str, Any]) -> Event:
    about = value.get("regarding") or value.get("involvedObject")
    times = (
        field(value, "series", "lastObservedTime"),
        value.get("lastTimestamp"),
        value.get("deprecatedLastTimestamp"),
        value.get("eventTime"),
        field(value, "metadata", "creationTimestamp"),
    )
    return Event(
        kind=word(field(about, "kind")),
        name=word(field(about, "name")),
        reason=word(value.get("reason")),
        message=message(value.get("note")) or message(value.get("message")),
        is_warning=value.get("type") == "Warning",
        at=next(filter(None, map(moment, times)), None),
    )
