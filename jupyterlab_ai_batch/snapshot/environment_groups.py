"""Which environment layer a file belongs to: a layer per large distribution, a few buckets for the rest.

A distribution's layer depends on nothing but the distribution, so different environments share it.
"""

from __future__ import annotations

import csv
import io
import json
import posixpath
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

OWN_LAYER_BYTES = 15 * 1000**2
MAX_OWN_LAYERS = 24
BUCKETS = 4
DIRECTORIES = "directories"
SOURCES = "sources"

_RECORD = ".dist-info/RECORD"


def assign_groups(
    sizes: Mapping[str, int], *, sources: Sequence[str], prefixes: Sequence[str], read: Callable[[str], bytes]
) -> dict[str, str]:
    """The layer name of every file and symlink.

    Args:
        sizes: Bytes by path; paths are absolute without their leading ``/``.
        sources: Source directories of editable installs; they share one layer.
        prefixes: The other directories, which may lie inside a source directory.
        read: Gives the content of one of the paths; empty when it cannot.
    """
    owners = _owners(sizes, read)
    weight: Counter[str] = Counter()
    for path, size in sizes.items():
        weight[owners.get(path, "")] += size
    heavy = [(bytes_, owner) for owner, bytes_ in weight.items() if owner and bytes_ >= OWN_LAYER_BYTES]
    own = {owner for _, owner in sorted(heavy, reverse=True)[:MAX_OWN_LAYERS]}
    outer = _starts(sources)
    inner = tuple(start for start in _starts(prefixes) if start.startswith(outer))
    return {
        path: SOURCES if path.startswith(outer) and not path.startswith(inner) else _group(path, owners.get(path), own)
        for path in sizes
    }


def _starts(directories: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{directory.lstrip('/')}/" for directory in directories)


def _group(path: str, owner: str | None, own: Collection[str]) -> str:
    if owner is not None and owner in own:
        return owner
    key = owner if owner is not None else posixpath.dirname(path)
    return f"rest-{zlib.crc32(key.encode(errors='surrogateescape')) % BUCKETS}"


def _owners(paths: Mapping[str, int], read: Callable[[str], bytes]) -> dict[str, str]:
    """Distribution by path, from RECORD files and conda's package records."""
    owners: dict[str, str] = {}
    for path in paths:
        if path.endswith(_RECORD):
            name = posixpath.basename(path.removesuffix(_RECORD)).partition("-")[0].lower()
            site = posixpath.dirname(posixpath.dirname(path))
            owners.update((posixpath.normpath(f"{site}/{file}"), name) for file in _recorded(read(path)))
        elif path.endswith(".json") and posixpath.basename(posixpath.dirname(path)) == "conda-meta":
            name, files = _conda_package(read(path))
            prefix = posixpath.dirname(posixpath.dirname(path))
            owners.update((f"{prefix}/{file}", name) for file in files)
    for path in paths:
        if path.endswith(".pyc") and path not in owners:
            owner = owners.get(source_of(path))
            if owner is not None:
                owners[path] = owner
    return owners


def source_of(pyc: str) -> str:
    """The .py that ``__pycache__/name.tag.pyc`` was compiled from; the path itself when it is no such name."""
    directory, name = posixpath.split(pyc)
    parent, cache = posixpath.split(directory)
    return f"{parent}/{name.partition('.')[0]}.py" if cache == "__pycache__" else pyc


def _recorded(content: bytes) -> list[str]:
    rows = csv.reader(io.StringIO(content.decode(errors="surrogateescape")))
    try:
        return [row[0] for row in rows if row]
    except csv.Error:
        return []


def _conda_package(content: bytes) -> tuple[str, list[str]]:
    try:
        package = json.loads(content)
        return str(package["name"]), [file for file in package["files"] if isinstance(file, str)]
    except (ValueError, KeyError, TypeError):
        return "", []
