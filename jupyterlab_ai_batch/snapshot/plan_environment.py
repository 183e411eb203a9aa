"""The environment's share in a plan: which layers it would have, and which of them are new."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from ..capture_models import PlannedLayer
from .environment_groups import assign_groups
from .index import IndexedFile
from .layers import Comparison
from .roots import CaptureRoots


def plan_layers(
    entries: Mapping[str, os.stat_result],
    known: Mapping[str, IndexedFile],
    comparison: Comparison,
    roots: CaptureRoots,
) -> tuple[PlannedLayer, ...]:
    """The layers that ``capture`` would give this environment, heaviest first; their directories are left out.

    Where nothing changed, the last capture's layers are counted and no file is read.
    """
    files = {path: found for path, found in entries.items() if not stat.S_ISDIR(found.st_mode)}
    if known and not comparison.changed and not comparison.removed:
        groups = {path: known[path].layer for path in files}
    else:
        sizes = {path: found.st_size for path, found in files.items()}
        groups = assign_groups(sizes, sources=roots.sources, prefixes=roots.prefixes, read=_read_or_empty)
    counts, weights = Counter(groups.values()), Counter[str]()
    for path, name in groups.items():
        weights[name] += files[path].st_size
    new = _new_layers(groups, known, comparison)
    layers = (PlannedLayer(name=n, files=counts[n], bytes=weights[n], new=n in new) for n in counts if n)
    return tuple(sorted(layers, key=lambda layer: (-layer.bytes, layer.name)))


def _new_layers(groups: Mapping[str, str], known: Mapping[str, IndexedFile], comparison: Comparison) -> set[str]:
    """Layers that gained, lost or changed a file."""
    touched = {path for path in (*comparison.changed, *comparison.removed) if path in groups or path in known}
    moved = {path for path, name in groups.items() if path in known and known[path].layer != name}
    return {groups[path] for path in touched | moved if path in groups} | {
        known[path].layer for path in touched | moved if path in known
    }


def _read_or_empty(path: str) -> bytes:
    try:
        return Path(f"/{path}").read_bytes()
    except OSError:
        return b""
