"""The volumes of a session's pod that a job may mount too, read-only. Pure.

A job has the Snapshot in place of the home. So no mount may reach the home, nor cover anything that the Snapshot
brings; and one volume may hold both the home and what is shared, in different directories.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ..withheld import is_secret
from . import pod_fields
from .json_fields import field as at
from .json_fields import quantity, records, whole
from .naming import OWN_ROOT, OWN_VOLUMES

SHARED_MEMORY = "/dev/shm"  # noqa: S108 - a place in the job's container
# Drivers whose volumes are secrets of the pod that mounts them.
_SECRET_DRIVER = re.compile(r"secret|vault|spiffe|cert|identity|token", re.IGNORECASE)
_OWN_PLACES = (OWN_ROOT, OWN_ROOT.removeprefix("/var"))  # /var/run may be a link


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One mount of a volume that a job may have.

    Attributes:
        path: Where it lies in the container.
        volume: The volume's name in the pod.
        source: The volume as a job mounts it: what of ``spec.volumes[]`` is not the name.
        sub_path: The mounted directory in the volume; empty: all of it.
        place: What is mounted, whatever the volume is called: its origin, then the parts of a path there.
        is_computed: The directory depends on variables (``subPathExpr``); ``sub_path`` is as far as it is known.
    """

    path: str
    volume: str
    source: Mapping[str, Any]
    sub_path: str = ""
    place: tuple[str, ...] = ()
    is_computed: bool = False

    def covers(self, path: str) -> bool:
        return PurePosixPath(path).is_relative_to(self.path)

    def meets(self, other: Mount) -> bool:
        """Whether one of them shows something that the other shows too."""
        return all(mine == theirs for mine, theirs in zip(self.place, other.place, strict=False))


def parse_mounts(spec: Any, container: Mapping[str, Any]) -> tuple[Mount, ...]:
    """The container's mounts of volumes of the kinds that jobs may have."""
    volumes = {
        name: source
        for volume in records(at(spec, "volumes"))
        if (name := pod_fields.name(volume.get("name"))) is not None and (source := _parse_source(volume))
    }
    entries = records(container.get("volumeMounts"))
    return tuple(mount for mount in (_parse_mount(entry, volumes) for entry in entries) if mount is not None)


def parse_shared_memory(spec: Any, container: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The volume in memory that the container has for its processes to share (``emptyDir``); None without one."""
    names = [
        entry.get("name") for entry in records(container.get("volumeMounts")) if entry.get("mountPath") == SHARED_MEMORY
    ]
    for volume in records(at(spec, "volumes")):
        empty = volume.get("emptyDir")
        if volume.get("name") in names and at(empty, "medium") == "Memory":
            limit = at(empty, "sizeLimit")
            return {"medium": "Memory", **({"sizeLimit": str(limit)} if quantity(limit) else {})}
    return None


def choose_mounts(mounts: Sequence[Mount], *, allowed: Sequence[str], of_snapshot: Sequence[str]) -> Sequence[Mount]:
    """The mounts that a job gets.

    Args:
        allowed: Names of volumes.
        of_snapshot: Absolute paths of what the Snapshot brings: work tree, environment, index.
    """
    home = [mount for mount in mounts if any(mount.covers(path) for path in of_snapshot)]
    return [
        mount
        for mount in mounts
        if mount.volume in allowed
        and not mount.is_computed
        and not any(mount.meets(other) for other in home)
        and not any(mount.covers(place) or PurePosixPath(mount.path).is_relative_to(place) for place in _OWN_PLACES)
    ]


def build_volumes(mounts: Sequence[Mount]) -> list[dict[str, Any]]:
    """``spec.volumes`` for these mounts, each volume once."""
    return [{"name": name, **source} for name, source in {mount.volume: mount.source for mount in mounts}.items()]


def build_mounts(mounts: Sequence[Mount]) -> list[dict[str, Any]]:
    """``volumeMounts`` of the container."""
    return [
        {"name": mount.volume, "mountPath": mount.path, **pod_fields.present(subPath=mount.sub_path), "readOnly": True}
        for mount in mounts
    ]


def _parse_mount(entry: Mapping[str, Any], volumes: Mapping[str, Mapping[str, Any]]) -> Mount | None:
    volume, path = pod_fields.name(entry.get("name")), pod_fields.path(entry.get("mountPath"))
    expression = pod_fields.text(entry.get("subPathExpr"))
    known = expression.partition("$")[0].rpartition("/")[0] if expression else entry.get("subPath", "")
    sub_path = pod_fields.relative_path(known)
    if volume is None or path is None or sub_path is None or volume not in volumes or volume.startswith(OWN_VOLUMES):
        return None
    return Mount(
        path=path,
        volume=volume,
        source=volumes[volume],
        sub_path=sub_path,
        place=(*_origin(volumes[volume]), *PurePosixPath(sub_path).parts),
        is_computed=bool(expression),
    )


def _origin(source: Mapping[str, Any]) -> tuple[str, ...]:
    """What tells one volume from another, then the path in it that the volume is."""
    (kind,) = source
    body = source[kind]
    if kind == "nfs":
        return (kind, body["server"], *PurePosixPath(body["path"]).parts)
    if kind == "csi":
        return (kind, body["driver"], repr(sorted(body.get("volumeAttributes", {}).items())))
    return (kind, body.get("claimName") or body["name"])


def _parse_source(volume: Mapping[str, Any]) -> Mapping[str, Any]:
    """The volume by an allowlist of kinds and fields, read-only; empty for any other kind."""
    for kind, parse in _KINDS.items():
        if isinstance(volume.get(kind), Mapping):
            body = parse(volume[kind])
            return {kind: body} if body else {}
    return {}


def _parse_claim(body: Mapping[str, Any]) -> Mapping[str, Any]:
    name = pod_fields.name(body.get("claimName"))
    return {"claimName": name, "readOnly": True} if name else {}


def _parse_config_map(body: Mapping[str, Any]) -> Mapping[str, Any]:
    name = pod_fields.name(body.get("name"))
    items = [item for item in map(_parse_item, records(body.get("items"))) if item]
    if name is None or (body.get("items") and not items):
        return {}
    optional = True if body.get("optional") is True else None
    mode = whole(body.get("defaultMode"))
    return {"name": name, **pod_fields.present(items=items, defaultMode=mode, optional=optional)}


def _parse_item(item: Mapping[str, Any]) -> Mapping[str, Any]:
    key, path = pod_fields.text(item.get("key"), limit=253), pod_fields.relative_path(item.get("path"))
    return pod_fields.present(key=key, path=path, mode=whole(item.get("mode"))) if key and path else {}


def _parse_nfs(body: Mapping[str, Any]) -> Mapping[str, Any]:
    server, path = pod_fields.text(body.get("server"), limit=253), pod_fields.path(body.get("path"))
    return {"server": server, "path": path, "readOnly": True} if server and path else {}


def _parse_csi(body: Mapping[str, Any]) -> Mapping[str, Any]:
    driver = pod_fields.name(body.get("driver"))
    if driver is None or _SECRET_DRIVER.search(driver) or body.get("nodePublishSecretRef") is not None:
        return {}
    given = body.get("volumeAttributes")
    pairs = list(given.items()) if isinstance(given, Mapping) else []
    attributes = {key: value for key, value in pairs if pod_fields.text(key) and pod_fields.text(value) is not None}
    if len(attributes) < len(pairs) or any(map(is_secret, attributes)):
        return {}
    kind = pod_fields.name(body.get("fsType"))
    return {"driver": driver, "readOnly": True, **pod_fields.present(fsType=kind, volumeAttributes=attributes)}


_KINDS: Mapping[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]] = {
    "persistentVolumeClaim": _parse_claim,
    "configMap": _parse_config_map,
    "nfs": _parse_nfs,
    "csi": _parse_csi,
}
