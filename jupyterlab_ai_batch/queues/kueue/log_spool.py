"""Where the log of an Attempt is kept on this machine: the text, and how far it was read.

Why a file: offsets that a browser reads by must stay what they are, over reconnects, restarts of the server, and the
end of the pod. Of the processes of a user that look at the same log, the one that holds the file's lock writes it.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from ...oci.storage import ensure_private_directory, storage_errors
from ...wire import WireError, dumps, loads
from .log_lines import LogPlace, RunnerReport

MAX_LOG_BYTES = 256 * 1024**2
_CUT_NOTE = b"\n[ai-batch] The log is longer than this; the rest is not kept here.\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogCursor:
    """How far a pod's log was read.

    Attributes:
        begun_at: When the pod was created: the order of Attempts.
        size_bytes: Of the text up to there.
        complete: The log has ended, and all of it was read.
    """

    begun_at: datetime
    place: LogPlace = field(default_factory=LogPlace)
    report: RunnerReport = field(default_factory=RunnerReport)
    size_bytes: int = 0
    complete: bool = False


class LogSpool:
    """The log of one pod. Blocks: for threads.

    Raises (every method): StorageError, StorageFullError.
    """

    def __init__(self, directory: Path, pod_uid: str) -> None:
        self.text = directory / f"{pod_uid}.txt"
        self._cursor = directory / f"{pod_uid}.json"
        self._fd: int | None = None

    def take(self, begun_at: datetime) -> LogCursor | None:
        """Become the one who writes, from where the last one came; None while somebody else is."""
        ensure_private_directory(self.text.parent)
        with storage_errors(self.text):
            fd = os.open(self.text, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                return None
            self._fd = fd
            cursor = self.cursor()
            if cursor is None or os.fstat(fd).st_size < cursor.size_bytes:
                cursor = LogCursor(begun_at=begun_at)  # from the beginning: the same text lands at the same offsets
            os.ftruncate(fd, cursor.size_bytes)
        return cursor

    def append(self, text: bytes, cursor: LogCursor) -> int:
        """Write text, then the cursor that belongs after it; returns the size of the text.

        Only for who has taken it. A crash between the two costs what was appended: it is read again.
        """
        if self._fd is None:
            raise RuntimeError("the log was not taken")
        size = cursor.size_bytes
        room = MAX_LOG_BYTES - size
        if 0 <= room < len(text):
            text = text[:room].decode("utf-8", "ignore").encode() + _CUT_NOTE
        if room >= 0:
            with storage_errors(self.text):
                _write_all(self._fd, text)
            size += len(text)
        self._write_cursor(cursor, size)
        return size

    def cursor(self) -> LogCursor | None:
        """As last written, by whomever; None when there is none."""
        with storage_errors(self._cursor):
            try:
                content = self._cursor.read_bytes()
            except FileNotFoundError:
                return None
        try:
            return loads(LogCursor, content)
        except WireError:
            return None

    def leave(self) -> None:
        """Let somebody else write."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _write_cursor(self, cursor: LogCursor, size: int) -> None:
        new = self._cursor.with_suffix(".new")
        with storage_errors(self._cursor):
            new.write_bytes(dumps(replace(cursor, size_bytes=size)).encode())
            new.replace(self._cursor)  # no sync: a cursor that is lost costs a second reading


def spooled(directory: Path) -> list[tuple[str, LogCursor]]:
    """The pods whose logs are kept there, by uid, in the order in which they were created."""
    found = []
    with suppress(FileNotFoundError), storage_errors(directory):
        for path in directory.glob("*.json"):
            cursor = LogSpool(directory, path.stem).cursor()
            if cursor is not None:
                found.append((path.stem, cursor))
    return sorted(found, key=lambda item: (item[1].begun_at, item[0]))


def _write_all(fd: int, text: bytes) -> None:
    while text:
        text = text[os.write(fd, text) :]
