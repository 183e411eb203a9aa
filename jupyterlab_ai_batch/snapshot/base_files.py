"""What a base image holds: names, sizes and times out of its layers' tar headers, applied from the lowest layer up.

The layers are of other tools' making, so every dialect of tar is understood; only headers are looked at, and nothing is
extracted.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from importlib import import_module
from itertools import islice
from typing import Any, BinaryIO, NamedTuple, cast

from ..errors import BaseImageError
from ..oci.base_image import BaseImage
from ..oci.manifest import LAYER_MEDIA_TYPE, ZSTD_LAYER_MEDIA_TYPE, Layer
from ..oci.port import BlobStore
from .codec import open_decompressed
from .index import SignatureIndex
from .tarstream import WHITEOUT

MAX_ENTRIES = 5_000_000
OPAQUE = ".wh..wh..opq"

_BLOCK = 512
_CHUNK_BYTES = 1 << 20
_MAX_HEADER_BYTES = 1 << 20
_FILES, _LINK, _SYMLINK, _DIRECTORY = frozenset(b"0\x007"), ord("1"), ord("2"), ord("5")
_LONG_NAME, _LONG_TARGET, _PAX, _PAX_GLOBAL = b"LKxg"
_BINARY = (b"\x80", b"\xff")  # GNU: a large number, a negative one
_KINDS = {_SYMLINK: stat.S_IFLNK, _DIRECTORY: stat.S_IFDIR}


class BaseFile(NamedTuple):
    """One entry. ``kind`` is S_IFREG, S_IFLNK, S_IFDIR, or 0 for a device; ``mtime_s`` is rounded down."""

    kind: int
    size: int
    mtime_s: int
    executable: bool


class Header(NamedTuple):
    """One tar entry: ``kind`` is its type byte, ``target`` a link's."""

    path: str
    kind: int
    size: int
    mtime_s: int
    mode: int
    target: str


def load_base_files(
    store: BlobStore, base: BaseImage, *, under: Sequence[str], index: SignatureIndex, on_tick: Callable[[], None]
) -> Mapping[str, BaseFile]:
    """What the base has below some directories; its layers are read once, then the index knows.

    Args:
        under: Absolute directories.

    Returns:
        By absolute path without its leading ``/``.

    Raises:
        BaseImageError: a layer is no tar archive, or is compressed in a way that nothing here can read.
        SnapshotCorruptError, StorageError: a layer cannot be read.
    """
    key = "\n".join(("base image", base.digest, *under))
    known = index.load_tree(key).state
    if "files" not in known:
        starts = tuple(f"{directory.strip('/')}/" for directory in under)
        found = read_base_files(store, base, on_tick=on_tick)
        known = {"files": {path: entry for path, entry in found.items() if f"{path}/".startswith(starts)}}
        index.save_tree(key, {}, known)
    return {path: BaseFile._make(entry) for path, entry in known["files"].items()}


def read_base_files(store: BlobStore, base: BaseImage, *, on_tick: Callable[[], None]) -> dict[str, BaseFile]:
    """Everything in the base, read from its layers."""
    files: dict[str, BaseFile] = {}
    for layer in base.layers:
        with store.open_blob(layer.digest) as blob:
            headers = _checked(base, layer, read_headers(_open_layer(base, layer, blob)))
            files = apply_layer(files, headers, on_tick=on_tick)
            while blob.read(_CHUNK_BYTES):  # reaching the end is what verifies the digest
                pass
    return files


def apply_layer(
    lower: Mapping[str, BaseFile], headers: Iterator[Header], *, on_tick: Callable[[], None] = lambda: None
) -> dict[str, BaseFile]:
    """The tree after a layer, as container runtimes make it."""
    own: dict[str, BaseFile] = {}
    gone: set[str] = set()
    opaque: set[str] = set()
    for number, header in enumerate(headers):
        if number % 4096 == 0:
            on_tick()
        parent, _, name = header.path.rpartition("/")
        if name == OPAQUE:
            opaque.add(parent)
        elif name.startswith(WHITEOUT):
            gone.add(f"{parent}/{name[len(WHITEOUT) :]}" if parent else name[len(WHITEOUT) :])
        elif header.path:
            own[header.path] = _entry(header, own, lower)
    gone |= {path for path, entry in own.items() if entry.kind != stat.S_IFDIR}
    hidden = gone & _with_parents(lower)
    kept = {path: entry for path, entry in lower.items() if not _is_hidden(path, hidden, opaque)}
    return {**kept, **own}


def read_headers(stream: BinaryIO) -> Iterator[Header]:
    """The entries of a tar stream: v7, ustar, PAX or GNU; content is passed over.

    Raises:
        ValueError, OSError, EOFError: it is none.
    """
    common: dict[str, str] = {}
    extra: dict[str, str] = {}
    while (block := _exactly(stream, _BLOCK)).strip(b"\0"):
        kind, size = block[156], _number(block[124:136])
        if kind in (_LONG_NAME, _LONG_TARGET):
            text = _content(stream, size).split(b"\0", 1)[0]
            extra["path" if kind == _LONG_NAME else "linkpath"] = os.fsdecode(text)
        elif kind in (_PAX, _PAX_GLOBAL):
            records = _parse_pax(_content(stream, size))
            (extra if kind == _PAX else common).update(records)
        else:
            header = _build_header(block, {**common, **extra})
            extra = {}
            yield header
            if header.kind not in (_LINK, _SYMLINK, _DIRECTORY):
                _skip(stream, header.size + -header.size % _BLOCK)


def _build_header(block: bytes, records: Mapping[str, str]) -> Header:
    if sum(block[:148]) + sum(block[156:]) + 8 * 32 != _number(block[148:156]):
        raise ValueError("bad checksum")
    name, prefix = _text(block[:100]), _text(block[345:500]) if block[257:263] == b"ustar\0" else ""
    path = records.get("GNU.sparse.name") or records.get("path") or (f"{prefix}/{name}" if prefix else name)
    kind = block[156]
    if kind in _FILES and path.endswith("/"):  # how the oldest archives say directory
        kind = _DIRECTORY
    return Header(
        path="/".join(part for part in path.split("/") if part not in ("", ".")),
        kind=kind,
        size=int(records["size"]) if "size" in records else _number(block[124:136]),
        mtime_s=_whole(records["mtime"]) if "mtime" in records else _number(block[136:148]),
        mode=_number(block[100:108]),
        target=records.get("linkpath") or _text(block[157:257]),
    )


def _entry(header: Header, own: Mapping[str, BaseFile], lower: Mapping[str, BaseFile]) -> BaseFile:
    if header.kind == _LINK:
        target = "/".join(part for part in header.target.split("/") if part not in ("", "."))
        return own.get(target) or lower.get(target) or BaseFile(0, 0, 0, executable=False)
    kind = stat.S_IFREG if header.kind in _FILES else _KINDS.get(header.kind, 0)
    size = header.size if kind == stat.S_IFREG else len(os.fsencode(header.target)) if kind == stat.S_IFLNK else 0
    return BaseFile(kind, size, header.mtime_s, executable=bool(header.mode & 0o111))


def _with_parents(paths: Collection[str]) -> set[str]:
    found: set[str] = set()
    for path in paths:
        while path and path not in found:
            found.add(path)
            path = path.rpartition("/")[0]  # noqa: PLW2901 - on to its parent
    return found


def _is_hidden(path: str, gone: Collection[str], opaque: Collection[str]) -> bool:
    if path in gone:
        return True
    while path:
        path = path.rpartition("/")[0]
        if path in gone or path in opaque:
            return True
    return False


def _checked(base: BaseImage, layer: Layer, headers: Iterator[Header]) -> Iterator[Header]:
    """The same, with the errors of what is no archive as ours, and an end."""
    try:
        yield from islice(headers, MAX_ENTRIES)
    except (ValueError, OSError, EOFError, ArithmeticError) as exc:
        raise _unreadable(base, layer, f"is no tar archive ({exc})") from exc
    if next(headers, None) is not None:
        raise _unreadable(base, layer, f"has more than {MAX_ENTRIES} entries")


def _open_layer(base: BaseImage, layer: Layer, blob: BinaryIO) -> BinaryIO:
    if layer.media_type == LAYER_MEDIA_TYPE:
        return open_decompressed(blob)
    if layer.media_type != ZSTD_LAYER_MEDIA_TYPE:
        return blob
    for name in ("compression.zstd", "zstandard"):
        try:
            zstd: Any = import_module(name)
        except ImportError:
            continue
        return cast(BinaryIO, zstd.open(blob, "rb"))
    raise _unreadable(base, layer, "is compressed with zstd, which this Python cannot read: install zstandard")


def _unreadable(base: BaseImage, layer: Layer, cause: str) -> BaseImageError:
    return BaseImageError(
        f"The base image {base.reference} cannot be read: a layer {cause}.",
        hint="Choose another base image, or ask who built this one.",
        details={"reference": base.reference, "layer": layer.digest},
    )


def _parse_pax(content: bytes) -> dict[str, str]:
    records: dict[str, str] = {}
    while content:
        length, space, _ = content.partition(b" ")
        if not space or not length.isdigit() or not len(length) < int(length) <= len(content):
            raise ValueError("bad PAX record")
        key, _, value = content[len(length) + 1 : int(length) - 1].partition(b"=")
        records[os.fsdecode(key)] = os.fsdecode(value)
        content = content[int(length) :]
    return records


def _content(stream: BinaryIO, size: int) -> bytes:
    if not 0 <= size <= _MAX_HEADER_BYTES:
        raise ValueError("header too large")
    return _exactly(stream, size + -size % _BLOCK)[:size]


def _skip(stream: BinaryIO, size: int) -> None:
    while size > 0:
        size -= len(_exactly(stream, min(size, _CHUNK_BYTES)))


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise EOFError("it ends too early")
    return data


def _number(field: bytes) -> int:
    if field[:1] in _BINARY:
        return int.from_bytes(field[1:], "big", signed=field[:1] == b"\xff")
    text = field.split(b"\0", 1)[0].strip()
    return int(text, 8) if text else 0


def _whole(text: str) -> int:
    """Decimal seconds, rounded down."""
    seconds, _, fraction = text.partition(".")
    return int(seconds) - (seconds.startswith("-") and bool(fraction.strip("0")))


def _text(field: bytes) -> str:
    return os.fsdecode(field.split(b"\0", 1)[0])
