"""The signature index: what the last capture of a tree saw, so that the next one reads only what changed.

SQLite with a rollback journal (homes may be on NFS, where WAL is not safe). A cache: an index that is damaged or of
another version is thrown away, which costs one reading of every file and nothing else.
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
from typing import Any, NamedTuple

from ..oci.storage import ensure_private_directory, storage_errors

_VERSION = 1
_BUSY_S = 30.0
_SCHEMA = """
CREATE TABLE trees(id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, generation INTEGER NOT NULL, state TEXT NOT NULL);
CREATE TABLE files(
    tree INTEGER NOT NULL, path BLOB NOT NULL, mode INTEGER NOT NULL, uid INTEGER NOT NULL, gid INTEGER NOT NULL,
    size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL, inode INTEGER NOT NULL,
    sha256 BLOB NOT NULL, target BLOB NOT NULL, link BLOB NOT NULL, layer TEXT NOT NULL, pyc_mtime INTEGER NOT NULL,
    verified INTEGER NOT NULL, findings TEXT NOT NULL, PRIMARY KEY(tree, path)
) WITHOUT ROWID;
"""


class IndexedFile(NamedTuple):
    """One entry of a tree as it was captured.

    Attributes:
        mode: With the file type bits.
        inode: Modulo 2**63.
        sha256: Of a file's content or of a symlink's target; empty for a directory.
        target: Of a symlink.
        link: Path of the first name of the same file, when this is another one (hard link); else empty.
        layer: Name of the environment layer that holds it; empty in a work tree.
        pyc_mtime: Of a timestamp-based .pyc whose header is valid: the source's mtime in it; else -1.
        verified: 0 when the file was so young that an unseen change cannot be ruled out.
        findings: JSON array of [line, kind] of what looked like secrets; empty for none.
    """

    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    sha256: bytes
    target: str = ""
    link: str = ""
    layer: str = ""
    pyc_mtime: int = -1
    verified: int = 1
    findings: str = ""

    @property
    def identity(self) -> tuple[Any, ...]:
        """What a work layer stores of it; two entries with equal identities need no new layer."""
        return (self.mode, self.uid, self.gid, self.size, self.mtime_ns, self.sha256, self.target, self.link)


@dataclass(slots=True)
class TreeRecord:
    """The last capture of a tree: its files, what was made of it (``state``, JSON), and a counter of captures."""

    key: str
    generation: int = 0
    files: dict[str, IndexedFile] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)


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

    def load_tree(self, key: str) -> TreeRecord:
        """What is known about a tree; empty when nothing is."""
        with self._errors():
            row = self._open().execute("SELECT id, generation, state FROM trees WHERE key = ?", (key,)).fetchone()
            if row is None:
                return TreeRecord(key)
            rows = self._open().execute(
                "SELECT path, mode, uid, gid, size, mtime_ns, ctime_ns, inode, sha256, target, link, layer, pyc_mtime,"
                " verified, findings FROM files WHERE tree = ?",
                (row[0],),
            )
            files = {row[0].decode("utf-8", "surrogateescape"): _unpack(row) for row in rows}
        return TreeRecord(key, row[1], files, json.loads(row[2]))

    def load_state(self, key: str) -> dict[str, Any]:
        """Only the ``state`` of a tree."""
        with self._errors():
            row = self._open().execute("SELECT state FROM trees WHERE key = ?", (key,)).fetchone()
        return {} if row is None else dict(json.loads(row[0]))

    def save_tree(self, known: TreeRecord, files: Mapping[str, IndexedFile], state: Mapping[str, Any]) -> None:
        """Replace what is known about a tree, in one transaction.

        Args:
            known: What ``load_tree`` gave before; only differences to it are written unless another capture
                has replaced it meanwhile.
        """
        with self._errors(), self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")
            tree, generation = self._tree_row(connection, known.key)
            base = known.files if generation == known.generation else {}
            if generation != known.generation:
                connection.execute("DELETE FROM files WHERE tree = ?", (tree,))
            gone = [(tree, os.fsencode(path)) for path in base if path not in files]
            connection.executemany("DELETE FROM files WHERE tree = ? AND path = ?", gone)
            changed = (
                _pack(tree, path, entry)
                for path, entry in files.items()
                if base.get(path) is not entry and base.get(path) != entry
            )
            connection.executemany("INSERT OR REPLACE INTO files VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)", changed)
            connection.execute(
                "UPDATE trees SET generation = ?, state = ? WHERE id = ?",
                (generation + 1, json.dumps(state, separators=(",", ":")), tree),
            )

    def refresh_ctimes(self, key: str, moved: Iterable[tuple[str, int, int]]) -> None:
        """Note (path, old ctime, new ctime) of files whose content is known not to have changed with it."""
        with self._errors(), self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")
            tree, _ = self._tree_row(connection, key)
            connection.executemany(
                "UPDATE files SET ctime_ns = ? WHERE tree = ? AND path = ? AND ctime_ns = ?",
                ((new, tree, os.fsencode(path), old) for path, old, new in moved),
            )

    def _tree_row(self, connection: sqlite3.Connection, key: str) -> tuple[int, int]:
        connection.execute("INSERT OR IGNORE INTO trees(key, generation, state) VALUES (?, 0, '{}')", (key,))
        row = connection.execute("SELECT id, generation FROM trees WHERE key = ?", (key,)).fetchone()
        return int(row[0]), int(row[1])

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
            for statement in _SCHEMA.split(";"):
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


def _unpack(row: tuple[Any, ...]) -> IndexedFile:
    if row[9] or row[10]:
        row = (*row[:9], os.fsdecode(row[9]), os.fsdecode(row[10]), *row[11:])
    else:
        row = (*row[:9], "", "", *row[11:])
    return IndexedFile(*row[1:])


def _pack(tree: int, path: str, entry: IndexedFile) -> tuple[Any, ...]:
    values = list(entry)
    values[8] = os.fsencode(entry.target)
    values[9] = os.fsencode(entry.link)
    return (tree, os.fsencode(path), *values)
