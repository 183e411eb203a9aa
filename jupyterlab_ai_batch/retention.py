"""What may go: Snapshots that no Submission needs any more, and what is left of old captures.

A capture child tidies up after it has queued its Submission, so no server spends time on it. A Snapshot is needed
while its Submission has not ended, or its files are not home yet; the newest ones stay in any case. Deleting one only
removes its name: blobs go when nothing names them, and none that was used in the last two hours.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from .capturing import CaptureDirectory
from .errors import BatchError, SubmissionNotFoundError
from .ledger import Ledger
from .models import Submission
from .observing import is_collectable
from .oci.port import BlobStore
from .snapshot.captured import BASE_PREFIX, base_tag

TAG_PREFIX = "snapshot-"
KEEP_NEWEST = 20
KEEP_CAPTURE_LOGS = 50

_log = logging.getLogger(__name__)


class CollectableStore(BlobStore, Protocol):
    """A store that can drop what nothing names."""

    def collect_garbage(self) -> int: ...


def snapshot_tag(submission_id: str) -> str:
    """Under which name the store keeps a Submission's Snapshot."""
    return f"{TAG_PREFIX}{submission_id}"


def tidy(data_dir: Path, *, ledger: Ledger, store: CollectableStore, keep_runs: int) -> None:
    """Drop what is not needed; a failure is logged and tried again after the next capture.

    Args:
        keep_runs: How many finished Submissions, the newest first, may still bring their files home.
    """
    try:
        recent = ledger.newest(max(keep_runs, KEEP_NEWEST, KEEP_CAPTURE_LOGS))
        needed = {submission.id for submission in (*ledger.active(), *recent[:KEEP_NEWEST])}
        needed |= {submission.id for submission in recent[:keep_runs] if is_collectable(submission.outputs)}
        dropped = _drop_snapshots(needed, ledger=ledger, store=store)
        dropped += _drop_bases(recent, store=store)
        if dropped:
            store.collect_garbage()
        _drop_captures(data_dir, recent[:KEEP_CAPTURE_LOGS], ledger=ledger)
    except BatchError as exc:
        _log.warning("the store was not tidied: %s", exc.message)


def _drop_snapshots(needed: set[str], *, ledger: Ledger, store: BlobStore) -> int:
    names = [tag.removeprefix(TAG_PREFIX) for tag, _ in store.tags() if tag.startswith(TAG_PREFIX)]
    expendable = [name for name in names if name not in needed and _has_ended(ledger, name)]
    for name in expendable:
        store.delete_tag(snapshot_tag(name))
    return len(expendable)


def _drop_bases(recent: Iterable[Submission], *, store: BlobStore) -> int:
    """Those of work trees from which nothing was submitted for long."""
    needed = {base_tag(submission.snapshot.work_root) for submission in recent if submission.snapshot is not None}
    expendable = [tag for tag, _ in store.tags() if tag.startswith(BASE_PREFIX) and tag not in needed]
    for tag in expendable:
        store.delete_tag(tag)
    return len(expendable)


def _drop_captures(data_dir: Path, recent: Iterable[Submission], *, ledger: Ledger) -> None:
    kept = {submission.id for submission in recent}
    directories = [path for path in (data_dir / "captures").glob("*") if path.is_dir() and path.name not in kept]
    for path in directories:
        directory = CaptureDirectory(data_dir, path.name)
        if _has_ended(ledger, path.name) and not directory.is_alive():
            directory.remove()


def _has_ended(ledger: Ledger, submission_id: str) -> bool:
    """False also for what the ledger does not know: it may have been lost."""
    try:
        return ledger.get(submission_id).state.is_terminal
    except SubmissionNotFoundError:
        return False
