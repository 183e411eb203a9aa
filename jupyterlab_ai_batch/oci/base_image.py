"""Base images: read from a store, and put below a Snapshot so that both are one runnable image.

A base image comes from a registry and is trusted with nothing but what its users run anyway: every number is checked,
every digest is, and what cannot be part of an image of ours is refused by name.
"""

from __future__ import annotations

import hashlib
import json
import platform as machine
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import BaseImageError
from .manifest import (
    CONFIG_MEDIA_TYPE,
    DIGEST,
    LAYER_MEDIA_TYPE,
    LAYER_MEDIA_TYPES,
    MAX_CONFIG_BYTES,
    PLAIN_LAYER_MEDIA_TYPE,
    ZSTD_LAYER_MEDIA_TYPE,
    Layer,
    LayerRole,
    Program,
    SnapshotImage,
    build_config,
    build_manifest,
    mapping,
)
from .port import DOCKER_INDEX_MEDIA_TYPE, DOCKER_MANIFEST_MEDIA_TYPE, INDEX_MEDIA_TYPE, MANIFEST_MEDIA_TYPE, BlobStore

MAX_IMAGE_LAYERS = 125  # what Docker's layer store takes
MAX_LAYER_BYTES = 1 << 40


_MANIFEST_TYPES = {MANIFEST_MEDIA_TYPE, DOCKER_MANIFEST_MEDIA_TYPE}
_INDEX_TYPES = {INDEX_MEDIA_TYPE, DOCKER_INDEX_MEDIA_TYPE}
_CONFIG_TYPES = {CONFIG_MEDIA_TYPE, "application/vnd.docker.container.image.v1+json"}
_DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
_OCI_NAMES = {
    _DOCKER_LAYER: PLAIN_LAYER_MEDIA_TYPE,
    f"{_DOCKER_LAYER}.gzip": LAYER_MEDIA_TYPE,
    f"{_DOCKER_LAYER}.zstd": ZSTD_LAYER_MEDIA_TYPE,
}
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_BASE_NAME = "org.opencontainers.image.base.name"
_BASE_DIGEST = "org.opencontainers.image.base.digest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """What an image runs on, in the words of Go: ``amd64``, ``arm64``; the variant only where one is meant."""

    architecture: str
    variant: str = ""
    os: str = "linux"

    @classmethod
    def of_this_machine(cls) -> Platform:
        name = machine.machine()
        return cls(architecture=_ARCHITECTURES.get(name, name))

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseImage:
    """An image that a Snapshot can be put on.

    Attributes:
        reference: How it was asked for; for people.
        digest: Of the manifest for one platform, never of an index.
        layers: From the lowest up, all of the role BASE.
        config: The image's config as it was stored.
    """

    reference: str
    digest: str
    layers: tuple[Layer, ...]
    config: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposedImage:
    """The two blobs of an image that can be pulled and run."""

    config: bytes
    manifest: bytes


def read_base_image(
    store: BlobStore, reference: str, *, name: str | None = None, platform: Platform | None = None
) -> BaseImage:
    """Read the image of a tag or digest; of an index, the image for ``platform`` (default: this machine's).

    Args:
        name: What it is called outside of its store (``registry/repository:tag``); default: ``reference``.

    Raises:
        BaseImageError: it is no image for this platform, or none that another image can be put on.
        SnapshotCorruptError, StorageError: it is not there, damaged, or cannot be read.
    """
    wanted, called = platform or Platform.of_this_machine(), name or reference
    content, digest = store.get_manifest(reference)
    manifest = _parse_manifest(called, content)
    if "manifests" in manifest:
        chosen = _choose(called, manifest["manifests"], wanted)
        content, digest = store.get_manifest(chosen)
        manifest = _parse_manifest(called, content)
        if "manifests" in manifest:
            raise _refused(called, "it is an index of indexes")
    config = _read_config(store, called, manifest)
    _check_platform(called, config, wanted)
    layers = _parse_layers(called, manifest, config)
    return BaseImage(reference=called, digest=digest, layers=layers, config=config)


def compose(image: SnapshotImage, *, base: BaseImage | None = None, program: Program | None = None) -> ComposedImage:
    """One runnable image of a Snapshot's layers and, below them, a base image's; equal arguments give equal bytes.

    Args:
        base: None for a Snapshot that brings everything itself, for this machine's platform.

    Raises:
        BaseImageError: together they have more layers than container runtimes take.
    """
    lower = base.layers if base is not None else ()
    if base is not None and len(lower) + len(image.layers) > MAX_IMAGE_LAYERS:
        raise _refused(
            base.reference,
            f"its {len(lower)} layers and the snapshot's {len(image.layers)} are more than the {MAX_IMAGE_LAYERS}"
            " that container runtimes take",
            hint="Have the base image rebuilt with fewer layers (squashed).",
        )
    config = build_config(
        image,
        architecture=Platform.of_this_machine().architecture,
        lower=lower,
        below=base.config if base is not None else None,
        program=program,
    )
    digest = f"sha256:{hashlib.sha256(config).hexdigest()}"
    annotations = {_BASE_NAME: base.reference, _BASE_DIGEST: base.digest} if base is not None else None
    manifest = build_manifest(digest, len(config), (*lower, *image.layers), annotations=annotations)
    return ComposedImage(config=config, manifest=manifest)


def copy_base(source: BlobStore, target: BlobStore, base: BaseImage) -> int:
    """Have the base's layers where an image on top of it is written; mounted where one registry has both repositories.

    Returns:
        The bytes that had to be moved.

    Raises:
        SnapshotCorruptError, StorageError
    """
    from .transfer import copy_blob  # it knows registries, which few captures need

    return sum(copy_blob(source, target, layer.descriptor) for layer in base.layers)


# --- reading --------------------------------------------------------------------------------------------------------


def _parse_manifest(reference: str, content: bytes) -> dict[str, Any]:
    """An image manifest or an index, and clearly one of them."""
    try:
        manifest = json.loads(content)
    except (ValueError, RecursionError) as exc:
        raise _refused(reference, "its manifest is not JSON") from exc
    if not isinstance(manifest, dict) or manifest.get("schemaVersion") != 2:  # noqa: PLR2004 - the format's name
        raise _refused(reference, "its manifest is of an old or unknown format")
    is_index = "manifests" in manifest
    if is_index == ("layers" in manifest):
        raise _refused(reference, "its manifest is neither an image nor an index")
    if "mediaType" in manifest:
        _check_kind(reference, manifest["mediaType"], _INDEX_TYPES if is_index else _MANIFEST_TYPES)
    return manifest


def _choose(reference: str, entries: Any, wanted: Platform) -> str:
    """The digest of the index's first image for the platform; one of exactly the wanted variant goes before others."""
    fitting = []
    offered = []
    for entry in entries if isinstance(entries, list) else ():
        described = mapping(entry)
        found = mapping(described.get("platform"))
        here = Platform(
            architecture=str(found.get("architecture")), variant=str(found.get("variant", "")), os=str(found.get("os"))
        )
        offered.append(str(here))
        if str(described.get("mediaType")) in _MANIFEST_TYPES and _fits(here, wanted):
            fitting.append((here.variant != wanted.variant, _digest(reference, described.get("digest"))))
    if not fitting:
        raise _refused(reference, f"there is none for {wanted}", details={"platforms": offered[:50]})
    return min(fitting, key=lambda item: item[0])[1]


def _fits(found: Platform, wanted: Platform) -> bool:
    same = (found.os, found.architecture) == (wanted.os, wanted.architecture)
    return same and (not wanted.variant or found.variant in ("", wanted.variant))


def _read_config(store: BlobStore, reference: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
    described = mapping(manifest.get("config"))
    _check_kind(reference, described.get("mediaType"), _CONFIG_TYPES)
    digest = _digest(reference, described.get("digest"))
    content = store.read_blob(digest, limit_bytes=MAX_CONFIG_BYTES)
    try:
        config = json.loads(content)
    except (ValueError, RecursionError) as exc:
        raise _refused(reference, "its config is not JSON") from exc
    if not isinstance(config, dict) or len(content) != described.get("size"):
        raise _refused(reference, "its config is not what its manifest says")
    return config


def _check_platform(reference: str, config: Mapping[str, Any], wanted: Platform) -> None:
    found = Platform(
        architecture=str(config.get("architecture")), variant=str(config.get("variant", "")), os=str(config.get("os"))
    )
    if not _fits(found, wanted):
        raise _refused(reference, f"it is for {found}, not for {wanted}")


def _parse_layers(reference: str, manifest: Mapping[str, Any], config: Mapping[str, Any]) -> tuple[Layer, ...]:
    entries, diff_ids = manifest["layers"], mapping(config.get("rootfs")).get("diff_ids")
    if not isinstance(entries, list) or not isinstance(diff_ids, list) or len(entries) != len(diff_ids):
        raise _refused(reference, "its manifest and its config do not agree on its layers")
    if not 0 < len(entries) <= MAX_IMAGE_LAYERS:
        raise _refused(reference, f"it has {len(entries)} layers, where 1 to {MAX_IMAGE_LAYERS} are possible")
    return tuple(
        _parse_layer(reference, mapping(entry), diff_id) for entry, diff_id in zip(entries, diff_ids, strict=True)
    )


def _parse_layer(reference: str, entry: Mapping[str, Any], diff_id: Any) -> Layer:
    media_type, size = str(entry.get("mediaType")), entry.get("size")
    if "foreign" in media_type or "nondistributable" in media_type:
        raise _refused(reference, "it has layers that may not be copied to another registry")
    media_type = _OCI_NAMES.get(media_type, media_type)
    if media_type not in LAYER_MEDIA_TYPES:
        raise _refused(reference, f"it has a layer of the unknown kind {_shown(media_type)}")
    if type(size) is not int or not 0 < size <= MAX_LAYER_BYTES:
        raise _refused(reference, "it has a layer without a sensible size")
    return Layer(
        role=LayerRole.BASE,
        digest=_digest(reference, entry.get("digest")),
        size=size,
        diff_id=_digest(reference, diff_id),
        media_type=media_type,
    )


def _check_kind(reference: str, media_type: Any, allowed: Collection[str]) -> None:
    if str(media_type) not in allowed:
        raise _refused(reference, f"it is not an image but {_shown(media_type)}")


def _digest(reference: str, value: Any) -> str:
    if not isinstance(value, str) or not DIGEST.match(value):
        raise _refused(reference, f"{_shown(value)} is not a SHA-256 digest")
    return value


def _shown(value: Any) -> str:
    return repr(value)[:80]


def _refused(
    reference: str, cause: str, *, hint: str | None = None, details: Mapping[str, Any] | None = None
) -> BaseImageError:
    return BaseImageError(
        f"The base image {reference} cannot be used: {cause}.",
        hint=hint or "Choose another base image, or ask who built this one.",
        details={"reference": reference, **(details or {})},
    )
