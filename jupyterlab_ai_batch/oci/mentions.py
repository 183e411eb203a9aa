"""What a manifest mentions, whatever it is for: images, indexes of images, artifacts."""

from __future__ import annotations

import json
from typing import Any

from ..errors import SnapshotCorruptError
from .port import Descriptor
from .reference import is_digest

MAX_MANIFEST_BYTES = 4 << 20
_MAX_DESCRIPTORS = 4096


def mentioned(manifest: bytes) -> tuple[Descriptor, ...]:
    """Every descriptor in an image manifest or index; config first.

    Raises:
        SnapshotCorruptError: it is neither.
    """
    try:
        parsed = json.loads(manifest)
        config = parsed.get("config")
        entries = [*parsed.get("layers", ()), *parsed.get("manifests", ())]
        if len(entries) > _MAX_DESCRIPTORS:
            raise ValueError("too many")  # noqa: TRY301
        return tuple(_parse(entry) for entry in ([] if config is None else [config]) + entries)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise SnapshotCorruptError("A stored manifest is not a manifest.") from exc


def _parse(entry: dict[str, Any]) -> Descriptor:
    digest, size = entry["digest"], entry["size"]
    if not isinstance(digest, str) or not is_digest(digest) or type(size) is not int or size < 0:
        raise ValueError("not a descriptor")
    return Descriptor(media_type=str(entry.get("mediaType", "")), digest=digest, size=size)
