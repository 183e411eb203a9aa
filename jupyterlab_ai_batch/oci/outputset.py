"""OutputSets as OCI artifacts: one raw blob per distinct file, the OutputSet's JSON as config, the manifest last.

A file whose bytes an earlier OutputSet of the same store holds is not written again. More files than fit into one
manifest are spread over several under an image index. In a layout of its own an OutputSet is named ``outputs``; in a
registry, where the Attempts of many Submissions share a repository, ``outputs-<submission id>-<attempt>``.
Reading trusts nothing: a job wrote it.

The log of an OutputSet is one blob among the others: what the Attempt's runner had written to its stdout when the
OutputSet was stored, byte by byte from the start, events included, up to a limit of the runner's. A backend that hands
out a pod's log stream hands out the same bytes, but container runtimes cut long logs at their beginning and show what
was written before the runner took over: an offset counts within the source that it came from, never across the two.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, BinaryIO

from ..models import OutputFile, OutputSet
from ..wire import WireError, loads, to_json
from ..words import FileChange
from .outputset_checks import MAX_FILES, check_output_set, corrupt
from .port import INDEX_MEDIA_TYPE, MANIFEST_MEDIA_TYPE, BlobStore

OUTPUTS_TAG = "outputs"
ARTIFACT_TYPE = "application/vnd.jupyterlab-ai-batch.outputs.v1"
CONFIG_MEDIA_TYPE = "application/vnd.jupyterlab-ai-batch.outputs.config.v1+json"
FILE_MEDIA_TYPE = "application/octet-stream"
LOG_MEDIA_TYPE = "text/plain"
EMPTY_MEDIA_TYPE = "application/vnd.oci.empty.v1+json"

CHANGED_MEANWHILE = "it changed while it was stored"

MAX_CONFIG_BYTES = 512 * 1024**2
FILES_PER_MANIFEST = 4_000  # no store takes a manifest of more than 4096 descriptors (``mentions``)
MAX_PARTS = MAX_FILES // FILES_PER_MANIFEST + 1

_TAG = re.compile(r"outputs-([a-zA-Z0-9_.-]{1,100})-([1-9][0-9]{0,8})\Z")
_CHUNK_BYTES = 1 << 20
_EMPTY = b"{}"

OpenFile = Callable[[OutputFile], BinaryIO]


def outputs_tag(submission_id: str, attempt: int) -> str:
    """The tag, in a repository of a registry, of what an Attempt has produced."""
    return f"{OUTPUTS_TAG}-{submission_id}-{attempt}"


def parse_outputs_tag(tag: str) -> tuple[str, int] | None:
    """(Submission id, number of the Attempt) of such a tag; None for any other."""
    match = _TAG.match(tag)
    return None if match is None else (match[1], int(match[2]))


def store_output_set(
    store: BlobStore,
    output_set: OutputSet,
    open_file: OpenFile,
    *,
    tag: str = OUTPUTS_TAG,
    open_log_content: Callable[[], BinaryIO] = io.BytesIO,
    before_naming: Callable[[], None] = lambda: None,
) -> tuple[OutputSet, str]:
    """Store every file and then, last, the manifest that names them.

    ``open_file`` gives the content of a file, at its start; its ``OSError`` leaves the file out. ``open_log_content``
    does the same for the log, where the OutputSet has one. ``before_naming`` is called when only the manifest is
    missing; what it raises leaves the tag as it is.

    Returns:
        What was stored, and the manifest's digest. A file that cannot be read, or whose content is not what its
        digest says, is in ``skipped`` instead of ``files``; such a log is left out.

    Raises:
        StorageError, StorageFullError: nothing became visible; an earlier OutputSet stays.
    """
    kept: list[OutputFile] = []
    skipped = list(output_set.skipped)
    for file in output_set.files:
        reason = _store_file(store, file, open_file)
        if reason is None:
            kept.append(file)
        else:
            skipped.append((file.path, reason))
    stored = replace(output_set, files=tuple(kept), skipped=tuple(skipped))
    if stored.log_sha256 and _store_content(store, stored.log_sha256, stored.log_bytes, open_log_content) is not None:
        stored = replace(stored, log_sha256="", log_bytes=0)
    digest, size = store.put_blob(_encode(to_json(stored)))
    manifests = _build_manifests({"digest": digest, "size": size}, _descriptors(store, stored))
    content, media_type = _put_members(store, manifests)
    before_naming()
    return stored, store.put_manifest(content, tag=tag, media_type=media_type)


def read_output_set(store: BlobStore, reference: str = OUTPUTS_TAG) -> tuple[OutputSet, dict[str, str]]:
    """Read and check an OutputSet.

    Returns:
        The OutputSet, and the blob digest of every regular file in it.

    Raises:
        SnapshotCorruptError: there is none of that name, or it is not a sound OutputSet.
        StorageError: the store cannot be read.
    """
    config_digest, listed = _read_manifests(store, reference)
    try:
        output_set = check_output_set(loads(OutputSet, store.read_blob(config_digest, limit_bytes=MAX_CONFIG_BYTES)))
    except WireError as exc:
        raise corrupt("it is not an OutputSet") from exc
    blobs = {file.path: f"sha256:{file.sha256}" for file in output_set.files if has_content(file)}
    missing = set(blobs.values()) - listed
    if missing:
        raise corrupt(f"{len(missing)} files have no content")
    if output_set.log_sha256 and f"sha256:{output_set.log_sha256}" not in listed:
        raise corrupt("its log has no content")
    return output_set, blobs


def open_log(store: BlobStore, output_set: OutputSet) -> BinaryIO:
    """The log of an OutputSet that ``read_output_set`` gave, at its start; nothing where none was kept.

    Raises:
        SnapshotCorruptError: it is gone; or, at its end, it is not what its digest says.
        StorageError: the store cannot be read.
    """
    return store.open_blob(f"sha256:{output_set.log_sha256}") if output_set.log_sha256 else io.BytesIO()


def has_content(file: OutputFile) -> bool:
    """Whether a blob belongs to the file: not for a deletion or a symlink."""
    return file.change is not FileChange.DELETED and file.link_target is None


def _store_file(store: BlobStore, file: OutputFile, open_file: OpenFile) -> str | None:
    """Store one file's content; the reason why not, or None."""
    return _store_content(store, file.sha256, file.size_bytes, lambda: open_file(file)) if has_content(file) else None


def _store_content(store: BlobStore, expected: str, size_bytes: int, open_it: Callable[[], BinaryIO]) -> str | None:
    if store.has_blob(f"sha256:{expected}"):
        return None
    try:
        with open_it() as source, store.write_blob() as writer:
            sha256 = hashlib.sha256()
            for chunk in _read_chunks(source, limit_bytes=size_bytes):
                sha256.update(chunk)
                writer.write(chunk)
            if sha256.hexdigest() != expected:
                return CHANGED_MEANWHILE
            writer.commit()
    except OSError as exc:
        return exc.strerror or type(exc).__name__
    return None


def _read_chunks(source: BinaryIO, *, limit_bytes: int) -> Iterator[bytes]:
    """A file's bytes, at most one chunk more than it should have."""
    done = 0
    while done <= limit_bytes and (chunk := source.read(_CHUNK_BYTES)):
        done += len(chunk)
        yield chunk


def _descriptors(store: BlobStore, output_set: OutputSet) -> list[dict[str, Any]]:
    """Of every distinct content, and never none: not every registry takes a manifest without layers."""
    sizes = {file.sha256: (FILE_MEDIA_TYPE, file.size_bytes) for file in output_set.files if has_content(file)}
    if output_set.log_sha256:
        sizes.setdefault(output_set.log_sha256, (LOG_MEDIA_TYPE, output_set.log_bytes))
    if not sizes:
        digest, size = store.put_blob(_EMPTY)
        return [{"mediaType": EMPTY_MEDIA_TYPE, "digest": digest, "size": size}]
    return [{"mediaType": kind, "digest": f"sha256:{sha}", "size": size} for sha, (kind, size) in sizes.items()]


def _build_manifests(config: Mapping[str, Any], layers: Sequence[dict[str, Any]]) -> list[bytes]:
    parts = (layers[start : start + FILES_PER_MANIFEST] for start in range(0, len(layers), FILES_PER_MANIFEST))
    return [_manifest(config, part) for part in parts]


def _put_members(store: BlobStore, manifests: list[bytes]) -> tuple[bytes, str]:
    """(content, media type) of what is to be named: the manifest, or an index of several, which are put first."""
    if len(manifests) == 1:
        return manifests[0], MANIFEST_MEDIA_TYPE
    digests = [store.put_manifest(manifest, tag=None, media_type=MANIFEST_MEDIA_TYPE) for manifest in manifests]
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX_MEDIA_TYPE,
        "artifactType": ARTIFACT_TYPE,
        "manifests": [
            {"mediaType": MANIFEST_MEDIA_TYPE, "digest": digest, "size": len(manifest)}
            for digest, manifest in zip(digests, manifests, strict=True)
        ],
    }
    return _encode(index), INDEX_MEDIA_TYPE


def _manifest(config: Mapping[str, Any], layers: Sequence[dict[str, Any]]) -> bytes:
    return _encode(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_MEDIA_TYPE,
            "artifactType": ARTIFACT_TYPE,
            "config": {"mediaType": CONFIG_MEDIA_TYPE, **config},
            "layers": layers,
        }
    )


def _read_manifests(store: BlobStore, reference: str) -> tuple[str, set[str]]:
    """(digest of the OutputSet's JSON, digests of all content blobs)."""
    content, _ = store.get_manifest(reference)
    top = _parse_json(content)
    manifests = [top]
    if top.get("mediaType") == INDEX_MEDIA_TYPE:
        parts = _digests(top.get("manifests"))
        if not 0 < len(parts) <= MAX_PARTS:
            raise corrupt("its index names too many manifests, or none")
        manifests = [_parse_json(store.get_manifest(digest)[0]) for digest in parts]
    if any(manifest.get("artifactType") != ARTIFACT_TYPE for manifest in manifests):
        raise corrupt("it is another kind of artifact")
    listed = set(chain.from_iterable(_digests(manifest.get("layers")) for manifest in manifests))
    return _digests([manifests[0].get("config")])[0], listed


def _parse_json(content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as exc:
        raise corrupt("its manifest is not JSON") from exc
    if not isinstance(value, dict):
        raise corrupt("its manifest is not an object")
    return value


def _digests(descriptors: Any) -> list[str]:
    if not isinstance(descriptors, list):
        raise corrupt("its manifest lists nothing")
    return list(_iterate_digests(descriptors))


def _iterate_digests(descriptors: list[Any]) -> Iterator[str]:
    for descriptor in descriptors:
        digest = descriptor.get("digest") if isinstance(descriptor, dict) else None
        if not isinstance(digest, str):
            raise corrupt("a descriptor has no digest")
        yield digest


def _encode(value: Any) -> bytes:
    """ASCII: names that are not UTF-8 travel as escaped surrogates."""
    return json.dumps(value, separators=(",", ":")).encode()
