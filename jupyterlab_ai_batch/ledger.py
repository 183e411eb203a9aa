"""The ledger: what this user submitted, newest first, in one SQLite file.

It is history plus cache: the truth about a Submission lies in its queue backend and in the store. A row keeps the
Submission's JSON as text, so that a page is read by concatenating texts. Order is the order of insertion, not a
clock. Every process of the user (servers, capture children, commands) may have it open at once.
"""

from __future__ import annotations

import base64
import binascii
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from .errors import (
    IdempotencyConflictError,
    InvalidSubmissionError,
    StorageError,
    SubmissionNotFoundError,
)
from .models import Submission
from .oci.storage import BUSY_TIMEOUT_S, retry_locked, storage_errors
from .wire import WireError, dumps, format_time, loads
from .words import SubmissionState

SCHEMA_VERSION = 1
MAX_PAGE = 1000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS submissions (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    active INTEGER NOT NULL,
    notebook TEXT NOT NULL,
    doc TEXT NOT NULL,
    request TEXT,
    idempotency_key TEXT UNIQUE,
    body_hash TEXT
);
CREATE INDEX IF NOT EXISTS by_state ON submissions (state, seq);
CREATE INDEX IF NOT EXISTS by_notebook ON submissions (notebook, seq);
CREATE INDEX IF NOT EXISTS by_notebook_state ON submissions (notebook, state, seq);
CREATE INDEX IF NOT EXISTS by_activity ON submissions (seq) WHERE active = 1;
CREATE TABLE IF NOT EXISTS timeline (
    submission_id TEXT NOT NULL,
    at TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS timeline_of ON timeline (submission_id);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionPage:
    """Some Submissions, newest first: ``json`` is an array of them; ``next_cursor`` None ends the list."""

    json: str
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEntry:
    """A change of state: ``reason`` is the explanation's code at that moment, or empty."""

    at: str
    state: str
    reason: str


class Ledger:
    """The Submissions of one user, in ``path``. Safe to use from several threads and processes.

    Raises (every method): StorageError and its kinds.
    """

    def __init__(self, path: Path, *, clock: Callable[[], datetime]) -> None:
        self._path = path
        self._clock = clock
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
        with storage_errors(path):
            self._writer = _open_or_set_aside(path)
            self._reader = _connect(path)
            self._reader.execute("PRAGMA query_only = ON")

    def close(self) -> None:
        with self._write_lock, self._read_lock:
            self._writer.close()
            self._reader.close()

    # --- writing --------------------------------------------------------------------------------------------------

    def create(
        self,
        submission: Submission,
        *,
        request: str | None = None,
        key: str | None = None,
        body_hash: str | None = None,
    ) -> tuple[Submission, bool]:
        """Add a Submission, flushed to the disk; (what the ledger holds, whether it is new).

        Raises:
            IdempotencyConflictError: ``key`` was used with another ``body_hash``.
        """
        with self._transaction(durable=True) as db:
            if key is not None and (known := _replayed(db, key, body_hash)) is not None:
                return known, False
            row = db.execute("SELECT doc FROM submissions WHERE id = ?", (submission.id,)).fetchone()
            if row is not None:
                return _parse(row[0]), False
            db.execute(
                "INSERT INTO submissions (id, state, active, notebook, doc, request, idempotency_key, body_hash)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    submission.id,
                    submission.state.value,
                    int(not submission.state.is_terminal),
                    submission.notebook_path,
                    dumps(submission),
                    request,
                    key,
                    body_hash,
                ),
            )
            self._note(db, submission)
        return submission, True

    def update(
        self, submission_id: str, change: Callable[[Submission], Submission], *, durable: bool = False
    ) -> Submission:
        """Apply ``change`` to what the ledger holds, in one transaction; nothing is written when it changes nothing.

        Raises:
            SubmissionNotFoundError
        """
        with self._transaction(durable=durable) as db:
            row = db.execute("SELECT doc FROM submissions WHERE id = ?", (submission_id,)).fetchone()
            if row is None:
                raise _unknown(submission_id)
            before = _parse(row[0])
            after = change(before)
            doc = dumps(after)
            if doc != row[0]:
                db.execute(
                    "UPDATE submissions SET state = ?, active = ?, doc = ? WHERE id = ?",
                    (after.state.value, int(not after.state.is_terminal), doc, submission_id),
                )
                if after.state is not before.state:
                    self._note(db, after)
        return after

    def set_fact(self, name: str, value: str) -> None:
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def _note(self, db: sqlite3.Connection, submission: Submission) -> None:
        reason = submission.explanation.code if submission.explanation else ""
        entry = (submission.id, format_time(self._clock()), submission.state.value, reason)
        db.execute("INSERT INTO timeline VALUES (?, ?, ?, ?)", entry)

    # --- reading --------------------------------------------------------------------------------------------------

    def get(self, submission_id: str) -> Submission:
        """What the ledger holds.

        Raises:
            SubmissionNotFoundError
        """
        row = self._read("SELECT doc FROM submissions WHERE id = ?", (submission_id,))
        if not row:
            raise _unknown(submission_id)
        return _parse(row[0][0])

    def find(self, prefix: str) -> str:
        """The one id that begins with ``prefix`` (at least 4 characters).

        Raises:
            SubmissionNotFoundError: none, or several, or too short to tell.
        """
        low, high = prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1) if prefix else prefix
        rows = self._read("SELECT id FROM submissions WHERE id >= ? AND id < ? LIMIT 2", (low, high))
        exact = self._read("SELECT id FROM submissions WHERE id = ?", (prefix,))
        if exact or (len(rows) == 1 and len(prefix) >= 4):  # noqa: PLR2004
            return str((exact or rows)[0][0])
        if rows:
            raise SubmissionNotFoundError(
                f"'{prefix[:64]}' does not name one Submission.", hint="Give more characters of its id."
            )
        raise _unknown(prefix)

    def request_of(self, submission_id: str) -> str | None:
        """The encoded request that a Submission came from; None when it was rebuilt from the backend."""
        rows = self._read("SELECT request FROM submissions WHERE id = ?", (submission_id,))
        return str(rows[0][0]) if rows and rows[0][0] is not None else None

    def replayed(self, key: str, body_hash: str) -> Submission | None:
        """The Submission that ``key`` made; None when the key is new.

        Raises:
            IdempotencyConflictError: the key was used with another body.
        """
        with self._read_lock, storage_errors(self._path):
            return _replayed(self._reader, key, body_hash)

    def active(self) -> list[Submission]:
        """Every Submission that has not ended, oldest first."""
        return [_parse(doc) for (doc,) in self._read("SELECT doc FROM submissions WHERE active = 1 ORDER BY seq")]

    def newest(self, limit: int) -> list[Submission]:
        """The last that were submitted, newest first."""
        rows = self._read("SELECT doc FROM submissions ORDER BY seq DESC LIMIT ?", (limit,))
        return [_parse(doc) for (doc,) in rows]

    def page(
        self,
        *,
        states: Sequence[SubmissionState] = (),
        notebook: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> SubmissionPage:
        """A page, newest first; any of ``states`` (none: all), of one notebook (None: of all).

        Raises:
            InvalidSubmissionError: a cursor that no page gave, or a limit outside 1..1000.
        """
        if not 1 <= limit <= MAX_PAGE:
            raise InvalidSubmissionError(f"A page has 1 to {MAX_PAGE} Submissions.", details={"limit": limit})
        before = 2**62 if cursor is None else _decode_cursor(cursor)
        sql, values = _page_query(tuple(dict.fromkeys(state.value for state in states)), notebook, before, limit + 1)
        rows = self._read(sql, values)
        more = _encode_cursor(rows[limit - 1][0]) if len(rows) > limit else None
        return SubmissionPage(json=f"[{','.join(row[1] for row in rows[:limit])}]", next_cursor=more)

    def timeline(self, submission_id: str) -> tuple[TimelineEntry, ...]:
        """Its changes of state, in the order in which they were seen."""
        rows = self._read(
            "SELECT at, state, reason FROM timeline WHERE submission_id = ? ORDER BY rowid", (submission_id,)
        )
        return tuple(TimelineEntry(at=at, state=state, reason=reason) for at, state, reason in rows)

    def fact(self, name: str) -> str | None:
        rows = self._read("SELECT value FROM facts WHERE name = ?", (name,))
        return str(rows[0][0]) if rows else None

    def version(self) -> int:
        """A number that moves when another connection has written: cheap to poll."""
        return int(self._read("PRAGMA data_version")[0][0])

    # --- connections ----------------------------------------------------------------------------------------------

    def _read(self, sql: str, values: Sequence[object] = ()) -> list[tuple[str, ...]]:
        with self._read_lock, storage_errors(self._path):
            return self._reader.execute(sql, values).fetchall()

    @contextmanager
    def _transaction(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        with self._write_lock, storage_errors(self._path):
            db = self._writer
            db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")


def _page_query(states: Sequence[str], notebook: str | None, before: int, limit: int) -> tuple[str, list[object]]:
    """One index walk per state, merged: a page costs the same however long the history is."""
    walks: list[str] = []
    values: list[object] = []
    for state in states or (None,):
        conditions: list[str] = ["seq < ?"]
        bound: list[object] = [before]
        for column, value in (("state", state), ("notebook", notebook)):
            if value is not None:
                conditions.append(f"{column} = ?")
                bound.append(value)
        where = " AND ".join(conditions)
        walks.append(f"SELECT * FROM (SELECT seq, doc FROM submissions WHERE {where} ORDER BY seq DESC LIMIT ?)")  # noqa: S608
        values += [*bound, limit]
    if len(walks) == 1:
        return walks[0], values
    return f"{' UNION ALL '.join(walks)} ORDER BY seq DESC LIMIT ?", [*values, limit]


def _encode_cursor(seq: object) -> str:
    return base64.urlsafe_b64encode(f"s{seq}".encode()).decode().rstrip("=")


def _decode_cursor(cursor: str) -> int:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        text = ""
    if len(text) > 20 or not (text.startswith("s") and text[1:].isdigit()):  # noqa: PLR2004
        raise InvalidSubmissionError(
            "The cursor is not one that this list gave.",
            hint="Start again without a cursor.",
            details={"field": "cursor"},
        )
    return min(int(text[1:]), 2**62)


def _replayed(db: sqlite3.Connection, key: str, body_hash: str | None) -> Submission | None:
    row = db.execute("SELECT doc, body_hash FROM submissions WHERE idempotency_key = ?", (key,)).fetchone()
    if row is None:
        return None
    if row[1] != body_hash:
        raise IdempotencyConflictError(
            "This Idempotency-Key was already used for another request.",
            hint="Use a new key for a new Submission.",
        )
    return _parse(row[0])


def _parse(doc: str) -> Submission:
    try:
        return loads(Submission, doc)
    except WireError as exc:
        raise StorageError("The ledger holds a Submission that this version cannot read.") from exc


def _unknown(submission_id: str) -> SubmissionNotFoundError:
    return SubmissionNotFoundError(
        f"There is no Submission '{submission_id[:64]}'.", hint="See 'jupyter ai-batch list'."
    )


def _open_or_set_aside(path: Path) -> sqlite3.Connection:
    """Open the ledger; a file that is not a database is kept under another name and rebuilt from the backend."""
    try:
        return _connect(path)
    except sqlite3.DatabaseError as exc:
        if isinstance(exc, sqlite3.OperationalError):
            raise
    for number in range(1, 1000):
        aside = path.with_name(f"{path.name}.unreadable-{number}")
        if not aside.exists():
            path.replace(aside)
            break
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return _connect(path)


def _connect(path: Path) -> sqlite3.Connection:
    # Only when it is missing: closing any descriptor of a database drops the locks that this process holds on it.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        retry_locked(lambda: db.execute("PRAGMA journal_mode = WAL"))
        (version,) = db.execute("PRAGMA user_version").fetchone()
        _check_version(path, version)
        if version < SCHEMA_VERSION:
            script = f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            retry_locked(lambda: db.executescript(script))
    except BaseException:
        db.close()
        raise
    return db


def _check_version(path: Path, version: int) -> None:
    if version > SCHEMA_VERSION:
        raise StorageError(
            f"The ledger {path} was written by a newer version of this extension.",
            hint="Upgrade jupyterlab_ai_batch, or configure another data directory.",
        )
