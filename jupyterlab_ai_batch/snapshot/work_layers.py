"""The work tree -> a base and deltas with explicit whiteouts; owner, mode and mtime (ns) are kept.

A delta holds what differs from the last capture of the same tree, so it is small, and fast. Deltas become a new base
behind the user's back (see ``compaction``), and only when there are far too many of them in a capture itself. A base is
several layers: the largest files have one each, the others share a few; what such a layer holds is noted with it, so
that the next base, or a capture after a killed one, uses it again.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ..oci.manifest import Layer, LayerRole
from .captured import decode_layer, decode_layers, encode_layer, may_exist, work_key
from .index import IndexedFile, SignatureIndex, TreeRecord
from .layers import Comparison, PendingLayer, Workbench, compare, seal_if_proven
from .listing import seal_of
from .summary import findings_of
from .work_tree import WorkTree

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
    tree = WorkTree(bench, work_root, dict(entries), accept)
    return _WorkCapture(bench, index, known, tree, new_base).run(seal_of(entries))


def wants_new_base(state: Mapping[str, Any]) -> bool:
    """Whether the layers of a tree have become so many, or hold so much that is no longer there, that it costs."""
    if not state.get("layers"):
        return False
    many = state["deltas"] > GOOD_DELTAS or len(state["layers"]) > MAX_LAYERS - MAX_DELTAS + GOOD_DELTAS
    return bool(many or state["delta_bytes"] > GOOD_DELTA_SHARE * state["base_bytes"])


@dataclass(slots=True)
class _WorkCapture:
    bench: Workbench
    index: SignatureIndex
    known: TreeRecord
    tree: WorkTree
    new_base: bool
    complete: bool = False
    made: dict[str, PendingLayer | Layer] = field(default_factory=dict)

    def run(self, seal: bytes) -> WorkLayers:
        self.tree.look_for_databases_and_links()
        comparison = compare(self.tree.entries, self.known.files)
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
        state["findings"] = [[f.path, f.line, f.kind] for f in findings_of(self.tree.files)[:MAX_FINDINGS]]
        state["files"] = sum(not stat.S_ISDIR(entry.mode) for entry in self.tree.files.values())
        state["bytes"] = sum(entry.size for entry in self.tree.files.values())
        return WorkLayers(
            files=self.tree.files,
            state=state,
            seal=b"" if self.tree.databases else seal_if_proven(seal, self.tree.entries, self.tree.files),
            unchanged=unchanged,
            built_on=self.known.state.get("layers"),
        )

    def _settle(self, comparison: Comparison) -> set[str]:
        """Read what is suspect; returns the paths that a new layer must hold."""
        changed = set(comparison.changed)
        paths = {path: self.tree.absolute(path) for path in comparison.suspect}
        for path, absolute in paths.items():
            self.bench.reader.glance(absolute, self.tree.entries[path])
        self.bench.reporter.expect(sum(self.tree.entries[path].st_size for path in paths))
        readings = self.bench.hash_files(paths)
        self.tree.files = dict(comparison.same)
        for path in comparison.suspect:
            reading, old = readings.get(path), self.known.files[path]
            if reading is None or reading.sha256 != old.sha256:
                changed.add(path)
            else:
                self.tree.files[path] = self.tree.record(path, reading)._replace(findings=old.findings)
        for path, entry in self.tree.files.items():
            linked = self.tree.links.get(path, "")
            if entry.link != linked:
                self.tree.files[path] = entry._replace(link=linked)
            if self.tree.files[path].identity != self.known.files[path].identity:
                changed.add(path)
        return self._with_link_groups(changed)

    def _with_link_groups(self, changed: set[str]) -> set[str]:
        """All names of a hard-linked file when one of them changed: links must not leave their layer."""
        firsts = {self.tree.links[path] for path in changed if path in self.tree.links}
        firsts |= changed & set(self.tree.links.values())
        return changed | firsts | {path for path, first in self.tree.links.items() if first in firsts}

    def _fits_delta(self, layers: Sequence[Layer], changed: Collection[str]) -> bool:
        too_many = self.known.state["deltas"] >= MAX_DELTAS or len(layers) + len(self._own(changed)) >= MAX_LAYERS
        return not too_many and self.tree.size(changed) <= _WHOLE_SHARE * self.tree.size(self.tree.entries)

    def _delta(self, layers: Sequence[Layer], changed: Collection[str], removed: Sequence[str]) -> dict[str, Any]:
        """Large files in layers of their own, below the delta: it has the directories, whose times come last."""
        old = self.known.state
        self.made = dict(list(self._known_made().items())[-MAX_MADE:])
        own = [path for path in self._own(changed) if self._was_directory(path.rpartition("/")[0])]
        new = [self._part(f"delta: {path}", [path]) for path in own]
        rest = sorted({*changed, *self._directories_above([*changed, *removed])} - set(own))
        lost = [path for path in own if path not in self.tree.files]
        if rest or lost:
            new.append(self._press("delta", rest, self._whiteouts([*removed, *lost]), hidden=self.known.files))
        return self._state(
            [*layers, *new],
            deltas=old["deltas"] + 1,
            base_bytes=old["base_bytes"],
            delta_bytes=old["delta_bytes"] + self.tree.size(changed),
        )

    def _directories_above(self, paths: Collection[str]) -> set[str]:
        """Unpacking a change touches all of them: only their own entries give them their times back."""
        above: set[str] = set()
        for path in paths:
            parent = path
            while parent and (parent := parent.rpartition("/")[0]) not in above:
                above.add(parent)
        return {path for path in above if path in self.tree.entries and stat.S_ISDIR(self.tree.entries[path].st_mode)}

    def _was_directory(self, path: str) -> bool:
        known = self.known.files.get(path)
        return known is not None and stat.S_ISDIR(known.mode)

    def _base(self) -> dict[str, Any]:
        """The last part has all directories: their times must be set after their files were made."""
        own = self._own(self.tree.entries)
        layers = [self._part(f"base: {path}", [path]) for path in own]
        *parts, last = self._parts(sorted(self.tree.entries.keys() - set(own)))
        layers += [self._part(f"base {number}", paths) for number, paths in enumerate(parts, 1)]
        layers.append(self._part("base", last))
        return self._state(layers, deltas=0, base_bytes=self.tree.size(self.tree.files), delta_bytes=0)

    def _parts(self, paths: Sequence[str]) -> list[list[str]]:
        """Paths for a few layers of some size; all names of a file are in one, as links must not leave their layer."""
        share = max(PART_BYTES, self.tree.size(paths) // MAX_PARTS + 1)
        parts: list[list[str]] = [[]]
        homes: dict[str, list[str]] = {}
        room = share
        for path in paths:
            found = self.tree.entries[path]
            if stat.S_ISDIR(found.st_mode):
                continue
            if room < 0:
                parts.append([])
                room = share
            home = homes.setdefault(self.tree.links.get(path, path), parts[-1])
            home.append(path)
            room -= found.st_size if stat.S_ISREG(found.st_mode) else 0
        directories = [path for path in paths if stat.S_ISDIR(self.tree.entries[path].st_mode)]
        return [*parts[:-1], sorted([*parts[-1], *directories])]

    def _own(self, paths: Collection[str]) -> list[str]:
        """The large files among them that get layers of their own."""
        linked = self.tree.links.keys() | set(self.tree.links.values()) | self.tree.databases
        sizes = [
            (self.tree.entries[path].st_size, path) for path in paths if self.tree.is_file(path) and path not in linked
        ]
        large = sorted((size, path) for size, path in sizes if size >= LARGE_BYTES)
        return sorted(path for _, path in large[-MAX_LARGE_LAYERS:])

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
        if any(path not in self.tree.files for path in paths):
            return None
        identities = [(path, self.tree.files[path].identity) for path in paths]
        return hashlib.sha256(repr(identities).encode("utf-8", "surrogateescape")).hexdigest()

    def _note_progress(self) -> None:
        """So that a capture that is killed need not write these layers again."""
        done = {key: layer for key, layer in self.made.items() if isinstance(layer, Layer) or layer.is_done}
        made = {**self.known.state.get("made", {}), **self._encode_made(done)}
        if self.complete:  # a delta will still do for the next capture
            self.index.save_tree(work_key(self.tree.work_root), self.known.files, {**self.known.state, "made": made})
        else:
            self.index.save_tree(work_key(self.tree.work_root), self.tree.files, {"made": made})

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
            if parent not in gone and parent in self.tree.entries and stat.S_ISDIR(self.tree.entries[parent].st_mode):
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
        self.bench.reporter.expect(self.tree.size(paths))
        for path in paths:
            if self.tree.is_file(path) and path not in self.tree.databases:
                self.bench.reader.glance(self.tree.readable(path), self.tree.entries[path])
        return self.bench.press_layer(LayerRole.WORK, name, partial(self.tree.fill, paths, whiteouts, hidden))
