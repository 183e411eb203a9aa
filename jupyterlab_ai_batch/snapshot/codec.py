"""Layers as gzip: independent members of a fixed size, so that they can be compressed in parallel.

ISA-L level 1 gives the same bytes on every CPU; where it is not installed zlib level 1 gives another blob of the same
content. A member is 4 MiB of the tar stream, deflated or, where a sample of it does not shrink, stored: so the bytes
depend on the content only.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from importlib import import_module
from typing import Any, BinaryIO, cast

Bytes = bytes | bytearray | memoryview


def _load_isal(name: str) -> Any:
    try:
        return import_module(f"isal.{name}")
    except ImportError:  # no wheel for this CPU
        return None


igzip_lib = _load_isal("igzip_lib")
_crc32 = (_load_isal("isal_zlib") or zlib).crc32

UNPACK_ERRORS: tuple[type[Exception], ...] = (
    (OSError, EOFError, zlib.error, igzip_lib.IsalError) if igzip_lib is not None else (OSError, EOFError, zlib.error)
)
MEMBER_BYTES = 4 << 20

_SAMPLES = 4
_SAMPLE_BYTES = 16 << 10
_WORTHWHILE = 0.98
_GZIP_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"  # no name, no time, no system
_MAX_STORED_BYTES = 0xFFFF


def compress_member(data: Bytes) -> bytes:
    """One gzip member without name or time."""
    sample = _sample(data)
    if sample and len(_deflate(sample)) > _WORTHWHILE * len(sample):
        return _store(memoryview(data))
    return _deflate(data)


def open_decompressed(stream: BinaryIO) -> BinaryIO:
    """The content of a gzip stream of any number of members; raises UNPACK_ERRORS when it is none."""
    if igzip_lib is not None:
        igzip = _load_isal("igzip")
        return cast(BinaryIO, igzip.IGzipFile(fileobj=stream, mode="rb"))
    return cast(BinaryIO, gzip.GzipFile(fileobj=stream, mode="rb"))


def _sample(data: Bytes) -> bytes:
    """Pieces from all over ``data``; none of what is so short that deflating it costs nothing."""
    stride = len(data) // _SAMPLES
    if stride < 2 * _SAMPLE_BYTES:
        return b""
    with memoryview(data) as view:
        starts = range((stride - _SAMPLE_BYTES) // 2, len(data) - _SAMPLE_BYTES, stride)
        return b"".join(view[start : start + _SAMPLE_BYTES] for start in starts)


def _deflate(data: Bytes) -> bytes:
    if igzip_lib is not None:
        return cast(bytes, igzip_lib.compress(data, 1, igzip_lib.COMP_GZIP))
    compressor = zlib.compressobj(1, zlib.DEFLATED, 31)
    return compressor.compress(data) + compressor.flush()


def _store(data: memoryview) -> bytes:
    """``data`` as it is, in deflate blocks of type 0."""
    parts: list[bytes | memoryview] = [_GZIP_HEADER]
    for start in range(0, len(data), _MAX_STORED_BYTES):
        block = data[start : start + _MAX_STORED_BYTES]
        is_last = start + len(block) == len(data)
        parts += [struct.pack("<BHH", is_last, len(block), len(block) ^ 0xFFFF), block]
    parts.append(struct.pack("<II", _crc32(data), len(data) & 0xFFFFFFFF))
    return b"".join(parts)
