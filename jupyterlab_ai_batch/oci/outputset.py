"""OutputSets as OCI artifacts: one raw blob per distinct file, the OutputSet's JSON as config, the manifest last.

A file whose bytes an earlier OutputSet of the same store holds is not written again. More files than fit into one
manifest are spread over several under an image index. Reading trusts nothing: a job wrote it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, BinaryIO

from ..errors import SnapshotCorruptError
from ..models import OutputFile, OutputSet
from ..wire import WireError, loads, to_json
from ..words import FileChange
from .port import INDEX_MEDIA_TYPE, MANIFEST_MEDIA_TYPE, BlobStore

OUTPUTS_TAG = "outputs"
ARTIFACT_TYPE = "application/vnd.jupyterlab-ai-batch.outputs.v1"
CONFIG_MEDIA_TYPE = "application/vnd.jupyterlab-ai-batch.outputs.config.v1+json"
FILE_MEDIA_TYPE = "application/octet-stream"

CHANGED_MEANWHILE = "it changed while it was stored"

MAX_FILES = 1_000_000
MAX_CONFIG_BYTES = 512 * 1024**2
MAX_PATH_BYTES = 4096
MAX_NAME_BYTES = 255
MAX_FILE_BYTES = 1 << 62
MAX_MODE = 0o7777
FILES_PER_MANIFEST = 20_000
MAX_PARTS = MAX_FILES // FILES_PER_MANIFEST

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_CHUNK_BYTES = 1 << 20

OpenFile = Callable[[OutputFile], BinaryIO]


def store_output_set(
    store: BlobStore, output_set: OutputSet, open_file: OpenFile, *, tag: str = OUTPUTS_TAG
) -> tuple[OutputSet, str]:
    """Store every file and then, last, the manifest that names them.

    ``open_file`` gives the content of a file, at its start; its ``OSError`` leaves the file out.

    Returns:
        What was stored, and the manifest's digest. A file that cannot be read, or whose content is not what its
        digest says, is in ``skipped`` instead of ``files``.

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
    config = _encode(to_json(stored))
    digest, size = store.put_blob(config)
    return stored, _put_manifests(store, {"digest": digest, "size": size}, _file_descriptors(kept), tag)


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
        raise _corrupt("it is not an OutputSet") from exc
    blobs = {file.path: f"sha256:{file.sha256}" for file in output_set.files if has_content(file)}
    missing = set(blobs.values()) - listed
    if missing:
        raise _corrupt(f"{len(missing)} files have no content")
    return output_set, blobs


def has_content(file: OutputFile) -> bool:
    """Whether a blob belongs to the file: not for a deletion or a symlink."""
    return file.change is not FileChange.DELETED and file.link_target is None


def check_path(path: str) -> None:
    """Refuse a path that is not a plain relative one.

    Raises:
        SnapshotCorruptError: absolute, empty or dotted components, NUL, or too long.
    """
    encoded = path.encode("utf-8", "surrogateescape")
    names = encoded.split(b"/")
    if len(encoded) > MAX_PATH_BYTES or b"\0" in encoded:
        raise _corrupt("a path is too long or holds a NUL")
    if any(name in (b"", b".", b"..") or len(name) > MAX_NAME_BYTES for name in names):
        raise _corrupt("a path is not relative to the work root")


def check_output_set(output_set: OutputSet) -> OutputSet:
    """Hold an OutputSet against the limits.

    Raises:
        SnapshotCorruptError: too many files, a path twice, or a file that is not sound.
    """
    if len(output_set.files) > MAX_FILES or len(output_set.skipped) > MAX_FILES:
        raise _corrupt("it names too many files")
    try:
        check_path(output_set.executed_notebook)
        for file in output_set.files:
            _check_file(file)
    except UnicodeEncodeError as exc:
        raise _corrupt("a path is not text") from exc
    if len({file.path for file in output_set.files}) != len(output_set.files):
        raise _corrupt("it names a path twice")
    return output_set


def _check_file(file: OutputFile) -> None:
    check_path(file.path)
    if not 0 <= file.size_bytes <= MAX_FILE_BYTES or not -MAX_FILE_BYTES <= file.mtime_ns <= MAX_FILE_BYTES:
        raise _corrupt("a file's size or time is out of range")
    if not 0 <= file.mode <= MAX_MODE:
        raise _corrupt("a file's mode is out of range")
    if file.change is FileChange.DELETED:
        return
    if not _SHA256.match(file.sha256):
        raise _corrupt("a file has no digest")
    if file.base_sha256 is not None and not _SHA256.match(file.base_sha256):
        raise _corrupt("a file's base is not a digest")
    if file.link_target is not None:
        target = file.link_target.encode("utf-8", "surrogateescape")
        if not 0 < len(target) <= MAX_PATH_BYTES or b"\0" in target:
            raise _corrupt("a link's target is out of range")
        if hashlib.sha256(target).hexdigest() != file.sha256:
            raise _corrupt("a link's digest is not its target's")


def _store_file(store: BlobStore, file: OutputFile, open_file: OpenFile) -> str | None:
    """Store one file's content; the reason why not, or None."""
    if not has_content(file) or store.has_blob(f"sha256:{file.sha256}"):
        return None
    try:
        with open_file(file) as source, store.write_blob() as writer:
            sha256 = hashlib.sha256()
            for chunk in _read_chunks(source, limit_bytes=file.size_bytes):
                sha256.update(chunk)
                writer.write(chunk)
            if sha256.hexdigest() != file.sha256:
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


def _file_descriptors(files: Sequence[OutputFile]) -> list[dict[str, Any]]:
    sizes = {file.sha256: file.size_bytes for file in files if has_content(file)}
    return [{"mediaType": FILE_MEDIA_TYPE, "digest": f"sha256:{sha}", "size": size} for sha, size in sizes.items()]


def _put_manifests(store: BlobStore, config: Mapping[str, Any], layers: list[dict[str, Any]], tag: str) -> str:
    manifests = [
        _manifest(config, layers[start : start + FILES_PER_MANIFEST])
        for start in range(0, max(len(layers), 1), FILES_PER_MANIFEST)
    ]
    if len(manifests) == 1:
        return store.put_manifest(manifests[0], tag=tag, media_type=MANIFEST_MEDIA_TYPE)
    parts = [(store.put_blob(manifest)[0], len(manifest)) for manifest in manifests]
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX_MEDIA_TYPE,
        "artifactType": ARTIFACT_TYPE,
        "manifests": [{"mediaType": MANIFEST_MEDIA_TYPE, "digest": digest, "size": size} for digest, size in parts],
    }
    return store.put_manifest(_encode(index), tag=tag, media_type=INDEX_MEDIA_TYPE)


def _manifest(config: Mapping[str, Any], layers: list[dict[str, Any]]) -> bytes:
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
            raise _corrupt("its index names too many manifests, or none")
        manifests = [_parse_json(store.get_manifest(digest)[0]) for digest in parts]
    if any(manifest.get("artifactType") != ARTIFACT_TYPE for manifest in manifests):
        raise _corrupt("it is another kind of artifact")
    listed = set(chain.from_iterable(_digests(manifest.get("layers")) for manifest in manifests))
    return _digests([manifests[0].get("config")])[0], listed


def _parse_json(content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as exc:
        raise _corrupt("its manifest is not JSON") from exc
    if not isinstance(value, dict):
        raise _corrupt("its manifest is not an object")
    return value


def _digests(descriptors: Any) -> list[str]:
    if not isinstance(descriptors, list):
        raise _corrupt("its manifest lists nothing")
    return list(_iterate_digests(descriptors))


def _iterate_digests(descriptors: list[Any]) -> Iterator[str]:
    for descriptor in descriptors:
        digest = descriptor.get("digest") if isinstance(descriptor, dict) else None
        if not isinstance(digest, str):
            raise _corrupt("a descriptor has no digest")
        yield digest


def _encode(value: Any) -> bytes:
    """ASCII: names that are not UTF-8 travel as escaped surrogates."""
    return json.dumps(value, separators=(",", ":")).encode()


def _corrupt(what: str) -> SnapshotCorruptError:
    return SnapshotCorruptError(f"The outputs of this Submission cannot be read: {what}.", details={"reason": what})
