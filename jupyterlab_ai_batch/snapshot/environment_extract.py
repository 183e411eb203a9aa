"""Single files of an environment from its layers, as they were on the machine that captured them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import partial

from ..oci.manifest import Layer, LayerRole, SnapshotImage
from ..oci.port import BlobStore
from .crew import Crew
from .environment_index import EnvironmentEntry
from .environment_layers import MTIME_S
from .extract import TreeWriter
from .limits import Budget
from .stored import chunks_of, opened_layer
from .tarreader import TarReader
from .tarstream import FILE, corrupt

_PYC_MTIME = slice(8, 12)

Wanted = Mapping[str, tuple[str, EnvironmentEntry]]


def extract_files(store: BlobStore, image: SnapshotImage, writer: TreeWriter, wanted: Wanted, budget: Budget) -> None:
    """Write files with their live content, mode and mtime; only layers that hold one of them are read.

    Args:
        wanted: By path in the layers: where to write it, and the entry it is to be.

    Raises:
        SnapshotCorruptError: a layer does not hold what the list says.
        OSError: it cannot be written.
    """
    names = {entry.layer for _, entry in wanted.values()}
    layers = [layer for layer in image.with_role(LayerRole.ENVIRONMENT) if layer.name in names]
    found: set[str] = set()
    with Crew(budget) as crew:
        for layer in sorted(layers, key=lambda layer: layer.size, reverse=True):
            crew.submit(partial(_extract_layer, store, layer, writer, wanted, budget, found))
    if len(found) != len(wanted):
        raise corrupt(f"{len(wanted) - len(found)} files are missing")


def _extract_layer(
    store: BlobStore, layer: Layer, beside: TreeWriter, wanted: Wanted, budget: Budget, found: set[str]
) -> None:
    with opened_layer(store, layer, budget) as reader, beside.sibling() as writer:
        for header in reader:
            place, entry = wanted.get(header.path, ("", None))
            if entry is None or entry.layer != layer.name:
                continue
            if header.kind != FILE or header.size != entry.size:
                raise corrupt(f"{header.path!r} is not what was captured")
            _write(reader, writer, place, entry)
            found.add(header.path)


def _write(reader: TarReader, writer: TreeWriter, place: str, entry: EnvironmentEntry) -> None:
    sha256 = hashlib.sha256()

    def content() -> Iterator[bytes]:
        first = True
        for chunk in chunks_of(reader):
            restored = _restore_pyc(chunk, entry.pyc_mtime) if first and entry.pyc_mtime >= 0 else chunk
            first = False
            sha256.update(restored)
            yield restored

    writer.add_file(place, content(), mode=entry.mode & 0o777, mtime_ns=entry.mtime_ns)
    if sha256.hexdigest() != entry.sha256:
        raise corrupt(f"{entry.path!r} is not what was captured")


def _restore_pyc(chunk: bytes, mtime: int) -> bytes:
    """Give a .pyc back the mtime of its source, so that it is valid beside it."""
    if chunk[_PYC_MTIME] != MTIME_S.to_bytes(4, "little"):
        raise corrupt("a .pyc without the constant time")
    return chunk[:8] + (mtime & 0xFFFFFFFF).to_bytes(4, "little") + chunk[12:]
