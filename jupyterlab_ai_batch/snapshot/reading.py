"""Reading files that may change under the reader: each comes out as it was at one moment, or is named.

fstat, read, fstat; a file that changed meanwhile, or whose mtime is younger than two seconds, is read again until two
readings agree and it was not touched between them. No link is followed: a path that became one counts as vanished.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

from ..errors import FileUnreadableError, SnapshotError

T = TypeVar("T")

MAX_READS = 5
SMALL_BYTES = 8 << 20
CHUNK_BYTES = 1 << 20
GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.ENODEV, errno.ESTALE})

_RACY_NS = 2 * 10**9
_UNVERIFIED_NS = 60 * 10**9
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_PAUSES_S = (0.0, 0.02, 0.1, 0.3, 0.6)


class UnstableFileError(Exception):
    """A file changed at every reading; ``path`` is absolute. Never leaves this package."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


class TornStreamError(UnstableFileError):
    """A file changed after a part of it was handed on: the layer must be begun anew."""


class VanishedFileError(Exception):
    """A file is not there any more, or is no regular file any more. Never leaves this package."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A file as it was read: ``found`` is its fstat, ``data`` None when it was streamed."""

    found: os.stat_result
    sha256: bytes
    data: bytes | None = None


_Times = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class _Glance:
    digest: bytes
    times: _Times
    at: float


class FileReader:
    """Reads files; ``now_ns`` is the system's clock, in the unit of ``st_mtime_ns``."""

    def __init__(self, now_ns: Callable[[], int] = time.time_ns, pause: Callable[[float], None] = time.sleep) -> None:
        self.now_ns = now_ns
        self.pause = pause
        self._settled_ns = 0
        self._glances: dict[str, _Glance] = {}

    def glance(self, path: str, found: os.stat_result) -> None:
        """Have a first look at a file that is young, so that ``read`` or ``hash`` later need not wait for a second.

        Args:
            found: What it was like when it was walked.
        """
        if found.st_size > SMALL_BYTES or not self._is_racy(found):
            return
        with suppress(VanishedFileError, FileUnreadableError, SnapshotError):  # said when it is read
            before, digest, after = _between_stats(path, _hash)
            if _times(before) == _times(after):
                self._glances[path] = _Glance(digest, _times(before), time.monotonic())

    def read(self, path: str, *, accept: Callable[[bytes], bool] | None = None, hash_later: bool = False) -> Reading:
        """A whole file of at most ``SMALL_BYTES``, or of a little more if it grew since it was measured.

        Args:
            accept: Content that it refuses counts as changed while read.
            hash_later: Leave ``sha256`` empty where one reading is enough.

        Raises:
            UnstableFileError, VanishedFileError, FileUnreadableError
        """
        previous = self._recall(path)
        for pause_s in _PAUSES_S:
            if pause_s:
                self.pause(pause_s)
            before, data, after = _between_stats(path, _read_all)
            unchanged = _times(before) == _times(after) and len(data) == before.st_size
            if not unchanged or (accept is not None and not accept(data)):
                previous = None
                continue
            if hash_later and not self._is_racy(before):
                return Reading(before, b"", data)
            digest = hashlib.sha256(data).digest()
            if (digest, _times(before)) == previous or not self._is_racy(before):
                return Reading(before, digest, data)
            previous = (digest, _times(before))
        raise UnstableFileError(path)

    def stream(
        self,
        path: str,
        start: Callable[[os.stat_result], None],
        fill: Callable[[Callable[[memoryview], int]], None],
    ) -> Reading:
        """A file of any size in pieces, its fstat first; ``fill`` (see TarWriter) asks for exactly ``st_size`` bytes.

        Raises:
            TornStreamError: what was read is not one moment's content.
            VanishedFileError, FileUnreadableError: nothing was read.
        """
        with _opened(path) as (fd, before):
            expected = _hash(fd, before.st_size) if self._is_racy(before) else None
            os.lseek(fd, 0, os.SEEK_SET)
            sha256 = hashlib.sha256()

            def read_into(piece: memoryview) -> int:
                count = os.readv(fd, [piece])
                if not count:
                    raise TornStreamError(path)
                sha256.update(piece[:count])
                return count

            start(before)
            fill(read_into)
            digest = sha256.digest()
            if _times(before) != _times(os.fstat(fd)) or expected not in (None, digest):
                raise TornStreamError(path)
        return Reading(before, digest)

    def hash(self, path: str) -> Reading:
        """Only a file's fstat and digest.

        Raises:
            UnstableFileError, VanishedFileError, FileUnreadableError
        """
        previous = self._recall(path)
        for pause_s in _PAUSES_S:
            if pause_s:
                self.pause(pause_s)
            before, digest, after = _between_stats(path, _hash)
            unchanged = _times(before) == _times(after)
            if unchanged and ((digest, _times(before)) == previous or not self._is_racy(before)):
                return Reading(before, digest)
            previous = (digest, _times(before)) if unchanged else None
        raise UnstableFileError(path)

    def is_verified(self, found: os.stat_result, started_ns: int) -> bool:
        """Whether an unchanged signature will prove unchanged content, for a file read after ``started_ns``.

        A memory-mapped writer moves mtime at its first write only, and what is written within one clock tick
        of the reading leaves no trace: 60 s for mtime cover both. Only linking and the like move ctime alone.
        """
        return found.st_mtime_ns < started_ns - _UNVERIFIED_NS and found.st_ctime_ns < started_ns - _RACY_NS

    def _recall(self, path: str) -> tuple[bytes, _Times] | None:
        """What the first look gave, once it is long enough ago."""
        glance = self._glances.pop(path, None)
        if glance is None:
            return None
        wait_s = glance.at + _PAUSES_S[1] - time.monotonic()
        if wait_s > 0:
            self.pause(wait_s)
        return glance.digest, glance.times

    def _is_racy(self, found: os.stat_result) -> bool:
        if found.st_mtime_ns <= self._settled_ns:  # what was old enough once stays so
            return False
        self._settled_ns = self.now_ns() - _RACY_NS
        return found.st_mtime_ns > self._settled_ns


def _between_stats(path: str, read: Callable[[int, int], T]) -> tuple[os.stat_result, T, os.stat_result]:
    """(fstat, what ``read`` made of the descriptor and that size, fstat)."""
    fd, before = _open_regular(path)
    try:
        content = read(fd, before.st_size)
        return before, content, os.fstat(fd)
    except OSError as exc:
        raise reading_failed(path, exc) from exc
    finally:
        os.close(fd)


@contextmanager
def _opened(path: str) -> Iterator[tuple[int, os.stat_result]]:
    fd, found = _open_regular(path)
    try:
        yield fd, found
    except OSError as exc:
        raise reading_failed(path, exc) from exc
    finally:
        os.close(fd)


def _open_regular(path: str) -> tuple[int, os.stat_result]:
    try:
        fd = _open(path)
    except PermissionError as exc:
        raise unreadable(path) from exc
    except OSError as exc:
        if exc.errno in GONE:
            raise VanishedFileError(path) from exc
        raise reading_failed(path, exc) from exc
    try:
        found = os.fstat(fd)
    except OSError as exc:
        os.close(fd)
        raise reading_failed(path, exc) from exc
    if stat.S_ISREG(found.st_mode):
        return fd, found
    os.close(fd)
    raise VanishedFileError(path)


def _open(path: str) -> int:
    try:
        return os.open(path, _FLAGS | os.O_NOATIME)
    except PermissionError:  # somebody else's file: its access time moves
        return os.open(path, _FLAGS)


def _read_all(fd: int, size: int) -> bytes:
    """One byte more than ``size`` where there is one, so that growth is seen."""
    data = os.read(fd, size + 1)
    if len(data) >= size:
        return data
    parts = [data]
    while parts[-1]:
        parts.append(os.read(fd, CHUNK_BYTES))
    return b"".join(parts)


def _hash(fd: int, size: int) -> bytes:
    chunk = os.read(fd, min(size, CHUNK_BYTES) + 1)
    sha256 = hashlib.sha256(chunk)
    if len(chunk) == size:
        return sha256.digest()
    while chunk := os.read(fd, CHUNK_BYTES):
        sha256.update(chunk)
    return sha256.digest()


def _times(found: os.stat_result) -> _Times:
    return (found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def read_link(path: str) -> str:
    """The target of a symlink.

    Raises:
        VanishedFileError: it is gone, or no symlink any more.
        SnapshotError
    """
    try:
        return os.readlink(path)
    except OSError as exc:
        if exc.errno in GONE or exc.errno == errno.EINVAL:
            raise VanishedFileError(path) from exc
        raise reading_failed(path, exc) from exc


def reading_failed(path: str, cause: OSError) -> SnapshotError:
    return SnapshotError(
        f"Reading the file {path} failed: {cause.strerror}.",
        hint="Check the file system, or leave the file out with a line in .batchignore.",
        details={"path": path},
    )


def unreadable(path: str) -> FileUnreadableError:
    return FileUnreadableError(
        f"You are not allowed to read the file {path}.",
        hint="Change its permissions, or leave it out with a line in .batchignore.",
        details={"path": path},
    )
