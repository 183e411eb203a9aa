"""Layers as gzip: independent members of a fixed size, compressed in parallel.

ISA-L level 1 gives the same bytes on every CPU; where it is not installed zlib level 1 gives another blob of the same
content. A member is 4 MiB of the tar stream, so the bytes depend on the content only.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import import_module
from types import TracebackType
from typing import Any, BinaryIO, cast

from ..oci.port import BlobWriter


def _load_isal(name: str) -> Any:
    try:
        return import_module(f"isal.{name}")
    except ImportError:  # no wheel for this CPU
        return None


igzip = _load_isal("igzip")
igzip_lib = _load_isal("igzip_lib")

CODEC = "gzip-isal-1" if igzip_lib is not None else "gzip-zlib-1"
MEMBER_BYTES = 4 << 20
THREADS = 2

_IN_FLIGHT = THREADS + 2


def compress_member(data: bytes) -> bytes:
    """One gzip member without name or time."""
    if igzip_lib is not None:
        return cast(bytes, igzip_lib.compress(data, 1, igzip_lib.COMP_GZIP))
    compressor = zlib.compressobj(1, zlib.DEFLATED, 31)
    return compressor.compress(data) + compressor.flush()


def open_decompressed(stream: BinaryIO) -> BinaryIO:
    """The content of a gzip stream of any number of members; OSError, EOFError, zlib.error when it is none."""
    if igzip is not None:
        return cast(BinaryIO, igzip.IGzipFile(fileobj=stream, mode="rb"))
    return cast(BinaryIO, gzip.GzipFile(fileobj=stream, mode="rb"))


class Compressor:
    """Takes the tar stream in chunks of MEMBER_BYTES, writes the compressed blob in order.

    A context manager; ``finish`` returns the diff id (digest of the tar stream).
    """

    def __init__(self, blob: BlobWriter, *, on_bytes: Callable[[int], None] = lambda _count: None) -> None:
        self._blob = blob
        self._on_bytes = on_bytes
        self._workers = ThreadPoolExecutor(THREADS)
        self._hasher = ThreadPoolExecutor(1)
        self._sha256 = hashlib.sha256()
        self._waiting: deque[tuple[Future[bytes], Future[None]]] = deque()

    def __enter__(self) -> Compressor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._workers.shutdown(cancel_futures=True)
        self._hasher.shutdown(cancel_futures=True)

    def feed(self, chunk: bytes) -> None:
        self._waiting.append(
            (self._workers.submit(compress_member, chunk), self._hasher.submit(self._sha256.update, chunk))
        )
        while len(self._waiting) > _IN_FLIGHT:
            self._write_next()

    def finish(self) -> str:
        while self._waiting:
            self._write_next()
        return f"sha256:{self._sha256.hexdigest()}"

    def _write_next(self) -> None:
        member, hashed = self._waiting.popleft()
        hashed.result()
        data = member.result()
        self._blob.write(data)
        self._on_bytes(len(data))
