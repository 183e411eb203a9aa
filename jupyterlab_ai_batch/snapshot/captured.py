"""What a capture made of its trees, as the signature index keeps it.

Nothing here writes layers: where nothing has changed, a capture needs no more than this.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from ..oci.base_image import BaseImage
from ..oci.manifest import Layer, LayerRole
from .container import Container

BASE_PREFIX = "base-"


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedEnvironment:
    """What a capture of the environment gave; ``bytes`` of its files, uncompressed."""

    layers: tuple[Layer, ...]
    index_layer: Layer
    files: int
    bytes: int

    @classmethod
    def from_state(cls, state: Mapping[str, Any], gone: Collection[str] = ()) -> CapturedEnvironment | None:
        """What the index kept; None when that capture did not come to its end, or the store has lost a layer."""
        if "index" not in state:
            return None
        layers, index_layer = decode_layers(state["layers"]), decode_layer(state["index"])
        if not may_exist([*layers, index_layer], gone):
            return None
        return cls(layers=layers, index_layer=index_layer, files=state["files"], bytes=state["bytes"])

    def to_state(self) -> dict[str, Any]:
        return {
            "layers": [encode_layer(layer) for layer in self.layers],
            "index": encode_layer(self.index_layer),
            "files": self.files,
            "bytes": self.bytes,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedSession:
    """What a capture of an environment gave, with what it needs of a base image.

    Attributes:
        hidden: Layers that hide what the base has and the environment has not.
        base: Digest of the base image, where files of the environment are left to it.
    """

    environment: CapturedEnvironment
    hidden: tuple[Layer, ...] = ()
    base: str | None = None

    @classmethod
    def from_state(cls, state: Mapping[str, Any], gone: Collection[str]) -> CapturedSession | None:
        """What the index kept; None when there is nothing, or the store has lost a layer."""
        environment = CapturedEnvironment.from_state(state, gone)
        hidden = decode_layers(state.get("hidden", ()))
        if environment is None or not may_exist(hidden, gone):
            return None
        return cls(environment=environment, hidden=hidden, base=state.get("base"))

    def to_state(self) -> dict[str, Any]:
        hidden = [encode_layer(layer) for layer in self.hidden]
        return {**self.environment.to_state(), "hidden": hidden, "base": self.base}


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedWork:
    """What a capture of the work tree gave.

    Attributes:
        layers: The tree's, in order, and the control layer.
        findings: (path, line, kind) of what looks like a secret; the first 20.
    """

    layers: tuple[Layer, ...]
    files: int
    bytes: int
    findings: tuple[tuple[str, int, str], ...]

    @classmethod
    def from_state(cls, state: Mapping[str, Any], gone: Collection[str] = ()) -> CapturedWork | None:
        """What the index kept; None when that capture did not come to its end, or the store has lost a layer."""
        captured = cls.of(state) if "control" in state else None
        return captured if captured is not None and may_exist(captured.layers, gone) else None

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> CapturedWork:
        """What a capture that came to its end notes in the index."""
        return cls(
            layers=(*decode_layers(state["layers"]), decode_layer(state["control"])),
            files=state["files"],
            bytes=state["bytes"],
            findings=tuple((path, line, kind) for path, line, kind in state["findings"]),
        )


def environment_key(roots: Iterable[str], base: BaseImage | None = None) -> str:
    """The name of an environment in the signature index; on a base image it is what differs from that."""
    return "\n".join(("environment", *roots, *((base.digest,) if base is not None else ())))


def session_key(walked: Iterable[str], base: BaseImage, container: Container) -> str:
    """The name of an environment on a base image as a whole, files of the image included, in one container."""
    return "\n".join(("session", *walked, base.digest, *map(str, container)))


def work_key(work_root: str) -> str:
    """The name of a work tree in the signature index."""
    return f"work\n{work_root}"


def base_tag(work_root: str) -> str:
    """Under which name a store keeps the newest base of a work tree that no Snapshot uses yet."""
    return f"{BASE_PREFIX}{sha256(work_root.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}"


def may_exist(layers: Iterable[Layer], gone: Collection[str]) -> bool:
    """Whether the store is not known to lack one of them. Only writing the manifest proves that it has them."""
    return not any(layer.digest in gone for layer in layers)


def encode_layer(layer: Layer) -> list[Any]:
    return [layer.role.value, layer.name, layer.digest, layer.size, layer.diff_id]


def decode_layer(fields: list[Any]) -> Layer:
    role, name, digest, size, diff_id = fields
    return Layer(role=LayerRole(role), name=name, digest=digest, size=size, diff_id=diff_id)


def decode_layers(fields: Iterable[list[Any]]) -> tuple[Layer, ...]:
    return tuple(map(decode_layer, fields))
