"""Snapshots back on disk: the work tree by its layers, the base index, and the environment.

Layers are read from the newest to the oldest; what a newer one holds or hides is passed over in the older ones, so
nothing that was written is ever replaced or removed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..oci.manifest import Layer, LayerRole, SnapshotImage
from ..oci.port import BlobStore
from ..oci.storage import storage_errors
from ..oci.work_index import WORK_INDEX_PATH
from .environment_layers import environment_digest as digest_of_layers
from .environment_restore import materialise_environment
from .extract import TreeWriter, check_parts, chunks_of, opened_layer
from .stored import read_image, read_single_file
from .summary import WHITEOUT
from .tarstream import DIRECTORY, FILE, HARD_LINK, SYMLINK, TarHeader, TarReader, corrupt

__all__ = ["environment_digest", "materialise_environment", "read_base_index", "read_image", "restore_work"]


def restore_work(store: BlobStore, digest: str, target: Path) -> None:
    """Fill the empty directory ``target`` with the captured work tree: content, modes, mtimes, links.

    Raises:
        SnapshotCorruptError: a layer is missing or damaged, or holds what no capture writes.
        StorageFullError, StorageError: ``target`` cannot be written.
    """
    image = read_image(store, digest)
    prefix = image.content.work_root.strip("/")
    with storage_errors(target), TreeWriter(target, keep_owner=True) as writer:
        restorer = _Restorer(writer, prefix)
        for layer in reversed(image.with_role(LayerRole.WORK)):
            restorer.add_layer(store, layer)
        writer.finish()


def read_base_index(store: BlobStore, digest: str) -> bytes:
    """The work tree's index as it was stored: see ``oci.work_index``.

    Raises:
        SnapshotCorruptError, StorageError
    """
    (layer,) = _exactly_one(read_image(store, digest), LayerRole.CONTROL)
    return read_single_file(store, layer, WORK_INDEX_PATH)


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
    """Adds layers, newest first.

    Attributes:
        kinds: What newer layers hold, by path: the entry's type.
        hidden: Paths that newer layers delete.
    """

    writer: TreeWriter
    prefix: str
    kinds: dict[str, bytes] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)
    covering: set[str] = field(default_factory=set)

    def add_layer(self, store: BlobStore, layer: Layer) -> None:
        own: dict[str, bytes] = {}
        hides: set[str] = set()
        with opened_layer(store, layer) as reader:
            for header in reader:
                self._add(header, reader, own, hides)
        for path, kind in own.items():
            self.kinds.setdefault(path, kind)
        self.hidden |= hides
        self.covering = self.hidden | {path for path, kind in self.kinds.items() if kind != DIRECTORY}

    def _add(self, header: TarHeader, reader: TarReader, own: dict[str, bytes], hides: set[str]) -> None:
        path = self._relative(header.path)
        parent, _, name = path.rpartition("/")
        if name.startswith(WHITEOUT):
            hides.add(f"{parent}/{_hidden_name(name)}" if parent else _hidden_name(name))
            return
        if path in own:
            raise corrupt(f"{path!r} appears twice")
        own[path] = header.kind
        if path not in self.kinds and path not in self.hidden and not self._is_covered(path):
            self._write(path, header, reader, own)

    def _write(self, path: str, header: TarHeader, reader: TarReader, own: dict[str, bytes]) -> None:
        owner = {"uid": header.uid, "gid": header.gid}
        if header.kind == DIRECTORY:
            self.writer.add_directory(path, mode=header.mode, mtime_ns=header.mtime_ns, **owner)
        elif not path:
            raise corrupt("the work root is not a directory")
        elif header.kind == FILE:
            self.writer.add_file(path, chunks_of(reader), mode=header.mode, mtime_ns=header.mtime_ns, **owner)
        elif header.kind == SYMLINK:
            self.writer.add_symlink(path, header.target, mtime_ns=header.mtime_ns, **owner)
        elif header.kind == HARD_LINK:
            first = self._relative(header.target)
            if own.get(first) not in (FILE, HARD_LINK) or first in self.kinds:
                raise corrupt(f"{path!r} is a link to nothing")
            self.writer.add_hard_link(path, first)

    def _relative(self, stored: str) -> str:
        if stored == self.prefix:
            return ""
        if self.prefix and not stored.startswith(f"{self.prefix}/"):
            raise corrupt(f"{stored!r} is outside the work root")
        path = stored[len(self.prefix) + 1 :] if self.prefix else stored
        check_parts(path.split("/"))
        return path

    def _is_covered(self, path: str) -> bool:
        if not self.covering:
            return False
        parts = path.split("/")
        return any("/".join(parts[:count]) in self.covering for count in range(1, len(parts)))


def _hidden_name(name: str) -> str:
    hidden = name.removeprefix(WHITEOUT)
    if not hidden or hidden.startswith(WHITEOUT):
        raise corrupt(f"unknown mark {name!r}")
    return hidden
