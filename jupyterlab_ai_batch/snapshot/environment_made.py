"""What is noted beside a finished environment: what it is, and every file as it was when it was made."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from .. import wire
from ..capture_models import EnvironmentView
from ..errors import StorageError
from ..oci.storage import replace_file
from .environment_live import Signature

_VIEW = "view.json"
_FILES = "files.json.gz"


class MadeFile(NamedTuple):
    """A file below the target.

    Attributes:
        sha256: Of the content as stored, in hexadecimal.
        pyc_mtime: The source's mtime in the header of a timed .pyc, in seconds modulo 2**32; else -1.
    """

    signature: Signature
    sha256: str
    pyc_mtime: int


MadeFiles = dict[str, MadeFile]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Note:
    digest: str
    view: EnvironmentView


def is_made(directory: Path) -> bool:
    return (directory / _VIEW).exists()


def note_made(directory: Path, digest: str, view: EnvironmentView, files: Mapping[str, MadeFile]) -> None:
    """Say that an environment is finished.

    Raises:
        OSError
    """
    note_files(directory, files)
    replace_file(directory / _VIEW, wire.dumps(_Note(digest=digest, view=view)).encode())


def note_files(directory: Path, files: Mapping[str, MadeFile]) -> None:
    listed = {place: [*file.signature, file.sha256, file.pyc_mtime] for place, file in files.items()}
    replace_file(directory / _FILES, gzip.compress(json.dumps(listed, separators=(",", ":")).encode(), compresslevel=1))


def read_made(directory: Path, digest: str) -> EnvironmentView:
    """The view of a finished environment.

    Raises:
        StorageError: it is damaged, or another one than ``digest`` says.
        OSError
    """
    try:
        note = wire.loads(_Note, (directory / _VIEW).read_bytes())
    except (wire.WireError, ValueError) as exc:
        raise _unusable(directory, "damaged") from exc
    if note.digest != digest:
        raise _unusable(directory, "another one")
    return note.view


def read_files(directory: Path) -> MadeFiles:
    """The files of a finished environment, by path below it.

    Raises:
        StorageError: the list is damaged.
        OSError
    """
    try:
        listed = json.loads(gzip.decompress((directory / _FILES).read_bytes()))
        return {
            str(place): MadeFile((int(mode), int(size), int(mtime), int(ctime), int(inode)), str(sha256), int(pyc))
            for place, (mode, size, mtime, ctime, inode, sha256, pyc) in listed.items()
        }
    except (gzip.BadGzipFile, EOFError, zlib.error, ValueError, TypeError, AttributeError) as exc:
        raise _unusable(directory, "damaged") from exc


def _unusable(directory: Path, what: str) -> StorageError:
    return StorageError(f"A prepared environment is {what}.", hint=f"Removing {directory} is safe.")
