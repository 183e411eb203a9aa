"""An Attempt's log file: appended up to a limit, read by byte offset."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from ..models import LogChunk
from ..oci.storage import storage_errors

MAX_READ_BYTES = 4 * 1024**2
_LONGEST_CHARACTER_BYTES = 4


class LogWriter:
    """Appends to the log (mode 0600); what exceeds the limit is dropped after a line that says so.

    A full disk loses log text, never the run.
    """

    def __init__(self, path: Path, *, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._stream: BinaryIO = os.fdopen(
            os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab", buffering=0
        )
        self._size = os.fstat(self._stream.fileno()).st_size
        self._ends_line = True
        self._cut = False

    def write(self, text: bytes) -> None:
        if not text or self._cut:
            return
        room = self._limit_bytes - self._size
        if len(text) > room:
            self._cut = True
            note = f"\n[ai-batch] The log is longer than {self._limit_bytes} bytes; the rest is not kept.\n"
            text = text[: max(room, 0)].decode("utf-8", "ignore").encode() + note.encode()
        self._append(text)

    def note(self, sentence: str) -> None:
        """A line of ours, on a line of its own."""
        self.write(f"{'' if self._ends_line else chr(10)}[ai-batch] {sentence}\n".encode())

    def close(self) -> None:
        self._stream.close()

    def _append(self, text: bytes) -> None:
        self._ends_line = text.endswith(b"\n")
        try:
            while text:
                written = self._stream.write(text) or 0
                self._size += written
                text = text[written:]
        except OSError:
            self._cut = True


def read_log(path: Path, *, attempt: int, offset: int, limit_bytes: int, ended: bool) -> LogChunk:
    """Read from ``offset``; a character that is cut by the limit, or not yet all written, is left for the next read.

    Raises:
        StorageError: the log cannot be read. A log that does not exist is an empty one.
    """
    offset = max(0, offset)
    limit_bytes = min(max(limit_bytes, _LONGEST_CHARACTER_BYTES), MAX_READ_BYTES)
    with storage_errors(path):
        try:
            with path.open("rb") as stream:
                size = os.fstat(stream.fileno()).st_size
                offset = min(offset, size)
                stream.seek(offset)
                content = stream.read(limit_bytes)
        except FileNotFoundError:
            size, offset, content = 0, 0, b""
    at_end = offset + len(content) >= size
    if not (at_end and ended):
        content = content[: _whole_characters(content)]
    next_offset = offset + len(content)
    return LogChunk(
        attempt=attempt,
        text=content.decode("utf-8", "replace"),
        offset=offset,
        next_offset=next_offset,
        complete=ended and next_offset >= size,
    )


def _whole_characters(content: bytes) -> int:
    """Length without an incomplete UTF-8 sequence at the end; bytes that are not UTF-8 count as whole."""
    for back in range(1, min(_LONGEST_CHARACTER_BYTES, len(content)) + 1):
        length = _sequence_length(content[-back])
        if length:
            return len(content) - back if length > back else len(content)
    return len(content)


def _sequence_length(byte: int) -> int:
    """Bytes of the UTF-8 sequence that ``byte`` begins; 0 for one inside a sequence."""
    for length, first, mask in ((1, 0x00, 0x80), (0, 0x80, 0xC0), (2, 0xC0, 0xE0), (3, 0xE0, 0xF0)):
        if byte & mask == first:
            return length
    return _LONGEST_CHARACTER_BYTES
