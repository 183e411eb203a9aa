"""Which directories a capture reads, and which of them belongs to what.

Environment prefixes inside the work root are captured as environment and appear in the work tree as empty
directories; a work root inside a prefix likewise. All paths are real paths.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..capture_models import CaptureRequest
from ..errors import NotebookMissingError
from ..words import CaptureFrom
from .ignore import build_scope
from .listing import list_everything
from .scout import Walk
from .walk import Tree, WalkOptions, unlistable, walk_tree

_SYSTEM = ("/proc", "/sys", "/dev", "/run")
_ENVIRONMENT_PARTS = (
    "bin",
    "lib",
    "lib64",
    "include",
    "share",
    "etc",
    "conda-meta",
    "man",
    "sbin",
    "ssl",
    "x86_64-conda-linux-gnu",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureRoots:
    """The directories of one capture.

    Attributes:
        notebook: Relative to ``work_root``.
        prefixes: Environment directories, outermost ones before those inside them.
        sources: Source directories of editable installs that are not in the work tree anyway.
        never: Left out everywhere.
        warnings: What is not captured although the environment names it.
    """

    capture_from: CaptureFrom
    work_root: str
    notebook: str
    prefixes: tuple[str, ...]
    sources: tuple[str, ...]
    never: frozenset[str]
    warnings: tuple[str, ...] = ()

    @property
    def environment_roots(self) -> tuple[str, ...]:
        return (*self.prefixes, *self.sources)

    @property
    def environment_walk(self) -> Walk | None:
        """What finds all of the environment; None when ignore rules have a say in it."""
        return None if self.sources else Walk.of(self.prefixes, tuple(self.never), tuple(self.hollow))

    @property
    def hollow(self) -> frozenset[str]:
        """Directories whose content is captured for themselves, wherever they lie."""
        return frozenset({self.work_root, *self.environment_roots})


def resolve_roots(request: CaptureRequest, capture_from: CaptureFrom) -> CaptureRoots:
    """The roots for a work tree taken from the root directory or from the notebook's folder.

    Raises:
        NotebookMissingError: the notebook is not a file.
    """
    folder = os.path.realpath(request.notebook.parent)
    notebook = os.path.join(folder, request.notebook.name)
    if not os.path.isfile(notebook):
        raise NotebookMissingError(
            f"There is no notebook {request.notebook.name}.",
            hint="Save it, or check its path.",
            details={"path": str(request.notebook)},
        )
    root = os.path.realpath(request.root_dir)
    if capture_from is not CaptureFrom.ROOT or not is_below(notebook, root):
        capture_from, root = CaptureFrom.FOLDER, folder
    never = frozenset({*map(os.path.realpath, (*request.never, *request.environment.apart)), *_SYSTEM})
    prefixes = _prefixes(request, root)
    sources, warnings = _sources(request, root, prefixes)
    return CaptureRoots(
        capture_from=capture_from,
        work_root=root,
        notebook=os.path.relpath(notebook, root),
        prefixes=prefixes,
        sources=sources,
        never=never - {root},
        warnings=warnings,
    )


def choose_work_tree(
    request: CaptureRequest, *, on_tick: Callable[[], None] | None = None, stop_at_limit: bool = True
) -> tuple[CaptureRoots, Tree]:
    """Walk the work tree that the request asks for; ``auto`` falls back to the folder when the root is too large.

    Args:
        stop_at_limit: False walks on, to tell what is heavy.

    Raises:
        NotebookMissingError, FileUnreadableError, SnapshotError
    """
    if request.capture_from is CaptureFrom.AUTO:
        roots = resolve_roots(request, CaptureFrom.ROOT)
        tree = walk_work(roots, request, on_tick=on_tick, limit_bytes=request.limit_bytes)
        if roots.capture_from is CaptureFrom.FOLDER or not tree.over:
            return roots, tree
    wanted = CaptureFrom.ROOT if request.capture_from is CaptureFrom.ROOT else CaptureFrom.FOLDER
    roots = resolve_roots(request, wanted)
    limit = request.limit_bytes if stop_at_limit else None
    return roots, walk_work(roots, request, on_tick=on_tick, limit_bytes=limit)


def walk_work(
    roots: CaptureRoots, request: CaptureRequest, *, on_tick: Callable[[], None] | None, limit_bytes: int | None
) -> Tree:
    """Walk the work tree; the notebook is a regular file in it whatever it is on disk."""
    tree = walk_tree(
        roots.work_root,
        WalkOptions(
            scope=build_scope(request.exclude),
            never=roots.never,
            hollow=frozenset(path for path in roots.prefixes if is_below(path, roots.work_root)),
            always=roots.notebook,
            limit_bytes=limit_bytes,
            on_tick=on_tick,
        ),
    )
    found = tree.entries.get(roots.notebook)
    if found is not None and stat.S_ISLNK(found.st_mode):
        tree.entries[roots.notebook] = os.stat(os.path.join(roots.work_root, roots.notebook))
    return tree


def walk_environment(roots: CaptureRoots, *, on_tick: Callable[[], None] | None = None) -> dict[str, os.stat_result]:
    """Everything in the environment by its absolute path without the leading ``/``.

    Raises:
        FileUnreadableError: one of its directories cannot be listed.
        SnapshotError: an ignore file in an editable source is not valid.
    """
    entries: dict[str, os.stat_result] = {}
    for root in roots.environment_roots:
        hollow = roots.hollow - {root}
        if root in roots.sources:
            options = WalkOptions(never=roots.never, hollow=hollow, scope=build_scope(()), on_tick=on_tick)
            base = root.lstrip("/")
            found = {f"{base}/{path}" if path else base: e for path, e in walk_tree(root, options).entries.items()}
        else:
            with unlistable(root):
                found = list_everything(root, never=roots.never, hollow=hollow, on_tick=on_tick)
        entries.update(found)
    return entries


def is_below(path: str, directory: str) -> bool:
    """Strictly below."""
    return path.startswith(directory.rstrip("/") + "/") and path != directory


def _prefixes(request: CaptureRequest, work_root: str) -> tuple[str, ...]:
    """The environment's directories; only the environment's own parts of one that is the work root too."""
    found: list[str] = []
    for prefix in (os.path.realpath(path) for path in request.environment.prefixes):
        if prefix == work_root:
            parts = [os.path.join(prefix, name) for name in _ENVIRONMENT_PARTS]
            found += [part for part in parts if os.path.isdir(part) and not os.path.islink(part)]
        elif os.path.isdir(prefix):
            found.append(prefix)
    return tuple(sorted(dict.fromkeys(found)))


def _sources(
    request: CaptureRequest, work_root: str, prefixes: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    home = os.path.realpath(os.path.expanduser("~"))
    kept: list[str] = []
    warnings: list[str] = []
    for source in sorted(os.path.realpath(path) for path in request.environment.editable_sources):
        covered = any(source == other or is_below(source, other) for other in (work_root, *prefixes, *kept))
        if covered or not os.path.isdir(source):
            continue
        if source in (home, "/") or is_below(home, source):
            warnings.append(f"An editable install is in {source}, which is too broad to capture; it is left out.")
        else:
            kept.append(source)
    return tuple(kept), tuple(warnings)
