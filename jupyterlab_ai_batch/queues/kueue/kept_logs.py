"""Logs of Attempts whose pods are gone: from the registry, where the runner put them, into files here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ...errors import SnapshotCorruptError
from ...oci.storage import ensure_private_directory, storage_errors
from ..event_stream import EventStream
from .histories import Histories
from .history import StoredAttempt
from .log_lines import RunnerReport, note_event
from .log_spool import MAX_LOG_BYTES
from .paths import KueuePaths
from .repository import OutputsRepository
from .waiting import in_thread

_PIECE_BYTES = 1 << 20


class KeptLogs:
    """For one event loop."""

    def __init__(self, paths: KueuePaths, histories: Histories) -> None:
        self._paths = paths
        self._histories = histories

    async def fetch(self, submission_id: str, stored: StoredAttempt) -> Path | None:
        """The file with the text of an Attempt's log; None when the registry has none.

        Raises:
            RegistryError, StorageError
        """
        if not stored.log_sha256:
            return None
        path = self._path(submission_id, stored)
        if not await in_thread(path.exists):
            await self._read(submission_id, stored)
        return path

    async def report(self, submission_id: str, stored: StoredAttempt) -> RunnerReport:
        """What the runner said in it.

        Raises:
            RegistryError, StorageError
        """
        return await self._read(submission_id, stored) if stored.log_sha256 else RunnerReport()

    def _path(self, submission_id: str, stored: StoredAttempt) -> Path:
        return self._paths.logs(submission_id) / f"attempt-{stored.attempt.number}-{stored.log_sha256[:12]}.txt"

    async def _read(self, submission_id: str, stored: StoredAttempt) -> RunnerReport:
        path = self._path(submission_id, stored)
        return await self._histories.with_repository(lambda repository: _keep(repository, stored, path))


def _keep(repository: OutputsRepository, stored: StoredAttempt, path: Path) -> RunnerReport:
    """Write the text, without the runner's events, and hear these; a damaged log is an empty one."""
    for directory in (path.parent.parent.parent, path.parent.parent, path.parent):
        ensure_private_directory(directory)
    events, report = EventStream(), RunnerReport()
    new = path.with_suffix(f".{os.getpid()}.new")
    with storage_errors(path), os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as target:
        try:
            for piece in _pieces(repository, stored):
                heard, text = events.feed(piece)
                target.write(text)
                for event in heard:
                    report = note_event(report, event)
        except SnapshotCorruptError:
            target.truncate(0)
        target.write(events.finish())
    with storage_errors(path):
        new.replace(path)
    return report


def _pieces(repository: OutputsRepository, stored: StoredAttempt) -> Iterator[bytes]:
    left = MAX_LOG_BYTES
    with repository.open_blob(f"sha256:{stored.log_sha256}") as stream:
        while left > 0 and (piece := stream.read(min(_PIECE_BYTES, left))):
            left -= len(piece)
            yield piece
