"""Layers, images and stores that no capture of ours makes."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from jupyterlab_ai_batch.errors import BlobMissingError, SnapshotCorruptError
from jupyterlab_ai_batch.oci.manifest import (
    Layer,
    LayerRole,
    SnapshotContent,
    SnapshotImage,
    build_config,
    build_manifest,
)
from jupyterlab_ai_batch.snapshot.environment_index import (
    ENVIRONMENT_INDEX_PATH,
    EnvironmentEntry,
    write_environment_index,
)

BLOCK = 512
WORK_ONLY = SnapshotContent(work_root="/w", notebook="n.ipynb", kernel_name="python3")
MAGIC = b"ustar\x0000".ljust(72, b"\0") + b"0000000\0" * 2
END = bytes(2 * BLOCK)


def entry(
    name: bytes = b"w/a",
    content: bytes = b"",
    *,
    kind: bytes = b"0",
    link: bytes = b"",
    size: bytes | None = None,
    mode: bytes = b"0000644",
    mtime: bytes = b"00000000000",
    magic: bytes = MAGIC,
    checksum: bytes | None = None,
) -> bytes:
    """A header and its content; every field can lie."""
    length = b"%011o" % len(content) if size is None else size
    fields = [(name, 100), (mode, 8), (b"0000000", 8), (b"0000000", 8), (length, 12), (mtime, 12), (b" " * 8, 8)]
    fields += [(kind, 1), (link, 100), (magic, 88), (b"", 167)]
    block = b"".join(value.ljust(width, b"\0")[:width] for value, width in fields)
    block = block[:148] + (checksum or b"%06o\0 " % sum(block)) + block[156:]
    return block + content + bytes(-len(content) % BLOCK)


def directory(name: bytes) -> bytes:
    return entry(name + b"/", kind=b"5", mode=b"0000755")


def symlink(name: bytes, target: bytes) -> bytes:
    return entry(name, kind=b"2", link=target)


def hard_link(name: bytes, target: bytes) -> bytes:
    return entry(name, kind=b"1", link=target)


def pax(*records: tuple[bytes, bytes], body: bytes | None = None) -> bytes:
    """A PAX header for the entry that follows."""
    return entry(b"PaxHeaders/x", body or b"".join(_record(key, value) for key, value in records), kind=b"x")


def _record(key: bytes, value: bytes) -> bytes:
    length = len(key) + len(value) + 3
    while length != len(key) + len(value) + 3 + len(str(length)):
        length = len(key) + len(value) + 3 + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass
class MemoryStore:
    """What a restore needs of a BlobStore; ``lies`` gives other bytes for a digest, and they are not verified."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    lies: dict[str, Callable[[bytes], BinaryIO]] = field(default_factory=dict)

    def put(self, content: bytes) -> str:
        digest = digest_of(content)
        self.blobs[digest] = content
        return digest

    def open_blob(self, digest: str) -> BinaryIO:
        if digest not in self.blobs:
            raise BlobMissingError.of([digest])
        return self.lies.get(digest, io.BytesIO)(self.blobs[digest])

    def read_blob(self, digest: str, *, limit_bytes: int) -> bytes:
        content = self.open_blob(digest).read(limit_bytes + 1)
        if len(content) > limit_bytes:
            raise SnapshotCorruptError("too large")
        return content

    def get_manifest(self, reference: str) -> tuple[bytes, str]:
        return self.read_blob(reference, limit_bytes=1 << 20), reference


@dataclass
class Forgery:
    """A Snapshot of ``/w`` with layers of any bytes."""

    store: MemoryStore = field(default_factory=MemoryStore)
    layers: list[Layer] = field(default_factory=list)
    content: SnapshotContent = WORK_ONLY

    def add(
        self,
        tar: bytes,
        *,
        role: LayerRole = LayerRole.WORK,
        name: str = "",
        pack: Callable[[bytes], bytes] | None = None,
    ) -> Layer:
        blob = (pack or gzip.compress)(tar)
        layer = Layer(role=role, digest=self.store.put(blob), size=len(blob), diff_id=digest_of(tar), name=name)
        self.layers.append(layer)
        return layer

    def add_environment_index(self, entries: Sequence[EnvironmentEntry]) -> None:
        content = write_environment_index(entries)
        self.add(
            entry(ENVIRONMENT_INDEX_PATH.encode(), content) + END, role=LayerRole.ENVIRONMENT_INDEX, pack=gzip.compress
        )

    def finish(self, *, edit: Callable[[dict], None] = lambda _manifest: None) -> str:
        """The Snapshot's digest; ``edit`` changes the manifest first."""
        image = SnapshotImage(content=self.content, layers=tuple(self.layers))
        config = build_config(image, architecture="amd64")
        manifest = json.loads(build_manifest(self.store.put(config), len(config), self.layers))
        edit(manifest)
        return self.store.put(json.dumps(manifest).encode())


def list_surroundings(top: Path) -> Mapping[str, tuple]:
    """Everything in and below ``top``: type and mode, time, content."""
    found = {}
    for parent, names, files in os.walk(top):
        for path in [parent, *(os.path.join(parent, name) for name in (*names, *files))]:  # noqa: PTH118
            status = os.lstat(path)
            content = (
                os.readlink(path)  # noqa: PTH115
                if stat.S_ISLNK(status.st_mode)
                else Path(path).read_bytes()
                if stat.S_ISREG(status.st_mode)
                else None
            )
            found[path] = (status.st_mode, status.st_uid, status.st_nlink, status.st_mtime_ns, content)
    return found
