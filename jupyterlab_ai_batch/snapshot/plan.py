"""What a capture would hold: sizes, what is left out and why, what looks like a secret. Nothing is written."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ..capture_models import CaptureRequest, Excluded, SecretFinding, SnapshotPlan
from ..errors import FileUnreadableError, SnapshotError
from ..oci.base_image import BaseImage
from ..oci.port import BlobStore
from .captured import environment_key, work_key
from .container import Container
from .index import IndexedFile, SignatureIndex
from .layers import Comparison, compare
from .plan_environment import plan_layers
from .reading import FileReader, UnstableFileError, VanishedFileError
from .rootfs import changes_since
from .roots import CaptureRoots, choose_work_tree, walk_environment
from .secrets import MAX_SCANNED_BYTES, find_secrets, is_scanned
from .summary import findings_of, heaviest_directories, split_reserved_names, tree_warnings
from .walk import Tree

MAX_LISTED = 200
MAX_NEW = 20
MAX_SCANNED_FILES = 5000
MAX_NOTEBOOK_BYTES = 8 << 20

UNREADABLE = "you are not allowed to read it"
UNSTABLE = "it keeps changing while it is read"
RESERVED = "a name that begins with .wh. cannot be stored"


def plan_snapshot(
    request: CaptureRequest,
    *,
    store: BlobStore,
    index: SignatureIndex,
    clock: Callable[[], datetime],
    base: BaseImage | None = None,
) -> SnapshotPlan:
    """Tell what ``capture`` would take, without reading unchanged files; the arguments are its.

    A work tree over the limit is no error here: ``work_bytes`` is above ``limit_bytes`` then.

    Raises:
        NotebookMissingError, FileUnreadableError, SnapshotError, StorageError
        BaseImageError: the base cannot be read.
    """
    roots, tree = choose_work_tree(request, stop_at_limit=False)
    entries, reserved = split_reserved_names(tree.entries)
    work = _Part(entries, index.load_tree(work_key(roots.work_root)).files)
    found: Mapping[str, os.stat_result] = walk_environment(roots)
    if base is not None:
        container = Container.observe(request.environment.container_started_at)
        found = changes_since(base, found, roots=roots, container=container, store=store, index=index).entries
    environment = _Part(found, index.load_tree(environment_key(roots.environment_roots, base)).files)
    look = _Look(work, roots, FileReader(now_ns=lambda: int(clock().timestamp() * 10**9)))
    findings = look.find_secrets()
    excluded = _excluded(tree, reserved, look)
    fresh = [*work.fresh(), *((f"/{path}", size) for path, size in environment.fresh())]
    return SnapshotPlan(
        capture_from=roots.capture_from,
        work_root=roots.work_root,
        work_files=work.count(),
        work_bytes=tree.bytes,
        environment_files=environment.count(),
        environment_bytes=environment.bytes(),
        new_files=len(fresh),
        new_bytes=sum(size for _, size in fresh),
        environment_unchanged=bool(environment.known) and not environment.differs,
        limit_bytes=request.limit_bytes,
        excluded=tuple(excluded[:MAX_LISTED]),
        secrets_excluded=tuple(sorted(tree.secrets)[:MAX_LISTED]),
        findings=findings,
        heaviest=heaviest_directories(entries),
        warnings=_warnings(request, roots, tree, look),
        removed_files=work.count_removed() + environment.count_removed(),
        new=tuple(sorted(fresh, key=lambda item: (-item[1], item[0]))[:MAX_NEW]),
        excluded_count=len(excluded),
        environment_layers=plan_layers(environment.entries, environment.known, environment.comparison, roots),
    )


@dataclass(slots=True)
class _Part:
    """The work tree or the environment beside what the index knows of it."""

    entries: Mapping[str, os.stat_result]
    known: Mapping[str, IndexedFile]
    comparison: Comparison = field(init=False)

    def __post_init__(self) -> None:
        self.comparison = compare(self.entries, self.known)

    @property
    def differs(self) -> bool:
        return bool(self.comparison.changed or self.comparison.removed)

    def fresh(self) -> Iterator[tuple[str, int]]:
        """Files that the index has not seen as they are now, with their sizes."""
        found = ((path, self.entries[path]) for path in self.comparison.changed)
        return ((path, entry.st_size) for path, entry in found if stat.S_ISREG(entry.st_mode))

    def count(self) -> int:
        return sum(not stat.S_ISDIR(found.st_mode) for found in self.entries.values())

    def count_removed(self) -> int:
        return sum(not stat.S_ISDIR(self.known[path].mode) for path in self.comparison.removed)

    def bytes(self) -> int:
        return sum(found.st_size for found in self.entries.values() if stat.S_ISREG(found.st_mode))


@dataclass(slots=True)
class _Look:
    """Looks into new and changed files of the work tree, and notes the ones that cannot be read."""

    work: _Part
    roots: CaptureRoots
    reader: FileReader
    unreadable: list[str] = field(default_factory=list)
    unstable: list[str] = field(default_factory=list)

    def find_secrets(self) -> tuple[SecretFinding, ...]:
        """What the last capture found in files that are unchanged, and what new or changed ones show."""
        comparison = self.work.comparison
        unchanged = {path: self.work.known[path] for path in (*comparison.same, *comparison.suspect)}
        found = findings_of(unchanged)
        scanned = 0
        for path, size in sorted(self.work.fresh(), key=lambda item: (not item[0].endswith(".ipynb"), item[0])):
            if not os.access(self._absolute(path), os.R_OK, effective_ids=True):
                self.unreadable.append(path)
            elif size <= _limit_bytes(path) and scanned < MAX_SCANNED_FILES:
                scanned += 1
                found += [SecretFinding(path=path, line=line, kind=kind) for line, kind in self._scan(path)]
        return tuple(sorted(found, key=lambda finding: (finding.path, finding.line))[:MAX_LISTED])

    def _scan(self, path: str) -> list[tuple[int, str]]:
        try:
            data = self.reader.read(self._absolute(path)).data or b""
        except UnstableFileError:
            self.unstable.append(path)
            return []
        except (VanishedFileError, FileUnreadableError, SnapshotError):
            return []
        return find_secrets(data) if is_scanned(path, data) else []

    def _absolute(self, path: str) -> str:
        return os.path.join(self.roots.work_root, path)


def _limit_bytes(path: str) -> int:
    return MAX_NOTEBOOK_BYTES if path.endswith(".ipynb") else MAX_SCANNED_BYTES


def _excluded(tree: Tree, reserved: list[str], look: _Look) -> list[Excluded]:
    """What no pattern explains first, then directories, which are not measured, then the largest."""
    causes = [
        *((path, RESERVED) for path in reserved),
        *((path, UNREADABLE) for path in (*tree.unreadable, *look.unreadable)),
        *((path, UNSTABLE) for path in look.unstable),
        *tree.skipped,
    ]
    ordered = sorted(tree.excluded, key=lambda entry: (entry.bytes is not None, -(entry.bytes or 0), entry.path))
    return [*(Excluded(path=path, rule=cause) for path, cause in causes), *ordered]


def _warnings(request: CaptureRequest, roots: CaptureRoots, tree: Tree, look: _Look) -> tuple[str, ...]:
    warnings = [*roots.warnings, *tree_warnings(tree)]
    if tree.over or tree.bytes > request.limit_bytes:
        warnings.insert(
            0,
            f"{roots.work_root} holds more than the {request.limit_bytes / 1e9:.1f} GB that a snapshot may have:"
            " leave out large files with lines in .batchignore.",
        )
    unreadable = [*tree.unreadable, *look.unreadable]
    warnings += [f"{path} cannot be read: leave it out, or change its permissions." for path in unreadable[:10]]
    return tuple(warnings)
