"""Image manifests and configs of Snapshots: built from records, parsed back from untrusted bytes.

A Snapshot is one runnable OCI image: the layers of a base image where it has one, environment layers, the
environment's index, work layers (a base, then deltas with whiteouts), and a control layer. Nothing in it tells when it
was captured, so equal content has equal digests.
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
ZSTD_LAYER_MEDIA_TYPE = "application/vnd.oci.image.layer.v1.tar+zstd"
PLAIN_LAYER_MEDIA_TYPE = "application/vnd.oci.image.layer.v1.tar"
LAYER_MEDIA_TYPES = frozenset({LAYER_MEDIA_TYPE, ZSTD_LAYER_MEDIA_TYPE, PLAIN_LAYER_MEDIA_TYPE})
MAX_CONFIG_BYTES = 1 << 20
MAX_LAYERS = 64

_ROLE = "ai-batch.role"
_NAME = "ai-batch.name"
_CONTENT = "ai-batch.snapshot"
_PLATFORM = ("architecture", "os", "variant", "os.version", "os.features")
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")


class LayerRole(str, Enum):
    """What a layer of a Snapshot holds; BASE is one of the base image, of whatever making."""

    BASE = "base"
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
        media_type: Another than gzip only in a base image.
    """

    role: LayerRole
    digest: str
    size: int
    diff_id: str
    name: str = ""
    media_type: str = LAYER_MEDIA_TYPE

    @property
    def descriptor(self) -> Descriptor:
        annotations = {_ROLE: self.role.value, _NAME: self.name}
        return Descriptor(media_type=self.media_type, digest=self.digest, size=self.size, annotations=annotations)


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotContent:
    """What a Snapshot was taken from; kept in the image's config. All paths are absolute but ``notebook``.

    Attributes:
        notebook: Relative to ``work_root``.
        prefixes: Directories that the environment layers cover.
        executable: The kernel's interpreter; None for a kernel that is not Python.
        base: Digest of the base image when the environment layers hold only what differs from it.
    """

    work_root: str
    notebook: str
    kernel_name: str
    prefixes: tuple[str, ...] = ()
    editable_sources: tuple[str, ...] = ()
    executable: str | None = None
    python_version: str | None = None
    base: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What a container of the image starts; None leaves it to the base image, or else to the kernel's interpreter.

    As in a Dockerfile, an entrypoint without a command drops the base's command.
    """

    entrypoint: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotImage:
    """A parsed Snapshot."""

    content: SnapshotContent
    layers: tuple[Layer, ...]

    def with_role(self, role: LayerRole) -> tuple[Layer, ...]:
        return tuple(layer for layer in self.layers if layer.role is role)


def build_config(
    image: SnapshotImage,
    *,
    architecture: str,
    lower: Sequence[Layer] = (),
    below: Mapping[str, Any] | None = None,
    program: Program | None = None,
) -> bytes:
    """The image's config: runnable, and with the Snapshot's content as a label.

    What the base's config says (user, variables, labels, ports, volumes) stays, but for the working directory and for
    PATH, which begins with the directory of the kernel's interpreter.

    Args:
        lower: The layers below those of ``image``.
        below: The config that belongs to them; its platform is the image's then.
    """
    base = below or {"architecture": architecture, "os": "linux"}
    layers = (*lower, *image.layers)
    return _encode(
        {
            **{name: base[name] for name in _PLATFORM if name in base},
            "config": _build_run_config(mapping(base.get("config")), image.content, program or Program()),
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
            "history": [*_history_of(base, lower), *map(_history_entry, image.layers)],
        }
    )


def _build_run_config(below: Mapping[str, Any], content: SnapshotContent, program: Program) -> dict[str, Any]:
    """The part of the config that a container is started by."""
    run = {
        **below,
        "Env": _build_variables(below.get("Env"), content.executable),
        "WorkingDir": str(PurePosixPath(content.work_root, content.notebook).parent),
        "Labels": {**mapping(below.get("Labels")), _CONTENT: wire.dumps(content)},
    }
    if program.entrypoint is not None:
        run["Entrypoint"] = list(program.entrypoint)
        run.pop("Cmd", None)
    if program.command is not None:
        run["Cmd"] = list(program.command)
    elif not run.get("Entrypoint") and not run.get("Cmd") and content.executable is not None:
        run["Cmd"] = [content.executable]
    return run


def _build_variables(below: Any, executable: str | None) -> list[str]:
    variables = [item for item in below if isinstance(item, str)] if isinstance(below, list) else []
    path = next((item[5:] for item in reversed(variables) if item.startswith("PATH=")), _DEFAULT_PATH)
    if executable is not None:
        first = str(PurePosixPath(executable).parent)
        path = ":".join([first, *(part for part in path.split(":") if part != first)])
    return [f"PATH={path}", *(item for item in variables if not item.startswith("PATH="))]


def _history_of(base: Mapping[str, Any], layers: Sequence[Layer]) -> list[Any]:
    """The base's history; where it has not one entry for each layer, one that says no more than that."""
    history = base.get("history")
    entries = [entry for entry in history if isinstance(entry, dict)] if isinstance(history, list) else []
    if sum(not entry.get("empty_layer") for entry in entries) == len(layers):
        return entries
    return [{"created_by": "base image"}] * len(layers)


def _history_entry(layer: Layer) -> dict[str, Any]:
    return {"created_by": f"ai-batch: {layer.role.value} {layer.name}".rstrip()}


def build_manifest(
    config_digest: str, config_size: int, layers: Sequence[Layer], *, annotations: Mapping[str, str] | None = None
) -> bytes:
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_MEDIA_TYPE,
        "config": {"mediaType": CONFIG_MEDIA_TYPE, "digest": config_digest, "size": config_size},
        "layers": [_encode_descriptor(layer.descriptor) for layer in layers],
    }
    if annotations:
        manifest["annotations"] = dict(annotations)
    return _encode(manifest)


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
    media_type = str(fields.get("mediaType"))
    allowed = LAYER_MEDIA_TYPES if role is LayerRole.BASE else {LAYER_MEDIA_TYPE}
    if media_type not in allowed or type(size) is not int or size < 0:
        raise _not_snapshot()
    return Layer(
        role=role,
        digest=_digest(fields.get("digest")),
        size=size,
        diff_id=_digest(diff_id),
        name=str(annotations.get(_NAME, "")),
        media_type=media_type,
    )


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


def mapping(value: Any) -> dict[str, Any]:
    """The value where it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _not_snapshot()
    return value


def _digest(value: Any) -> str:
    if not isinstance(value, str) or not DIGEST.match(value):
        raise _not_snapshot()
    return value


def _not_snapshot() -> SnapshotCorruptError:
    return SnapshotCorruptError(
        "The stored manifest is not that of a snapshot.", hint="Submit the notebook again: it is captured anew."
    )
