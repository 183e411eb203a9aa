"""The work tree -> a base layer and deltas with explicit whiteouts; owner, mode and mtime (ns) are kept.

A delta holds what differs from the last capture of the same tree. Deltas become a new base when there are more than
eight, or when they hold more than 30 % of the base. In a base, the largest files have layers of their own.
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
from .environment_layers import decode_layer, encode_layer
from .index import IndexedFile, SignatureIndex, TreeRecord
from .layers import Comparison, Workbench, compare, record
from .reading import SMALL_BYTES, Reading, UnstableFileError, VanishedFileError
from .secrets import find_secrets, is_scanned
from .sqlite_backup import back_up, find_live_databases
from .tarstream import DIRECTORY, FILE, HARD_LINK, SYMLINK, TarHeader, TarWriter

MAX_DELTAS = 8
MAX_DELTA_SHARE = 0.3
LARGE_BYTES = 64 * 1000**2
MAX_LARGE_LAYERS = 16
WHITEOUT = ".wh."


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedWork:
    """What a capture of the work tree gave; ``save`` it once the manifest is written."""

    known: TreeRecord
    files: Mapping[str, IndexedFile]
    layers: tuple[Layer, ...]
    state: Mapping[str, Any]
    unchanged: bool

    def save(self, index: SignatureIndex, control: Mapping[str, Any]) -> None:
        state = {**self.state, "control": control}
        if self.files is not self.known.files or state != self.known.state:
            index.save_tree(self.known, self.files, state)


def work_key(work_root: str) -> str:
    """The name of a work tree in the signature index."""
    return f"work\n{work_root}"


def capture_work(
    bench: Workbench,
    known: TreeRecord,
    entries: Mapping[str, os.stat_result],
    *,
    work_root: str,
    accept: Mapping[str, Callable[[bytes], bool]],
) -> CapturedWork:
    """Write the layers that are not in the store yet.

    Args:
        entries: Relative path to lstat; the top has the path ``""``.
        accept: By path, what a file's content must be like; content that is refused counts as torn.
    """
    return _WorkCapture(bench, known, dict(entries), work_root, accept).run()


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
    known: TreeRecord
    entries: dict[str, os.stat_result]
    work_root: str
    accept: Mapping[str, Callable[[bytes], bool]]
    files: dict[str, IndexedFile] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    databases: frozenset[str] = frozenset()

    def run(self) -> CapturedWork:
        self.databases, companions = find_live_databases(self.work_root, self.entries)
        for path in companions:
            self.entries.pop(path)
        self.links = link_targets(self.entries)
        comparison = compare(self.entries, self.known.files)
        changed = self._settle(comparison)
        layers = [decode_layer(fields) for fields in self.known.state.get("layers", ())]
        complete = bool(layers) and self.bench.has_layers(layers)
        if complete and not changed and not comparison.removed:
            same = len(comparison.same) == len(self.entries)
            files = self.known.files if same else self.files
            return CapturedWork(
                known=self.known, files=files, layers=tuple(layers), state=self.known.state, unchanged=True
            )
        if complete and self._fits_delta(changed):
            return self._delta(layers, changed, comparison.removed)
        return self._base(layers)

    def _settle(self, comparison: Comparison) -> set[str]:
        """Read what is suspect; returns the paths that a new layer must hold."""
        changed = set(comparison.changed)
        paths = {path: self._absolute(path) for path in comparison.suspect}
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

    def _fits_delta(self, changed: Collection[str]) -> bool:
        state = self.known.state
        size = sum(self.entries[path].st_size for path in changed if stat.S_ISREG(self.entries[path].st_mode))
        deltas = int(state.get("delta_bytes", 0)) + size
        return int(state.get("deltas", 0)) < MAX_DELTAS and deltas <= MAX_DELTA_SHARE * int(state.get("base_bytes", 0))

    def _delta(self, layers: list[Layer], changed: Collection[str], removed: Sequence[str]) -> CapturedWork:
        whiteouts = self._whiteouts(removed)
        layer = self._write("delta", sorted(changed), whiteouts)
        size = sum(self.files[path].size for path in changed if path in self.files)
        state = self.known.state
        return self._captured(
            [*layers, layer],
            deltas=int(state["deltas"]) + 1,
            base_bytes=int(state["base_bytes"]),
            delta_bytes=int(state["delta_bytes"]) + size,
            large=state.get("large", {}),
        )

    def _base(self, old_layers: Sequence[Layer]) -> CapturedWork:
        large = self._large_files()
        layers = [self._write("base", sorted(self.entries.keys() - set(large)), ())]
        reusable = {layer.digest: layer for layer in old_layers}
        keys: dict[str, str] = {}
        for path in large:
            layer = self._reuse(path, reusable) or self._write(f"base: {path}", [path], ())
            layers.append(layer)
            if path in self.files:
                keys[layer.digest] = _content_key(path, self.files[path])
        size = sum(entry.size for entry in self.files.values())
        return self._captured(layers, deltas=0, base_bytes=size, delta_bytes=0, large=keys)

    def _reuse(self, path: str, layers: Mapping[str, Layer]) -> Layer | None:
        """The layer that already holds this large file as it is."""
        entry = self.files.get(path)
        if entry is None or entry.identity != self.known.files[path].identity:
            return None
        key = _content_key(path, entry)
        digest = next((digest for digest, value in self.known.state.get("large", {}).items() if value == key), None)
        layer = layers.get(digest or "")
        return layer if layer is not None and self.bench.has_layers([layer]) else None

    def _large_files(self) -> list[str]:
        linked = set(self.links) | set(self.links.values()) | self.databases
        sizes = [
            (found.st_size, path)
            for path, found in self.entries.items()
            if stat.S_ISREG(found.st_mode) and found.st_size >= LARGE_BYTES and path not in linked
        ]
        return sorted(path for _, path in sorted(sizes, reverse=True)[:MAX_LARGE_LAYERS])

    def _captured(self, layers: list[Layer], **state: Any) -> CapturedWork:
        encoded = {"layers": [encode_layer(layer) for layer in layers], **state}
        return CapturedWork(known=self.known, files=self.files, layers=tuple(layers), state=encoded, unchanged=False)

    def _whiteouts(self, removed: Sequence[str]) -> list[str]:
        """The topmost removed paths whose directory is still one."""
        gone = set(removed)
        found = []
        for path in sorted(removed):
            parent = path.rpartition("/")[0]
            if parent not in gone and parent in self.entries and stat.S_ISDIR(self.entries[parent].st_mode):
                found.append(path)
        return found

    def _write(self, name: str, paths: Sequence[str], whiteouts: Sequence[str]) -> Layer:
        size = sum(self.entries[path].st_size for path in paths if stat.S_ISREG(self.entries[path].st_mode))
        self.bench.reporter.expect(size)
        return self.bench.write_layer(LayerRole.WORK, name, partial(self._fill, paths, whiteouts))

    def _fill(self, paths: Sequence[str], whiteouts: Sequence[str], writer: TarWriter) -> None:
        for path in whiteouts:
            parent, _, name = path.rpartition("/")
            hidden = f"{parent}/{WHITEOUT}{name}" if parent else f"{WHITEOUT}{name}"
            writer.add(TarHeader(path=self._stored(hidden), kind=FILE, mode=0o600))
        emitted: set[str] = set()
        for path in paths:
            try:
                entry = self._add(path, writer, emitted)
            except VanishedFileError:
                entry = None
            except UnstableFileError as exc:
                if exc.path not in self.bench.unstable and self.entries[path].st_size > SMALL_BYTES:
                    raise
                self.bench.unstable.add(exc.path)
                entry = None
            if entry is None:
                self.files.pop(path, None)
            else:
                emitted.add(path)
                self.files[path] = entry

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
        if first is not None and first in emitted:
            writer.add(self._header(path, found, HARD_LINK, target=self._stored(first)))
            return self.files[first]._replace(link=first)
        if path in self.databases:
            return self._add_database(path, found, writer)
        return self._add_file(path, found, writer)

    def _add_file(self, path: str, found: os.stat_result, writer: TarWriter) -> IndexedFile:
        absolute = self._absolute(path)
        if found.st_size > SMALL_BYTES and path not in self.accept:
            reading = self.bench.reader.stream(
                absolute, lambda now: writer.add(self._header(path, now, FILE, size=now.st_size)), writer.write
            )
        else:
            reading = self.bench.reader.read(
                os.path.realpath(absolute) if path in self.accept else absolute, accept=self.accept.get(path)
            )
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
        try:
            target = os.readlink(self._absolute(path))
        except OSError as exc:
            raise VanishedFileError(path) from exc
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

    def _absolute(self, path: str) -> str:
        return os.path.join(self.work_root, path) if path else self.work_root

    def _stored(self, path: str) -> str:
        return "/".join(part for part in (self.work_root.strip("/"), path) if part)


def _content_key(path: str, entry: IndexedFile) -> str:
    return hashlib.sha256(repr((path, entry.identity)).encode()).hexdigest()
