"""Filling a new directory with a Snapshot's environment: links where this machine has a file, layers for the rest."""

from __future__ import annotations

import errno
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..capture_models import EnvironmentMount, EnvironmentView
from ..oci.manifest import LayerRole, SnapshotImage
from ..oci.port import BlobStore
from .captured import environment_key
from .environment_extract import WantedFile, extract_files
from .environment_groups import source_of
from .environment_index import ENVIRONMENT_INDEX_PATH, EnvironmentEntry, read_environment_index
from .environment_layers import MTIME_NS, MTIME_S, PYC_TIME_MASK, environment_digest
from .environment_live import IntactFile, current_signature, find_unchanged, is_file, is_writable, signature_of
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
            linked_files=self.linked_files,
            copied_bytes=self.copied_bytes,
            warnings=tuple(_live_warning(roots.paths[number]) for number in sorted(used_live)),
        )
        note_made(self.building, environment_digest(self.image.layers), view, self.files)
        return view

    def _write(self, roots: Roots, entries: list[EnvironmentEntry], live: Mapping[str, IntactFile]) -> set[int]:
        """Write every root; returns the numbers of those that are used as they are."""
        used_live: set[int] = set()
        missing: list[EnvironmentEntry] = []
        by_root: dict[int, list[EnvironmentEntry]] = {number: [] for number in range(len(roots.paths))}
        for entry in entries:
            by_root[roots.number(entry.path)].append(entry)
        with TreeWriter(self.building) as writer:
            for number, members in by_root.items():
                writer.add_directory(str(number), mode=0o755, mtime_ns=MTIME_NS)
                left = self._link_root(writer, roots, members, live)
                if left is None:
                    used_live.add(number)
                else:
                    missing += left
            self._link_earlier(writer, roots, [entry for entry in missing if not entry.is_timed])
            self._link_earlier(writer, roots, [entry for entry in missing if entry.is_timed])
            wanted = {
                entry.path: self._wanted(roots, entry) for entry in missing if roots.place(entry.path) not in self.files
            }
            extract_files(self.store, self.image, writer, wanted, self.budget)
            writer.finish()
        self.copied_bytes = sum(file.entry.size for file in wanted.values())
        self.files.update(look_at(self.building, wanted.values()))
        return used_live

    def _link_root(
        self, writer: TreeWriter, roots: Roots, members: list[EnvironmentEntry], live: Mapping[str, IntactFile]
    ) -> list[EnvironmentEntry] | None:
        """Directories, symlinks and hard links of one root; what is missing then, None for: use it as it is."""
        missing: list[EnvironmentEntry] = []
        any_linked = refused = False
        for entry in sorted(members, key=lambda entry: entry.is_timed):
            place = roots.place(entry.path)
            file = live.get(entry.path)
            if stat.S_ISDIR(entry.mode):
                add_directory(writer, place, entry)
            elif stat.S_ISLNK(entry.mode):
                writer.add_symlink(place, entry.target, mtime_ns=MTIME_NS)
            elif file is None or refused or not self._is_timely(roots, entry, file):
                missing.append(entry)
            elif self._link(writer, place, entry, file):
                self.moved.append((entry.path, file.signature[3], self.files[place].signature[3]))
                any_linked = True
            else:
                missing.append(entry)
                if not any_linked:
                    if _is_fixed(members, live):
                        return None
                    refused = True
        return missing

    def _link_earlier(self, writer: TreeWriter, roots: Roots, entries: list[EnvironmentEntry]) -> None:
        wanted = {entry.path: (entry, self._pyc_time(roots, entry)) for entry in entries}
        for path, file in self.earlier.find(wanted).items():
            self._link(writer, roots.place(path), wanted[path][0], file)

    def _is_timely(self, roots: Roots, entry: EnvironmentEntry, file: IntactFile) -> bool:
        """Whether a .pyc will be valid beside its source as that lies in the new directory."""
        return file.pyc_mtime == self._pyc_time(roots, entry)

    def _pyc_time(self, roots: Roots, entry: EnvironmentEntry) -> int:
        """What the header of a timed .pyc must say: the mtime of its source here; -1 for another file."""
        if not entry.is_timed:
            return -1
        source = self.files.get(roots.place(source_of(entry.path)))
        return MTIME_S if source is None else source.signature[2] // 10**9 & PYC_TIME_MASK

    def _wanted(self, roots: Roots, entry: EnvironmentEntry) -> WantedFile:
        return WantedFile(roots.place(entry.path), entry, pyc_mtime=self._pyc_time(roots, entry))

    def _link(self, writer: TreeWriter, place: str, entry: EnvironmentEntry, file: IntactFile) -> bool:
        expected = file.signature
        try:
            found = signature_of(writer.link_from(file.path, place))
        except OSError as exc:
            if exc.errno in _NO_LINK or isinstance(exc, FileNotFoundError):
                return False
            raise
        if (found[:3], found[4]) != (expected[:3], expected[4]):
            writer.remove_file(place)
            return False
        self.files[place] = MadeFile(found, entry.sha256, file.pyc_mtime)
        self.linked_files += 1
        return True


def _is_fixed(members: list[EnvironmentEntry], live: Mapping[str, IntactFile]) -> bool:
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
    writer.add_directory(place, mode=entry.mode & 0o755, mtime_ns=MTIME_NS)


def look_at(directory: Path, written: Iterable[WantedFile]) -> MadeFiles:
    """What was just written, as it lies there."""
    return {
        file.place: MadeFile(signature, file.entry.sha256, file.pyc_mtime if file.entry.is_timed else -1)
        for file in written
        if (signature := current_signature(str(directory / file.place))) is not None
    }
