"""The list of a Snapshot's work tree that travels with it: what outputs are compared with.

Stored gzipped, one JSON object a line, sorted by path. Paths are relative to the work root, ``/``-separated; bytes
that are not UTF-8 appear as surrogate escapes (``\\udc80``…), which JSON keeps.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import SnapshotCorruptError

WORK_INDEX_PATH = "opt/ai-batch/work-index.jsonl.gz"
MAX_INDEX_BYTES = 1 << 30

_MAX_NUMBER = 10**27  # nanoseconds beyond what any file system stores

EntryType = Literal["file", "symlink", "dir"]
_TYPES = frozenset({"file", "symlink", "dir"})


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkIndexEntry:
    """One file, link or directory as it was captured.

    Attributes:
        size: Bytes of a file; 0 otherwise.
        sha256: Hex digest of a file's content, or of a symlink's target (its bytes); empty for a directory.
        mode: Permission bits.
        target: Of a symlink, else None.
    """

    path: str
    type: EntryType
    size: int
    mtime_ns: int
    sha256: str
    mode: int
    target: str | None = None


def write_work_index(entries: Iterable[WorkIndexEntry]) -> bytes:
    """Gzipped JSON lines; the same entries in any order give the same bytes on one machine."""
    lines = []
    for entry in sorted(entries, key=lambda entry: entry.path):
        fields: dict[str, Any] = {
            "path": entry.path,
            "type": entry.type,
            "size": entry.size,
            "mtime_ns": entry.mtime_ns,
            "sha256": entry.sha256,
            "mode": entry.mode,
        }
        if entry.target is not None:
            fields["target"] = entry.target
        lines.append(json.dumps(fields, separators=(",", ":")))
    return gzip.compress("".join(f"{line}\n" for line in lines).encode(), compresslevel=1, mtime=0)


def read_work_index(content: bytes) -> Iterator[WorkIndexEntry]:
    """Parse what ``write_work_index`` wrote.

    Raises:
        SnapshotCorruptError: not such an index, or larger than 1 GiB unpacked.
    """
    total = 0
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
            for line in stream:
                total += len(line)
                if total > MAX_INDEX_BYTES:
                    raise SnapshotCorruptError("The Snapshot's file list is larger than it may be.")
                yield _parse_entry(json.loads(line))
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, RecursionError) as exc:
        raise SnapshotCorruptError("The Snapshot's file list is damaged.") from exc


def _parse_entry(fields: Any) -> WorkIndexEntry:
    path, kind, target = fields["path"], fields["type"], fields.get("target")
    if not isinstance(path, str) or not _is_inside(path) or kind not in _TYPES:
        raise ValueError(f"not an entry: {path!r}")
    if target is not None and not isinstance(target, str):
        raise ValueError("target is not text")
    return WorkIndexEntry(
        path=path,
        type=kind,
        size=_integer(fields["size"], least=0),
        mtime_ns=_integer(fields["mtime_ns"], least=-_MAX_NUMBER),
        sha256=str(fields["sha256"]),
        mode=_integer(fields["mode"], least=0) & 0o7777,
        target=target,
    )


def _integer(value: Any, *, least: int) -> int:
    if type(value) is not int or not least <= value <= _MAX_NUMBER:
        raise ValueError("not a number of a file")
    return value


def _is_inside(path: str) -> bool:
    return bool(path) and "\0" not in path and all(part not in ("", ".", "..") for part in path.split("/"))
