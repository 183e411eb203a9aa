"""Tar as OCI layers use it: ustar headers, PAX records only where ustar cannot say it.

Names are text with surrogate escapes for bytes that are not UTF-8 (``os.fsdecode``). Sparse files are written as
zeros. The writer is a pure function of its calls: same calls, same bytes. ``tarreader`` reads it.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable
from typing import NamedTuple

from ..errors import SnapshotCorruptError

BLOCK = 512
FILE, HARD_LINK, SYMLINK, DIRECTORY = b"0", b"1", b"2", b"5"
WHITEOUT = ".wh."  # before the name of what a layer deletes

PAX = b"x"
_MAX_OCTAL_11 = 8**11
_MAX_OCTAL_7 = 8**7
_NAME_BYTES = 100
_PREFIX_BYTES = 155
ZEROS = bytes(BLOCK)
_PIECE_BYTES = 256 << 10  # what is hashed right after it was read is still in the cache
_NO_TARGET = bytes(_NAME_BYTES)
_NO_PREFIX = bytes(_PREFIX_BYTES + 12)
MAGIC = b"ustar\x0000".ljust(72, b"\0") + b"0000000\x000000000\0"
_MAGIC_SUM = sum(MAGIC) + 8 * ord(" ")  # the checksum itself counts as spaces
NS = 10**9
_NAMES = sys.getfilesystemencoding()


class TarHeader(NamedTuple):
    """One entry. ``kind`` is one of FILE, HARD_LINK, SYMLINK, DIRECTORY; ``target`` belongs to links."""

    path: str
    kind: bytes
    mode: int
    size: int = 0
    mtime_ns: int = 0
    uid: int = 0
    gid: int = 0
    target: str = ""


class TarWriter:
    """Writes headers and content into ``sink``, in chunks of exactly ``chunk_bytes`` but for the last.

    Args:
        new_chunk: Gives the memory for one chunk, which is the sink's from then on.
    """

    def __init__(
        self,
        sink: Callable[[bytearray | memoryview], None],
        *,
        chunk_bytes: int,
        new_chunk: Callable[[int], bytearray] = bytearray,
    ) -> None:
        self._sink = sink
        self._chunk_bytes = chunk_bytes
        self._new_chunk = new_chunk
        self._chunk = new_chunk(chunk_bytes)
        self._view = memoryview(self._chunk)
        self._used = 0
        self._left = 0
        self._pad = 0

    def add(self, header: TarHeader) -> None:
        """Write a header; ``header.size`` bytes of content must follow before the next."""
        if self._left:
            raise ValueError(f"{self._left} bytes of content are missing")
        self._append(encode_header(header))
        self._left = header.size
        self._pad = -header.size % BLOCK

    def write(self, data: bytes | memoryview) -> None:
        if len(data) > self._left:
            raise ValueError("more content than the header says")
        self._append(data)
        self._left -= len(data)
        if not self._left and self._pad:
            self._append(ZEROS[: self._pad])

    def fill(self, read_into: Callable[[memoryview], int]) -> None:
        """Have the present entry's content read straight to where it is going.

        Args:
            read_into: Fills a part of what it is given, of at most 256 KiB; returns how much, and more than nothing.
        """
        while self._left:
            end = min(self._used + min(self._left, _PIECE_BYTES), self._chunk_bytes)
            count = read_into(self._view[self._used : end])
            self._left -= count
            self._used += count
            if self._used == self._chunk_bytes:
                self._next_chunk()
        if self._pad:
            self._append(ZEROS[: self._pad])

    def close(self) -> None:
        """Write the end mark and what is left."""
        if self._left:
            raise ValueError(f"{self._left} bytes of content are missing")
        self._append(ZEROS * 2)
        if self._used:
            self._sink(self._view[: self._used])

    def _append(self, data: bytes | memoryview) -> None:
        end = self._used + len(data)
        if end < self._chunk_bytes:
            self._view[self._used : end] = data
            self._used = end
        else:
            self._append_across(memoryview(data))

    def _append_across(self, data: memoryview) -> None:
        while data:
            part = data[: self._chunk_bytes - self._used]
            self._view[self._used : self._used + len(part)] = part
            self._used += len(part)
            data = data[len(part) :]
            if self._used == self._chunk_bytes:
                self._next_chunk()

    def _next_chunk(self) -> None:
        self._sink(self._chunk)
        self._chunk = self._new_chunk(self._chunk_bytes)
        self._view = memoryview(self._chunk)
        self._used = 0


def encode_header(header: TarHeader) -> bytes:
    """The header's blocks: a PAX header first where the entry needs one."""
    path = header.path.encode(_NAMES, "surrogateescape") + (b"/" if header.kind == DIRECTORY else b"")
    target = header.target.encode(_NAMES, "surrogateescape")
    prefix, name = _split(path)
    seconds, fraction = divmod(header.mtime_ns, NS)
    if (
        name
        and not fraction
        and len(target) <= _NAME_BYTES
        and 0 <= seconds < _MAX_OCTAL_11
        and header.size < _MAX_OCTAL_11
        and header.uid < _MAX_OCTAL_7 > header.gid
    ):
        return _ustar(header, prefix, name, target, seconds)
    records = _pax_records(header, b"" if name else path, target)
    name = name or path[:_NAME_BYTES]
    return _pax(records) + _ustar(header, prefix, name, target[:_NAME_BYTES], min(max(seconds, 0), _MAX_OCTAL_11 - 1))


def _pax_records(header: TarHeader, path: bytes, target: bytes) -> list[tuple[bytes, bytes]]:
    """What ustar cannot say of an entry; ``path`` is empty when it can say that."""
    records = [(b"path", path)] if path else []
    if len(target) > _NAME_BYTES:
        records.append((b"linkpath", target))
    seconds, fraction = divmod(header.mtime_ns, NS)
    if fraction or not 0 <= seconds < _MAX_OCTAL_11:
        records.append((b"mtime", _decimal(header.mtime_ns)))
    for key, value, limit in (
        (b"size", header.size, _MAX_OCTAL_11),
        (b"uid", header.uid, _MAX_OCTAL_7),
        (b"gid", header.gid, _MAX_OCTAL_7),
    ):
        if value >= limit:
            records.append((key, b"%d" % value))
    return records


def _ustar(header: TarHeader, prefix: bytes, name: bytes, target: bytes, seconds: int) -> bytes:
    front = b"%s%07o\0%07o\0%07o\0%011o\0%011o\0" % (
        name.ljust(_NAME_BYTES, b"\0"),
        header.mode & 0o7777,
        header.uid if header.uid < _MAX_OCTAL_7 else 0,
        header.gid if header.gid < _MAX_OCTAL_7 else 0,
        header.size if header.size < _MAX_OCTAL_11 else 0,
        seconds,
    )
    target = header.kind + (target.ljust(_NAME_BYTES, b"\0") if target else _NO_TARGET)
    prefix = prefix.ljust(len(_NO_PREFIX), b"\0") if prefix else _NO_PREFIX
    checksum = _sum(front) + _sum(target) + _sum(prefix) + _MAGIC_SUM
    return b"%s%06o\0 %s%s%s" % (front, checksum, target, MAGIC, prefix)


def _sum(data: bytes) -> int:
    """The sum of at most 256 bytes: what Adler-32 holds in its lower half, plus one."""
    return (zlib.adler32(data) & 0xFFFF) - 1


def _split(path: bytes) -> tuple[bytes, bytes]:
    """(prefix, name) for ustar; an empty name when they cannot hold the path."""
    if len(path) <= _NAME_BYTES:
        return b"", path
    cut = path.find(b"/", len(path) - 101)
    if 0 < cut <= _PREFIX_BYTES and cut < len(path) - 1:
        return path[:cut], path[cut + 1 :]
    return b"", b""


def _pax(records: list[tuple[bytes, bytes]]) -> bytes:
    if any(not _is_utf8(value) for _, value in records):
        records = [(b"hdrcharset", b"BINARY"), *records]
    body = b"".join(_pax_record(key, value) for key, value in records)
    header = TarHeader(path="PaxHeaders/entry", kind=PAX, mode=0o644, size=len(body))
    return _ustar(header, b"", b"PaxHeaders/entry", b"", 0) + body + ZEROS[: -len(body) % BLOCK]


def _pax_record(key: bytes, value: bytes) -> bytes:
    length = len(key) + len(value) + 3
    total = length + len(str(length))
    if len(str(total)) != len(str(length)):
        total = length + len(str(total))
    return b"%d %s=%s\n" % (total, key, value)


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _decimal(value_ns: int) -> bytes:
    sign = b"-" if value_ns < 0 else b""
    seconds, fraction = divmod(abs(value_ns), NS)
    return b"%s%d.%09d" % (sign, seconds, fraction) if fraction else b"%s%d" % (sign, seconds)


def corrupt(cause: str) -> SnapshotCorruptError:
    return SnapshotCorruptError(
        "A stored layer is damaged.", hint="Submit the notebook again: it is captured anew.", details={"cause": cause}
    )
