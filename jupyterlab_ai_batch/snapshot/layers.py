"""Entries -> one layer in the store, and what a capture met on the way."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

from ..errors import FileUnreadableError
from ..oci.manifest import Layer, LayerRole
from ..oci.port import BlobStore
from .codec import MEMBER_BYTES
from .index import IndexedFile
from .press import Press, Pressed
from .progress import Reporter
from .reading import MAX_READS, FileReader, Reading, TornStreamError, UnstableFileError, VanishedFileError
from .tarstream import FILE, TarHeader, TarWriter

CHECKPOINT_S = 5.0

INODE_MASK = (1 << 63) - 1
_HASH_THREADS = 2
_HASH_BATCH = 64


@dataclass(slots=True)
class PendingLayer:
    """A layer that is filled, and on its way into the store; ``layer`` once somebody has waited for it."""

    role: LayerRole
    name: str
    pressed: Future[Pressed]
    layer: Layer | None = None

    @property
    def is_done(self) -> bool:
        return self.pressed.done() and self.pressed.exception() is None


@dataclass(slots=True)
class Workbench:
    """What every step of one capture shares.

    Attributes:
        press: Through which layers go into ``store``.
        started_ns: The system's clock when the capture began.
        gone: Digests of layers that the store turned out not to have, whatever the index says.
        unstable: Absolute paths of files that changed at every reading; they are in no layer.
        warnings: One sentence each.
        new_bytes: Compressed bytes of the layers written.
    """

    store: BlobStore
    reader: FileReader
    reporter: Reporter
    press: Press
    started_ns: int
    gone: Collection[str] = ()
    unstable: set[str] = field(default_factory=set)
    warnings: list[str] = field(default_factory=list)
    new_bytes: int = 0
    checkpoint_at: float = field(default_factory=lambda: time.monotonic() + CHECKPOINT_S)

    def write_layer(self, role: LayerRole, name: str, fill: Callable[[TarWriter], None]) -> Layer:
        """Write a layer and wait until it is in the store; see ``press_layer``."""
        return self.wait_for(self.press_layer(role, name, fill))

    def press_layer(self, role: LayerRole, name: str, fill: Callable[[TarWriter], None]) -> PendingLayer:
        """Fill a layer; begun anew when a large file changes while it is streamed.

        Raises:
            StorageFullError, StorageError: nothing is visible of it, or of another that was on its way.
        """
        torn: dict[str, int] = {}
        while True:
            try:
                return PendingLayer(role, name, self._fill(fill))
            except TornStreamError as exc:  # noqa: PERF203 - a layer is large
                torn[exc.path] = torn.get(exc.path, 0) + 1
                if torn[exc.path] >= MAX_READS:
                    self.unstable.add(exc.path)

    def wait_for(self, pending: PendingLayer) -> Layer:
        """The layer, once it is in the store.

        Raises:
            StorageFullError, StorageError: nothing is visible of it.
        """
        if pending.layer is None:
            made = self.press.wait_for(pending.pressed)
            self.new_bytes += made.size
            pending.layer = Layer(
                role=pending.role, digest=made.digest, size=made.size, diff_id=made.diff_id, name=pending.name
            )
        return pending.layer

    def is_checkpoint(self) -> bool:
        """Whether it is time to note which layers are finished, for a capture that is killed."""
        if time.monotonic() < self.checkpoint_at:
            return False
        self.checkpoint_at = time.monotonic() + CHECKPOINT_S
        return True

    def hash_files(self, paths: Mapping[str, str]) -> dict[str, Reading]:
        """Read files (name -> absolute path) for their digests only; vanished and unstable ones are absent."""

        def read(items: Sequence[tuple[str, str]]) -> dict[str, Reading]:
            found: dict[str, Reading] = {}
            for name, path in items:
                with suppress(VanishedFileError, UnstableFileError, FileUnreadableError):
                    found[name] = self.reader.hash(path)
            return found

        items = list(paths.items())
        batches = [items[start : start + _HASH_BATCH] for start in range(0, len(items), _HASH_BATCH)]
        found: dict[str, Reading] = {}
        if not batches:
            return found
        with ThreadPoolExecutor(_HASH_THREADS) as pool:
            for readings in pool.map(read, batches):
                found.update(readings)
                self.reporter.read(sum(reading.found.st_size for reading in readings.values()))
        return found

    def _fill(self, fill: Callable[[TarWriter], None]) -> Future[Pressed]:
        stream = self.press.begin()
        try:
            writer = TarWriter(stream.feed, chunk_bytes=MEMBER_BYTES, new_chunk=self.press.new_chunk)
            fill(writer)
            writer.close()
        except BaseException:
            stream.discard()
            raise
        return stream.finish()


def single_file_layer(bench: Workbench, role: LayerRole, path: str, content: bytes) -> PendingLayer:
    """A layer that holds one file of ours."""

    def fill(writer: TarWriter) -> None:
        writer.add(TarHeader(path=path, kind=FILE, mode=0o644, size=len(content)))
        writer.write(content)

    return bench.press_layer(role, path.rpartition("/")[2], fill)


def record(
    found: os.stat_result,
    sha256: bytes,
    *,
    target: str = "",
    link: str = "",
    layer: str = "",
    pyc_mtime: int = -1,
    stored_sha256: str = "",
    verified: bool = True,
) -> IndexedFile:
    """The index's entry for something just read."""
    size = found.st_size if stat.S_ISREG(found.st_mode) else 0
    return IndexedFile(
        found.st_mode,
        found.st_uid,
        found.st_gid,
        size,
        found.st_mtime_ns,
        found.st_ctime_ns,
        found.st_ino & INODE_MASK,
        sha256,
        target,
        link,
        layer,
        pyc_mtime,
        int(verified),
        stored_sha256=stored_sha256,
    )


def seal_if_proven(seal: bytes, entries: Mapping[str, os.stat_result], files: Mapping[str, IndexedFile]) -> bytes:
    """``seal`` when ``files`` are these entries and each one's signature proves its content; else an empty one."""
    if len(entries) != len(files):
        return b""
    for path, found in entries.items():
        known = files.get(path)
        if known is None or not known.verified or known.mtime_ns != found.st_mtime_ns:
            return b""
        if known.ctime_ns != found.st_ctime_ns or known.inode != found.st_ino & INODE_MASK:
            return b""
        if known.mode != found.st_mode or (known.size != found.st_size and stat.S_ISREG(found.st_mode)):
            return b""
    return seal


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
        elif old.ctime_ns == found.st_ctime_ns and old.verified and old.inode == found.st_ino & INODE_MASK:
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
