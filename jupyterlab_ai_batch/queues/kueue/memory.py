"""What this backend remembers of Submissions beyond their Jobs, in a file for each.

The Job is the truth while it lasts. It goes when the user cancels, when the outputs are home, or when somebody deletes
it; then there is only what is written down here: that the user asked for the end (before the Job is told, so that a
server that dies in between asks again), how it ended, and that nothing of it is needed any more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from ...models import Observation, QueueEntry
from ...oci.storage import ensure_private_directory, locked, replace_file, storage_errors
from ...wire import WireError, dumps, loads
from .paths import KueuePaths, is_safe_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """One Submission.

    Attributes:
        entry: As it was handed in.
        cancel_asked_at: When the user asked for its end here.
        ended: The last Observation, once it is terminal.
        released_at: When its outputs were safe at home.
    """

    entry: QueueEntry
    cancel_asked_at: datetime | None = None
    ended: Observation | None = None
    released_at: datetime | None = None

    @property
    def is_over(self) -> bool:
        """It has ended, or is about to by the user's wish: it is not to begin again."""
        return self.ended is not None or self.cancel_asked_at is not None

    @property
    def submission_id(self) -> str:
        return self.entry.submission.id


class Memory:
    """Blocks: for threads. Safe for several processes of one user at once.

    Raises (every method): StorageError, StorageFullError, StoragePermissionError.
    """

    def __init__(self, paths: KueuePaths) -> None:
        self._paths = paths

    def get(self, submission_id: str) -> Remembered | None:
        """None also for an id that cannot be ours, and for a file that is damaged."""
        if not is_safe_id(submission_id):
            return None
        remembered = self._read(self._paths.record(submission_id))
        return remembered if remembered and remembered.submission_id == submission_id else None

    def get_all(self, submission_ids: Collection[str]) -> Mapping[str, Remembered]:
        found = {submission_id: self.get(submission_id) for submission_id in submission_ids}
        return {submission_id: remembered for submission_id, remembered in found.items() if remembered}

    def everything(self) -> Sequence[Remembered]:
        """In no order."""
        with storage_errors(self._paths.records):
            if not self._paths.records.is_dir():
                return []
            names = [path.stem for path in self._paths.records.glob("*.json")]
        return list(self.get_all(names).values())

    def update(self, entry: QueueEntry, change: Callable[[Remembered], Remembered]) -> Remembered:
        """Change what is remembered of ``entry``'s Submission, durably; its id must be safe."""
        submission_id = entry.submission.id
        ensure_private_directory(self._paths.root)
        ensure_private_directory(self._paths.records)
        with storage_errors(self._paths.records), locked(self._paths.records / "lock"):
            before = self.get(submission_id) or Remembered(entry=entry)
            after = change(before)
            if after != before or not self._paths.record(submission_id).exists():
                replace_file(self._paths.record(submission_id), dumps(after).encode())
        return after

    def forget(self, submission_id: str) -> None:
        with storage_errors(self._paths.records):
            self._paths.record(submission_id).unlink(missing_ok=True)

    def _read(self, path: Path) -> Remembered | None:
        with storage_errors(path):
            try:
                content = path.read_bytes()
            except FileNotFoundError:
                return None
        try:
            return loads(Remembered, content)
        except WireError:
            return None


def with_cancel(asked_at: datetime) -> Callable[[Remembered], Remembered]:
    """The user asked for its end; the first time counts, and not after it has ended."""
    return lambda before: (
        before if before.cancel_asked_at or before.ended else replace(before, cancel_asked_at=asked_at)
    )


def with_end(ended: Observation) -> Callable[[Remembered], Remembered]:
    """It has ended so; the first end counts."""
    return lambda before: before if before.ended else replace(before, ended=ended)


def with_release(released_at: datetime) -> Callable[[Remembered], Remembered]:
    return lambda before: before if before.released_at else replace(before, released_at=released_at)


def expendable(everything: Sequence[Remembered], *, keep: int) -> Sequence[str]:
    """Ids of those that were released, but for the ``keep`` newest."""
    released = [remembered for remembered in everything if remembered.released_at is not None]
    released.sort(key=lambda remembered: remembered.entry.submission.created_at, reverse=True)
    return [remembered.submission_id for remembered in released[keep:]]
