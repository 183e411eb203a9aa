"""Names under which files come home. Pure."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import PurePosixPath

MAX_NAME_BYTES = 255
MAX_COPIES = 100
TEMPORARY_PREFIX = ".ai-batch-"


def conflict_names(name: str, short_id: str, *, origin: str = "batch") -> Iterator[str]:
    """``plot (batch 1a2b3c4d).png``, ``plot (batch 1a2b3c4d 2).png``, …: where a second version of a file may lie."""
    suffix = PurePosixPath(name).suffix
    stem = name.removesuffix(suffix)
    for number in range(1, MAX_COPIES):
        counter = "" if number == 1 else f" {number}"
        yield _fit(stem, f" ({origin} {short_id}{counter}){suffix}")


def executed_names(name: str, short_id: str) -> Iterator[str]:
    """``train.batch-1a2b3c4d.ipynb``, ``train.batch-1a2b3c4d-2.ipynb``, …: where an executed notebook may lie."""
    suffix = PurePosixPath(name).suffix
    stem = name.removesuffix(suffix)
    for number in range(1, MAX_COPIES):
        counter = "" if number == 1 else f"-{number}"
        yield _fit(stem, f".batch-{short_id}{counter}{suffix}")


def temporary_names(name: str, short_id: str) -> tuple[str, str]:
    """(name while the content is written, name while it changes places with the old one), the same at every try."""
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
    return f"{TEMPORARY_PREFIX}{short_id}-{digest}.part", f"{TEMPORARY_PREFIX}{short_id}-{digest}.swap"


def _fit(stem: str, ending: str) -> str:
    """``stem`` and ``ending`` together, ``stem`` cut where the name would be too long for a file system."""
    room = MAX_NAME_BYTES - len(os.fsencode(ending))
    if len(os.fsencode(stem)) <= room:
        return stem + ending
    while len(os.fsencode(stem)) > room:
        stem = stem[:-1]
    return stem + ending
