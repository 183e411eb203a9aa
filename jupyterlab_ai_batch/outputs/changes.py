"""In the job: which files of the work tree differ from the Snapshot that it was restored from.

Caches and the like (``NOISE``), which a capture leaves out too, do not come home unless the Snapshot holds them.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ..models import OutputFile
from ..oci.work_index import WorkIndexEntry
from ..words import FileChange

NOISE = frozenset(
    {
        "__pycache__", ".ipynb_checkpoints", ".virtual_documents", ".cache", ".mypy_cache", ".pytest_cache",
        ".ruff_cache", ".hypothesis", ".tox", ".nox", ".eggs", "node_modules", ".npm", ".yarn", ".ipython",
    }
)  # fmt: skip
NOISE_PATHS = frozenset({".local/share/Trash", ".local/share/jupyter/runtime", ".conda/pkgs"})
BEING_WRITTEN = "it was being written"

_CHUNK_BYTES = 1 << 20
_CLOCK_TICK_NS = 20_000_000  # file systems stamp with the kernel's coarse clock, which lags by up to one tick
_OPEN_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK

_Signature = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What one scan found.

    Attributes:
        files: Sorted by path; unchanged files are absent.
        skipped: (path, reason) of what changed and could not be read, or is of a type that is never brought home.
    """

    files: tuple[OutputFile, ...]
    skipped: tuple[tuple[str, str], ...]


class WorkTree:
    """A restored work tree, compared as often as wanted: a file is hashed again only when its signature moved.

    Size and modification time equal to the Snapshot's and no change since the start of the run mean unchanged
    without reading; everything else is hashed. A change of permissions alone is not a change.

    Attributes:
        root: The work root.
    """

    def __init__(
        self, root: Path, base: Mapping[str, WorkIndexEntry], *, started_ns: int, left_out: Collection[str] = ()
    ) -> None:
        """Compare ``root`` with ``base`` (by path).

        ``started_ns`` is the time of the run's start; ``left_out`` are relative paths that are never looked at.
        """
        self.root = root
        self._base = base
        self._started_ns = started_ns - _CLOCK_TICK_NS
        self._left_out = frozenset(left_out)
        files = [path for path, entry in base.items() if entry.type != "dir"]
        self._held = _parents(files).union(files)
        self._hashes: dict[str, tuple[_Signature, str]] = {}

    def find_changes(self) -> Changes:
        """Scan the whole tree once; directories that cannot be listed are skipped, never taken for deleted."""
        found: list[OutputFile] = []
        skipped: list[tuple[str, str]] = []
        seen: set[str] = set()
        for path, entry, not_listed in self._walk(""):
            seen.add(path)
            file, reason = (None, not_listed) if entry is None else self._compare(path, entry)
            found.extend([file] if file else [])
            if reason is not None:
                skipped.append((path, reason))
        found.extend(self._deletions(seen, frozenset(path for path, _ in skipped)))
        found.sort(key=lambda file: file.path)
        return Changes(files=tuple(found), skipped=tuple(sorted(skipped)))

    def open_file(self, file: OutputFile) -> BinaryIO:
        """A regular file of the tree for reading.

        Raises:
            OSError: it is gone, unreadable, or not a regular file any more.
        """
        fd = os.open(self.root / file.path, _OPEN_FLAGS)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(None, "it is not a regular file any more")
        return os.fdopen(fd, "rb", buffering=0)

    def _walk(self, directory: str) -> Iterator[tuple[str, os.DirEntry[str] | None, str | None]]:
        """(path, entry, None) of everything but directories; (path, None, reason) of a directory not listed."""
        waiting = [directory]
        while waiting:
            directory = waiting.pop()
            try:
                with os.scandir(self.root / directory) as entries:
                    listed = list(entries)
            except OSError as exc:
                yield directory or ".", None, exc.strerror or "it cannot be listed"
                continue
            for entry in listed:
                path = f"{directory}/{entry.name}" if directory else entry.name
                if self._is_left_out(path, entry.name):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(path)
                else:
                    yield path, entry, None

    def _is_left_out(self, path: str, name: str) -> bool:
        noise = (name in NOISE or path in NOISE_PATHS) and path not in self._held
        return noise or path in self._left_out

    def _compare(self, path: str, entry: os.DirEntry[str]) -> tuple[OutputFile | None, str | None]:
        """(the change or None, the reason why it cannot be told or None)."""
        try:
            found = entry.stat(follow_symlinks=False)
            if stat.S_ISLNK(found.st_mode):
                return self._compare_link(path, entry, found), None
            if not stat.S_ISREG(found.st_mode):
                return None, "it is not a file"
            return self._compare_file(path, found)
        except FileNotFoundError:
            return None, None
        except OSError as exc:
            return None, exc.strerror or type(exc).__name__

    def _compare_link(self, path: str, entry: os.DirEntry[str], found: os.stat_result) -> OutputFile | None:
        target = os.readlink(entry.path)  # noqa: PTH115 - Path would normalise it
        base = self._base_file(path)
        if base is not None and base.type == "symlink" and base.target == target:
            return None
        sha256 = hashlib.sha256(os.fsencode(target)).hexdigest()
        return _output_file(path, base, found, sha256=sha256, link_target=target)

    def _compare_file(self, path: str, found: os.stat_result) -> tuple[OutputFile | None, str | None]:
        base = self._base_file(path)
        same_kind = base is not None and base.type == "file"
        if (
            base is not None
            and same_kind
            and (base.size, base.mtime_ns) == (found.st_size, found.st_mtime_ns)
            and found.st_ctime_ns < self._started_ns
        ):
            return None, None
        hashed = self._hash(path)
        if hashed is None:
            return None, BEING_WRITTEN
        sha256, found = hashed
        if base is not None and same_kind and base.sha256 == sha256:
            return None, None
        return _output_file(path, base, found, sha256=sha256), None

    def _hash(self, path: str) -> tuple[str, os.stat_result] | None:
        """(digest, stat) of a file that did not move while it was read, else None."""
        fd = os.open(self.root / path, _OPEN_FLAGS)
        with os.fdopen(fd, "rb", buffering=0) as stream:
            before = os.fstat(fd)
            known = self._hashes.get(path)
            if known is not None and known[0] == _signature(before):
                return known[1], before
            sha256 = hashlib.sha256()
            while chunk := stream.read(_CHUNK_BYTES):
                sha256.update(chunk)
            after = os.fstat(fd)
        if _signature(before) != _signature(after):
            return None
        self._hashes[path] = (_signature(after), sha256.hexdigest())
        return sha256.hexdigest(), after

    def _base_file(self, path: str) -> WorkIndexEntry | None:
        base = self._base.get(path)
        return base if base is not None and base.type != "dir" else None

    def _deletions(self, seen: set[str], skipped: Collection[str]) -> Iterator[OutputFile]:
        for path, base in self._base.items():
            if base.type == "dir" or path in seen or self._is_under(path, self._left_out):
                continue
            if not self._is_under(path, skipped):
                yield OutputFile(path=path, change=FileChange.DELETED, base_sha256=base.sha256)

    @staticmethod
    def _is_under(path: str, directories: Collection[str]) -> bool:
        if not directories:
            return False
        return "." in directories or any(part in directories for part in (path, *_parents_of(path)))


def _output_file(
    path: str, base: WorkIndexEntry | None, found: os.stat_result, *, sha256: str, link_target: str | None = None
) -> OutputFile:
    return OutputFile(
        path=path,
        change=FileChange.NEW if base is None else FileChange.CHANGED,
        size_bytes=0 if link_target is not None else found.st_size,
        sha256=sha256,
        base_sha256=None if base is None else base.sha256,
        mode=stat.S_IMODE(found.st_mode),
        mtime_ns=found.st_mtime_ns,
        link_target=link_target,
    )


def _signature(found: os.stat_result) -> _Signature:
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def _parents(paths: Collection[str]) -> frozenset[str]:
    return frozenset(parent for path in paths for parent in _parents_of(path))


def _parents_of(path: str) -> Iterator[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path
