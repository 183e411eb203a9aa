"""SQLite connections of the queue: one per thread, WAL, flushed at every commit, a versioned schema."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...errors import QueueError, QueueTimeoutError, StorageError
from ...oci.storage import BUSY_TIMEOUT_S, retry_locked, storage_errors

SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE entries (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    priority INTEGER NOT NULL,
    state TEXT NOT NULL,
    state_since TEXT NOT NULL,
    entry TEXT NOT NULL,
    profile TEXT NOT NULL,
    gpu_slots INTEGER NOT NULL,
    explanation TEXT,
    progress TEXT,
    workers_lost INTEGER NOT NULL DEFAULT 0,
    released INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX entries_by_state ON entries (state, priority DESC, seq);
CREATE TABLE attempts (
    id TEXT NOT NULL REFERENCES entries (id),
    number INTEGER NOT NULL,
    admitted_at TEXT NOT NULL,
    started_at TEXT,
    ended_at TEXT,
    ended_by TEXT,
    time_lost_s REAL NOT NULL DEFAULT 0,
    pid INTEGER,
    pid_started TEXT,
    outputs TEXT,
    PRIMARY KEY (id, number)
);
"""


@contextmanager
def map_database_errors(path: Path) -> Iterator[None]:
    """Translate SQLite's errors into the project's."""
    with storage_errors(path):
        try:
            yield
        except sqlite3.Error as exc:
            if "locked" in str(exc) or "busy" in str(exc):
                raise QueueTimeoutError("The batch queue did not answer in time.", hint="Try again.") from exc
            raise


class Database:
    """The queue's database file; every thread gets its own connection."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._all: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._closed = False

    def connect(self) -> sqlite3.Connection:
        """This thread's connection.

        Raises:
            QueueError: the database was closed.
        """
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if self._closed:
            raise QueueError("The batch queue is closed.")
        if connection is None:
            connection = open_connection(self._path)
            self._local.connection = connection
            with self._lock:
                self._all.append(connection)
        return connection

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection for statements that change nothing."""
        with map_database_errors(self._path):
            yield self.connect()

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction that holds the write lock from its start; durable when the block is left."""
        with map_database_errors(self._path):
            connection = self.connect()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            connection.commit()

    def release_thread(self) -> None:
        """Close this thread's connection: called by a thread that ends."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is not None:
            del self._local.connection
            with self._lock:
                if connection in self._all:
                    self._all.remove(connection)
            connection.close()

    def close(self) -> None:
        """Close every connection; later use is a QueueError."""
        self._closed = True
        with self._lock:
            connections, self._all = self._all, []
        for connection in connections:
            connection.close()


def open_connection(path: Path) -> sqlite3.Connection:
    """A configured connection on a database whose schema is present.

    Raises:
        StorageError: the file was written by a newer version, or cannot be opened.
    """
    with map_database_errors(path):
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT_S)
        try:
            connection.row_factory = sqlite3.Row
            retry_locked(lambda: connection.execute("PRAGMA journal_mode = WAL"))
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            retry_locked(lambda: _migrate(connection))
        except BaseException:
            connection.close()
            raise
        path.chmod(0o600)
        return connection


def _migrate(connection: sqlite3.Connection) -> None:
    if _version(connection) == SCHEMA_VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _version(connection)
        _check_version(version)
        if version == 0:
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.commit()
    except BaseException:
        connection.rollback()
        raise


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _check_version(version: int) -> None:
    if version > SCHEMA_VERSION:
        raise StorageError(
            "The batch queue was written by a newer version of this extension.", hint="Update the extension."
        )
