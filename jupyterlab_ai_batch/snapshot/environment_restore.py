"""A Snapshot's environment made ready on this machine, without copying what the live one still has.

A live file that is still the captured one gets a second name (hard link) below the target. Installers replace files
and never write into them, so a later upgrade does not reach the job; where somebody did write into one, the next use
of the target notices, drops the link and takes the file from its layer. Sources of editable installs are written in
place all the time: they always come from the layers.
"""

from __future__ import annotations

import errno
import gzip
import json
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .. import wire
from ..errors import BaseImageError, SnapshotCorruptError, StorageError
from ..models import EnvironmentMount, EnvironmentView
from ..oci.manifest import LayerRole, SnapshotImage
from ..oci.port import BlobStore
from ..oci.storage import locked, replace_file, storage_errors
from .captured import environment_key
from .environment_extract import extract_files
from .environment_index import ENVIRONMENT_INDEX_PATH, EnvironmentEntry, read_environment_index
from .environment_layers import environment_digest
from .environment_live import (
    Signature,
    current_signature,
    find_intact,
    find_unchanged,
    is_file,
    is_writable,
    signature_of,
)
from .extract import TreeWriter, built_beside, check_path
from .index import SignatureIndex
from .limits import DEFAULT_LIMITS, Budget, RestoreLimits
from .stored import read_image, read_single_file
from .tarstream import corrupt

_VIEW = "view.json"
_LINKS = "links.json.gz"
_NO_LINK = frozenset({errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """What is written beside a finished environment."""

    digest: str
    view: EnvironmentView


def materialise_environment(
    store: BlobStore,
    digest: str,
    target: Path,
    *,
    index: SignatureIndex | None = None,
    limits: RestoreLimits = DEFAULT_LIMITS,
) -> EnvironmentView:
    """Make the environment of a Snapshot ready in ``target``: missing, empty, or made by an earlier call.

    Several processes may ask for the same target at once. It holds one directory per root of the environment, by
    number. What lies there shares inodes with the live environment: jobs may read it, and must not write into it.

    Args:
        index: Learns that linking moved the ctime of live files, which spares the next capture reading them.

    Raises:
        BaseImageError: the layers hold only what differs from a base image.
        SnapshotCorruptError: a layer is missing or damaged, or holds more than the limits.
        StorageFullError, StorageError: nothing half-made is left in ``target``.
    """
    image = read_image(store, digest)
    if image.content.base is not None:
        raise BaseImageError(
            "The environment of this snapshot lies in its base image.",
            hint="Run it in a queue that starts containers from images.",
            details={"base": image.content.base},
        )
    with storage_errors(target):
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(target.with_name(f"{target.name}.lock")):
            if (target / _VIEW).exists():
                return _check(store, image, target, Budget(limits))
            with built_beside(target) as building:
                return _Builder(store, image, building, Budget(limits)).build(target, index)


def _check(store: BlobStore, image: SnapshotImage, target: Path, budget: Budget) -> EnvironmentView:
    """Make sure that every linked file is still what was captured; take what is not from the layers."""
    try:
        made = wire.loads(_Made, (target / _VIEW).read_bytes())
        links = _decode_links((target / _LINKS).read_bytes())
    except (wire.WireError, ValueError, EOFError) as exc:
        raise StorageError("A prepared environment is damaged.", hint=f"Removing {target} is safe.") from exc
    if made.digest != environment_digest(image.layers):
        raise StorageError("A prepared environment is another one.", hint=f"Removing {target} is safe.")
    doubtful = [path for path, known in links.items() if current_signature(str(target / path)) != known]
    if doubtful:
        _repair(store, image, target, links, doubtful, budget)
    return made.view


def _repair(
    store: BlobStore,
    image: SnapshotImage,
    target: Path,
    links: dict[str, Signature],
    doubtful: list[str],
    budget: Budget,
) -> None:
    wanted = set(doubtful)
    roots = _Roots.of(image)
    entries = {place: e for e in _read_entries(store, image, budget) if (place := roots.place(e.path)) in wanted}
    intact = find_intact({str(target / place): entry.sha256 for place, entry in entries.items()})
    edited: dict[str, tuple[str, EnvironmentEntry]] = {}
    for place, entry in entries.items():
        signature = intact.get(str(target / place))
        if signature is not None and signature[0] == entry.mode:
            links[place] = signature
        else:
            del links[place]
            edited[entry.path] = (place, entry)
    if edited:
        with TreeWriter(target) as writer:
            for place, _ in edited.values():
                writer.remove_file(place)
            extract_files(store, image, writer, edited, budget)
    replace_file(target / _LINKS, _encode_links(links))


@dataclass(frozen=True, slots=True)
class _Roots:
    """The environment's directories, numbered in the order of ``paths``."""

    paths: tuple[str, ...]
    sources: frozenset[int]
    innermost_first: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, image: SnapshotImage) -> _Roots:
        prefixes, sources = image.content.prefixes, image.content.editable_sources
        paths = (*prefixes, *sources)
        for path in paths:
            check_path(path.removeprefix("/"))
            if not path.startswith("/"):
                raise corrupt(f"{path!r} is not absolute")
        numbered = sorted(((f"{path.strip('/')}/", n) for n, path in enumerate(paths)), key=lambda i: -len(i[0]))
        return cls(paths, frozenset(range(len(prefixes), len(paths))), tuple(numbered))

    def number(self, path: str) -> int:
        below = f"{path}/"
        for start, number in self.innermost_first:
            if below.startswith(start):
                return number
        raise corrupt(f"{path!r} is outside the environment")

    def place(self, path: str) -> str:
        """Where an entry lies below the target."""
        number = self.number(path)
        return f"{number}{path[len(self.paths[number].strip('/')) :]}"


@dataclass(slots=True)
class _Builder:
    """Fills the private directory ``building``."""

    store: BlobStore
    image: SnapshotImage
    building: Path
    budget: Budget
    links: dict[str, Signature] = field(default_factory=dict)
    moved: list[tuple[str, int, int]] = field(default_factory=list)
    copied_bytes: int = 0

    def build(self, target: Path, index: SignatureIndex | None) -> EnvironmentView:
        roots = _Roots.of(self.image)
        entries = _read_entries(self.store, self.image, self.budget)
        key = environment_key(roots.paths)
        known = index.load_tree(key).files if index is not None else {}
        linkable = (e for e in entries if is_file(e) and roots.number(e.path) not in roots.sources)
        live = find_unchanged(linkable, known)
        used_live = self._write(roots, entries, live)
        if index is not None and self.moved:
            index.refresh_ctimes(key, self.moved)
        mounts = [
            EnvironmentMount(
                source=Path(path) if number in used_live else target / str(number),
                path=Path(path),
                live=number in used_live,
            )
            for number, path in enumerate(roots.paths)
        ]
        view = EnvironmentView(
            mounts=tuple(sorted(mounts, key=lambda mount: mount.path)),
            linked_files=len(self.links),
            copied_bytes=self.copied_bytes,
            warnings=tuple(_live_warning(roots.paths[number]) for number in sorted(used_live)),
        )
        replace_file(self.building / _LINKS, _encode_links(self.links))
        made = _Made(digest=environment_digest(self.image.layers), view=view)
        replace_file(self.building / _VIEW, wire.dumps(made).encode())
        return view

    def _write(self, roots: _Roots, entries: list[EnvironmentEntry], live: Mapping[str, Signature]) -> set[int]:
        """Write every root; returns the numbers of those that are used as they are."""
        by_root: dict[int, list[EnvironmentEntry]] = {number: [] for number in range(len(roots.paths))}
        for entry in entries:
            by_root[roots.number(entry.path)].append(entry)
        used_live: set[int] = set()
        missing: dict[str, tuple[str, EnvironmentEntry]] = {}
        with TreeWriter(self.building) as writer:
            for number, members in by_root.items():
                writer.add_directory(str(number), mode=0o755, mtime_ns=0)
                left = self._link(writer, roots, members, live)
                if left is None:
                    used_live.add(number)
                else:
                    missing.update(left)
            extract_files(self.store, self.image, writer, missing, self.budget)
            writer.finish()
        self.copied_bytes = sum(entry.size for _, entry in missing.values())
        return used_live

    def _link(
        self, writer: TreeWriter, roots: _Roots, members: list[EnvironmentEntry], live: Mapping[str, Signature]
    ) -> dict[str, tuple[str, EnvironmentEntry]] | None:
        """Directories, symlinks and hard links of one root; what is missing then, None for: use it as it is."""
        missing: dict[str, tuple[str, EnvironmentEntry]] = {}
        can_link = True
        for entry in members:
            place = roots.place(entry.path)
            if stat.S_ISDIR(entry.mode):
                mode = (entry.mode & 0o755) | 0o700
                writer.add_directory(place, mode=mode, mtime_ns=entry.mtime_ns)
            elif stat.S_ISLNK(entry.mode):
                writer.add_symlink(place, entry.target, mtime_ns=entry.mtime_ns)
            elif not can_link or not self._link_file(writer, place, entry.path, live):
                if can_link and entry.path in live and not self._can_link(roots, entry.path):
                    if _is_fixed(members, live):
                        return None
                    can_link = False
                missing[entry.path] = (place, entry)
        return missing

    def _link_file(self, writer: TreeWriter, place: str, path: str, live: Mapping[str, Signature]) -> bool:
        expected = live.get(path)
        if expected is None:
            return False
        try:
            found = signature_of(writer.link_from(f"/{path}", place))
        except OSError as exc:
            if exc.errno in _NO_LINK or isinstance(exc, FileNotFoundError):
                return False
            raise
        if (found[:3], found[4]) != (expected[:3], expected[4]):
            writer.remove_file(place)
            return False
        self.links[place] = found
        self.moved.append((path, expected[3], found[3]))
        return True

    def _can_link(self, roots: _Roots, path: str) -> bool:
        """False when linking failed for the first file of a root: it fails for all of them."""
        number = f"{roots.number(path)}/"
        return any(place.startswith(number) for place in self.links)


def _is_fixed(members: list[EnvironmentEntry], live: Mapping[str, Signature]) -> bool:
    """Whether a root is unchanged and the user cannot change it."""
    if not all(entry.path in live for entry in members if is_file(entry)):
        return False
    return not is_writable([f"/{entry.path}" for entry in members if stat.S_ISDIR(entry.mode)])


def _live_warning(path: str) -> str:
    return f"{path} is used as it is: it cannot be linked, and you cannot change it."


def _read_entries(store: BlobStore, image: SnapshotImage, budget: Budget) -> list[EnvironmentEntry]:
    layers = image.with_role(LayerRole.ENVIRONMENT_INDEX)
    if len(layers) != 1:
        raise corrupt("no list of the environment's files")
    entries: list[EnvironmentEntry] = []
    for entry in read_environment_index(read_single_file(store, layers[0], ENVIRONMENT_INDEX_PATH)):
        budget.draw_entry()
        entries.append(entry)
    return entries


def _encode_links(links: Mapping[str, Signature]) -> bytes:
    return gzip.compress(json.dumps(links, separators=(",", ":")).encode(), compresslevel=1)


def _decode_links(content: bytes) -> dict[str, Signature]:
    parsed = json.loads(gzip.decompress(content))
    if not isinstance(parsed, dict):
        raise SnapshotCorruptError("A prepared environment is damaged.")
    return {str(path): (int(v[0]), int(v[1]), int(v[2]), int(v[3]), int(v[4])) for path, v in parsed.items()}
