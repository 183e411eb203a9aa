"""What a plan and a capture tell the user about a tree: what is heavy, left out, skipped, suspicious."""

from __future__ import annotations

import json
import os
import stat
from collections import Counter
from collections.abc import Mapping, Sequence

from ..capture_models import SecretFinding
from .index import IndexedFile
from .tarstream import WHITEOUT
from .walk import Tree

HEAVIEST = 10

_DEPTH = 3
_WHOLE_SHARE = 0.9


def heaviest_directories(entries: Mapping[str, os.stat_result]) -> tuple[tuple[str, int], ...]:
    """The ten heaviest directories with everything below them, up to three levels deep, heaviest first.

    A directory that owes nearly all of its weight to one subdirectory gives way to it.
    """
    weights: Counter[str] = Counter()
    for path, found in entries.items():
        if stat.S_ISREG(found.st_mode):
            parts = path.split("/")[:-1][:_DEPTH]
            for count in range(1, len(parts) + 1):
                weights["/".join(parts[:count])] += found.st_size
    heaviest_child: Counter[str] = Counter()
    for path, weight in weights.items():
        parent = path.rpartition("/")[0]
        heaviest_child[parent] = max(heaviest_child[parent], weight)
    kept = {path: w for path, w in weights.items() if heaviest_child[path] < _WHOLE_SHARE * w}
    return tuple(sorted(kept.items(), key=lambda item: (-item[1], item[0]))[:HEAVIEST])


def split_reserved_names(
    entries: Mapping[str, os.stat_result],
) -> tuple[dict[str, os.stat_result], list[str]]:
    """(entries, paths whose names mean a deletion in a layer and so cannot be stored)."""
    reserved = [path for path in entries if f"/{WHITEOUT}" in f"/{path}"]
    if not reserved:
        return dict(entries), []
    left_out = set(reserved)
    return {path: found for path, found in entries.items() if path not in left_out}, sorted(reserved)


def reserved_warnings(reserved: Sequence[str]) -> list[str]:
    if not reserved:
        return []
    return [f"{reserved[0]!r} is left out: names that begin with '.wh.' cannot be kept in a snapshot."]


def tree_warnings(tree: Tree) -> list[str]:
    """One sentence for each kind of thing that cannot be captured."""
    warnings = []
    if tree.skipped:
        path, kind = tree.skipped[0]
        more = f" (and {len(tree.skipped) - 1} more)" if len(tree.skipped) > 1 else ""
        warnings.append(f"{path} is {kind} and is skipped{more}.")
    outward = sum(1 for path in tree.entries if _leads_out(tree, path))
    if outward:
        noun = "link leads" if outward == 1 else "links lead"
        warnings.append(f"{outward} {noun} out of the captured files; what they point to is not captured.")
    return warnings


def findings_of(files: Mapping[str, IndexedFile]) -> list[SecretFinding]:
    """Places in captured files that look like secrets."""
    return [
        SecretFinding(path=path, line=line, kind=kind)
        for path, entry in files.items()
        if entry.findings
        for line, kind in json.loads(entry.findings)
    ]


def describe_finding(path: str, line: int, kind: str) -> str:
    return f"{path}, line {line}, looks like it holds a secret ({kind})."


def _leads_out(tree: Tree, path: str) -> bool:
    if not stat.S_ISLNK(tree.entries[path].st_mode):
        return False
    try:
        target = os.path.realpath(os.path.join(tree.top, path))
    except OSError:  # it is gone by now
        return False
    return not (target == tree.top or target.startswith(tree.top.rstrip("/") + "/"))
