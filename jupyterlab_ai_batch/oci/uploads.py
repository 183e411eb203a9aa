"""Blobs on their way to a registry: kept until they are there, sent in the background, each one the unit of retry.

A registry may drop an upload whenever its connection is cut, so nothing is resumed in the middle: the blob is sent
again, from memory or from an anonymous temporary file.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import IO

from ..errors import RegistryError
from .answers import Body
from .storage import storage_errors

MEMORY_BYTES = 16 << 20
PENDING_MEMORY_BYTES = 32 << 20
PENDING_BYTES = 1 << 30
PIECE_BYTES = 1 << 18


class Spool:
    """The content of one blob: in memory up to 16 MB, in an anonymous file of ``directory`` beyond."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = Path(tempfile.gettempdir()) if directory is None else directory
        self._parts: list[bytes] = []
        self._file: IO[bytes] | None = None
        self._sha256 = hashlib.sha256()
        self._abandoned = False
        self.size = 0

    @property
    def digest(self) -> str:
        return f"sha256:{self._sha256.hexdigest()}"

    @property
    def memory_bytes(self) -> int:
        return self.size if self._file is None else 0

    def write(self, data: bytes | memoryview) -> int:
        self._sha256.update(data)
        self.size += len(data)
        if self._file is None:
            self._parts.append(bytes(data))  # no copy where it is bytes already
            if self.size > MEMORY_BYTES:
                self._spill()
        else:
            with storage_errors(self._directory):
                self._file.write(data)
        return len(data)

    def body(self, start: int, end: int) -> Body:
        """The bytes from ``start`` up to ``end``, as often as they are needed."""
        return Body(end - start, lambda: self._pieces(start, end))

    def abandon(self) -> None:
        """Nobody wants it any more: ends its sending between two pieces."""
        self._abandoned = True

    def check_wanted(self) -> None:
        if self._abandoned:
            raise _given_up()

    def close(self) -> None:
        self._parts.clear()
        if self._file is not None:
            self._file.close()

    def _pieces(self, start: int, end: int) -> Iterator[bytes | memoryview]:
        for piece in self._from_memory(start, end) if self._file is None else self._from_file(self._file, start, end):
            self.check_wanted()
            yield piece

    def _from_memory(self, start: int, end: int) -> Iterator[memoryview]:
        at = 0
        for part in self._parts:
            view = memoryview(part)[max(0, start - at) : max(0, end - at)]
            for offset in range(0, len(view), PIECE_BYTES):
                yield view[offset : offset + PIECE_BYTES]
            at += len(part)

    def _from_file(self, file: IO[bytes], start: int, end: int) -> Iterator[bytes]:
        with storage_errors(self._directory):
            file.flush()
            for offset in range(start, end, PIECE_BYTES):
                yield os.pread(file.fileno(), min(PIECE_BYTES, end - offset), offset)

    def _spill(self) -> None:
        with storage_errors(self._directory):
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=self._directory, buffering=1 << 20)  # noqa: SIM115 - see close
            self._file.writelines(self._parts)
        self._parts.clear()


class Uploads:
    """Sends spools in the background; at most 32 MB of them wait in memory, and 1 GB in all.

    Args:
        send: Uploads one spool; called in one of ``threads``.
    """

    def __init__(self, send: Callable[[Spool], None], threads: ThreadPoolExecutor) -> None:
        self._send = send
        self._threads = threads
        self._room = threading.Condition()
        self._pending: dict[str, tuple[Future[None], Spool]] = {}
        self._held: list[tuple[int, int]] = []
        self._closed = False

    def start(self, spool: Spool) -> None:
        """Take over ``spool``; waits while there is too much already.

        Raises:
            RegistryError: uploads were given up meanwhile.
        """
        held = spool.memory_bytes, spool.size
        with self._room:
            self._room.wait_for(lambda: self._closed or self._has_room(*held))
            if self._closed or spool.digest in self._pending:
                spool.close()
                if self._closed:
                    raise _given_up()
                return
            self._held.append(held)
            self._pending[spool.digest] = self._threads.submit(self._run, spool, held), spool

    def raise_failed(self) -> None:
        """Raise what ended an upload, once."""
        with self._room:
            done = [digest for digest, (future, _) in self._pending.items() if future.done()]
            finished = [self._pending.pop(digest)[0] for digest in done]
        for future in finished:
            future.result()

    def finish(self, digest: str | None = None) -> None:
        """Wait for the upload of ``digest``, or for all; raises what ended one."""
        with self._room:
            waiting = [future for name, (future, _) in self._pending.items() if digest in (None, name)]
        wait(waiting)
        if waiting:
            self.raise_failed()

    def close(self) -> None:
        """Give up what has not been sent; a piece that is being sent is waited for."""
        with self._room:
            self._closed = True
            spools = [spool for _, spool in self._pending.values()]
            self._room.notify_all()
        for spool in spools:
            spool.abandon()
        self._threads.shutdown(cancel_futures=True)
        for spool in spools:
            spool.close()

    def _has_room(self, memory_bytes: int, size: int) -> bool:
        """One blob always has, however large."""
        memory_held, size_held = (sum(column) for column in zip(*self._held, strict=True)) if self._held else (0, 0)
        return not self._held or (
            memory_held + memory_bytes <= PENDING_MEMORY_BYTES and size_held + size <= PENDING_BYTES
        )

    def _run(self, spool: Spool, held: tuple[int, int]) -> None:
        try:
            self._send(spool)
        finally:
            spool.close()
            with self._room:
                self._held.remove(held)
                self._room.notify_all()


def _given_up() -> RegistryError:
    return RegistryError("The upload was given up.")
