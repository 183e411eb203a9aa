"""The signature index: what the last capture of a tree saw, so that the next one reads only what changed.

SQLite with a rollback journal (homes may be on NFS, where WAL is not safe). A cache: an index that is damaged or of
another version is thrown away, which costs one reading of every file and nothing else. What it says about layers holds
for one store, so each store has an index of its own; and it may know of layers that no manifest names yet, or that the
store has lost.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from ..oci.storage import ensure_private_directory, storage_errors
from .index_columns import IndexedFile, pack_files, unpack_files

__all__ = ["IndexedFile", "SealedTree", "SignatureIndex", "TreeRecord"]

_VERSION = 2
_BUSY_S = 30.0
_SCHEMA = (
    # Nobody asks for the files of a tree whose seal is whole: they come last, so that SQLite does not read them.
    "CREATE TABLE trees(key BLOB PRIMARY KEY, seal BLOB NOT NULL, state TEXT NOT NULL, files BLOB NOT NULL)",
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
        self._open()
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
        row = self._row("seal, state", key)
        with suppress(ValueError):
            return SealedTree() if row is None else SealedTree(bytes(row[0]), json.loads(row[1]))
        return SealedTree()

    def load_tree(self, key: str) -> TreeRecord:
        """What is known about a tree; empty when nothing is."""
        row = self._row("files, state", key)
        with suppress(ValueError):
            return TreeRecord() if row is None else TreeRecord(unpack_files(row[0]), json.loads(row[1]))
        return TreeRecord()

    def save_tree(
        self, key: str, files: Mapping[str, IndexedFile], state: Mapping[str, Any], *, seal: bytes = b""
    ) -> None:
        """Replace what is known about a tree; the trees that were saved longest ago are forgotten."""
        row = (os.fsencode(key), seal, json.dumps(state, separators=(",", ":")), pack_files(files))
        with self._errors():
            self._open().execute("INSERT OR REPLACE INTO trees VALUES (?, ?, ?, ?)", row)

    def refresh_ctimes(self, key: str, moved: Iterable[tuple[str, int, int]]) -> None:
        """Note (path, old ctime, new ctime) of files whose content is known not to have changed with it."""
        with self._errors(), self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")
            known = self.load_tree(key)
            files = dict(known.files)
            for path, old, new in moved:
                if path in files and files[path].ctime_ns == old:
                    files[path] = files[path]._replace(ctime_ns=new)
            self.save_tree(key, files, known.state)

    def _row(self, columns: str, key: str) -> tuple[Any, ...] | None:
        with self._errors():
            found: tuple[Any, ...] | None = (
                self._open()
                .execute(f"SELECT {columns} FROM trees WHERE key = ?", (os.fsencode(key),))  # noqa: S608 - columns of ours
                .fetchone()
            )
        return found

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            ensure_private_directory(self._path.parent)
            try:
                self._connection = self._connect()
            except sqlite3.DatabaseError as exc:
                if isinstance(exc, sqlite3.OperationalError):
                    with storage_errors(self._path):
                        raise
                self._forget()
                self._connection = self._connect()
        return self._connection

    def _connect(self) -> sqlite3.Connection:
        # Only when it is missing: closing any descriptor of a database drops the locks that this process holds on it.
        with storage_errors(self._path), suppress(FileExistsError):
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(self._path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA synchronous = NORMAL")
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

    @contextmanager
    def _errors(self) -> Iterator[None]:
        with storage_errors(self._path):
            try:
                yield
            except sqlite3.Error as exc:
                if not isinstance(exc, sqlite3.OperationalError):
                    self.close()
                    self._forget()
                raise
