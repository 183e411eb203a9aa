"""The port of every place that keeps blobs and manifests: the image layout on disk, and registries.

Synchronous: callers are worker processes and threads, never the event loop. Digests are ``sha256:<hex>``.
Writers compute the digest; nothing is visible before it is complete and flushed, and a manifest comes last.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

MANIFEST_MEDIA_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_MEDIA_TYPE = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST_MEDIA_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX_MEDIA_TYPE = "application/vnd.docker.distribution.manifest.list.v2+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """OCI content descriptor. ``size`` in bytes, of the blob as stored."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)


class BlobWriter(Protocol):
    """An open blob: ``write`` bytes, then ``commit``; leaving the context without commit discards it."""

    def write(self, data: bytes | memoryview) -> int: ...

    def commit(self) -> tuple[str, int]:
        """Flush and publish; returns (digest, size). Publishing a digest that exists changes nothing."""
        ...


class BlobStore(Protocol):
    """Blobs and manifests of one repository.

    Raises (every method): StorageError, StorageFullError; readers also SnapshotCorruptError.
    """

    def has_blob(self, digest: str) -> bool: ...

    def write_blob(self) -> AbstractContextManager[BlobWriter]: ...

    def put_blob(self, content: bytes) -> tuple[str, int]:
        """Store small content; returns (digest, size)."""
        ...

    def open_blob(self, digest: str) -> BinaryIO:
        """A stream that raises SnapshotCorruptError at its end when the content is not what the digest says."""
        ...

    def read_blob(self, digest: str, *, limit_bytes: int) -> bytes:
        """Whole, verified; SnapshotCorruptError when larger than the limit."""
        ...

    def mount_blob(self, descriptor: Descriptor, source: BlobStore) -> bool:
        """Have a blob of another repository without moving its bytes; False when that is not possible here.

        Possible where both are repositories of one registry, or layouts on one file system. See ``transfer.copy_blob``.
        """
        ...

    def put_manifest(self, manifest: bytes, *, tag: str | None, media_type: str) -> str:
        """Store and name it; every blob that it mentions must be there. Returns its digest.

        The tag is replaced atomically; without one the manifest is a member of an index that follows. Each blob is
        asked for right before, which keeps it from garbage collection.

        Raises:
            BlobMissingError: blobs are gone (a registry's garbage collection); write them again, then the manifest.
        """
        ...

    def get_manifest(self, reference: str) -> tuple[bytes, str]:
        """(content, digest) of a tag or digest, verified."""
        ...

    def tags(self) -> Iterator[tuple[str, str]]:
        """(tag, manifest digest) pairs."""
        ...

    def tag_names(self) -> Iterator[str]:
        """The tags alone: for a registry one request per thousand, where ``tags`` needs one for each."""
        ...

    def delete_tag(self, tag: str) -> None:
        """Idempotent; blobs stay until collected."""
        ...
