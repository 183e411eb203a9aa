"""Reading a stored Snapshot: its manifest and config, its layers, its single-file layers."""

from __future__ import annotations

import hashlib
import io
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from types import TracebackType
from typing import Any, BinaryIO, cast

from ..oci.manifest import MAX_CONFIG_BYTES, Layer, SnapshotImage, parse_config_digest, parse_image
from ..oci.port import BlobStore
from .codec import UNPACK_ERRORS, open_decompressed
from .limits import Budget, RestoreLimits
from .tarreader import TarReader
from .tarstream import FILE, corrupt

CHUNK_BYTES = 1 << 20

_CHUNKS_AHEAD = 3
_HEADERS_BYTES = 64 << 10


def read_image(store: BlobStore, reference: str) -> SnapshotImage:
    """The Snapshot with this digest or tag.

    Stores verify what they give; this does so again, as everything else is believed because of it.

    Raises:
        SnapshotCorruptError, StorageError
    """
    content, digest = store.get_manifest(reference)
    _verify(content, reference if reference.startswith("sha256:") else digest)
    config_digest = parse_config_digest(content)
    config = store.read_blob(config_digest, limit_bytes=MAX_CONFIG_BYTES)
    _verify(config, config_digest)
    return parse_image(content, config)


def _verify(content: bytes, digest: str) -> None:
    if f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
        raise corrupt("the content is not what its digest says")


def read_single_file(store: BlobStore, layer: Layer, path: str) -> bytes:
    """The one file that a layer of ours holds; it is compressed itself, so the layer is hardly smaller.

    Raises:
        SnapshotCorruptError, StorageError
    """
    content: bytes | None = None
    limit = 2 * layer.size + _HEADERS_BYTES
    budget = Budget(RestoreLimits(unpacked_bytes=limit, entries=1))
    with opened_layer(store, layer, budget) as reader:
        for header in reader:
            budget.draw_entry()
            if header.path != path or header.kind != FILE or header.size > limit:
                raise corrupt(f"{header.path!r} is not expected")
            content = b"".join(chunks_of(reader))
    if content is None:
        raise corrupt(f"{path!r} is missing")
    return content


def chunks_of(reader: TarReader) -> Iterator[bytes]:
    """The content of the reader's present entry, in chunks of CHUNK_BYTES but for the last."""
    while chunk := reader.read(CHUNK_BYTES):
        yield chunk


@contextmanager
def opened_layer(store: BlobStore, layer: Layer, budget: Budget) -> Iterator[TarReader]:
    """The entries of a layer; once they are all read, the blob's digest, its size and its diff id are verified.

    Raises:
        SnapshotCorruptError: the blob is missing, damaged, or larger than the budget.
        StorageError: it cannot be read.
    """
    with store.open_blob(layer.digest) as blob, _UnpackedAhead(blob, layer, budget) as stream:
        yield TarReader(stream)
        stream.check()


class _UnpackedAhead:
    """The tar stream of a layer, unpacked and hashed in a thread of its own, a few chunks ahead of the reader."""

    def __init__(self, blob: BinaryIO, layer: Layer, budget: Budget) -> None:
        self._blob = _SizedBlob(blob, layer.size)
        self._stream = open_decompressed(cast(BinaryIO, self._blob))
        self._diff_id = layer.diff_id
        self._budget = budget
        self._sha256 = hashlib.sha256()
        self._thread = ThreadPoolExecutor(1)
        self._ahead: deque[Future[bytes]] = deque()
        self._ended = False

    def __enter__(self) -> _UnpackedAhead:
        self._ahead.extend(self._thread.submit(self._unpack) for _ in range(_CHUNKS_AHEAD))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(cancel_futures=True)

    def read(self, _size: int) -> bytes:
        chunk = self._ahead.popleft().result()
        self._ahead.append(self._thread.submit(self._unpack))
        return chunk

    def check(self) -> None:
        """Call it at the stream's end."""
        if f"sha256:{self._sha256.hexdigest()}" != self._diff_id:
            raise corrupt("the content is not what the diff id says")
        self._blob.check()

    def _unpack(self) -> bytes:
        if self._ended:
            return b""
        try:
            chunk = self._stream.read(CHUNK_BYTES)
        except UNPACK_ERRORS as exc:
            raise corrupt(str(exc)) from exc
        self._ended = not chunk
        self._budget.draw_bytes(len(chunk))
        self._sha256.update(chunk)
        return chunk


class _SizedBlob(io.RawIOBase):
    """A blob that must have the size that its descriptor says."""

    def __init__(self, blob: BinaryIO, size: int) -> None:
        super().__init__()
        self._blob = blob
        self._left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with memoryview(buffer) as view:
            data = self._blob.read(len(view))
            view[: len(data)] = data
        self._left -= len(data)
        if self._left < 0:
            raise _wrong_size()
        return len(data)

    def check(self) -> None:
        if self._left:
            raise _wrong_size()


def _wrong_size() -> Exception:
    return corrupt("the blob has not the size that the manifest says")
