"""The work tree -> a base and deltas with explicit whiteouts; owner, mode and mtime (ns) are kept.

A delta holds what differs from the last capture of the same tree, so it is small, and fast. Deltas become a new base
behind the user's back (see ``compaction``), and only when there are far too many of them in a capture itself. A base is
several layers: the largest files have one each, the others share a few; what such a layer holds is noted with it, so
that the next base, or a capture after a killed one, uses it again.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ..oci.manifest import Layer, LayerRole
from .captured import decode_layer, decode_layers, encode_layer, may_exist, work_key
from .index import IndexedFile, SignatureIndex, TreeRecord
from .layers import Comparison, PendingLayer, Workbench, compare, record, seal_if_proven
from .listing import seal_of
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
from .summary import findings_of
from .tarstream import DIRECTORY, FILE, HARD_LINK, SYMLINK, WHITEOUT, TarHeader, TarWriter

MAX_DELTAS = 16
MAX_LAYERS = 28
GOOD_DELTAS = 8
GOOD_DELTA_SHARE = 0.3
LARGE_BYTES = 64 * 1000**2
MAX_LARGE_LAYERS = 8
PART_BYTES = 256 * 1000**2
MAX_PARTS = 4
MAX_FINDINGS = 20
MAX_MADE = 64

_WHOLE_SHARE = 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkLayers:
    """What a capture of the work tree gave, for the signature index.

    Attributes:
        state: JSON; ``layers`` of the tree as it is now, in order, and all that the next capture needs.
        seal: Of the tree, where the signatures prove its content.
        unchanged: Whether the layers are those of the last capture.
        built_on: The ``layers`` of the last capture's state.
    """

    files: Mapping[str, IndexedFile]
    state: Mapping[str, Any]
    seal: bytes
    unchanged: bool
    built_on: list[Any] | None


def capture_work(
    bench: Workbench,
    index: SignatureIndex,
    entries: Mapping[str, os.stat_result],
    *,
    work_root: str,
    accept: Mapping[str, Callable[[bytes], bool]],
    new_base: bool = False,
) -> WorkLayers:
    """Write the layers that the store has not.

    Args:
        entries: Relative path to lstat; the top has the path ``""``.
        accept: By path, what a file's content must be like; content that is refused counts as torn.
        new_base: Write a base, although a delta would do.
    """
    known = index.load_tree(work_key(work_root))
    return _WorkCapture(bench, index, known, dict(entries), work_root, accept, new_base).run(seal_of(entries))


def wants_new_base(state: Mapping[str, Any]) -> bool:
    """Whether the layers of a tree have become so many, or hold so much that is no longer there, that it costs."""
    if not state.get("layers"):
        return False
    many = state["deltas"] > GOOD_DELTAS or len(state["layers"]) > MAX_LAYERS - MAX_DELTAS + GOOD_DELTAS
    return bool(many or state["delta_bytes"] > GOOD_DELTA_SHARE * state["base_bytes"])


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


@dataclass(slots=True)
class _WorkCapture:
    bench: Workbench
    index: SignatureIndex
    known: TreeRecord
    entries: dict[str, os.stat_result]
    work_root: str
    accept: Mapping[str, Callable[[bytes], bool]]
    new_base: bool
    files: dict[str, IndexedFile] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    databases: frozenset[str] = frozenset()
    complete: bool = False
    made: dict[str, PendingLayer | Layer] = field(default_factory=dict)

    def run(self, seal: bytes) -> WorkLayers:
        self.databases, companions = find_live_databases(self.work_root, self.entries)
        for path in companions:
            self.entries.pop(path)
        self.links = link_targets(self.entries)
        comparison = compare(self.entries, self.known.files)
        changed = self._settle(comparison)
        layers = list(decode_layers(self.known.state.get("layers", ())))
        self.complete = bool(layers) and may_exist(layers, self.bench.gone)
        unchanged = self.complete and not changed and not comparison.removed and not self.new_base
        if unchanged:
            state = dict(self.known.state)
        elif self.complete and not self.new_base and self._fits_delta(layers, changed):
            state = self._delta(layers, changed, comparison.removed)
        else:
            state = self._base()
        state["findings"] = [[f.path, f.line, f.kind] for f in findings_of(self.files)[:MAX_FINDINGS]]
        state["files"] = sum(not stat.S_ISDIR(entry.mode) for entry in self.files.values())
        state["bytes"] = sum(entry.size for entry in self.files.values())
        return WorkLayers(
            files=self.files,
            state=state,
            seal=b"" if companions else seal_if_proven(seal, self.entries, self.files),
            unchanged=unchanged,
            built_on=self.known.state.get("layers"),
        )

    def _settle(self, comparison: Comparison) -> set[str]:
        """Read what is suspect; returns the paths that a new layer must hold."""
        changed = set(comparison.changed)
        paths = {path: self._absolute(path) for path in comparison.suspect}
        for path, absolute in paths.items():
            self.bench.reader.glance(absolute, self.entries[path])
        self.bench.reporter.expect(sum(self.entries[path].st_size for path in paths))
        readings = self.bench.hash_files(paths)
        self.files = dict(comparison.same)
        for path in comparison.suspect:
            reading, old = readings.get(path), self.known.files[path]
            if reading is None or reading.sha256 != old.sha256:
                changed.add(path)
            else:
                self.files[path] = self._record(path, reading)._replace(findings=old.findings)
        for path, entry in self.files.items():
            linked = self.links.get(path, "")
            if entry.link != linked:
                self.files[path] = entry._replace(link=linked)
            if self.files[path].identity != self.known.files[path].identity:
                changed.add(path)
        return self._with_link_groups(changed)

    def _with_link_groups(self, changed: set[str]) -> set[str]:
        """All names of a hard-linked file when one of them changed: links must not leave their layer."""
        firsts = {self.links[path] for path in changed if path in self.links}
        firsts |= changed & set(self.links.values())
        return changed | firsts | {path for path, first in self.links.items() if first in firsts}

    def _fits_delta(self, layers: Sequence[Layer], changed: Collection[str]) -> bool:
        too_many = self.known.state["deltas"] >= MAX_DELTAS or len(layers) + len(self._own(changed)) >= MAX_LAYERS
        return not too_many and self._size(changed) <= _WHOLE_SHARE * self._size(self.entries)

    def _delta(self, layers: Sequence[Layer], changed: Collection[str], removed: Sequence[str]) -> dict[str, Any]:
        """Large files in layers of their own, below the delta: it has the directories, whose times come last."""
        old = self.known.state
        self.made = dict(list(self._known_made().items())[-MAX_MADE:])
        own = [path for path in self._own(changed) if self._was_directory(path.rpartition("/")[0])]
        new = [self._part(f"delta: {path}", [path]) for path in own]
        rest = sorted({*changed, *self._directories_above([*changed, *removed])} - set(own))
        lost = [path for path in own if path not in self.files]
        if rest or lost:
            new.append(self._press("delta", rest, self._whiteouts([*removed, *lost]), hidden=self.known.files))
        return self._state(
            [*layers, *new],
            deltas=old["deltas"] + 1,
            base_bytes=old["base_bytes"],
            delta_bytes=old["delta_bytes"] + self._size(changed),
        )

    def _directories_above(self, paths: Collection[str]) -> set[str]:
        """Unpacking a change touches all of them: only their own entries give them their times back."""
        above: set[str] = set()
        for path in paths:
            parent = path
            while parent and (parent := parent.rpartition("/")[0]) not in above:
                above.add(parent)
        return {path for path in above if path in self.entries and stat.S_ISDIR(self.entries[path].st_mode)}

    def _was_directory(self, path: str) -> bool:
        known = self.known.files.get(path)
        return known is not None and stat.S_ISDIR(known.mode)

    def _base(self) -> dict[str, Any]:
        """The last part has all directories: their times must be set after their files were made."""
        own = self._own(self.entries)
        layers = [self._part(f"base: {path}", [path]) for path in own]
        *parts, last = self._parts(sorted(self.entries.keys() - set(own)))
        layers += [self._part(f"base {number}", paths) for number, paths in enumerate(parts, 1)]
        layers.append(self._part("base", last))
        return self._state(layers, deltas=0, base_bytes=self._size(self.files), delta_bytes=0)

    def _parts(self, paths: Sequence[str]) -> list[list[str]]:
        """Paths for a few layers of some size; all names of a file are in one, as links must not leave their layer."""
        share = max(PART_BYTES, self._size(paths) // MAX_PARTS + 1)
        parts: list[list[str]] = [[]]
        homes: dict[str, list[str]] = {}
        room = share
        for path in paths:
            found = self.entries[path]
            if stat.S_ISDIR(found.st_mode):
                continue
            if room < 0:
                parts.append([])
                room = share
            home = homes.setdefault(self.links.get(path, path), parts[-1])
            home.append(path)
            room -= found.st_size if stat.S_ISREG(found.st_mode) else 0
        directories = [path for path in paths if stat.S_ISDIR(self.entries[path].st_mode)]
        return [*parts[:-1], sorted([*parts[-1], *directories])]

    def _own(self, paths: Collection[str]) -> list[str]:
        """The large files among them that get layers of their own."""
        linked = self.links.keys() | set(self.links.values()) | self.databases
        sizes = [(self.entries[path].st_size, path) for path in paths if self._is_file(path) and path not in linked]
        large = sorted((size, path) for size, path in sizes if size >= LARGE_BYTES)
        return sorted(path for _, path in large[-MAX_LARGE_LAYERS:])

    def _size(self, paths: Collection[str]) -> int:
        return sum(self.entries[path].st_size for path in paths if self._is_file(path))

    def _is_file(self, path: str) -> bool:
        return stat.S_ISREG(self.entries[path].st_mode)

    def _part(self, name: str, paths: Sequence[str]) -> PendingLayer | Layer:
        """A layer of these files: one that the store has already, where it is known."""
        layer = self._known_made().get(self._content_key(paths) or "")
        if layer is None or not may_exist([layer], self.bench.gone):
            pending = self._press(name, paths)
            key = self._content_key(paths)
            if key is not None:
                self.made[key] = pending
            if self.bench.is_checkpoint():
                self._note_progress()
            return pending
        self.made[self._content_key(paths) or ""] = layer
        return layer

    def _known_made(self) -> dict[str, Layer]:
        return {key: decode_layer(fields) for key, fields in self.known.state.get("made", {}).items()}

    def _content_key(self, paths: Sequence[str]) -> str | None:
        """What a layer of these files is made of; None while one of them has not been read."""
        if any(path not in self.files for path in paths):
            return None
        identities = [(path, self.files[path].identity) for path in paths]
        return hashlib.sha256(repr(identities).encode("utf-8", "surrogateescape")).hexdigest()

    def _note_progress(self) -> None:
        """So that a capture that is killed need not write these layers again."""
        done = {key: layer for key, layer in self.made.items() if isinstance(layer, Layer) or layer.is_done}
        made = {**self.known.state.get("made", {}), **self._encode_made(done)}
        if self.complete:  # a delta will still do for the next capture
            self.index.save_tree(work_key(self.work_root), self.known.files, {**self.known.state, "made": made})
        else:
            self.index.save_tree(work_key(self.work_root), self.files, {"made": made})

    def _encode_made(self, made: Mapping[str, PendingLayer | Layer]) -> dict[str, list[Any]]:
        return {key: encode_layer(self._finished(layer)) for key, layer in made.items()}

    def _finished(self, layer: PendingLayer | Layer) -> Layer:
        return self.bench.wait_for(layer) if isinstance(layer, PendingLayer) else layer

    def _state(self, layers: Sequence[PendingLayer | Layer], **numbers: int) -> dict[str, Any]:
        encoded = [encode_layer(self._finished(layer)) for layer in layers]
        return {"layers": encoded, "made": self._encode_made(self.made), **numbers}

    def _whiteouts(self, removed: Sequence[str]) -> list[str]:
        """The topmost removed paths whose directory is still one."""
        gone = set(removed)
        found = []
        for path in sorted(gone):
            parent = path.rpartition("/")[0]
            if parent not in gone and parent in self.entries and stat.S_ISDIR(self.entries[parent].st_mode):
                found.append(path)
        return found

    def _press(
        self, name: str, paths: Sequence[str], whiteouts: Sequence[str] = (), *, hidden: Collection[str] = ()
    ) -> PendingLayer:
        """Write a layer of these paths.

        Args:
            whiteouts: What lower layers have, and the tree has not.
            hidden: What lower layers have: nothing of it may show through where a path turns out to be gone.
        """
        self.bench.reporter.expect(self._size(paths))
        for path in paths:
            if self._is_file(path) and path not in self.databases:
                self.bench.reader.glance(self._readable(path), self.entries[path])
        return self.bench.press_layer(LayerRole.WORK, name, partial(self._fill, paths, whiteouts, hidden))

    def _fill(self, paths: Sequence[str], whiteouts: Sequence[str], hidden: Collection[str], writer: TarWriter) -> None:
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
        raise UnstableFileError(self._absolute(path))

    def _look(self, path: str) -> os.stat_result | None:
        try:
            found = os.lstat(self._absolute(path))
        except OSError as exc:
            if exc.errno in GONE:
                return None
            raise reading_failed(self._absolute(path), exc) from exc
        return found if stat.S_IFMT(found.st_mode) in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK) else None

    def _add(self, path: str, writer: TarWriter, emitted: Collection[str]) -> IndexedFile | None:
        found = self.entries[path]
        if self._absolute(path) in self.bench.unstable:
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
        readable = self._readable(path)
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
        return self._record(path, reading)

    def _add_database(self, path: str, found: os.stat_result, writer: TarWriter) -> IndexedFile:
        """A consistent copy of a live SQLite database; it is read anew by every capture."""
        with back_up(self._absolute(path)) as (stream, size):
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
        target = read_link(self._absolute(path))
        writer.add(self._header(path, found, SYMLINK, target=target))
        return record(found, hashlib.sha256(os.fsencode(target)).digest(), target=target)

    def _record(self, path: str, reading: Reading) -> IndexedFile:
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

    def _readable(self, path: str) -> str:
        """Where a file's content is: of the notebook alone a link is followed."""
        return os.path.realpath(self._absolute(path)) if path in self.accept else self._absolute(path)

    def _absolute(self, path: str) -> str:
        return os.path.join(self.work_root, path) if path else self.work_root

    def _stored(self, path: str) -> str:
        return "/".join(part for part in (self.work_root.strip("/"), path) if part)
