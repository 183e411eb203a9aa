"""Blobs and images from one store into another: what is there stays, what can be mounted is, the rest is streamed."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from threading import Lock

from ..errors import BlobMissingError, RegistryError, SnapshotCorruptError
from .mentions import mentioned
from .port import MANIFEST_MEDIA_TYPE, BlobStore, Descriptor

THREADS = 2  # each holds up to one blob's memory
ATTEMPTS = 3
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferProgress:
    """How far the copy of an image is.

    Attributes:
        blobs, size: In all; the size is the sum of their bytes.
        blobs_done, bytes_done: Of these, what the target has now.
        bytes_moved: What had to be streamed.
    """

    blobs: int
    size: int
    blobs_done: int = 0
    bytes_done: int = 0
    bytes_moved: int = 0


def copy_blob(source: BlobStore, target: BlobStore, descriptor: Descriptor) -> int:
    """Have ``descriptor``'s blob in ``target``; returns the bytes that had to be streamed.

    Raises:
        SnapshotCorruptError: the source's content is not what the descriptor says; the target gets nothing.
        BlobMissingError: the source does not have it.
    """
    if target.has_blob(descriptor.digest) or target.mount_blob(descriptor, source):
        return 0
    with source.open_blob(descriptor.digest) as stream, target.write_blob() as writer:
        moved = 0
        while piece := stream.read(_PIECE_BYTES):
            moved += writer.write(piece)
            if moved > descriptor.size:
                raise _another_size(descriptor)
        if moved != descriptor.size:
            raise _another_size(descriptor)
        writer.commit()
    return moved


def copy_image(
    source: BlobStore,
    target: BlobStore,
    reference: str,
    *,
    tag: str,
    progress: Callable[[TransferProgress], None] | None = None,
) -> str:
    """Have the image that ``reference`` (a tag or digest) names in ``target``, as ``tag``; returns its digest.

    The manifest comes last. Where the target lost a blob meanwhile, it is copied again.

    Raises:
        RegistryError: it is an index of images: its members are copied one by one, by digest.
        SnapshotCorruptError: the source is damaged.
    """
    manifest, _ = source.get_manifest(reference)
    media_type = _media_type(manifest, reference)
    descriptors = {found.digest: found for found in mentioned(manifest)}
    for _ in range(ATTEMPTS - 1):
        _copy_blobs(source, target, list(descriptors.values()), progress or (lambda _: None))
        with suppress(BlobMissingError):
            return target.put_manifest(manifest, tag=tag, media_type=media_type)
    _copy_blobs(source, target, list(descriptors.values()), progress or (lambda _: None))
    return target.put_manifest(manifest, tag=tag, media_type=media_type)


def _copy_blobs(
    source: BlobStore, target: BlobStore, descriptors: list[Descriptor], progress: Callable[[TransferProgress], None]
) -> None:
    size = sum(descriptor.size for descriptor in descriptors)
    tally = _Tally(TransferProgress(blobs=len(descriptors), size=size), progress)

    def copy(descriptor: Descriptor) -> None:
        tally.add(descriptor, copy_blob(source, target, descriptor))

    threads = ThreadPoolExecutor(THREADS, thread_name_prefix="copy")
    try:
        for _ in threads.map(copy, descriptors):
            pass
    finally:
        threads.shutdown(cancel_futures=True)


class _Tally:
    """Adds up what several threads have done."""

    def __init__(self, start: TransferProgress, report: Callable[[TransferProgress], None]) -> None:
        self._progress = start
        self._report = report
        self._lock = Lock()

    def add(self, descriptor: Descriptor, moved: int) -> None:
        with self._lock:
            before = self._progress
            self._progress = replace(
                before,
                blobs_done=before.blobs_done + 1,
                bytes_done=before.bytes_done + descriptor.size,
                bytes_moved=before.bytes_moved + moved,
            )
            self._report(self._progress)


def _media_type(manifest: bytes, reference: str) -> str:
    parsed = json.loads(manifest)  # a store hands out manifests only
    if "manifests" in parsed:
        raise RegistryError(
            f"{reference} names several images.",
            hint="Name one of them by its digest.",
            details={"reference": reference},
        )
    return str(parsed.get("mediaType") or MANIFEST_MEDIA_TYPE)


def _another_size(descriptor: Descriptor) -> SnapshotCorruptError:
    return SnapshotCorruptError(
        "A blob is of another size than its manifest says.",
        details={"digest": descriptor.digest, "size": descriptor.size},
    )
