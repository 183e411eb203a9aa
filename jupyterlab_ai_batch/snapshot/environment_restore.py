"""A Snapshot's environment made ready on this machine, without copying what the live one still has.

A live file that is still the captured one gets a second name (hard link) below the target. Installers replace files
and never write into them, so a later upgrade does not reach the job; where somebody did write into one, the next use
of the target notices, drops the link and takes the file from its layer. Files that other environments here have are
linked too: several that differ by one package take the space of one. Sources of editable installs are written in place
all the time: they always come from the layers.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..capture_models import EnvironmentView
from ..errors import BaseImageError
from ..oci.manifest import SnapshotImage
from ..oci.port import BlobStore
from ..oci.storage import locked, storage_errors
from .environment_build import Builder, Roots, add_directory, look_at, read_entries
from .environment_extract import WantedFile, extract_files
from .environment_layers import environment_digest
from .environment_live import current_signature, find_intact
from .environment_made import MadeFiles, is_made, note_files, read_files, read_made
from .extract import TreeWriter, built_beside
from .index import SignatureIndex
from .limits import DEFAULT_LIMITS, Budget, RestoreLimits
from .reuse import EarlierFiles
from .stored import read_image


def materialise_environment(
    store: BlobStore,
    digest: str,
    target: Path,
    *,
    earlier: Iterable[Path] = (),
    index: SignatureIndex | None = None,
    limits: RestoreLimits = DEFAULT_LIMITS,
) -> EnvironmentView:
    """Make the environment of a Snapshot ready in ``target``: missing, empty, or made by an earlier call.

    Several processes may ask for the same target at once. It holds one directory per root of the environment, by
    number. What lies there shares inodes with the live environment: jobs may read it, and must not write into it.

    Args:
        earlier: Targets of other calls; files that are equal there are linked too.
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
            if is_made(target):
                return _check(store, image, target, Budget(limits))
            with built_beside(target) as building:
                return Builder(store, image, building, Budget(limits), EarlierFiles(earlier)).build(target, index)


def _check(store: BlobStore, image: SnapshotImage, target: Path, budget: Budget) -> EnvironmentView:
    """Make sure that every file is still what was captured; take what is not from the layers."""
    view = read_made(target, environment_digest(image.layers))
    files = read_files(target)
    doubtful = {place for place, file in files.items() if current_signature(str(target / place)) != file.signature}
    if doubtful:
        _repair(store, image, target, files, doubtful, budget)
    return view


def _repair(
    store: BlobStore, image: SnapshotImage, target: Path, files: MadeFiles, doubtful: set[str], budget: Budget
) -> None:
    roots = Roots.of(image)
    all_entries = {roots.place(entry.path): entry for entry in read_entries(store, image, budget)}
    entries = {place: all_entries[place] for place in doubtful & all_entries.keys()}
    intact = find_intact({str(target / place): entry for place, entry in entries.items()})
    edited: dict[str, WantedFile] = {}
    for place, entry in entries.items():
        made, found = files[place], intact.get(str(target / place))
        if found is not None and (found.signature[:3], found.pyc_mtime) == (made.signature[:3], made.pyc_mtime):
            files[place] = made._replace(signature=found.signature)
        else:
            edited[entry.path] = WantedFile(place, entry, made.signature[2], made.pyc_mtime)
    if edited:
        with TreeWriter(target) as writer:
            for file in edited.values():
                writer.remove_file(file.place)
            extract_files(store, image, writer, edited, budget)
            for parent in {file.place.rpartition("/")[0] for file in edited.values()} & all_entries.keys():
                add_directory(writer, parent, all_entries[parent])
            writer.finish()
        files.update(look_at(target, edited.values()))
    note_files(target, files)
