"""Records as columns of bytes: what the signature index keeps of a tree, read back some ten times faster than rows.

Numbers are signed 64-bit words of this machine, texts end with NUL, which no path holds.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

_DIGEST_BYTES = 32
_NO_DIGEST = bytes(_DIGEST_BYTES)
_LENGTH = struct.Struct("<Q")


class IndexedFile(NamedTuple):
    """One entry of a tree as it was captured.

    Attributes:
        mode: With the file type bits.
        inode: Modulo 2**63.
        sha256: Of a file's content or of a symlink's target; empty for a directory.
        target: Of a symlink.
        link: Path of the first name of the same file, when this is another one (hard link); else empty.
        layer: Name of the environment layer that holds it; empty in a work tree.
        pyc_mtime: Of a timestamp-based .pyc whose header is valid: the source's mtime in it; else -1.
        stored_sha256: Of such a .pyc as its layer holds it, in hexadecimal; else empty.
        verified: 0 when the file was so young that an unseen change cannot be ruled out.
        findings: JSON array of [line, kind] of what looked like secrets; empty for none.
    """

    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    sha256: bytes
    target: str = ""
    link: str = ""
    layer: str = ""
    pyc_mtime: int = -1
    verified: int = 1
    findings: str = ""
    stored_sha256: str = ""

    @property
    def identity(self) -> tuple[int | bytes | str, ...]:
        """What a work layer stores of it; two entries with equal identities need no new layer."""
        return (self.mode, self.uid, self.gid, self.size, self.mtime_ns, self.sha256, self.target, self.link)


_FIELDS = IndexedFile._fields
_SHA256 = _FIELDS.index("sha256")
_TEXTS = frozenset(_FIELDS.index(name) for name in ("target", "link", "layer", "findings", "stored_sha256"))
_new = partial(tuple.__new__, IndexedFile)


def pack_files(files: Mapping[str, IndexedFile]) -> bytes:
    """The entries by path, for ``unpack_files``."""
    if not files:
        return b""
    columns = [_pack_texts(files)]
    for number, column in enumerate(zip(*files.values(), strict=True)):
        if number == _SHA256:
            columns.append(b"".join(digest or _NO_DIGEST for digest in column))
        elif number in _TEXTS:
            columns.append(_pack_texts(column))
        else:
            columns.append(array("q", column).tobytes())
    return b"".join(part for column in columns for part in (_LENGTH.pack(len(column)), column))


def unpack_files(blob: bytes) -> dict[str, IndexedFile]:
    """What ``pack_files`` was given, in the same order.

    Raises:
        ValueError: it is something else.
    """
    if not blob:
        return {}
    first, *packed = _split(blob)
    columns = [_unpack(number, column) for number, column in enumerate(packed)]
    if len(columns) != len(_FIELDS):
        raise ValueError("columns are missing")
    return dict(zip(_unpack_texts(first), map(_new, zip(*columns, strict=True)), strict=True))


def _pack_texts(texts: Iterable[str]) -> bytes:
    return "\0".join(texts).encode("utf-8", "surrogateescape")


def _unpack_texts(column: bytes) -> list[str]:
    return column.decode("utf-8", "surrogateescape").split("\0")


def _unpack(number: int, column: bytes) -> Iterable[int | str | bytes]:
    if number == _SHA256:
        digests = (column[start : start + _DIGEST_BYTES] for start in range(0, len(column), _DIGEST_BYTES))
        return [b"" if digest == _NO_DIGEST else digest for digest in digests]
    if number in _TEXTS:
        return map(sys.intern, _unpack_texts(column))  # a layer's name stands beside thousands of files
    words = array("q")
    words.frombytes(column)
    return words


def _split(blob: bytes) -> Iterator[bytes]:
    position = 0
    while position < len(blob):
        try:
            (size,) = _LENGTH.unpack_from(blob, position)
        except struct.error as exc:
            raise ValueError("a column is cut off") from exc
        position += _LENGTH.size
        yield blob[position : position + size]
        position += size
