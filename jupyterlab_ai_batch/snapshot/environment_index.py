"""The list of an environment's files as its layers hold them.

It lets a restore tell which live files are still the captured ones. Like the layers, it tells nothing of the machine
that captured them: equal environments have equal lists everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from io import BytesIO
from typing import NamedTuple

from ..errors import SnapshotCorruptError
from .codec import UNPACK_ERRORS, compress_member, open_decompressed

ENVIRONMENT_INDEX_PATH = "opt/ai-batch/environment-index.jsonl.gz"
MAX_INDEX_BYTES = 1 << 30

_DAMAGE: tuple[type[Exception], ...] = (*UNPACK_ERRORS, ValueError, RecursionError)
_MAX_NUMBER = 10**18  # bytes beyond what any file system holds
_TYPES = (str, int, int, str, str, str, bool)


class EnvironmentEntry(NamedTuple):
    """One file, link or directory. ``path`` is absolute without its leading ``/``; ``mode`` has the type bits.

    ``sha256`` (hex) is of the content as stored; ``layer`` the name of the environment layer that holds it;
    ``is_timed`` tells a .pyc whose header has the constant mtime in the layer, and its source's mtime where it is used.
    """

    path: str
    mode: int
    size: int
    sha256: str
    layer: str
    target: str
    is_timed: bool


def write_environment_index(entries: Iterable[EnvironmentEntry]) -> bytes:
    """Gzipped JSON arrays, one a line, in the order given."""
    encode = json.JSONEncoder(separators=(",", ":")).encode
    return compress_member("".join(f"{encode(entry)}\n" for entry in entries).encode())


def read_environment_index(content: bytes) -> Iterator[EnvironmentEntry]:
    """Parse what ``write_environment_index`` wrote.

    Raises:
        SnapshotCorruptError: not such a list.
    """
    total = 0
    try:
        with open_decompressed(BytesIO(content)) as stream:
            for line in stream:
                total += len(line)
                fields = json.loads(line)
                if total > MAX_INDEX_BYTES or not _is_entry(fields):
                    raise _damaged()
                yield EnvironmentEntry._make(fields)
    except _DAMAGE as exc:
        raise _damaged() from exc


def _is_entry(fields: object) -> bool:
    if not isinstance(fields, list) or tuple(map(type, fields)) != _TYPES:
        return False
    path, mode, size = fields[:3]
    if not 0 <= mode <= _MAX_NUMBER or not 0 <= size <= _MAX_NUMBER:
        return False
    return bool(path) and "\0" not in path and not {"", ".", ".."} & set(path.split("/"))


def _damaged() -> SnapshotCorruptError:
    return SnapshotCorruptError(
        "The stored list of the environment's files is damaged.", hint="Submit the notebook again: it is captured anew."
    )
