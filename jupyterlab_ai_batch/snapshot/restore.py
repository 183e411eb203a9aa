"""Snapshots back on disk: the work tree by its layers, the base index, and the environment.

Layers are read from the newest to the oldest; what a newer one holds or hides is passed over in the older ones, so
nothing that was written is ever replaced or removed. A large file's own layer is read beside the others, or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ..oci.manifest import Layer, LayerRole, SnapshotImage
from ..oci.port import BlobStore
from ..oci.storage import storage_errors
from ..oci.work_index import WORK_INDEX_PATH, read_work_index
from .crew import Crew
from .environment_layers import environment_digest as digest_of_layers
from .environment_restore import materialise_environment
from .extract import TreeWriter, built_beside, check_name, check_path
from .index import SignatureIndex
from .limits import DEFAULT_LIMITS, Budget, RestoreLimits
from .reuse import LiveFiles, find_live_files
from .stored import chunks_of, opened_layer, read_image, read_single_file
from .tarreader import TarReader
from .tarstream import DIRECTORY, FILE, HARD_LINK, SYMLINK, WHITEOUT, TarHeader, corrupt

__all__ = ["environment_digest", "materialise_environment", "read_base_index", "read_image", "restore_work"]

_LAST_OF_BASE = "base"  # has the directories; a layer keeps the name of the capture that wrote it, where others use it


def restore_work(
    store: BlobStore,
    digest: str,
    target: Path,
    *,
    index: SignatureIndex | None = None,
    limits: RestoreLimits = DEFAULT_LIMITS,
) -> None:
    """Fill the empty directory ``target`` with the captured work tree: content, modes, mtimes, links.

    It is built beside ``target`` and takes its place when every layer is verified.

    Args:
        index: Knows which large files of the live work tree have not changed since: they are shared or copied.

    Raises:
        SnapshotCorruptError: a layer is missing or damaged, holds what no capture writes, or more than the limits.
        StorageFullError, StorageError: ``target`` cannot be written.
    """
    image = read_image(store, digest)
    layers = image.with_role(LayerRole.WORK)
    budget = Budget(limits)
    live = _find_live(store, image, layers, index)
    with storage_errors(target), built_beside(target) as building, TreeWriter(building, keep_owner=True) as writer:
        with Crew(budget) as crew:
            _Restorer(store, budget, crew, writer, image.content.work_root.strip("/"), live).add(layers)
        writer.finish()


def read_base_index(store: BlobStore, digest: str) -> bytes:
    """The work tree's index as it was stored: see ``oci.work_index``.

    Raises:
        SnapshotCorruptError, StorageError
    """
    return _read_base_index(store, read_image(store, digest))


def _read_base_index(store: BlobStore, image: SnapshotImage) -> bytes:
    (layer,) = _exactly_one(image, LayerRole.CONTROL)
    return read_single_file(store, layer, WORK_INDEX_PATH)


def _find_live(
    store: BlobStore, image: SnapshotImage, layers: Sequence[Layer], index: SignatureIndex | None
) -> LiveFiles:
    paths = {path for layer in layers if (path := _single_path(layer)) is not None}
    if index is None or not paths:
        return LiveFiles("", {})
    return find_live_files(
        paths, image.content.work_root, index, lambda: read_work_index(_read_base_index(store, image))
    )


def environment_digest(store: BlobStore, digest: str) -> str:
    """``sha256:…``, equal for Snapshots whose environment is equal.

    Raises:
        SnapshotCorruptError, StorageError
    """
    return digest_of_layers(read_image(store, digest).layers)


def _exactly_one(image: SnapshotImage, role: LayerRole) -> tuple[Layer, ...]:
    layers = image.with_role(role)
    if len(layers) != 1:
        raise corrupt(f"{len(layers)} layers of the role {role.value}")
    return layers


@dataclass(slots=True)
class _Restorer:
    """Writes what newer layers leave visible of the older ones.

    Attributes:
        prefix: What the paths in the layers begin with; empty where the work root is the file system's.
        kinds: What newer layers hold, by path: the entry's type.
        hidden: Paths that newer layers delete.
        covering: What hides everything below it in older layers.
    """

    store: BlobStore
    budget: Budget
    crew: Crew
    writer: TreeWriter
    prefix: str
    live: LiveFiles
    kinds: dict[str, bytes] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)
    covering: set[str] = field(default_factory=set)

    def add(self, layers: Sequence[Layer]) -> None:
        """Deltas one by one, newest first, then the layers of the base, which share no path, at the same time."""
        names = [layer.name for layer in layers]
        end = names.index(_LAST_OF_BASE) + 1 if _LAST_OF_BASE in names else 0
        for layer in reversed(layers[end:]):
            self._add_delta(layer)
        for layer in sorted(layers[:end], key=lambda layer: layer.size, reverse=True):
            self._submit(layer)

    def _add_delta(self, layer: Layer) -> None:
        own: dict[str, bytes] = {}
        hides: set[str] = set()
        single = _single_path(layer)
        if single is None:
            own, hides = self._read(layer, self.writer, self._is_visible)
        else:
            self._submit(layer)
            own[single] = FILE
        for path, kind in own.items():
            self.kinds.setdefault(path, kind)
        self.hidden |= hides
        self.covering = self.hidden | {path for path, kind in self.kinds.items() if kind != DIRECTORY}

    def _submit(self, layer: Layer) -> None:
        """Leave a layer of the base or of one file to the crew; what is visible is decided here and now."""
        single = _single_path(layer)
        if single is None:
            self.crew.submit(partial(self._read_beside, layer, self._is_visible))
        elif self._is_visible(single):
            self.crew.submit(partial(self._take_single, layer, single))

    def _take_single(self, layer: Layer, single: str) -> None:
        check_path(single)
        with self.writer.sibling() as writer:
            if not self.live.copy(writer, single, self.budget):
                self._read(layer, writer, partial(_check_single, single))

    def _read_beside(self, layer: Layer, is_visible: Callable[[str], bool]) -> None:
        with self.writer.sibling() as writer:
            self._read(layer, writer, is_visible)

    def _read(
        self, layer: Layer, writer: TreeWriter, is_visible: Callable[[str], bool]
    ) -> tuple[dict[str, bytes], set[str]]:
        """Write what is visible; returns what the layer holds (path -> type), and what it deletes."""
        own: dict[str, bytes] = {}
        hides: set[str] = set()
        with opened_layer(self.store, layer, self.budget) as reader:
            for header in reader:
                self.budget.draw_entry()
                path = self._relative(header.path)
                deleted = _deleted_path(path)
                if deleted is not None:
                    if header.kind != FILE or header.size:
                        raise corrupt(f"{path!r} is no deletion")
                    hides.add(deleted)
                    continue
                if path in own:
                    raise corrupt(f"{path!r} appears twice")
                if is_visible(path):
                    self._write(path, header, reader, writer, own)
                own[path] = header.kind
        return own, hides

    def _write(
        self, path: str, header: TarHeader, reader: TarReader, writer: TreeWriter, own: Mapping[str, bytes]
    ) -> None:
        owner = {"uid": header.uid, "gid": header.gid}
        if header.kind == DIRECTORY:
            writer.add_directory(path, mode=header.mode, mtime_ns=header.mtime_ns, **owner)
        elif not path:
            raise corrupt("the work root is not a directory")
        elif header.kind == FILE:
            self.budget.foresee(header.size)
            writer.add_file(path, chunks_of(reader), mode=header.mode, mtime_ns=header.mtime_ns, **owner)
        elif header.kind == SYMLINK:
            writer.add_symlink(path, header.target, mtime_ns=header.mtime_ns, **owner)
        elif header.kind == HARD_LINK:
            first = self._relative(header.target)
            if own.get(first) not in (FILE, HARD_LINK) or not self._is_visible(first):
                raise corrupt(f"{path!r} is a link to nothing")
            writer.add_hard_link(path, first)

    def _relative(self, stored: str) -> str:
        if stored == self.prefix:
            return ""
        if self.prefix and not stored.startswith(f"{self.prefix}/"):
            raise corrupt(f"{stored!r} is outside the work root")
        path = stored[len(self.prefix) + 1 :] if self.prefix else stored
        check_path(path)
        return path

    def _is_visible(self, path: str) -> bool:
        """Whether no newer layer holds or hides it."""
        return path not in self.kinds and path not in self.hidden and not (self.covering and self._is_covered(path))

    def _is_covered(self, path: str) -> bool:
        parts = path.split("/")
        return any("/".join(parts[:count]) in self.covering for count in range(1, len(parts)))


def _single_path(layer: Layer) -> str | None:
    """The file that has this layer for itself, by the names that ``work_layers`` gives."""
    _, separator, path = layer.name.partition(": ")
    return path if separator else None


def _check_single(single: str, path: str) -> bool:
    if path != single:
        raise corrupt(f"{path!r} is in the layer of {single!r}")
    return True


def _deleted_path(path: str) -> str | None:
    """What an entry of this name says is gone; None when it is an entry like others."""
    parent, _, name = path.rpartition("/")
    if f"/{WHITEOUT}" in f"/{parent}":
        raise corrupt(f"{path!r} is below a deletion")
    if not name.startswith(WHITEOUT):
        return None
    deleted = name.removeprefix(WHITEOUT)
    if deleted.startswith(WHITEOUT):
        raise corrupt(f"unknown mark {name!r}")
    check_name(deleted)
    return f"{parent}/{deleted}" if parent else deleted
