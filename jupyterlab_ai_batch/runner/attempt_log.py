"""The Attempt's log: what the runner writes to its stdout goes, byte by byte, into a file too.

Everything passes through here in whole lines, under one lock, so file and stdout have the same bytes in the same order:
the line protocol and the kernel's output directly, and what else appears on file descriptors 1 and 2 of this process
(warnings, messages of libraries) from a pipe. Lines of the protocol are never delayed: a runner that is killed has
written to the file what it has written to its stdout. Only the file ends at ``limit_bytes``, with a line that says so;
a file that cannot be written loses text, never the run.
"""

from __future__ import annotations

import hashlib
import io
import os
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from ..wire import EVENT_MARK

LOG_LIMIT_BYTES = 64 * 1024**2
MAX_STRAY_LINE_BYTES = 16 * 1024

_DRAIN_S = 2.0
_PIECE_BYTES = 1 << 16
_MARK = EVENT_MARK.encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPart:
    """The first ``size_bytes`` of a log, and their digest (hex)."""

    sha256: str = ""
    size_bytes: int = 0


class AttemptLog:
    """A stream for the Reporter that also writes ``path``. For several threads; ``close`` it at the end."""

    def __init__(self, stdout: BinaryIO, path: Path, *, limit_bytes: int = LOG_LIMIT_BYTES) -> None:
        self._stdout = stdout
        self._path = path
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._sha256 = hashlib.sha256()
        self._size = 0
        self._file = _create(path)
        self._taken: tuple[int, int] | None = None
        self._reader: threading.Thread | None = None

    def write(self, lines: bytes) -> int:
        """Write whole lines.

        Raises:
            OSError: nobody reads stdout any more; the file has them all the same.
        """
        with self._lock:
            self._keep(lines)
            self._stdout.write(lines)
            self._stdout.flush()
        return len(lines)

    def flush(self) -> None:
        """Nothing waits here."""

    def take_descriptors(self) -> None:
        """From now on also what this process writes to its file descriptors 1 and 2, as lines of their own."""
        reading, writing = os.pipe()
        self._taken = os.dup(1), os.dup(2)
        for number in (1, 2):
            os.dup2(writing, number)
        os.close(writing)
        self._reader = threading.Thread(target=self._pass_on, args=(reading,), daemon=True)
        self._reader.start()

    def close(self) -> None:
        """Give the descriptors back, when the last byte that was written to them has passed, and close the file."""
        if self._taken is not None and self._reader is not None:
            with suppress(OSError, ValueError):
                sys.stderr.flush()
            for number, original in enumerate(self._taken, start=1):
                os.dup2(original, number)
                os.close(original)
            self._taken = None
            self._reader.join(_DRAIN_S)  # not for ever: a process that somebody started may hold the pipe open
        with self._lock:
            self._close_file()

    def part(self) -> LogPart:
        """All that is in the file now."""
        with self._lock:
            return LogPart(sha256=self._sha256.hexdigest(), size_bytes=self._size) if self._size else LogPart()

    def open(self, part: LogPart) -> BinaryIO:
        """The bytes of ``part``; the file may have grown since.

        Raises:
            OSError: the file cannot be read.
        """
        return cast(BinaryIO, io.BufferedReader(_Beginning(self._path, part.size_bytes), _PIECE_BYTES))

    def _pass_on(self, reading: int) -> None:
        held = b""
        with os.fdopen(reading, "rb", buffering=0) as pipe:
            while chunk := pipe.read(_PIECE_BYTES):
                lines, newline, held = (held + chunk.replace(_MARK, b"")).rpartition(b"\n")
                self._write_stray(lines + newline)
                if len(held) > MAX_STRAY_LINE_BYTES:
                    self._write_stray(held + b"\n")
                    held = b""
        self._write_stray(held + b"\n" if held else b"")

    def _write_stray(self, lines: bytes) -> None:
        if lines:
            with suppress(OSError, ValueError):  # the Reporter meets the same, and ends the run
                self.write(lines)

    def _keep(self, lines: bytes) -> None:
        if self._file is None:
            return
        room = self._limit_bytes - self._size
        is_cut = len(lines) > room
        if is_cut:
            lines = lines[: lines.rfind(b"\n", 0, room) + 1]
            lines += f"[ai-batch] The log is longer than {self._limit_bytes} bytes; the rest is not kept.\n".encode()
        if not self._append(lines) or is_cut:
            self._close_file()

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _append(self, lines: bytes) -> bool:
        """False where the file takes no more: what it has is what the digest is of."""
        file = self._file
        while file is not None and lines:
            try:
                written = file.write(lines) or 0
            except OSError:
                return False
            self._sha256.update(lines[:written])
            self._size += written
            lines = lines[written:]
        return True


class _Beginning(io.RawIOBase):
    """The first ``size`` bytes of a file."""

    def __init__(self, path: Path, size: int) -> None:
        super().__init__()
        self._file = path.open("rb", buffering=0)
        self._left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._file.readinto(memoryview(buffer)[: self._left]) or 0
        self._left -= count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def _create(path: Path) -> io.FileIO | None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return io.FileIO(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w")
    except OSError:
        return None
