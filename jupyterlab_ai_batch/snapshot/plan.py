"""What a capture would hold: sizes, what is left out and why, what looks like a secret. Nothing is written."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from datetime import datetime

from ..errors import FileUnreadableError, SnapshotError
from ..models import CaptureRequest, Excluded, SecretFinding, SnapshotPlan
from .environment_layers import environment_key
from .index import IndexedFile, SignatureIndex
from .layers import Comparison, compare
from .reading import FileReader, UnstableFileError, VanishedFileError
from .roots import CaptureRoots, choose_work_tree, walk_environment
from .secrets import MAX_SCANNED_BYTES, find_secrets, is_scanned
from .summary import findings_of, heaviest_directories, split_reserved_names, tree_warnings
from .walk import Tree
from .work_layers import work_key

MAX_LISTED = 200
MAX_SCANNED_FILES = 5000
MAX_NOTEBOOK_BYTES = 8 << 20


def plan_snapshot(request: CaptureRequest, *, index: SignatureIndex, clock: Callable[[], datetime]) -> SnapshotPlan:
    """Tell what ``capture`` would take, without reading unchanged files.

    A work tree over the limit is no error here: ``work_bytes`` is above ``limit_bytes`` then.

    Raises:
        NotebookMissingError, FileUnreadableError, SnapshotError, StorageError
    """
    roots, tree = choose_work_tree(request, stop_at_limit=False)
    entries, reserved = split_reserved_names(tree.entries)
    known = index.load_tree(work_key(roots.work_root)).files
    work = compare(entries, known)
    environment = walk_environment(roots)
    environment_known = index.load_tree(environment_key(roots.environment_roots)).files
    environment_changes = compare(environment, environment_known)
    fresh_work = _new_sizes(entries, work)
    fresh_environment = _new_sizes(environment, environment_changes)
    reader = FileReader(now_ns=lambda: int(clock().timestamp() * 10**9))
    return SnapshotPlan(
        capture_from=roots.capture_from,
        work_root=roots.work_root,
        work_files=_count(entries),
        work_bytes=tree.bytes,
        environment_files=_count(environment),
        environment_bytes=_bytes(environment),
        new_files=len(fresh_work) + len(fresh_environment),
        new_bytes=sum(fresh_work) + sum(fresh_environment),
        environment_unchanged=bool(environment_known)
        and not environment_changes.changed
        and not environment_changes.removed,
        limit_bytes=request.limit_bytes,
        excluded=_excluded(tree, reserved),
        secrets_excluded=tuple(sorted(tree.secrets)[:MAX_LISTED]),
        findings=_findings(roots, entries, work, known, reader),
        heaviest=heaviest_directories(entries),
        warnings=_warnings(request, roots, tree),
    )


def _new_sizes(entries: Mapping[str, os.stat_result], comparison: Comparison) -> list[int]:
    """Sizes of the files that the index has not seen as they are now."""
    found = (entries[path] for path in comparison.changed)
    return [entry.st_size for entry in found if stat.S_ISREG(entry.st_mode)]


def _findings(
    roots: CaptureRoots,
    entries: Mapping[str, os.stat_result],
    comparison: Comparison,
    known: Mapping[str, IndexedFile],
    reader: FileReader,
) -> tuple[SecretFinding, ...]:
    """What the last capture found in files that are unchanged, and what new or changed ones show."""
    unchanged = {path: known[path] for path in (*comparison.same, *comparison.suspect)}
    found = findings_of(unchanged)
    fresh = [path for path in comparison.changed if _is_worth_scanning(path, entries[path])]
    for path in sorted(fresh, key=lambda path: (not path.endswith(".ipynb"), path))[:MAX_SCANNED_FILES]:
        try:
            data = reader.read(os.path.join(roots.work_root, path)).data or b""
        except (UnstableFileError, VanishedFileError, FileUnreadableError, SnapshotError):
            continue
        if is_scanned(path, data):
            found += [SecretFinding(path=path, line=line, kind=kind) for line, kind in find_secrets(data)]
    return tuple(sorted(found, key=lambda finding: (finding.path, finding.line))[:MAX_LISTED])


def _is_worth_scanning(path: str, found: os.stat_result) -> bool:
    limit = MAX_NOTEBOOK_BYTES if path.endswith(".ipynb") else MAX_SCANNED_BYTES
    return stat.S_ISREG(found.st_mode) and found.st_size <= limit


def _excluded(tree: Tree, reserved: list[str]) -> tuple[Excluded, ...]:
    """The largest first, then directories, which are not measured."""
    reserved_names = [Excluded(path=path, rule="a name that begins with .wh. cannot be stored") for path in reserved]
    ordered = sorted(tree.excluded, key=lambda entry: (entry.bytes is not None, -(entry.bytes or 0), entry.path))
    return tuple([*reserved_names, *ordered][:MAX_LISTED])


def _warnings(request: CaptureRequest, roots: CaptureRoots, tree: Tree) -> tuple[str, ...]:
    warnings = [*roots.warnings, *tree_warnings(tree)]
    if tree.over or tree.bytes > request.limit_bytes:
        warnings.insert(
            0,
            f"{roots.work_root} holds more than the {request.limit_bytes / 1e9:.1f} GB that a snapshot may have:"
            " leave out large files with lines in .batchignore.",
        )
    warnings += [f"{path} cannot be read: leave it out, or change its permissions." for path in tree.unreadable[:10]]
    return tuple(warnings)


def _count(entries: Mapping[str, os.stat_result]) -> int:
    return sum(not stat.S_ISDIR(found.st_mode) for found in entries.values())


def _bytes(entries: Mapping[str, os.stat_result]) -> int:
    return sum(found.st_size for found in entries.values() if stat.S_ISREG(found.st_mode))
