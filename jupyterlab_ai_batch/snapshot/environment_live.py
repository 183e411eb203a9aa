"""Which files of the live environment are still what a Snapshot captured."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ..errors import FileUnreadableError, SnapshotError
from .environment_index import EnvironmentEntry
from .environment_layers import MTIME_S, list_entry, pyc_time, stored_mode, with_pyc_time
from .index import IndexedFile
from .layers import INODE_MASK
from .reading import FileReader, Reading, UnstableFileError, VanishedFileError

_THREADS = 2

Signature = tuple[int, int, int, int, int]  # mode, size, mtime_ns, ctime_ns, inode


def signature_of(found: os.stat_result) -> Signature:
    return (found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino & INODE_MASK)


def current_signature(path: str) -> Signature | None:
    """The signature of what lies at ``path``; None for nothing."""
    try:
        return signature_of(os.lstat(path))
    except OSError:
        return None


@dataclass(frozen=True, slots=True)
class IntactFile:
    """A file on this machine whose content is a stored one; ``pyc_mtime`` as in IndexedFile."""

    path: str
    signature: Signature
    pyc_mtime: int = -1


def find_unchanged(entries: Iterable[EnvironmentEntry], known: Mapping[str, IndexedFile]) -> dict[str, IntactFile]:
    """The live files, by path, that are still the captured ones. What the index cannot vouch for is read.

    Args:
        known: What the last capture on this machine saw.
    """
    live: dict[str, IntactFile] = {}
    doubtful: dict[str, EnvironmentEntry] = {}
    for entry in entries:
        absolute = f"/{entry.path}"
        signature = current_signature(absolute)
        if signature is None or (stored_mode(signature[0]), signature[1]) != (entry.mode, entry.size):
            continue
        seen = known.get(entry.path)
        if seen is None or not seen.verified or signature != _signature_in(seen):
            doubtful[absolute] = entry
        elif list_entry(entry.path, seen) == entry._replace(layer=seen.layer):
            live[entry.path] = IntactFile(absolute, signature, seen.pyc_mtime)
    live.update((doubtful[path].path, file) for path, file in find_intact(doubtful).items())
    return live


def find_intact(entries: Mapping[str, EnvironmentEntry]) -> dict[str, IntactFile]:
    """Read files, by absolute path; those whose content is what the entry says, a .pyc's time aside."""
    with ThreadPoolExecutor(_THREADS) as pool:
        checked = pool.map(_check, entries.items())
        return {file.path: file for file in checked if file is not None}


def is_writable(directories: Collection[str]) -> bool:
    """Whether the user can change one of these directories."""
    return any(os.access(directory, os.W_OK) for directory in directories)


def is_file(entry: EnvironmentEntry) -> bool:
    return stat.S_ISREG(entry.mode)


def _signature_in(seen: IndexedFile) -> Signature:
    return (seen.mode, seen.size, seen.mtime_ns, seen.ctime_ns, seen.inode)


def _check(item: tuple[str, EnvironmentEntry]) -> IntactFile | None:
    path, entry = item
    try:
        reading, sha256, pyc_mtime = _read_timed(path) if entry.is_timed else _read(path)
    except (VanishedFileError, UnstableFileError, FileUnreadableError, SnapshotError):
        return None
    return IntactFile(path, signature_of(reading.found), pyc_mtime) if sha256.hex() == entry.sha256 else None


def _read(path: str) -> tuple[Reading, bytes, int]:
    reading = FileReader().hash(path)
    return reading, reading.sha256, -1


def _read_timed(path: str) -> tuple[Reading, bytes, int]:
    reading = FileReader().read(path)
    content = reading.data or b""
    return reading, hashlib.sha256(with_pyc_time(content, MTIME_S)).digest(), pyc_time(content)
