"""The signature index: what the last capture of a tree saw, so that the next one reads only what changed.

SQLite with a rollback journal (homes may be on NFS, where WAL is not safe). A cache: an index that is damaged or of
another version is thrown away, which costs one reading of every file and nothing else. What it says about layers holds
for one store, so each store has an index of its own; and it may know of layers that no manifest names yet, or that the
store has lost. SQLite does not see every damage, so what is loaded has checksums; and as these show a write, too,
that a power failure cut short, nobody waits for the disk.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from ..oci.storage import ensure_private_directory, storage_errors
from .index_columns import IndexedFile, pack_files, unpack_files

__all__ = ["IndexedFile", "SealedTree", "SignatureIndex", "TreeRecord", "push_index_path"]

_T = TypeVar("_T")
_VERSION = 5
_BUSY_S = 30.0
_CHECKSUM = struct.Struct(">I")
_REPLACE = "INSERT OR REPLACE INTO trees VALUES (?, ?, ?, ?)"
_NO_DAMAGE = ("locked", "busy", "full", "readonly", "unable to open", "I/O")
_SCHEMA = (
    # Nobody asks for the files of a tree whose seal is whole: they come last, so that SQLite does not read them.
    "CREATE TABLE trees(key BLOB PRIMARY KEY, seal BLOB NOT NULL, state BLOB NOT NULL, files BLOB NOT NULL)",
    """CREATE TRIGGER forget AFTER INSERT ON trees BEGIN
    DELETE FROM trees WHERE rowid <= (SELECT rowid FROM trees ORDER BY rowid DESC LIMIT 1 OFFSET 64); END""",
)


@dataclass(frozen=True, slots=True)
class SealedTree:
    """What was made of a tree (``state``, JSON) that had this seal (see ``seal_of``); without files.

    An empty seal vouches for nothing.
    """

    seal: bytes = b""
    state: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TreeRecord:
    """The last capture of a tree: its files and what was made of them."""

    files: Mapping[str, IndexedFile] = field(default_factory=dict)
    state: Mapping[str, Any] = field(default_factory=dict)


class SignatureIndex:
    """The index in ``path``; a context manager. Safe for several processes.

    Raises (every method): StorageError, StorageFullError.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def __enter__(self) -> SignatureIndex:
        self._run(lambda _connection: None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def load_seal(self, key: str) -> SealedTree:
        """What is known about a tree as a whole."""
        row = self._run(lambda connection: _select(connection, "seal, state", key))
        with suppress(ValueError, TypeError):
            if row is not None:
                return SealedTree(bytes(row[0]), json.loads(_checked(row[1], os.fsencode(key), row[0])))
        return SealedTree()

    def load_tree(self, key: str) -> TreeRecord:
        """What is known about a tree; empty when nothing is."""
        return self._run(lambda connection: _load_tree(connection, key))

    def save_tree(
        self, key: str, files: Mapping[str, IndexedFile], state: Mapping[str, Any], *, seal: bytes = b""
    ) -> None:
        """Replace what is known about a tree; the trees that were saved longest ago are forgotten."""
        row = _pack_tree(key, seal, files, state)
        self._run(lambda connection: connection.execute(_REPLACE, row))

    def refresh_ctimes(self, key: str, moved: Iterable[tuple[str, int, int]]) -> None:
        """Note (path, old ctime, new ctime) of files whose content is known not to have changed with it."""
        moved = tuple(moved)

        def refresh(connection: sqlite3.Connection) -> None:
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                known = _load_tree(connection, key)
                files = dict(known.files)
                for path, old, new in moved:
                    if path in files and files[path].ctime_ns == old:
                        files[path] = files[path]._replace(ctime_ns=new)
                connection.execute(_REPLACE, _pack_tree(key, b"", files, known.state))

        self._run(refresh)

    def _run(self, action: Callable[[sqlite3.Connection], _T]) -> _T:
        """Do something with the database; once more with an empty one when it turns out to be damaged."""
        with storage_errors(self._path):
            try:
                return action(self._open())
            except (sqlite3.Error, UnicodeDecodeError) as exc:
                self.close()
                if isinstance(exc, sqlite3.Error) and any(word in str(exc) for word in _NO_DAMAGE):
                    if "readonly" not in str(exc):
                        raise
                else:
                    self._forget()
                return action(self._open())  # another file may have come under its name, then too

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            ensure_private_directory(self._path.parent)
            self._connection = self._connect()
        return self._connection

    def _connect(self) -> sqlite3.Connection:
        # Only when it is missing: closing any descriptor of a database drops the locks that this process holds on it.
        with storage_errors(self._path), suppress(FileExistsError):
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(self._path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA synchronous = OFF")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version != _VERSION:
                self._create(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _create(self, connection: sqlite3.Connection) -> None:
        """Replace whatever is there by empty tables; another process may do so at the same time."""
        connection.execute("BEGIN IMMEDIATE")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version != _VERSION:
            for table in ("files", "trees"):
                connection.execute(f"DROP TABLE IF EXISTS {table}")
            for statement in _SCHEMA:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {_VERSION}")
        connection.execute("COMMIT")

    def _forget(self) -> None:
        for suffix in ("", "-journal"):
            with suppress(FileNotFoundError):
                self._path.with_name(self._path.name + suffix).unlink()


def push_index_path(data_dir: Path, place: str) -> Path:
    """Where to keep what is known of the Snapshots in a store elsewhere; ``place`` names it, as ``host/repository``."""
    return data_dir / "pushes" / f"{hashlib.sha256(place.encode()).hexdigest()[:32]}.db"


def _select(connection: sqlite3.Connection, columns: str, key: str) -> tuple[Any, ...] | None:
    query = f"SELECT {columns} FROM trees WHERE key = ?"  # noqa: S608 - columns of ours
    row: tuple[Any, ...] | None = connection.execute(query, (os.fsencode(key),)).fetchone()
    return row


def _load_tree(connection: sqlite3.Connection, key: str) -> TreeRecord:
    row = _select(connection, "seal, state, files", key)
    with suppress(ValueError, TypeError):
        if row is not None:
            state = _checked(row[1], os.fsencode(key), row[0])
            return TreeRecord(unpack_files(_checked(row[2], row[1])), json.loads(state))
    return TreeRecord()


def _pack_tree(
    key: str, seal: bytes, files: Mapping[str, IndexedFile], state: Mapping[str, Any]
) -> tuple[bytes, bytes, bytes, bytes]:
    """The columns of a row, each of which vouches for the ones before."""
    name = os.fsencode(key)
    encoded = _with_checksum(json.dumps(state, separators=(",", ":")).encode(), name, seal)
    return (name, seal, encoded, _with_checksum(pack_files(files), encoded))


def _with_checksum(content: bytes, *before: bytes) -> bytes:
    return _checksum(content, *before) + content


def _checked(stored: bytes, *before: bytes) -> bytes:
    """What ``_with_checksum`` was given; ValueError or TypeError when something else stands there, or before it."""
    content = stored[_CHECKSUM.size :]
    if stored[: _CHECKSUM.size] != _checksum(content, *before):
        raise ValueError("damaged")
    return content


def _checksum(content: bytes, *before: bytes) -> bytes:
    value = 0
    for part in (*before, content):
        value = zlib.crc32(part, value)
    return _CHECKSUM.pack(value)
