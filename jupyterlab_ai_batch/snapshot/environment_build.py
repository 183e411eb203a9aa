"""Filling a new directory with a Snapshot's environment: links where this machine has a file, layers for the rest."""

from __future__ import annotations

import errno
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..models import EnvironmentMount, EnvironmentView
from ..oci.manifest import LayerRole, SnapshotImage
from ..oci.port import BlobStore
from .captured import environment_key
from .environment_extract import Wanted, extract_files
from .environment_index import ENVIRONMENT_INDEX_PATH, EnvironmentEntry, read_environment_index
from .environment_layers import environment_digest
from .environment_live import Signature, current_signature, find_unchanged, is_file, is_writable, signature_of
from .environment_made import MadeFile, MadeFiles, note_made
from .extract import TreeWriter, check_path
from .index import SignatureIndex
from .limits import Budget
from .reuse import EarlierFiles
from .stored import read_single_file
from .tarstream import corrupt

_NO_LINK = frozenset({errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS})


@dataclass(frozen=True, slots=True)
class Roots:
    """The environment's directories, numbered in the order of ``paths``."""

    paths: tuple[str, ...]
    sources: frozenset[int]
    innermost_first: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, image: SnapshotImage) -> Roots:
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
class Builder:
    """Fills the private directory ``building``."""

    store: BlobStore
    image: SnapshotImage
    building: Path
    budget: Budget
    earlier: EarlierFiles
    files: MadeFiles = field(default_factory=dict)
    moved: list[tuple[str, int, int]] = field(default_factory=list)
    linked_files: int = 0
    copied_bytes: int = 0

    def build(self, target: Path, index: SignatureIndex | None) -> EnvironmentView:
        roots = Roots.of(self.image)
        entries = read_entries(self.store, self.image, self.budget)
        key = environment_key(roots.paths)
        known = index.load_tree(key).files if index is not None else {}
        linkable = [e for e in entries if is_file(e) and roots.number(e.path) not in roots.sources]
        live = find_unchanged(linkable, known)
        earlier = self.earlier.find(entry for entry in linkable if entry.path not in live)
        used_live = self._write(roots, entries, live, earlier)
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
            linked_files=self.linked_files,
            copied_bytes=self.copied_bytes,
            warnings=tuple(_live_warning(roots.paths[number]) for number in sorted(used_live)),
        )
        note_made(self.building, environment_digest(self.image.layers), view, self.files)
        return view

    def _write(
        self,
        roots: Roots,
        entries: list[EnvironmentEntry],
        live: Mapping[str, Signature],
        earlier: Mapping[str, tuple[str, Signature]],
    ) -> set[int]:
        """Write every root; returns the numbers of those that are used as they are."""
        by_root: dict[int, list[EnvironmentEntry]] = {number: [] for number in range(len(roots.paths))}
        for entry in entries:
            by_root[roots.number(entry.path)].append(entry)
        used_live: set[int] = set()
        missing: dict[str, tuple[str, EnvironmentEntry]] = {}
        with TreeWriter(self.building) as writer:
            for number, members in by_root.items():
                writer.add_directory(str(number), mode=0o755, mtime_ns=0)
                left = self._link(writer, roots, members, live, earlier)
                if left is None:
                    used_live.add(number)
                else:
                    missing.update(left)
            extract_files(self.store, self.image, writer, missing, self.budget)
            writer.finish()
        self.copied_bytes = sum(entry.size for _, entry in missing.values())
        self.files.update(look_at(self.building, missing.values()))
        return used_live

    def _link(
        self,
        writer: TreeWriter,
        roots: Roots,
        members: list[EnvironmentEntry],
        live: Mapping[str, Signature],
        earlier: Mapping[str, tuple[str, Signature]],
    ) -> Wanted | None:
        """Directories, symlinks and hard links of one root; what is missing then, None for: use it as it is."""
        missing: dict[str, tuple[str, EnvironmentEntry]] = {}
        any_linked = refused = False
        for entry in members:
            place = roots.place(entry.path)
            if stat.S_ISDIR(entry.mode):
                add_directory(writer, place, entry)
            elif stat.S_ISLNK(entry.mode):
                writer.add_symlink(place, entry.target, mtime_ns=entry.mtime_ns)
            elif entry.path in live and not refused and self._link_live(writer, place, entry, live[entry.path]):
                any_linked = True
            elif entry.path in earlier and self._link_file(writer, place, entry, *earlier[entry.path]):
                pass
            else:
                missing[entry.path] = (place, entry)
                if entry.path in live and not any_linked and not refused:
                    if _is_fixed(members, live):
                        return None
                    refused = True
        return missing

    def _link_live(self, writer: TreeWriter, place: str, entry: EnvironmentEntry, expected: Signature) -> bool:
        linked = self._link_file(writer, place, entry, f"/{entry.path}", expected)
        if linked:
            self.moved.append((entry.path, expected[3], self.files[place].signature[3]))
        return linked

    def _link_file(
        self, writer: TreeWriter, place: str, entry: EnvironmentEntry, source: str, expected: Signature
    ) -> bool:
        try:
            found = signature_of(writer.link_from(source, place))
        except OSError as exc:
            if exc.errno in _NO_LINK or isinstance(exc, FileNotFoundError):
                return False
            raise
        if (found[:3], found[4]) != (expected[:3], expected[4]):
            writer.remove_file(place)
            return False
        self.files[place] = MadeFile(found, entry.sha256)
        self.linked_files += 1
        return True


def _is_fixed(members: list[EnvironmentEntry], live: Mapping[str, Signature]) -> bool:
    """Whether a root is unchanged and the user cannot change it."""
    if not all(entry.path in live for entry in members if is_file(entry)):
        return False
    return not is_writable([f"/{entry.path}" for entry in members if stat.S_ISDIR(entry.mode)])


def _live_warning(path: str) -> str:
    return f"{path} is used as it is: it cannot be linked, and you cannot change it."


def read_entries(store: BlobStore, image: SnapshotImage, budget: Budget) -> list[EnvironmentEntry]:
    layers = image.with_role(LayerRole.ENVIRONMENT_INDEX)
    if len(layers) != 1:
        raise corrupt("no list of the environment's files")
    entries: list[EnvironmentEntry] = []
    for entry in read_environment_index(read_single_file(store, layers[0], ENVIRONMENT_INDEX_PATH)):
        budget.draw_entry()
        entries.append(entry)
    return entries


def add_directory(writer: TreeWriter, place: str, entry: EnvironmentEntry) -> None:
    writer.add_directory(place, mode=(entry.mode & 0o755) | 0o700, mtime_ns=entry.mtime_ns)


def look_at(directory: Path, made: Iterable[tuple[str, EnvironmentEntry]]) -> MadeFiles:
    """What was just written, as it lies there."""
    return {
        place: MadeFile(signature, entry.sha256)
        for place, entry in made
        if (signature := current_signature(str(directory / place))) is not None
    }
