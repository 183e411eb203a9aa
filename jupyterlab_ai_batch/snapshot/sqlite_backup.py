"""Live SQLite databases: a copy of the file alone would lack what is still in its journal."""

from __future__ import annotations

import os
import sqlite3
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

_MAGIC = b"SQLite format 3\0"
_COMPANIONS = ("-wal", "-shm", "-journal")
_BUSY_S = 2.0


def find_live_databases(top: str, entries: Mapping[str, os.stat_result]) -> tuple[frozenset[str], list[str]]:
    """(databases that somebody has open or left without closing, their journal files), relative to ``top``."""
    databases = set()
    for path in entries:
        base = path.removesuffix("-wal").removesuffix("-journal")
        if base != path and base in entries and _is_database(os.path.join(top, base), entries[base]):
            databases.add(base)
    companions = [base + suffix for base in databases for suffix in _COMPANIONS if base + suffix in entries]
    return frozenset(databases), companions


@contextmanager
def back_up(path: str) -> Iterator[tuple[BinaryIO | None, int]]:
    """A consistent copy (stream, bytes) made by SQLite itself; (None, 0) when it cannot be had within seconds."""
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory, "copy")
        try:
            source = sqlite3.connect(f"file:{quote(os.fsencode(path))}?mode=ro", uri=True, timeout=_BUSY_S)
            target = sqlite3.connect(copy)
            try:
                source.backup(target)
            finally:
                target.close()
                source.close()
        except sqlite3.Error:
            yield None, 0
            return
        with copy.open("rb") as stream:
            yield stream, copy.stat().st_size


def _is_database(path: str, found: os.stat_result) -> bool:
    if not stat.S_ISREG(found.st_mode):
        return False
    try:
        with open(path, "rb") as stream:
            return stream.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False
