"""Single files of an environment from its layers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from ..oci.manifest import Layer, LayerRole, SnapshotImage
from ..oci.port import BlobStore
from .crew import Crew
from .environment_index import EnvironmentEntry
from .environment_layers import MTIME_NS, MTIME_S, pyc_time, with_pyc_time
from .extract import TreeWriter
from .limits import Budget
from .stored import chunks_of, opened_layer
from .tarreader import TarReader
from .tarstream import FILE, corrupt


@dataclass(frozen=True, slots=True)
class WantedFile:
    """A file to take from its layer.

    Attributes:
        place: Where to write it, below the writer's target.
        pyc_mtime: Of its source where it will lie, in seconds modulo 2**32, for an entry that is timed.
    """

    place: str
    entry: EnvironmentEntry
    mtime_ns: int = MTIME_NS
    pyc_mtime: int = MTIME_S


Wanted = Mapping[str, WantedFile]


def extract_files(store: BlobStore, image: SnapshotImage, writer: TreeWriter, wanted: Wanted, budget: Budget) -> None:
    """Write files; only layers that hold one of them are read.

    Args:
        wanted: By path in the layers.

    Raises:
        SnapshotCorruptError: a layer does not hold what the list says.
        OSError: it cannot be written.
    """
    names = {file.entry.layer for file in wanted.values()}
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
            file = wanted.get(header.path)
            if file is None or file.entry.layer != layer.name:
                continue
            if header.kind != FILE or header.size != file.entry.size:
                raise corrupt(f"{header.path!r} is not what was captured")
            _write(reader, writer, file)
            found.add(header.path)


def _write(reader: TarReader, writer: TreeWriter, file: WantedFile) -> None:
    sha256 = hashlib.sha256()

    def content() -> Iterator[bytes]:
        first = file.entry.is_timed
        for chunk in chunks_of(reader):
            sha256.update(chunk)
            yield _with_time(chunk, file.pyc_mtime) if first else chunk
            first = False

    writer.add_file(file.place, content(), mode=file.entry.mode & 0o777, mtime_ns=file.mtime_ns)
    if sha256.hexdigest() != file.entry.sha256:
        raise corrupt(f"{file.entry.path!r} is not what was captured")


def _with_time(chunk: bytes, mtime_s: int) -> bytes:
    """Give a .pyc the mtime of its source, so that it is valid beside it."""
    if pyc_time(chunk) != MTIME_S:
        raise corrupt("a .pyc without the constant time")
    return with_pyc_time(chunk, mtime_s)
