"""Tar streams -> blobs, behind the back of whoever reads the files: compressed on threads, written in order.

One layer is filled at a time; what came before it is still being compressed, hashed and handed to the store
meanwhile. Memory is bounded: ``feed`` waits while too many chunks are on their way.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from threading import Semaphore
from types import TracebackType

from ..oci.port import BlobStore, BlobWriter
from .codec import MEMBER_BYTES, compress_member

THREADS = 2
CHUNKS_IN_FLIGHT = 4

_WAIT_S = 0.1


@dataclass(frozen=True, slots=True)
class Pressed:
    """What became of a tar stream; ``size`` in bytes, of the blob."""

    diff_id: str
    digest: str
    size: int


class Press:
    """A context manager; leaving it with an error discards what is not committed.

    Args:
        on_wait: Called at least every 0.1 s while the caller has to wait; may raise.
        on_bytes: Told how much was written, on another thread.
    """

    def __init__(self, store: BlobStore, *, on_wait: Callable[[], None], on_bytes: Callable[[int], None]) -> None:
        self.store = store
        self.on_wait = on_wait
        self.on_bytes = on_bytes
        self.compressors = ThreadPoolExecutor(THREADS, thread_name_prefix="compress")
        self.shipper = ThreadPoolExecutor(1, thread_name_prefix="ship")  # one: everything happens in order
        self.room = Semaphore(CHUNKS_IN_FLIGHT)
        self._free: deque[bytearray] = deque()
        self._streams: list[PressedStream] = []

    def __enter__(self) -> Press:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.compressors.shutdown(wait=False, cancel_futures=True)
        self.shipper.shutdown(cancel_futures=True)
        self.compressors.shutdown()
        for stream in self._streams:
            stream.close()

    def begin(self) -> PressedStream:
        """A stream for one layer; it ends with ``finish`` or ``discard``."""
        self._streams = [stream for stream in self._streams if not stream.is_closed]
        stream = PressedStream(self)
        self._streams.append(stream)
        return stream

    def wait_for(self, pressed: Future[Pressed]) -> Pressed:
        """The blob that a stream became.

        Raises:
            StorageError, StorageFullError: it could not be written.
        """
        while not wait([pressed], timeout=_WAIT_S).done:
            self.on_wait()
        return pressed.result()

    def hash(self, content: bytes) -> Future[bytes]:
        """The SHA-256 of something that is fed right afterwards: so only so much of it is in memory."""
        return self.compressors.submit(_sha256, content)

    def new_chunk(self, size: int) -> bytearray:
        """Memory for the next chunk, used before where possible; its content is of no meaning."""
        try:
            return self._free.pop()
        except IndexError:
            return bytearray(size)

    def reuse(self, chunk: bytearray | memoryview) -> None:
        if isinstance(chunk, bytearray) and len(chunk) == MEMBER_BYTES:
            self._free.append(chunk)


def _sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


class PressedStream:
    """One layer on its way; ``feed`` takes chunks of MEMBER_BYTES but for the last."""

    def __init__(self, press: Press) -> None:
        self._press = press
        self._sha256 = hashlib.sha256()
        self._open = ExitStack()
        self._blob: BlobWriter | None = None
        self._failure: BaseException | None = None
        self.is_closed = False

    def feed(self, chunk: bytearray | memoryview) -> None:
        """Take over a chunk.

        Raises:
            StorageError, StorageFullError: an earlier chunk could not be written.
        """
        press = self._press
        while not press.room.acquire(timeout=_WAIT_S):
            press.on_wait()
        if self._failure is not None:
            press.room.release()
            raise self._failure
        member = press.compressors.submit(compress_member, chunk)
        press.shipper.submit(self._ship, chunk, member)

    def finish(self) -> Future[Pressed]:
        """Commit the blob once all chunks are written."""
        return self._press.shipper.submit(self._commit)

    def discard(self) -> None:
        self._press.shipper.submit(self.close)

    def close(self) -> None:
        self.is_closed = True
        self._open.close()

    def _ship(self, chunk: bytearray | memoryview, member: Future[bytes]) -> None:
        try:
            if self._failure is None and not self.is_closed:
                if self._blob is None:
                    self._blob = self._open.enter_context(self._press.store.write_blob())
                self._sha256.update(chunk)
                data = member.result()
                self._blob.write(data)
                self._press.on_bytes(len(data))
        except BaseException as exc:  # noqa: BLE001 - raised where the stream is fed or awaited
            self._failure = exc
        finally:
            with suppress(CancelledError):  # not by wait(): it never returns for what a shutdown has cancelled
                member.exception()  # until then the chunk is read
            self._press.reuse(chunk)
            self._press.room.release()

    def _commit(self) -> Pressed:
        try:
            if self._failure is not None or self._blob is None:
                raise self._failure or RuntimeError("nothing was written")
            digest, size = self._blob.commit()
            return Pressed(f"sha256:{self._sha256.hexdigest()}", digest, size)
        finally:
            self.close()
