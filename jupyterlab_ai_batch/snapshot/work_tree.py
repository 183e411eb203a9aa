"""The work tree as it goes into layers: each entry as it is at the moment when it is read."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from .index import IndexedFile
from .layers import Workbench, record
from .reading import (
    GONE,
    MAX_READS,
    SMALL_BYTES,
    Reading,
    TornStreamError,
    UnstableFileError,
    VanishedFileError,
    read_link,
    reading_failed,
)
from .secrets import find_secrets, is_scanned
from .sqlite_backup import back_up, find_live_databases
from .tarstream import DIRECTORY, FILE, HARD_LINK, SYMLINK, WHITEOUT, TarHeader, TarWriter


@dataclass(slots=True)
class WorkTree:
    """What was walked, and what has been read of it.

    Attributes:
        entries: Relative path to lstat, corrected where a path turns out to have become something else.
        accept: By path, what a file's content must be like; content that is refused counts as torn.
        files: What is known to be unchanged, or has been put into a layer.
        links: Each later name of a hard-linked file to the first one.
        databases: Live SQLite databases; their journals are no entries.
    """

    bench: Workbench
    work_root: str
    entries: dict[str, os.stat_result]
    accept: Mapping[str, Callable[[bytes], bool]]
    files: dict[str, IndexedFile] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    databases: frozenset[str] = frozenset()

    def look_for_databases_and_links(self) -> None:
        self.databases, companions = find_live_databases(self.work_root, self.entries)
        for path in companions:
            self.entries.pop(path)
        self.links = link_targets(self.entries)

    def size(self, paths: Collection[str]) -> int:
        return sum(self.entries[path].st_size for path in paths if self.is_file(path))

    def is_file(self, path: str) -> bool:
        return stat.S_ISREG(self.entries[path].st_mode)

    def fill(self, paths: Sequence[str], whiteouts: Sequence[str], hidden: Collection[str], writer: TarWriter) -> None:
        for path in whiteouts:
            self._hide(path, writer)
        emitted: set[str] = set()
        for path in paths:
            try:
                entry = self._add_as_it_is(path, writer, emitted)
            except UnstableFileError as exc:
                if isinstance(exc, TornStreamError) and exc.path not in self.bench.unstable:
                    raise
                self.bench.unstable.add(exc.path)
                entry = None
            if entry is None:
                self.files.pop(path, None)
                if path in hidden:
                    self._hide(path, writer)
            else:
                emitted.add(path)
                self.files[path] = entry

    def _hide(self, path: str, writer: TarWriter) -> None:
        parent, _, name = path.rpartition("/")
        writer.add(TarHeader(path=self._stored(f"{parent}/{WHITEOUT}{name}".lstrip("/")), kind=FILE, mode=0o600))

    def _add_as_it_is(self, path: str, writer: TarWriter, emitted: Collection[str]) -> IndexedFile | None:
        """As ``_add``, but what has become of another type since the walk is taken as that; None when it is gone."""
        for _ in range(MAX_READS):
            try:
                return self._add(path, writer, emitted)
            except VanishedFileError:  # noqa: PERF203 - a rare thing
                found = self._look(path)
                if found is None:
                    return None
                self.entries[path] = found
                self.links.pop(path, None)
        raise UnstableFileError(self.absolute(path))

    def _look(self, path: str) -> os.stat_result | None:
        try:
            found = os.lstat(self.absolute(path))
        except OSError as exc:
            if exc.errno in GONE:
                return None
            raise reading_failed(self.absolute(path), exc) from exc
        return found if stat.S_IFMT(found.st_mode) in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK) else None

    def _add(self, path: str, writer: TarWriter, emitted: Collection[str]) -> IndexedFile | None:
        found = self.entries[path]
        if self.absolute(path) in self.bench.unstable:
            return None
        if stat.S_ISDIR(found.st_mode):
            writer.add(self._header(path, found, DIRECTORY))
            return record(found, b"")
        if stat.S_ISLNK(found.st_mode):
            return self._add_symlink(path, found, writer)
        first = self.links.get(path)
        if first is not None and first in emitted and self._is_same_file(path, self.files[first]):
            writer.add(self._header(path, found, HARD_LINK, target=self._stored(first)))
            return self.files[first]._replace(link=first)
        if path in self.databases:
            return self._add_database(path, found, writer)
        return self._add_file(path, found, writer)

    def _is_same_file(self, path: str, captured: IndexedFile) -> bool:
        """Whether a hard link still leads to the file as it was captured under its first name."""
        found = self._look(path)
        if found is None:
            return False
        now = record(found, captured.sha256)
        return (now.inode, now.size, now.mtime_ns) == (captured.inode, captured.size, captured.mtime_ns)

    def _add_file(self, path: str, found: os.stat_result, writer: TarWriter) -> IndexedFile:
        readable = self.readable(path)
        if found.st_size > SMALL_BYTES and path not in self.accept:
            reading = self.bench.reader.stream(
                readable, lambda now: writer.add(self._header(path, now, FILE, size=now.st_size)), writer.fill
            )
        else:
            reading = self.bench.reader.read(readable, accept=self.accept.get(path))
            data = reading.data or b""
            writer.add(self._header(path, reading.found, FILE, size=len(data)))
            writer.write(data)
        self.bench.reporter.read(reading.found.st_size)
        return self.record(path, reading)

    def _add_database(self, path: str, found: os.stat_result, writer: TarWriter) -> IndexedFile:
        """A consistent copy of a live SQLite database; it is read anew by every capture."""
        with back_up(self.absolute(path)) as (stream, size):
            if stream is None:
                self.bench.warnings.append(f"The database {path} is in use; it is captured as its file stands.")
                return self._add_file(path, found, writer)
            writer.add(self._header(path, found, FILE, size=size))
            sha256 = hashlib.sha256()
            while chunk := stream.read(1 << 20):
                sha256.update(chunk)
                writer.write(chunk)
        return record(found, sha256.digest(), verified=False)._replace(size=size)

    def _add_symlink(self, path: str, found: os.stat_result, writer: TarWriter) -> IndexedFile:
        target = read_link(self.absolute(path))
        writer.add(self._header(path, found, SYMLINK, target=target))
        return record(found, hashlib.sha256(os.fsencode(target)).digest(), target=target)

    def record(self, path: str, reading: Reading) -> IndexedFile:
        verified = self.bench.reader.is_verified(reading.found, self.bench.started_ns)
        entry = record(reading.found, reading.sha256, verified=verified)._replace(link=self.links.get(path, ""))
        if reading.data is None or not is_scanned(path, reading.data):
            return entry
        found = find_secrets(reading.data)
        return entry._replace(findings=json.dumps(found, separators=(",", ":"))) if found else entry

    def _header(self, path: str, found: os.stat_result, kind: bytes, *, size: int = 0, target: str = "") -> TarHeader:
        return TarHeader(
            path=self._stored(path),
            kind=kind,
            mode=stat.S_IMODE(found.st_mode),
            size=size,
            mtime_ns=found.st_mtime_ns,
            uid=found.st_uid,
            gid=found.st_gid,
            target=target,
        )

    def readable(self, path: str) -> str:
        """Where a file's content is: of the notebook alone a link is followed."""
        return os.path.realpath(self.absolute(path)) if path in self.accept else self.absolute(path)

    def absolute(self, path: str) -> str:
        return os.path.join(self.work_root, path) if path else self.work_root

    def _stored(self, path: str) -> str:
        return "/".join(part for part in (self.work_root.strip("/"), path) if part)


def link_targets(entries: Mapping[str, os.stat_result]) -> dict[str, str]:
    """Hard links inside the tree: each later name to the first one, in the order of paths."""
    firsts: dict[tuple[int, int], str] = {}
    links: dict[str, str] = {}
    shared = (path for path, found in entries.items() if found.st_nlink > 1 and stat.S_ISREG(found.st_mode))
    for path in sorted(shared):
        found = entries[path]
        first = firsts.setdefault((found.st_dev, found.st_ino), path)
        if first != path:
            links[path] = first
    return links
