"""Image manifests and configs of Snapshots: built from records, parsed back from untrusted bytes.

A Snapshot is one runnable OCI image: environment layers, the environment's index, work layers (a base, then deltas
with whiteouts), and a control layer. Nothing in it tells when it was captured, so equal content has equal digests.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import PurePosixPath
from typing import Any

from .. import wire
from ..errors import SnapshotCorruptError
from .port import MANIFEST_MEDIA_TYPE, Descriptor

CONFIG_MEDIA_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_MEDIA_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
MAX_CONFIG_BYTES = 1 << 20
MAX_LAYERS = 64

_ROLE = "ai-batch.role"
_NAME = "ai-batch.name"
_CONTENT = "ai-batch.snapshot"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")


class LayerRole(str, Enum):
    """What a layer of a Snapshot holds."""

    ENVIRONMENT = "environment"
    ENVIRONMENT_INDEX = "environment-index"
    WORK = "work"
    CONTROL = "control"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer of a Snapshot.

    Attributes:
        digest: Of the compressed blob.
        size: Bytes of the compressed blob.
        diff_id: Digest of the tar stream.
        name: What it is called among its role's layers (a distribution, ``base``, ``delta``); for people.
    """

    role: LayerRole
    digest: str
    size: int
    diff_id: str
    name: str = ""

    @property
    def descriptor(self) -> Descriptor:
        annotations = {_ROLE: self.role.value, _NAME: self.name}
        return Descriptor(media_type=LAYER_MEDIA_TYPE, digest=self.digest, size=self.size, annotations=annotations)


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotContent:
    """What a Snapshot was taken from; kept in the image's config. All paths are absolute but ``notebook``.

    Attributes:
        notebook: Relative to ``work_root``.
        prefixes: Directories that the environment layers cover.
        executable: The kernel's interpreter; None for a kernel that is not Python.
    """

    work_root: str
    notebook: str
    kernel_name: str
    prefixes: tuple[str, ...] = ()
    editable_sources: tuple[str, ...] = ()
    executable: str | None = None
    python_version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotImage:
    """A parsed Snapshot."""

    content: SnapshotContent
    layers: tuple[Layer, ...]

    def with_role(self, role: LayerRole) -> tuple[Layer, ...]:
        return tuple(layer for layer in self.layers if layer.role is role)


def build_config(image: SnapshotImage, *, architecture: str) -> bytes:
    """The image's config: runnable, and with the Snapshot's content as a label."""
    content = image.content
    path = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
    if content.executable is not None:
        path.insert(0, str(PurePosixPath(content.executable).parent))
    config: dict[str, Any] = {
        "Env": [f"PATH={':'.join(path)}"],
        "WorkingDir": str(PurePosixPath(content.work_root, content.notebook).parent),
        "Labels": {_CONTENT: wire.dumps(content)},
    }
    if content.executable is not None:
        config["Cmd"] = [content.executable]
    return _encode(
        {
            "architecture": architecture,
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in image.layers]},
        }
    )


def build_manifest(config_digest: str, config_size: int, layers: Sequence[Layer]) -> bytes:
    return _encode(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_MEDIA_TYPE,
            "config": {"mediaType": CONFIG_MEDIA_TYPE, "digest": config_digest, "size": config_size},
            "layers": [_encode_descriptor(layer.descriptor) for layer in layers],
        }
    )


def parse_config_digest(manifest: bytes) -> str:
    """The digest of a manifest's config.

    Raises:
        SnapshotCorruptError: not an image manifest.
    """
    return _digest(_object(_object(_decode(manifest)).get("config")).get("digest"))


def parse_image(manifest: bytes, config: bytes) -> SnapshotImage:
    """The Snapshot that a manifest and its config describe.

    Raises:
        SnapshotCorruptError: they are not those of a Snapshot.
    """
    entries = _object(_decode(manifest)).get("layers")
    parsed = _object(_decode(config))
    diff_ids = _object(parsed.get("rootfs")).get("diff_ids")
    if not isinstance(entries, list) or not isinstance(diff_ids, list) or len(entries) != len(diff_ids):
        raise _not_snapshot()
    label = _object(_object(parsed.get("config")).get("Labels")).get(_CONTENT)
    try:
        content = wire.loads(SnapshotContent, label if isinstance(label, str) else "")
    except wire.WireError as exc:
        raise _not_snapshot() from exc
    layers = tuple(_parse_layer(entry, diff_id) for entry, diff_id in zip(entries, diff_ids, strict=True))
    return SnapshotImage(content=content, layers=layers)


def _parse_layer(entry: Any, diff_id: Any) -> Layer:
    fields = _object(entry)
    annotations = _object(fields.get("annotations"))
    size = fields.get("size")
    try:
        role = LayerRole(annotations.get(_ROLE))
    except ValueError as exc:
        raise _not_snapshot() from exc
    if fields.get("mediaType") != LAYER_MEDIA_TYPE or type(size) is not int or size < 0:
        raise _not_snapshot()
    name = str(annotations.get(_NAME, ""))
    return Layer(role=role, digest=_digest(fields.get("digest")), size=size, diff_id=_digest(diff_id), name=name)


def _encode_descriptor(descriptor: Descriptor) -> dict[str, Any]:
    return {
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest,
        "size": descriptor.size,
        "annotations": dict(sorted(descriptor.annotations.items())),
    }


def _encode(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def _decode(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as exc:
        raise _not_snapshot() from exc


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _not_snapshot()
    return value


def _digest(value: Any) -> str:
    if not isinstance(value, str) or not _DIGEST.match(value):
        raise _not_snapshot()
    return value


def _not_snapshot() -> SnapshotCorruptError:
    return SnapshotCorruptError(
        "The stored manifest is not that of a snapshot.", hint="Submit the notebook again: it is captured anew."
    )
