"""Walking a tree once: what is there, what is left out and why, and when it is too much."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..capture_models import Excluded
from ..errors import FileUnreadableError
from .ignore import DEFAULT_ORIGIN, IGNORE_FILE, OTHER_ENVIRONMENT, Ignored, IgnoreScope, is_environment

MAX_ENTRIES = 2_000_000

_SPECIAL = {stat.S_IFSOCK: "a socket", stat.S_IFIFO: "a FIFO", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


@dataclass(slots=True)
class Tree:
    """What a walk found.

    Attributes:
        top: Absolute path.
        entries: Relative path to lstat of every file, symlink and directory that is captured; parents come with
            their children. The top itself has the path ``""``.
        bytes: Apparent size of the files: holes count.
        skipped: (path, what it is) of sockets and the like.
        unreadable: Directories that could not be listed.
        over: True when a limit ended the walk early; everything else is incomplete then.
    """

    top: str
    entries: dict[str, os.stat_result] = field(default_factory=dict)
    bytes: int = 0
    excluded: list[Excluded] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    over: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WalkOptions:
    """How to walk.

    Attributes:
        scope: Ignore rules.
        never: Absolute directories that are left out whatever the rules say.
        hollow: Absolute directories that are kept, but empty: something else covers their content.
        always: Relative path of the one file (the notebook) that no rule leaves out.
        limit_bytes, limit_entries: The walk ends once one of them is passed.
        on_tick: Called every few thousand entries.
    """

    scope: IgnoreScope = field(default_factory=IgnoreScope)
    never: Collection[str] = ()
    hollow: Collection[str] = ()
    always: str | None = None
    limit_bytes: int | None = None
    limit_entries: int = MAX_ENTRIES
    on_tick: Callable[[], None] | None = None


def walk_tree(top: str, options: WalkOptions) -> Tree:
    """Walk ``top``, never following symlinks below it.

    Raises:
        FileUnreadableError: ``top`` itself cannot be listed.
        SnapshotError: an ignore file is not valid.
    """
    return _Walk(top, options).run()


@contextmanager
def unlistable(top: str) -> Iterator[None]:
    """Say which directory could not be walked."""
    try:
        yield
    except OSError as exc:
        raise FileUnreadableError(f"The directory {top} cannot be read.", details={"path": top}) from exc


class _Walk:
    def __init__(self, top: str, options: WalkOptions) -> None:
        self._top = top
        self._options = options
        self._tree = Tree(top)
        self._stack: list[tuple[str, str, os.stat_result, IgnoreScope]] = []
        self._always_parents = _parents(options.always) if options.always else frozenset()

    def run(self) -> Tree:
        with unlistable(self._top):
            self._stack.append((self._top, "", os.lstat(self._top), self._options.scope))
            while self._stack and not self._tree.over:
                self._visit(*self._stack.pop())
        return self._tree

    def _visit(self, absolute: str, path: str, found: os.stat_result, scope: IgnoreScope) -> None:
        try:
            with os.scandir(absolute) as listing:
                children = list(listing)
        except FileNotFoundError:
            return
        except OSError:
            if not path:
                raise
            self._tree.unreadable.append(path)
            return
        entered = self._enter(path, scope, frozenset(child.name for child in children))
        if entered is None:
            return
        if entered.inherited is None:
            self._keep_directory(path, found)
        prefix = f"{path}/" if path else ""
        for child in children:
            self._child(child, prefix + child.name, entered)
        self._check_limits()

    def _enter(self, path: str, scope: IgnoreScope, names: frozenset[str]) -> IgnoreScope | None:
        """The scope in a directory with these entries; None when it is another environment."""
        if path and is_environment(names) and not scope.takes_back(path) and path not in self._always_parents:
            self._tree.excluded.append(Excluded(path=path, rule=OTHER_ENVIRONMENT, origin=DEFAULT_ORIGIN))
            return None
        if IGNORE_FILE in names:
            return scope.with_file(path, _path(self._top, path, IGNORE_FILE))
        return scope

    def _child(self, child: os.DirEntry[str], path: str, scope: IgnoreScope) -> None:
        try:
            is_directory = child.is_dir(follow_symlinks=False)
            if is_directory and child.path in self._options.never:
                return
            ignored = self._decide(path, child.name, scope, is_directory=is_directory)
            found = child.stat(follow_symlinks=False)
        except FileNotFoundError:
            return
        if is_directory:
            self._directory(child.path, path, found, scope, ignored)
        elif ignored is not None:
            self._leave_out(path, ignored, found.st_size)
        else:
            self._keep(path, found)

    def _decide(self, path: str, name: str, scope: IgnoreScope, *, is_directory: bool) -> Ignored | None:
        if path == self._options.always:
            return None
        return scope.decide(path, name, is_directory=is_directory)

    def _directory(
        self, absolute: str, path: str, found: os.stat_result, scope: IgnoreScope, ignored: Ignored | None
    ) -> None:
        if absolute in self._options.hollow:
            self._keep_directory(path, found)
        elif ignored is None:
            self._stack.append((absolute, path, found, scope.enter()))
        else:
            below = scope.enter_excluded(path, ignored)
            if below is None and path in self._always_parents:
                below = IgnoreScope(inherited=ignored)
            if below is not None:
                self._stack.append((absolute, path, found, below))
            if path not in self._always_parents:
                self._leave_out(path, ignored, None)

    def _leave_out(self, path: str, ignored: Ignored, size: int | None) -> None:
        if ignored.secret:
            self._tree.secrets.append(path)
        self._tree.excluded.append(Excluded(path=path, rule=ignored.rule, bytes=size, origin=ignored.origin))

    def _keep(self, path: str, found: os.stat_result) -> None:
        kind = stat.S_IFMT(found.st_mode)
        if kind in _SPECIAL:
            self._tree.skipped.append((path, _SPECIAL[kind]))
            return
        self._keep_parents(path)
        self._tree.entries[path] = found
        if kind == stat.S_IFREG:
            self._tree.bytes += found.st_size

    def _keep_directory(self, path: str, found: os.stat_result) -> None:
        self._keep_parents(path)
        self._tree.entries[path] = found

    def _keep_parents(self, path: str) -> None:
        """Directories above something that was taken back from an excluded one."""
        parent = path.rpartition("/")[0]
        if parent in self._tree.entries or not path:
            return
        try:
            found = os.lstat(_path(self._top, parent, ""))
        except OSError:
            return
        self._keep_directory(parent, found)

    def _check_limits(self) -> None:
        limit = self._options.limit_bytes
        if len(self._tree.entries) > self._options.limit_entries or (limit is not None and self._tree.bytes > limit):
            self._tree.over = True
        if self._options.on_tick is not None:
            self._options.on_tick()


def _path(top: str, *parts: str) -> str:
    return "/".join(part for part in (top.rstrip("/"), *parts) if part) or "/"


def _parents(path: str) -> frozenset[str]:
    parts = path.split("/")
    return frozenset("/".join(parts[:count]) for count in range(1, len(parts)))
