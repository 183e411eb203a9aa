"""The queue's database file."""

import sqlite3
from datetime import datetime, timezone

import pytest

from jupyterlab_ai_batch.errors import StorageError
from jupyterlab_ai_batch.queues.local.database import open_connection
from jupyterlab_ai_batch.queues.local.paths import QueuePaths
from jupyterlab_ai_batch.queues.local.queue import LocalQueue


def test_newer_schema_is_refused(tmp_path):
    """A database of a newer version is not touched."""
    path = tmp_path / "queue.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StorageError, match="newer version"):
        open_connection(path)


def test_not_a_database(tmp_path):
    """A damaged file is a coded error, not SQLite's."""
    path = tmp_path / "queue.db"
    path.write_bytes(b"x" * 4096)
    with pytest.raises(StorageError):
        open_connection(path)


def test_durable_settings(tmp_path):
    """Write-ahead log, flushed at every commit."""
    connection = open_connection(tmp_path / "queue.db")
    assert "wal" == connection.execute("PRAGMA journal_mode").fetchone()[0]
    assert 2 == connection.execute("PRAGMA synchronous").fetchone()[0]
    connection.close()


def test_many_ids(tmp_path):
    """Thousands of ids at once are read in pieces that SQLite takes."""
    paths = QueuePaths(tmp_path / "data")
    paths.prepare()
    queue = LocalQueue(paths, clock=lambda: datetime.now(timezone.utc))
    assert [] == list(queue.records([str(i) for i in range(5000)]))
    queue.close()
