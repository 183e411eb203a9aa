"""Entries -> one layer in the store, and what a capture met on the way."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from ..errors import FileUnreadableError
from ..oci.manifest import Layer, LayerRole
from ..oci.port import BlobStore
from .codec import MEMBER_BYTES, Compressor
from .index import IndexedFile
from .progress import Reporter
from .reading import MAX_READS, FileReader, Reading, TornStreamError, UnstableFileError, VanishedFileError
from .tarstream import FILE, TarHeader, TarWriter

_INODE_MASK = (1 << 63) - 1
_HASH_THREADS = 2


@dataclass(slots=True)
class Workbench:
    """What every step of one capture shares.

    Attributes:
        started_ns: The system's clock when the capture began.
        unstable: Absolute paths of files that changed at every reading; they are in no layer.
        warnings: One sentence each.
        new_bytes: Compressed bytes of the layers written.
    """

    store: BlobStore
    reader: FileReader
    reporter: Reporter
    started_ns: int
    unstable: set[str] = field(default_factory=set)
    warnings: list[str] = field(default_factory=list)
    new_bytes: int = 0

    def write_layer(self, role: LayerRole, name: str, fill: Callable[[TarWriter], None]) -> Layer:
        """Write a layer; begun anew when a large file changes while it is streamed.

        Raises:
            StorageFullError, StorageError: nothing is visible of it.
        """
        torn: dict[str, int] = {}
        while True:
            try:
                return self._write_layer(role, name, fill)
            except TornStreamError as exc:  # noqa: PERF203 - a layer is large
                torn[exc.path] = torn.get(exc.path, 0) + 1
                if torn[exc.path] >= MAX_READS:
                    self.unstable.add(exc.path)

    def has_layers(self, layers: Iterable[Layer]) -> bool:
        """Whether all of them are in the store; asking keeps them there for this capture."""
        return all(self.store.has_blob(layer.digest) for layer in layers)

    def hash_files(self, paths: Mapping[str, str]) -> dict[str, Reading]:
        """Read files (name -> absolute path) for their digests only; vanished and unstable ones are absent."""

        def read(item: tuple[str, str]) -> tuple[str, Reading | None]:
            try:
                return item[0], self.reader.hash(item[1])
            except (VanishedFileError, UnstableFileError, FileUnreadableError):
                return item[0], None

        found: dict[str, Reading] = {}
        with ThreadPoolExecutor(_HASH_THREADS) as pool:
            for name, reading in pool.map(read, paths.items()):
                if reading is not None:
                    found[name] = reading
                    self.reporter.read(reading.found.st_size)
        return found

    def _write_layer(self, role: LayerRole, name: str, fill: Callable[[TarWriter], None]) -> Layer:
        with self.store.write_blob() as blob, Compressor(blob, on_bytes=self.reporter.wrote) as compressor:
            writer = TarWriter(compressor.feed, chunk_bytes=MEMBER_BYTES)
            fill(writer)
            writer.close()
            diff_id = compressor.finish()
            digest, size = blob.commit()
        self.new_bytes += size
        return Layer(role=role, digest=digest, size=size, diff_id=diff_id, name=name)


def single_file_layer(bench: Workbench, role: LayerRole, path: str, content: bytes) -> Layer:
    """A layer that holds one file of ours."""

    def fill(writer: TarWriter) -> None:
        writer.add(TarHeader(path=path, kind=FILE, mode=0o644, size=len(content)))
        writer.write(content)

    return bench.write_layer(role, path.rpartition("/")[2], fill)


def record(found: os.stat_result, sha256: bytes, *, target: str = "", verified: bool = True) -> IndexedFile:
    """The index's entry for something just read."""
    return IndexedFile(
        mode=found.st_mode,
        uid=found.st_uid,
        gid=found.st_gid,
        size=found.st_size if stat.S_ISREG(found.st_mode) else 0,
        mtime_ns=found.st_mtime_ns,
        ctime_ns=found.st_ctime_ns,
        inode=found.st_ino & _INODE_MASK,
        sha256=sha256,
        target=target,
        verified=int(verified),
    )


@dataclass(slots=True)
class Comparison:
    """A walked tree beside what the index knows of it.

    Attributes:
        same: Entries whose signature proves that they are unchanged.
        suspect: Files of the same size and mtime whose signature proves nothing; reading them tells.
        changed: New entries, and those that certainly changed.
        removed: Known ones that are gone.
    """

    same: dict[str, IndexedFile] = field(default_factory=dict)
    suspect: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)


def compare(entries: Mapping[str, os.stat_result], known: Mapping[str, IndexedFile]) -> Comparison:
    """Sort entries by what their signatures tell."""
    result = Comparison()
    for path, found in entries.items():
        old = known.get(path)
        if old is None or old.mode != found.st_mode or old.mtime_ns != found.st_mtime_ns:
            result.changed.append(path)
        elif old.ctime_ns == found.st_ctime_ns and old.verified and old.inode == found.st_ino & _INODE_MASK:
            if old.size == found.st_size or not stat.S_ISREG(found.st_mode):
                result.same[path] = old
            else:
                result.changed.append(path)
        elif stat.S_ISREG(found.st_mode) and old.size == found.st_size:
            result.suspect.append(path)
        elif stat.S_ISDIR(found.st_mode) and (old.uid, old.gid) == (found.st_uid, found.st_gid):
            result.same[path] = old
        else:
            result.changed.append(path)
    if len(entries) - len(result.changed) < len(known):
        result.removed = [path for path in known if path not in entries]
    return result
