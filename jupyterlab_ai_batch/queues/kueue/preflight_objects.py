"""Whether a Secret and a ConfigMap are there that nobody here may read: by what happened to pods for want of them.

The kubelet says so of every pod that it starts, and every two minutes of a running one that mounts them: this server's.
Events are forgotten after an hour; one is out of date when a pod got on later, or when it was not said again for long.
Source: kubelet events FailedMount and FailedToRetrieveImagePullSecret.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta

from ...models import PreflightCheck
from .api import Json
from .events import POD, Event, newest_about
from .json_fields import field, moment, records, word

REPEATED_WITHIN = timedelta(minutes=3)
GETTING_ON = timedelta(seconds=5)  # an image that is on the node already starts without the Secret, but at once
_PULL_SECRETS = re.compile(r"image pull secrets \(([^)]*)\)")


def check_object(
    name: str, kind: str, wanted: str, *, fix: str, own_pod: Json | None, seen: Sightings
) -> PreflightCheck:
    """``kind``: ``Secret`` or ``ConfigMap``."""
    lacking = seen.lacking(kind, wanted)
    if lacking is not None:
        return PreflightCheck(
            name=name,
            ok=False,
            summary=f"The {kind} {wanted}, which jobs need, is missing: the pod {lacking.name} did not find it.",
            resolution="Ask your admin to make it, as below.",
            fix=fix,
        )
    if wanted in names_of(own_pod, kind):
        summary = f"The {kind} {wanted} was there when your server started, and no pod has missed it lately."
        return PreflightCheck(name=name, ok=True, summary=summary)
    return PreflightCheck(
        name=name,
        ok=None,
        summary=f"Whether the {kind} {wanted}, which jobs need, is there cannot be told from here.",
        resolution="A job without it fails at once, and says so; ask your admin for it then.",
        fix=fix,
    )


class Sightings:
    """Pods and events of the namespace at one moment."""

    def __init__(self, events: Sequence[Event], pods: Sequence[Json], now: datetime) -> None:
        self._events = events
        self._pods = pods
        self._now = now

    def lacking(self, kind: str, wanted: str) -> Event | None:
        """The newest event that says that it is missing; None when there is none, or it is out of date."""
        said = [event for event in newest_about(self._events, POD) if _misses(event, kind, wanted)]
        event = max(said, key=lambda one: one.at or self._now, default=None)
        at = event.at if event is not None else None
        if event is None or at is None or self._now - at > REPEATED_WITHIN:
            return None
        later = (start for pod in self._pods if wanted in names_of(pod, kind) for start in _starts(pod))
        return None if any(start >= at + GETTING_ON for start in later) else event


def names_of(pod: Json | None, kind: str) -> set[str]:
    """The Secrets or ConfigMaps of a pod's volumes and image pulls."""
    volumes = records(field(pod, "spec", "volumes"))
    if kind == "ConfigMap":
        return {word(field(volume, "configMap", "name")) for volume in volumes}
    pulls = records(field(pod, "spec", "imagePullSecrets"))
    names = [*(field(volume, "secret", "secretName") for volume in volumes), *(pull.get("name") for pull in pulls)]
    return {word(name) for name in names}


def _misses(event: Event, kind: str, wanted: str) -> bool:
    if not event.is_warning:
        return False
    pulls = _PULL_SECRETS.search(event.message)
    if kind == "Secret" and pulls is not None:
        return wanted in [name.strip() for name in pulls[1].split(",")]
    return f'{kind.lower()} "{wanted}" not found' in event.message


def _starts(pod: Json) -> Sequence[datetime]:
    states = (
        field(status, "state", key, "startedAt")
        for status in records(field(pod, "status", "containerStatuses"))
        for key in ("running", "terminated")
    )
    return [start for start in map(moment, states) if start is not None]
