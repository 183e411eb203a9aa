"""Reading a stored Snapshot's manifest, config and single-file layers."""

from __future__ import annotations

from ..oci.manifest import MAX_CONFIG_BYTES, Layer, SnapshotImage, parse_config_digest, parse_image
from ..oci.port import BlobStore
from .extract import chunks_of, opened_layer
from .tarstream import FILE, corrupt

MAX_FILE_BYTES = 1 << 30


def read_image(store: BlobStore, reference: str) -> SnapshotImage:
    """The Snapshot with this digest or tag.

    Raises:
        SnapshotCorruptError, StorageError
    """
    content, _ = store.get_manifest(reference)
    config = store.read_blob(parse_config_digest(content), limit_bytes=MAX_CONFIG_BYTES)
    return parse_image(content, config)


def read_single_file(store: BlobStore, layer: Layer, path: str) -> bytes:
    """The one file that a layer of ours holds.

    Raises:
        SnapshotCorruptError, StorageError
    """
    content: bytes | None = None
    with opened_layer(store, layer) as reader:
        for header in reader:
            if header.path != path or header.kind != FILE or header.size > MAX_FILE_BYTES or content is not None:
                raise corrupt(f"{header.path!r} is not expected")
            content = b"".join(chunks_of(reader))
    if content is None:
        raise corrupt(f"{path!r} is missing")
    return content
