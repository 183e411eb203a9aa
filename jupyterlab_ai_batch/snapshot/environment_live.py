"""Which files of the live environment are still what a Snapshot captured."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from ..errors import FileUnreadableError, SnapshotError
from .environment_index import EnvironmentEntry
from .index import IndexedFile
from .reading import FileReader, UnstableFileError, VanishedFileError

_INODE_MASK = (1 << 63) - 1
_THREADS = 2

Signature = tuple[int, int, int, int, int]  # mode, size, mtime_ns, ctime_ns, inode


def signature_of(found: os.stat_result) -> Signature:
    return (found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino & _INODE_MASK)


def current_signature(path: str) -> Signature | None:
    """The signature of what lies at ``path``; None for nothing."""
    try:
        return signature_of(os.lstat(path))
    except OSError:
        return None


def find_unchanged(entries: Iterable[EnvironmentEntry], known: Mapping[str, IndexedFile]) -> dict[str, Signature]:
    """Present signatures, by path, of the live files that are still the captured ones.

    Mode, size and mtime must be equal; inode and ctime too, or else the content is read.

    Args:
        known: What the last capture on this machine saw: it may know a newer ctime.
    """
    live: dict[str, Signature] = {}
    doubtful: dict[str, EnvironmentEntry] = {}
    for entry in entries:
        signature = current_signature(f"/{entry.path}")
        if signature is None or signature[:3] != (entry.mode, entry.size, entry.mtime_ns):
            continue
        if signature[3:] == (entry.ctime_ns, entry.inode) or _is_known(known.get(entry.path), entry, signature):
            live[entry.path] = signature
        else:
            doubtful[f"/{entry.path}"] = entry
    good = find_intact({path: entry.sha256 for path, entry in doubtful.items()})
    live.update((doubtful[path].path, signature) for path, signature in good.items())
    return live


def find_intact(digests: Mapping[str, str]) -> dict[str, Signature]:
    """Read files (absolute path -> expected sha256); the signatures of those that are as expected."""
    with ThreadPoolExecutor(_THREADS) as pool:
        checked = zip(digests, pool.map(_check, digests.items()), strict=True)
        return {path: signature for path, signature in checked if signature is not None}


def is_writable(directories: Collection[str]) -> bool:
    """Whether the user can change one of these directories."""
    return any(os.access(directory, os.W_OK) for directory in directories)


def is_file(entry: EnvironmentEntry) -> bool:
    return stat.S_ISREG(entry.mode)


def _is_known(known: IndexedFile | None, entry: EnvironmentEntry, signature: Signature) -> bool:
    if known is None or not known.verified or known.sha256.hex() != entry.sha256:
        return False
    return signature == (known.mode, known.size, known.mtime_ns, known.ctime_ns, known.inode)


def _check(item: tuple[str, str]) -> Signature | None:
    try:
        reading = FileReader().hash(item[0])
    except (VanishedFileError, UnstableFileError, FileUnreadableError, SnapshotError):
        return None
    return signature_of(reading.found) if reading.sha256.hex() == item[1] else None
