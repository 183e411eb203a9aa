"""A session's container: what lies in its own root filesystem that its image does not have, and what is gone from it.

A file is the image's when image and disk agree on its kind, size and time, and nothing has touched it since the
container started: its change time tells, which no program can set back. So the wrong image, a volume mounted over a
directory or a restored clock make the result larger, never wrong.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from ..oci.base_image import BaseImage
from ..oci.manifest import Layer, LayerRole
from ..oci.port import BlobStore
from .base_files import BaseFile, load_base_files
from .container import Container
from .index import SignatureIndex
from .layers import Workbench
from .roots import CaptureRoots, is_below
from .tarstream import FILE, WHITEOUT, TarHeader, TarWriter

_NS = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """How a tree differs from a base image.

    Attributes:
        entries: What is new or not the same.
        removed: The topmost paths that the base has and the tree has not.
        is_delta: Whether files of the tree are left to the base.
    """

    entries: Mapping[str, os.stat_result]
    removed: tuple[str, ...] = ()
    is_delta: bool = False


def changes_since(
    base: BaseImage,
    entries: Mapping[str, os.stat_result],
    *,
    roots: CaptureRoots,
    container: Container,
    store: BlobStore,
    index: SignatureIndex,
    on_tick: Callable[[], None] = lambda: None,
) -> Changes:
    """How an environment differs from the image that this container was started from.

    Args:
        entries: From ``walk_environment``.
        store: Has the base's layers.

    Raises:
        BaseImageError, SnapshotCorruptError, StorageError: the base cannot be read.
    """
    files = load_base_files(store, base, under=roots.environment_roots, index=index, on_tick=on_tick)
    inside = [roots.work_root] if any(is_below(roots.work_root, root) for root in roots.environment_roots) else []
    return find_changes(
        entries,
        files,
        started_ns=container.started_ns,
        device=container.device,
        apart=[*roots.never, *inside],
    )


def find_changes(
    entries: Mapping[str, os.stat_result],
    base: Mapping[str, BaseFile],
    *,
    started_ns: int | None,
    device: int,
    apart: Collection[str] = (),
    exists: Callable[[str], bool] = os.path.lexists,
) -> Changes:
    """Compare a walked tree with the base image under it; a pure function but for ``exists``.

    Args:
        entries: By absolute path without its leading ``/``.
        started_ns, device: See ``Container``; what lies on another is never the image's.
        apart: Absolute directories that were not walked; nothing is known to be gone from them.
        exists: Asked about an absolute path before it counts as removed: a walk passes over what it may not read.
    """
    changed = {
        path: found
        for path, found in entries.items()
        if path not in base or not _is_same(found, base[path], started_ns, device)
    }
    is_delta = any(path not in changed and not stat.S_ISDIR(found.st_mode) for path, found in entries.items())
    not_walked = tuple(f"{directory.strip('/')}/" for directory in apart)
    removed = (
        path
        for path in _topmost_missing(entries, base)
        if not f"{path}/".startswith(not_walked) and not exists(f"/{path}")
    )
    return Changes(entries=changed if is_delta else entries, removed=tuple(sorted(removed)), is_delta=is_delta)


def removed_layers(bench: Workbench, removed: Sequence[str]) -> tuple[Layer, ...]:
    """The layer that hides what is gone from the layers below it; none where nothing is."""
    fill = partial(write_removed, removed)
    return (bench.write_layer(LayerRole.ENVIRONMENT, "removed", fill),) if removed else ()


def write_removed(removed: Sequence[str], writer: TarWriter) -> None:
    for path in removed:
        parent, _, name = path.rpartition("/")
        writer.add(TarHeader(path=f"{parent}/{WHITEOUT}{name}" if parent else WHITEOUT + name, kind=FILE, mode=0o600))


def _is_same(found: os.stat_result, base: BaseFile, started_ns: int | None, device: int) -> bool:
    if stat.S_IFMT(found.st_mode) != base.kind:
        return False
    if base.kind == stat.S_IFDIR:
        return True  # its own entries tell; modes and times of an environment's directories are not kept
    if found.st_dev != device or (started_ns is not None and found.st_ctime_ns >= started_ns):
        return False
    same_mode = base.kind != stat.S_IFREG or bool(found.st_mode & 0o111) == base.executable
    return same_mode and found.st_size == base.size and found.st_mtime_ns // _NS == base.mtime_s


def _topmost_missing(entries: Mapping[str, os.stat_result], base: Mapping[str, BaseFile]) -> Iterator[str]:
    """What the base has in a directory that is still one."""
    for path in base:
        if path not in entries:
            parent = entries.get(path.rpartition("/")[0])
            if parent is not None and stat.S_ISDIR(parent.st_mode):
                yield path
