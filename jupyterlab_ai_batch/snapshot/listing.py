"""What lies below a directory, and whether it is what lay there before: the hot loops of every capture.

Nothing but the standard library is imported, and little of that: see ``scout``.
"""

from __future__ import annotations

import hashlib
import marshal
import os
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from operator import attrgetter

from .tarstream import WHITEOUT

_BATCH = 1024
_TYPE_MASK = 0o170000
_KEPT = frozenset({stat.S_IFREG, stat.S_IFLNK, stat.S_IFDIR})
_signature = attrgetter("st_mode", "st_size", "st_mtime_ns", "st_ctime_ns", "st_ino")


def list_everything(
    top: str, *, never: Collection[str], hollow: Collection[str], on_tick: Callable[[], None] | None = None
) -> dict[str, os.stat_result]:
    """What ``lstat`` says of ``top`` and of all below it, by absolute path without the leading ``/``.

    Left out: sockets and the like, what may not be listed, names that a layer cannot hold.

    Args:
        never: Absolute directories that are left out.
        hollow: Absolute directories that are kept, but empty.
        on_tick: Called for every directory.

    Raises:
        OSError: ``top`` cannot be listed, or reading a directory failed.
    """
    entries: dict[str, os.stat_result] = {}
    for paths, found in list_by_directory(top, never=never, hollow=hollow):
        entries.update(zip(paths, found, strict=True))
        if on_tick is not None:
            on_tick()
    return entries


def list_by_directory(
    top: str, *, never: Collection[str], hollow: Collection[str]
) -> Iterator[tuple[list[str], list[os.stat_result]]]:
    """As ``list_everything``: each directory with what it holds but for directories, which come by themselves.

    Paths and what was found under each, in lists: making a dictionary takes a twentieth of the time.
    """
    never, hollow = frozenset(never), frozenset(hollow)
    waiting = [(top, os.lstat(top))]
    os.close(_open_directory(top))
    while waiting:
        directory, found = waiting.pop()
        if directory not in never:
            paths, entries = [directory[1:]], [found]
            if directory not in hollow:
                waiting += _list_into(paths, entries, directory)
            yield paths, entries


class Sealer:
    """Makes the seal of entries that come in portions: the same for all portions, another for another order."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._paths: list[str] = []
        self._signatures: list[tuple[int, ...]] = []

    def add(self, paths: Iterable[str], found: Iterable[os.stat_result]) -> None:
        self._paths += paths
        self._signatures += map(_signature, found)
        while len(self._paths) >= _BATCH:
            self._seal_batch()

    def seal(self) -> bytes:
        """The seal; nothing can be added any more."""
        self._seal_batch()
        return self._digest.digest()

    def _seal_batch(self) -> None:
        self._digest.update("\0".join(self._paths[:_BATCH]).encode("utf-8", "surrogateescape"))
        self._digest.update(marshal.dumps(self._signatures[:_BATCH], 2))  # version 2: equal values, equal bytes
        del self._paths[:_BATCH], self._signatures[:_BATCH]


def seal_of(entries: Mapping[str, os.stat_result]) -> bytes:
    """A digest of all signatures: while it stays the same, nothing in the tree has changed.

    Trees with equal entries in another order may have another seal; to compare them entry by entry is right, too.
    """
    sealer = Sealer()
    sealer.add(entries, entries.values())
    return sealer.seal()


def _list_into(paths: list[str], entries: list[os.stat_result], directory: str) -> list[tuple[str, os.stat_result]]:
    """Add what a directory holds, but for directories: those are returned."""
    try:
        fd = _open_directory(directory)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []
    below = []
    prefix = f"{directory[1:]}/".lstrip("/")
    try:
        with os.scandir(fd) as children:  # by descriptor: the kernel need not walk the whole path for each child
            for child in children:
                name = child.name
                try:
                    found = child.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                kind = found.st_mode & _TYPE_MASK
                if kind not in _KEPT or name.startswith(WHITEOUT):
                    continue
                if kind == stat.S_IFDIR:
                    below.append((f"/{prefix}{name}", found))
                else:
                    paths.append(prefix + name)
                    entries.append(found)
    finally:
        os.close(fd)
    return below


def _open_directory(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
