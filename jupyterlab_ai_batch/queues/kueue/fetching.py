"""The latest OutputSet from the registry into an image layout here, where the merge reads it. Blocks: for threads."""

from __future__ import annotations

import json
from typing import Any

from ...errors import SnapshotCorruptError
from ...oci.layout import ImageLayout
from ...oci.outputset import read_output_set
from ...oci.port import INDEX_MEDIA_TYPE, BlobStore
from ...oci.transfer import copy_image
from ..port import StoredOutputs

_FINAL = "final-"
_LATEST = "latest-"


def outputs_here(layout: ImageLayout, submission_id: str) -> StoredOutputs | None:
    """The last OutputSet of a Submission that has ended, once it was fetched.

    Raises:
        StorageError
    """
    digest = dict(layout.tags()).get(f"{_FINAL}{submission_id}")
    return _open(layout, digest) if digest is not None else None


def fetch_outputs(
    source: BlobStore, layout: ImageLayout, submission_id: str, digest: str, *, is_final: bool
) -> StoredOutputs:
    """Have an OutputSet here; blobs that are here already are not read again.

    Raises:
        BlobMissingError: it was replaced meanwhile.
        SnapshotCorruptError: it is not sound.
        RegistryError, StorageError
    """
    tag = f"{_FINAL if is_final else _LATEST}{submission_id}"
    manifest, _ = source.get_manifest(digest)
    parts = _parts(manifest)
    if not parts:
        copy_image(source, layout, digest, tag=tag)
        return _open(layout, digest)
    for number, part in enumerate(parts):
        copy_image(source, layout, part, tag=f"{tag}.{number}")
    layout.put_manifest(manifest, tag=tag, media_type=INDEX_MEDIA_TYPE)
    for number in range(len(parts)):
        layout.delete_tag(f"{tag}.{number}")
    return _open(layout, digest)


def forget_outputs(layout: ImageLayout, submission_id: str) -> None:
    """Let go of what was fetched; the space is free after the next ``collect_garbage``."""
    for prefix in (_FINAL, _LATEST):
        layout.delete_tag(f"{prefix}{submission_id}")


def _open(layout: ImageLayout, digest: str) -> StoredOutputs:
    output_set, _ = read_output_set(layout, digest)
    return StoredOutputs(output_set=output_set, layout=layout.path, manifest_digest=digest)


def _parts(manifest: bytes) -> list[str]:
    """Digests of the manifests that an index names; none for a manifest."""
    parsed: Any = json.loads(manifest)
    entries = parsed.get("manifests") if isinstance(parsed, dict) else None
    if entries is None:
        return []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise SnapshotCorruptError("The outputs of this Submission cannot be read: their index is damaged.")
    return [str(entry.get("digest")) for entry in entries]
