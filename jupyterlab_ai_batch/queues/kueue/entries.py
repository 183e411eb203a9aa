"""What was handed in, from the Job that was made of it. Pure."""

from __future__ import annotations

from ...models import QueueEntry
from .api import Json
from .manifest import parse_entry
from .naming import job_name
from .paths import is_safe_id
from .store import name_of


def entry_of(job: Json | None) -> QueueEntry | None:
    """The entry of a Job of ours; None where its annotation is damaged, or is that of another Submission."""
    entry = parse_entry(job) if job is not None else None
    if job is None or entry is None or not is_safe_id(entry.submission.id):
        return None
    return entry if job_name(entry.submission.id) == name_of(job) else None
