"""Content that this machine has already: shared where the file system can, linked or copied where that is safe."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from ..errors import StorageError
from ..oci.work_index import WorkIndexEntry
from .captured import work_key
from .environment_index import EnvironmentEntry
from .environment_live import Signature, current_signature, find_intact, signature_of
from .environment_made import read_files
from .extract import TreeWriter
from .index import IndexedFile, SignatureIndex
from .limits import Budget

_FICLONE = 0x40049409
_SOURCE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_COPY_BYTES = 64 << 20
_CANNOT = frozenset(
    {errno.EXDEV, errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EBADF, errno.EISDIR}
)


class EarlierFiles:
    """Files of environments that were made before, by content. Nothing noted about them is believed: they are read."""

    def __init__(self, environments: Iterable[Path]) -> None:
        self._places: dict[str, list[str]] = {}
        for directory in environments:
            with suppress(OSError, StorageError):
                for place, file in read_files(directory).items():
                    self._places.setdefault(file.sha256, []).append(f"{directory}/{place}")

    def find(self, entries: Iterable[EnvironmentEntry]) -> dict[str, tuple[str, Signature]]:
        """By the entry's path: an equal file, with the same mode and time, and its present signature."""
        if not self._places:
            return {}
        places: dict[str, EnvironmentEntry] = {}
        for entry in entries:
            place = next((p for p in self._places.get(entry.sha256, ()) if _looks_like(p, entry)), None)
            if place is not None:
                places[place] = entry
        intact = find_intact({place: entry.sha256 for place, entry in places.items()})
        return {places[place].path: (place, signature) for place, signature in intact.items()}


class LiveFiles:
    """Files of the live work tree that are still what was captured, as the signature index knows them."""

    def __init__(self, work_root: str, known: Mapping[str, IndexedFile]) -> None:
        self._work_root = work_root
        self._known = known

    def copy(self, writer: TreeWriter, path: str, budget: Budget) -> bool:
        """Copy or share one; False, and nothing is written, where it is not the captured one.

        Never a hard link: jobs write into their work tree.
        """
        known = self._known.get(path)
        if known is None:
            return False
        try:
            source = os.open(f"{self._work_root}/{path}", _SOURCE_FLAGS)
        except OSError:
            return False
        owner = {"uid": known.uid, "gid": known.gid}
        try:
            if not _is_same(source, known):
                return False
            with writer.new_file(path, mode=known.mode, mtime_ns=known.mtime_ns, **owner) as fd:
                copied = copy_content(source, fd, budget)
            if copied and _is_same(source, known):
                return True
        finally:
            os.close(source)
        writer.remove_file(path)
        return False


def find_live_files(
    paths: Iterable[str], work_root: str, index: SignatureIndex, captured: Callable[[], Iterable[WorkIndexEntry]]
) -> LiveFiles:
    """The files among ``paths`` that this machine's last capture saw, and saw as ``captured`` lists them."""
    files: Mapping[str, IndexedFile] = {}
    with suppress(StorageError):  # a cache; layers have the files too
        files = index.load_tree(work_key(work_root)).files
    known = {path: files[path] for path in paths if path in files and files[path].verified}
    if not known:
        return LiveFiles(work_root, {})
    listed = {entry.path: (entry.sha256, entry.mode, entry.mtime_ns) for entry in captured() if entry.path in known}
    same = {
        path: file
        for path, file in known.items()
        if listed.get(path) == (file.sha256.hex(), stat.S_IMODE(file.mode), file.mtime_ns)
    }
    return LiveFiles(work_root, same)


def copy_content(source: int, target: int, budget: Budget) -> bool:
    """Give the empty file ``target`` the content of ``source`` (descriptors), shared or copied inside the kernel.

    False where the kernel or the file systems cannot; ``target`` may then hold a part.

    Raises:
        SnapshotCorruptError: the restore has been stopped.
        OSError: there is no space left, or reading failed.
    """
    try:
        if _clone(source, target):
            return True
        left = os.fstat(source).st_size
        while left:
            budget.foresee(0)
            count = os.copy_file_range(source, target, min(left, _COPY_BYTES))
            if not count:
                return False
            left -= count
    except OSError as exc:
        if exc.errno in _CANNOT:
            return False
        raise
    return True


def _clone(source: int, target: int) -> bool:
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as exc:
        if exc.errno in _CANNOT:
            return False
        raise
    return True


def _is_same(source: int, known: IndexedFile) -> bool:
    return signature_of(os.fstat(source)) == (known.mode, known.size, known.mtime_ns, known.ctime_ns, known.inode)


def _looks_like(place: str, entry: EnvironmentEntry) -> bool:
    signature = current_signature(place)
    return signature is not None and signature[:3] == (entry.mode, entry.size, entry.mtime_ns)
