"""An OCI image layout on disk as a BlobStore.

    oci-layout  index.json  blobs/sha256/<hex>      as the specification says
    tmp/        blobs being written, each locked by its writer          lock    held while index.json changes

Directories are 0700, files 0600. Nothing is created before the first write.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from ..errors import BlobMissingError, SnapshotCorruptError, StorageError
from .mentions import MAX_MANIFEST_BYTES, mentioned
from .port import INDEX_MEDIA_TYPE, BlobStore, Descriptor
from .storage import check_owner, ensure_private_directory, locked, replace_file, storage_errors, sync_directory

REF_NAME = "org.opencontainers.image.ref.name"
GRACE_S = 2 * 3600.0

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})\Z")
_BUFFER_BYTES = 1 << 20
_NO_LINK = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP}


class ImageLayout:
    """Blobs and tagged manifests under ``path``; safe for several processes of one user at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._blobs = path / "blobs" / "sha256"
        self._tmp = path / "tmp"
        self._prepared = False

    def has_blob(self, digest: str) -> bool:
        """Whether the blob is there; asking also keeps it from the next garbage collection."""
        path = self._blob_path(digest)
        with storage_errors(self.path):
            if not path.exists():
                return False
        with suppress(OSError):
            os.utime(path)
        return True

    @contextmanager
    def write_blob(self) -> Iterator[LayoutBlobWriter]:
        """Open a new blob; what is not committed when the context ends is discarded."""
        self._prepare()
        with storage_errors(self.path):
            stream, name = _open_temporary(self._tmp)
        writer = LayoutBlobWriter(stream, name, self._blobs, self.path)
        try:
            yield writer
        finally:
            writer.discard()

    def put_blob(self, content: bytes) -> tuple[str, int]:
        with self.write_blob() as writer:
            writer.write(content)
            return writer.commit()

    def open_blob(self, digest: str) -> BinaryIO:
        path = self._blob_path(digest)
        try:
            with storage_errors(self.path):
                raw = path.open("rb", buffering=0)
        except StorageError as exc:
            if isinstance(exc.__cause__, FileNotFoundError):
                raise BlobMissingError.of([digest]) from exc
            raise
        return cast(BinaryIO, io.BufferedReader(_VerifyingReader(raw, digest), _BUFFER_BYTES))

    def read_blob(self, digest: str, *, limit_bytes: int) -> bytes:
        with self.open_blob(digest) as stream:
            content = stream.read(limit_bytes + 1)
            if len(content) > limit_bytes:
                raise SnapshotCorruptError(
                    "A stored record is larger than it may be.", details={"digest": digest, "limit_bytes": limit_bytes}
                )
            stream.read(1)  # reaching the end is what verifies the digest
        return content

    def blob_size(self, digest: str) -> int:
        """Stored bytes of a blob.

        Raises:
            SnapshotCorruptError: it is not there.
        """
        try:
            return self._blob_path(digest).stat().st_size
        except FileNotFoundError as exc:
            raise BlobMissingError.of([digest]) from exc

    def mount_blob(self, descriptor: Descriptor, source: BlobStore) -> bool:
        """A hard link to another layout's blob, once its content is verified; False across file systems."""
        if not isinstance(source, ImageLayout) or not source.has_blob(descriptor.digest):
            return False
        self._prepare()
        target = self._blob_path(descriptor.digest)
        if source.blob_size(descriptor.digest) != descriptor.size:
            raise SnapshotCorruptError("A stored blob has another size than its manifest says.")
        with source.open_blob(descriptor.digest) as stream:
            while stream.read(_BUFFER_BYTES):
                pass
        try:
            with storage_errors(self.path), suppress(FileExistsError):
                os.link(source._blob_path(descriptor.digest), target)  # noqa: SLF001 - one of us
                sync_directory(self._blobs)
        except StorageError as exc:
            if isinstance(exc.__cause__, OSError) and exc.__cause__.errno in _NO_LINK:
                return False
            raise
        return True

    def put_manifest(self, manifest: bytes, *, tag: str | None, media_type: str) -> str:
        self._prepare()
        digest, size = self.put_blob(manifest)
        descriptor = {"mediaType": media_type, "digest": digest, "size": size, "annotations": {REF_NAME: tag}}
        with storage_errors(self.path), locked(self.path / "lock"):
            missing = [found.digest for found in mentioned(manifest) if not self._blob_path(found.digest).exists()]
            if missing:
                raise BlobMissingError.of(missing)
            if tag is not None:
                kept = [entry for entry in self._read_index() if _tag_of(entry) != tag]
                self._write_index([*kept, descriptor])
        return digest

    def get_manifest(self, reference: str) -> tuple[bytes, str]:
        digest = reference if _DIGEST.match(reference) else dict(self.tags()).get(reference)
        if digest is None:
            raise SnapshotCorruptError(
                f"The batch store has nothing named {reference!r}.", details={"reference": reference}
            )
        return self.read_blob(digest, limit_bytes=MAX_MANIFEST_BYTES), digest

    def tags(self) -> Iterator[tuple[str, str]]:
        for entry in self._read_index():
            tag = _tag_of(entry)
            if tag is not None:
                yield tag, str(entry["digest"])

    def tag_names(self) -> Iterator[str]:
        return (tag for tag, _ in self.tags())

    def delete_tag(self, tag: str) -> None:
        with storage_errors(self.path):
            if not (self.path / "index.json").exists():
                return
            with locked(self.path / "lock"):
                entries = self._read_index()
                kept = [entry for entry in entries if _tag_of(entry) != tag]
                if len(kept) != len(entries):
                    self._write_index(kept)

    def collect_garbage(self, *, grace_s: float = GRACE_S, clock: Callable[[], float] = time.time) -> int:
        """Delete blobs that no tag reaches and that nobody wrote or asked for within ``grace_s``.

        Returns:
            The bytes that became free.

        Raises:
            SnapshotCorruptError: a tagged manifest cannot be read; nothing is deleted then.
        """
        if not self._blobs.is_dir():
            return 0
        with storage_errors(self.path), locked(self.path / "lock"):
            live = self._reachable()
            newest = clock() - grace_s
            freed = 0
            with os.scandir(self._blobs) as entries:
                for entry in entries:
                    if entry.name in live or entry.stat(follow_symlinks=False).st_mtime > newest:
                        continue
                    freed += entry.stat(follow_symlinks=False).st_size
                    Path(entry.path).unlink()
            _sweep_temporary(self._tmp)
        return freed

    def _reachable(self) -> set[str]:
        live: set[str] = set()
        waiting = [(str(entry["digest"]), str(entry.get("mediaType", ""))) for entry in self._read_index()]
        while waiting:
            digest, media_type = waiting.pop()
            name = digest.removeprefix("sha256:")
            if name in live:
                continue
            live.add(name)
            if media_type.endswith(("manifest.v1+json", "index.v1+json")):
                content = self.read_blob(digest, limit_bytes=MAX_MANIFEST_BYTES)
                waiting.extend((found.digest, found.media_type) for found in mentioned(content))
        return live

    def _blob_path(self, digest: str) -> Path:
        match = _DIGEST.match(digest)
        if match is None:
            raise SnapshotCorruptError("A stored reference is not a digest.", details={"digest": digest[:80]})
        return self._blobs / match[1]

    def _prepare(self) -> None:
        if self._prepared:
            return
        ensure_private_directory(self.path)
        with storage_errors(self.path):
            for directory in (self.path / "blobs", self._blobs, self._tmp):
                directory.mkdir(mode=0o700, exist_ok=True)
            with locked(self.path / "lock"):
                if not (self.path / "oci-layout").exists():
                    replace_file(self.path / "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
                if not (self.path / "index.json").exists():
                    self._write_index([])
            _sweep_temporary(self._tmp)
        self._prepared = True

    def _read_index(self) -> list[dict[str, Any]]:
        with storage_errors(self.path):
            try:
                check_owner(self.path, self.path.stat())
                content = (self.path / "index.json").read_bytes()
            except FileNotFoundError:
                return []
        return _parse_index(content)

    def _write_index(self, entries: list[dict[str, Any]]) -> None:
        index = {"schemaVersion": 2, "mediaType": INDEX_MEDIA_TYPE, "manifests": entries}
        replace_file(self.path / "index.json", json.dumps(index, separators=(",", ":")).encode())


class LayoutBlobWriter:
    """A blob being written into a temporary file; see BlobWriter."""

    def __init__(self, stream: BinaryIO, name: Path, blobs: Path, store: Path) -> None:
        self._stream = stream
        self._name = name
        self._blobs = blobs
        self._store = store
        self._sha256 = hashlib.sha256()
        self._size = 0
        self._published = False

    def write(self, data: bytes | memoryview) -> int:
        with storage_errors(self._store):
            self._stream.write(data)
        self._sha256.update(data)
        self._size += len(data)
        return len(data)

    def commit(self) -> tuple[str, int]:
        name = self._sha256.hexdigest()
        target = self._blobs / name
        with storage_errors(self._store):
            self._stream.flush()
            if target.exists() and target.stat().st_size == self._size:
                os.utime(target)
            else:
                os.fsync(self._stream.fileno())
                self._name.replace(target)
                self._published = True
                sync_directory(self._blobs)
        return f"sha256:{name}", self._size

    def discard(self) -> None:
        """Close, and remove the temporary file unless it was published."""
        if not self._published:
            with suppress(OSError):
                self._name.unlink()
        with suppress(OSError):
            self._stream.close()


class _VerifyingReader(io.RawIOBase):
    """Reads a blob and compares its digest when the end is reached."""

    def __init__(self, raw: io.FileIO, digest: str) -> None:
        super().__init__()
        self._raw = raw
        self._digest = digest
        self._sha256 = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._raw.readinto(buffer)
        if count:
            self._sha256.update(memoryview(buffer)[:count])
        elif self._sha256.hexdigest() != self._digest.removeprefix("sha256:"):
            raise SnapshotCorruptError(
                "A stored blob is damaged.",
                hint="Submit the notebook again: it is captured anew.",
                details={"digest": self._digest},
            )
        return count or 0

    def close(self) -> None:
        self._raw.close()
        super().close()


def _open_temporary(directory: Path) -> tuple[BinaryIO, Path]:
    """A new locked file; one that a sweep removed before it was locked is given up for another."""
    while True:
        fd, name = tempfile.mkstemp(dir=directory)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.fstat(fd).st_nlink:
                return os.fdopen(fd, "wb"), Path(name)
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _sweep_temporary(directory: Path) -> None:
    """Remove what killed writers left: files whose lock nobody holds."""
    for path in directory.iterdir():
        with suppress(OSError):
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(fd)


def _parse_index(content: bytes) -> list[dict[str, Any]]:
    try:
        entries = json.loads(content)["manifests"]
    except (ValueError, KeyError, TypeError) as exc:
        raise SnapshotCorruptError("The batch store's index is damaged.") from exc
    if not isinstance(entries, list):
        raise SnapshotCorruptError("The batch store's index is damaged.")
    return [entry for entry in entries if isinstance(entry, dict) and _DIGEST.match(str(entry.get("digest")))]


def _tag_of(entry: dict[str, Any]) -> str | None:
    annotations = entry.get("annotations")
    tag = annotations.get(REF_NAME) if isinstance(annotations, dict) else None
    return tag if isinstance(tag, str) else None
