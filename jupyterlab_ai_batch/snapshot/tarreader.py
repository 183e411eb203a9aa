"""Reading what ``tarstream`` writes, from a source that may hold anything.

What no capture of ours writes is refused, also where tar allows it: other tools' headers and names, sparse files,
devices, unknown or repeated PAX records, content of links, anything behind the end mark.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import Protocol

from .tarstream import BLOCK, DIRECTORY, FILE, HARD_LINK, MAGIC, NS, PAX, SYMLINK, ZEROS, TarHeader, corrupt

_PAX_KEYS = frozenset({b"path", b"linkpath", b"mtime", b"size", b"uid", b"gid", b"hdrcharset"})
_KINDS = frozenset({FILE, HARD_LINK, SYMLINK, DIRECTORY})
_KIND = slice(156, 157)
_USTAR = struct.Struct("100s 8s 8s 8s 12s 12s 8s c 100s 88s 155s 12s")
_CHUNK_BYTES = 1 << 20
_MAX_DIGITS = 18
_MAX_PAX_BYTES = 1 << 20
_MAX_PADDING_BYTES = 64 << 10
_MAX_SIZE = (1 << 63) - 1
_MAX_ID = (1 << 32) - 2  # one more means "as it is" to the kernel


class ByteSource(Protocol):
    """What a TarReader reads from: about ``size`` bytes, none only at the end."""

    def read(self, size: int, /) -> bytes: ...


class TarReader:
    """Iterates over the headers of a tar stream; ``read`` gives the content of the present one.

    Reads to the stream's end: nothing but zeros may follow the end mark.

    Raises (every method): SnapshotCorruptError: not the tar that TarWriter writes.
    """

    def __init__(self, stream: ByteSource) -> None:
        self._stream = stream
        self._buffer = b""
        self._at = 0
        self._left = 0
        self._pad = 0

    def __iter__(self) -> Iterator[TarHeader]:
        while True:
            self.skip()
            block = self._exactly(BLOCK)
            if block == ZEROS:
                self._check_end()
                return
            records: dict[bytes, bytes] = {}
            if block[_KIND] == PAX:
                records = _parse_pax(self._content(_parse_ustar(block, {}).size))
                block = self._exactly(BLOCK)
            header = _parse_ustar(block, records)
            if header.kind not in _KINDS:
                raise corrupt(f"entry type {header.kind!r}")
            self._left = header.size
            self._pad = -header.size % BLOCK
            yield header

    def read(self, limit_bytes: int) -> bytes:
        """The next ``limit_bytes`` of the present entry, fewer only at its end."""
        wanted = min(limit_bytes, self._left)
        self._left -= wanted
        return self._exactly(wanted)

    def skip(self) -> None:
        """Pass over what is left of the present entry."""
        while self.read(_CHUNK_BYTES):
            pass
        self._exactly(self._pad)
        self._pad = 0

    def _content(self, size: int) -> bytes:
        if size > _MAX_PAX_BYTES:
            raise corrupt("header too large")
        return self._exactly(size + -size % BLOCK)[:size]

    def _check_end(self) -> None:
        rest = self._exactly(BLOCK) + self._buffer[self._at :]
        padding = 0
        while rest:
            padding += len(rest)
            if rest.strip(b"\0") or padding > _MAX_PADDING_BYTES:
                raise corrupt("something follows its end")
            rest = self._stream.read(_CHUNK_BYTES)

    def _exactly(self, size: int) -> bytes:
        end = self._at + size
        if end <= len(self._buffer):
            data = self._buffer[self._at : end]
            self._at = end
            return data
        return self._gather(size)

    def _gather(self, size: int) -> bytes:
        """As ``_exactly``, across the buffer's end."""
        parts, missing = [self._buffer[self._at :]], size - (len(self._buffer) - self._at)
        while missing > 0:
            self._buffer = self._stream.read(_CHUNK_BYTES)
            if not self._buffer:
                raise corrupt("it ends too early")
            self._at = min(missing, len(self._buffer))
            parts.append(self._buffer[: self._at])
            missing -= self._at
        return b"".join(parts)


def _parse_ustar(block: bytes, records: dict[bytes, bytes]) -> TarHeader:
    name, mode, uid, gid, size, mtime, checksum, kind, target, magic, prefix, end = _USTAR.unpack(block)
    if magic != MAGIC or end.strip(b"\0"):
        raise corrupt("another tool's header")
    if sum(block) - sum(checksum) + 8 * 32 != _octal(checksum):
        raise corrupt("bad header")
    name, prefix = _text(name), _text(prefix)
    path = records.get(b"path", b"%s/%s" % (prefix, name) if prefix else name)
    time = records.get(b"mtime")
    header = TarHeader(
        path=os.fsdecode(path.rstrip(b"/") if kind == DIRECTORY else path),
        kind=kind,
        mode=_octal(mode) & 0o7777,
        size=_number(records, b"size", size, limit=_MAX_SIZE),
        mtime_ns=_octal(mtime) * NS if time is None else _parse_decimal(time),
        uid=_number(records, b"uid", uid, limit=_MAX_ID),
        gid=_number(records, b"gid", gid, limit=_MAX_ID),
        target=os.fsdecode(records.get(b"linkpath", _text(target))),
    )
    if header.size and kind not in (FILE, PAX):
        raise corrupt("content where none belongs")
    return header


def _text(field: bytes) -> bytes:
    return field.split(b"\0", 1)[0]


def _parse_pax(body: bytes) -> dict[bytes, bytes]:
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(body):
        blank = body.find(b" ", at, at + _MAX_DIGITS)
        length = body[at:blank]
        end = at + int(length) if blank > 0 and length.isdigit() else 0
        key, separator, value = body[blank + 1 : end].partition(b"=")
        if not blank < end <= len(body) or not separator or not value.endswith(b"\n"):
            raise corrupt("bad PAX record")
        if key in records or key not in _PAX_KEYS or b"\0" in value:
            raise corrupt(f"PAX record {key[:40]!r}")
        records[key] = value[:-1]
        at = end
    return records


def _number(records: dict[bytes, bytes], key: bytes, field: bytes, *, limit: int) -> int:
    text = records.get(key)
    if text is None:
        return _octal(field)
    if not text.isdigit() or len(text) > _MAX_DIGITS or int(text) > limit:
        raise corrupt(f"bad {key.decode()}")
    return int(text)


def _octal(field: bytes) -> int:
    text = field.strip(b" \0")
    if text and not text.isdigit():
        raise corrupt("bad number")
    try:
        return int(text or b"0", 8)
    except ValueError as exc:
        raise corrupt("bad number") from exc


def _parse_decimal(text: bytes) -> int:
    seconds, _, fraction = text.partition(b".")
    digits = seconds.removeprefix(b"-")
    if not digits.isdigit() or len(digits) > _MAX_DIGITS or (fraction and not fraction.isdigit()):
        raise corrupt("bad mtime")
    value = int(digits) * NS + int(fraction[:9].ljust(9, b"0") or b"0")
    return -value if seconds.startswith(b"-") else value
