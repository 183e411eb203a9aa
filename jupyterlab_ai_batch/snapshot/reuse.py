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
from .environment_live import IntactFile, current_signature, find_intact, signature_of
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
        self._places: dict[tuple[str, int], list[str]] = {}
        for directory in environments:
            with suppress(OSError, StorageError):
                for place, file in read_files(directory).items():
                    self._places.setdefault((file.sha256, file.pyc_mtime), []).append(f"{directory}/{place}")

    def find(self, wanted: Mapping[str, tuple[EnvironmentEntry, int]]) -> dict[str, IntactFile]:
        """Files of the content and mode that are wanted.

        Args:
            wanted: By path: the entry, and for a timed .pyc the mtime that its header must have, else -1.
        """
        places: dict[str, str] = {}
        for path, (entry, pyc_mtime) in wanted.items():
            candidates = self._places.get((entry.sha256, pyc_mtime), ())
            place = next((place for place in candidates if _may_be(place, entry)), None)
            if place is not None:
                places[path] = place
        intact = find_intact({place: wanted[path][0] for path, place in places.items()})
        found = {path: intact[place] for path, place in places.items() if place in intact}
        return {path: file for path, file in found.items() if file.pyc_mtime == wanted[path][1]}


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


def _may_be(place: str, entry: EnvironmentEntry) -> bool:
    signature = current_signature(place)
    return signature is not None and signature[:2] == (entry.mode, entry.size)
