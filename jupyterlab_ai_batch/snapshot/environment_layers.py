"""The environment -> layers that are the same wherever the same packages are installed at the same path.

Owner 0:0, modes 0644/0755, one constant mtime, and that mtime in the header of every valid .pyc, so that they stay
valid. Nothing tells who captured them, where or when.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ..errors import FileUnreadableError
from ..oci.manifest import Layer, LayerRole
from .captured import CapturedEnvironment, decode_layer, encode_layer, may_exist
from .environment_groups import DIRECTORIES, assign_groups, source_of
from .environment_index import ENVIRONMENT_INDEX_PATH, EnvironmentEntry, write_environment_index
from .index import IndexedFile, SignatureIndex, TreeRecord
from .layers import (
    Comparison,
    PendingLayer,
    Workbench,
    compare,
    record,
    seal_if_proven,
    single_file_layer,
)
from .listing import seal_of
from .reading import SMALL_BYTES, TornStreamError, UnstableFileError, VanishedFileError, read_link
from .roots import CaptureRoots
from .tarstream import DIRECTORY, FILE, SYMLINK, TarHeader, TarWriter

MTIME_S = 315532800  # 1980-01-01, the earliest that zip files can say
MTIME_NS = MTIME_S * 10**9

PYC_TIME_MASK = 0xFFFFFFFF

_PYC_HEADER_BYTES = 16
_HASH_LATER_BYTES = 64 << 10  # from here on another thread's hashing is worth its asking
_PYC_TIME = slice(8, 12)


def environment_digest(layers: Iterable[Layer]) -> str:
    """Equal for Snapshots whose environments are equal."""
    text = json.dumps([layer.digest for layer in layers if layer.role is LayerRole.ENVIRONMENT])
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def capture_environment(
    bench: Workbench, index: SignatureIndex, key: str, entries: Mapping[str, os.stat_result], *, roots: CaptureRoots
) -> CapturedEnvironment:
    """Write the layers that the store has not, and note in the index under ``key`` what they are.

    Args:
        entries: Everything in the environment; paths are absolute without their leading ``/``.
    """
    seal = seal_of(entries)
    sealed = index.load_seal(key)
    captured = CapturedEnvironment.from_state(sealed.state, bench.gone)
    if captured is not None and sealed.seal == seal:
        return captured
    known = index.load_tree(key)
    comparison = compare(entries, known.files)
    files = _settle(bench, known, entries, comparison)
    captured = CapturedEnvironment.from_state(known.state, bench.gone)
    if comparison.changed or comparison.removed:
        captured = None
    if captured is None:
        captured = _Builder(bench, index, key, known, entries, files).build(comparison, roots)
    proven = seal_if_proven(seal, entries, files)
    if proven or files != known.files or captured.to_state() != known.state:
        index.save_tree(key, files, captured.to_state(), seal=proven)
    return captured


def _settle(
    bench: Workbench, known: TreeRecord, entries: Mapping[str, os.stat_result], comparison: Comparison
) -> dict[str, IndexedFile]:
    """Entries that are known to be unchanged, after reading the suspect ones; others move to ``changed``."""
    files = dict(comparison.same)
    bench.reporter.expect(sum(entries[path].st_size for path in comparison.suspect))
    for path in comparison.suspect:
        bench.reader.glance(f"/{path}", entries[path])
    readings = bench.hash_files({path: f"/{path}" for path in comparison.suspect})
    for path in comparison.suspect:
        reading, old = readings.get(path), known.files[path]
        if reading is None or reading.sha256 != old.sha256:
            comparison.changed.append(path)
            continue
        verified = bench.reader.is_verified(reading.found, bench.started_ns)
        files[path] = record(
            reading.found,
            reading.sha256,
            layer=old.layer,
            pyc_mtime=old.pyc_mtime,
            stored_sha256=old.stored_sha256,
            verified=verified,
        )
    for path in [path for path, entry in files.items() if entry.pyc_mtime >= 0 and _is_stale(path, entry, entries)]:
        del files[path]
        comparison.changed.append(path)
    return files


def _is_stale(path: str, entry: IndexedFile, entries: Mapping[str, os.stat_result]) -> bool:
    """Whether a .pyc that was valid when it was stored is not any more: its source has another time."""
    source = entries.get(source_of(path))
    return source is None or int(source[stat.ST_MTIME]) & PYC_TIME_MASK != entry.pyc_mtime


@dataclass(slots=True)
class _Builder:
    bench: Workbench
    index: SignatureIndex
    key: str
    known: TreeRecord
    entries: Mapping[str, os.stat_result]
    files: dict[str, IndexedFile]
    unreadable: list[str] = field(default_factory=list)
    hashing: list[tuple[str, Future[bytes]]] = field(default_factory=list)

    def build(self, comparison: Comparison, roots: CaptureRoots) -> CapturedEnvironment:
        groups = self._groups(roots)
        members: dict[str, list[str]] = {}
        for path in sorted(groups):
            members.setdefault(groups[path], []).append(path)
        kept = {layer.name: layer for layer in map(decode_layer, self.known.state.get("layers", ()))}
        stale = self._stale(groups, comparison)
        kept = {
            name: layer
            for name, layer in kept.items()
            if name in members and name not in stale and may_exist([layer], self.bench.gone)
        }
        layers = self._press(members, kept)
        if self.unreadable:
            self.bench.warnings.append(_unreadable_warning(self.unreadable))
        index_layer = self._press_index()
        ordered = sorted(members, key=lambda name: (name != DIRECTORIES, name))
        return CapturedEnvironment(
            layers=tuple(kept.get(name) or self.bench.wait_for(layers[name]) for name in ordered),
            index_layer=self.bench.wait_for(index_layer),
            files=sum(not stat.S_ISDIR(entry.mode) for entry in self.files.values()),
            bytes=sum(entry.size for entry in self.files.values()),
        )

    def _press(self, members: Mapping[str, list[str]], kept: Mapping[str, Layer]) -> dict[str, PendingLayer]:
        """Write the layers that are not kept; large ones first, so that in the end no upload has to be waited for."""
        sizes = {name: sum(self.entries[path].st_size for path in members[name]) for name in members.keys() - kept}
        missing = sorted(sizes, key=lambda name: (-sizes[name], name))
        self.bench.reporter.expect(sum(sizes.values()))
        layers: dict[str, PendingLayer] = {}
        for name in missing:
            for path in members[name]:
                if stat.S_ISREG(self.entries[path].st_mode):
                    self.bench.reader.glance(f"/{path}", self.entries[path])
            layers[name] = self.bench.press_layer(LayerRole.ENVIRONMENT, name, partial(self._fill, name, members[name]))
            if self.bench.is_checkpoint():
                self._note_progress(layers, kept)
        return layers

    def _note_progress(self, layers: Mapping[str, PendingLayer], kept: Mapping[str, Layer]) -> None:
        """So that a capture that is killed need not write these layers again."""
        done = dict(kept)
        done |= {name: self.bench.wait_for(layer) for name, layer in layers.items() if layer.is_done}
        files = {path: entry for path, entry in self.files.items() if entry.layer in done}
        self.index.save_tree(self.key, files, {"layers": [encode_layer(layer) for layer in done.values()]})

    def _groups(self, roots: CaptureRoots) -> dict[str, str]:
        sizes, groups = {}, {}
        for path, found in self.entries.items():
            if stat.S_ISDIR(found.st_mode):
                groups[path] = DIRECTORIES
            else:
                sizes[path] = found.st_size
        groups.update(assign_groups(sizes, sources=roots.sources, prefixes=roots.prefixes, read=_read_or_empty))
        return groups

    def _stale(self, groups: Mapping[str, str], comparison: Comparison) -> set[str]:
        """Names of layers whose members changed, came, went or moved."""
        stale = {groups[path] for path in comparison.changed}
        stale |= {
            self.known.files[path].layer
            for path in (*comparison.removed, *comparison.changed)
            if path in self.known.files
        }
        for path, entry in self.files.items():
            if entry.layer and entry.layer != groups[path]:
                stale |= {entry.layer, groups[path]}
        return stale

    def _fill(self, name: str, members: list[str], writer: TarWriter) -> None:
        self.hashing.clear()
        for path in members:
            try:
                entry = self._add(name, path, self.entries[path], writer)
            except VanishedFileError:
                entry = None
            except UnstableFileError as exc:
                if isinstance(exc, TornStreamError) and exc.path not in self.bench.unstable:
                    raise
                self.bench.unstable.add(exc.path)
                entry = None
            except FileUnreadableError:
                self.unreadable.append(f"/{path}")
                self.files[path] = record(self.entries[path], b"")  # without a layer: it is in none
                continue
            if entry is None:
                self.files.pop(path, None)
            else:
                self.files[path] = entry
        while self.hashing:
            path, digest = self.hashing.pop()
            self.files[path] = self.files[path]._replace(sha256=digest.result())

    def _add(self, layer: str, path: str, found: os.stat_result, writer: TarWriter) -> IndexedFile | None:
        if self.bench.unstable and f"/{path}" in self.bench.unstable:
            return None
        if stat.S_ISREG(found.st_mode):
            return self._add_file(layer, path, found, writer)
        if stat.S_ISDIR(found.st_mode):
            writer.add(_header(path, found, DIRECTORY))
            return record(found, b"", layer=layer)
        return _add_link(layer, path, found, writer)

    def _add_file(self, layer: str, path: str, found: os.stat_result, writer: TarWriter) -> IndexedFile:
        pyc_mtime, stored_sha256 = -1, ""
        if found.st_size > SMALL_BYTES:
            reading = self.bench.reader.stream(f"/{path}", partial(_start, path, writer), writer.fill)
        else:
            reading = self.bench.reader.read(f"/{path}", hash_later=found.st_size >= _HASH_LATER_BYTES)
            content = reading.data or b""
            if not reading.sha256:
                self.hashing.append((path, self.bench.press.hash(content)))
            if path.endswith(".pyc"):
                content, pyc_mtime = normalise_pyc(content, self.entries.get(source_of(path)))
                stored_sha256 = hashlib.sha256(content).hexdigest() if pyc_mtime >= 0 else ""
            writer.add(_header(path, reading.found, FILE, size=len(content)))
            writer.write(content)
        found = reading.found
        self.bench.reporter.read(found.st_size)
        verified = self.bench.reader.is_verified(found, self.bench.started_ns)
        return record(
            found,
            reading.sha256,
            layer=layer,
            pyc_mtime=pyc_mtime,
            stored_sha256=stored_sha256,
            verified=verified,
        )

    def _press_index(self) -> PendingLayer:
        entries = (list_entry(path, entry) for path, entry in sorted(self.files.items()) if entry.layer)
        content = write_environment_index(entries)
        return single_file_layer(self.bench, LayerRole.ENVIRONMENT_INDEX, ENVIRONMENT_INDEX_PATH, content)


def list_entry(path: str, entry: IndexedFile) -> EnvironmentEntry:
    """The list's entry for what the signature index knows."""
    return EnvironmentEntry(
        path,
        stored_mode(entry.mode),
        entry.size,
        entry.stored_sha256 or entry.sha256.hex(),
        entry.layer,
        entry.target,
        entry.pyc_mtime >= 0,
    )


def stored_mode(mode: int) -> int:
    """The mode, with type bits, that the layers give an entry of this mode."""
    kind = stat.S_IFMT(mode)
    if kind == stat.S_IFLNK:
        return kind | 0o777
    return kind | (0o755 if kind == stat.S_IFDIR or mode & 0o111 else 0o644)


def normalise_pyc(content: bytes, source: os.stat_result | None) -> tuple[bytes, int]:
    """Put the constant mtime into the header of a valid timestamp-based .pyc; (content, mtime it had or -1)."""
    if source is None or len(content) < _PYC_HEADER_BYTES or content[4:8] != bytes(4):
        return content, -1
    mtime = pyc_time(content)
    if mtime != int(source[stat.ST_MTIME]) & PYC_TIME_MASK:
        return content, -1
    return with_pyc_time(content, MTIME_S), mtime


def pyc_time(content: bytes) -> int:
    """The source's mtime in the header of a timestamp-based .pyc, in seconds modulo 2**32."""
    return int.from_bytes(content[_PYC_TIME], "little")


def with_pyc_time(content: bytes, mtime_s: int) -> bytes:
    """The .pyc, or its beginning, with another mtime in its header."""
    return content[: _PYC_TIME.start] + (mtime_s & PYC_TIME_MASK).to_bytes(4, "little") + content[_PYC_TIME.stop :]


def _add_link(layer: str, path: str, found: os.stat_result, writer: TarWriter) -> IndexedFile:
    target = read_link(f"/{path}")
    writer.add(_header(path, found, SYMLINK, target=target))
    return record(found, hashlib.sha256(os.fsencode(target)).digest(), target=target, layer=layer)


def _start(path: str, writer: TarWriter, found: os.stat_result) -> None:
    writer.add(_header(path, found, FILE, size=found.st_size))


def _header(path: str, found: os.stat_result, kind: bytes, *, size: int = 0, target: str = "") -> TarHeader:
    mode = stat.S_IMODE(stored_mode(found.st_mode))
    return TarHeader(path, kind, mode, size, MTIME_NS, target=target)


def _read_or_empty(path: str) -> bytes:
    try:
        return Path(f"/{path}").read_bytes()
    except OSError:
        return b""


def _unreadable_warning(paths: list[str]) -> str:
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return f"{paths[0]}{more} in the environment cannot be read and is left out."
