"""The durable queue: every change of a Submission's state on this machine is one transaction here."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from ... import wire
from ...errors import SubmissionNotFoundError
from ...models import Explanation, OutputsSummary, Profile, Progress, QueueEntry, Usage
from ...words import SubmissionState
from ..explanations import cancelled_by_user, cancelling
from . import explanations
from .database import Database
from .paths import QueuePaths
from .records import (
    AttemptRecord,
    EntryRecord,
    Waiting,
    encode,
    encode_outputs,
    parse_attempt,
    parse_entry,
    parse_work_order,
)

ADMITTED_STATES = (
    SubmissionState.STARTING,
    SubmissionState.RUNNING,
    SubmissionState.EVICTING,
    SubmissionState.CANCELLING,
)
ACTIVE_STATES = (SubmissionState.QUEUED, *ADMITTED_STATES)
TERMINAL_STATES = (SubmissionState.SUCCEEDED, SubmissionState.FAILED, SubmissionState.CANCELLED)
_WAITING_STATES = (SubmissionState.QUEUED, SubmissionState.BLOCKED)


class LocalQueue:
    """The queue's database. Synchronous; safe in several threads and processes at once.

    Raises (every method): StorageError, StorageFullError, QueueTimeoutError.
    """

    def __init__(self, paths: QueuePaths, *, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self.database = Database(paths.database)

    # --- Handing in, cancelling, letting go -----------------------------------------------------------------------

    def add(self, entry: QueueEntry, profile: Profile, *, blocked: Explanation | None) -> bool:
        """Enqueue durably; False when the id is known already, which changes nothing."""
        state = SubmissionState.BLOCKED if blocked else SubmissionState.QUEUED
        with self.database.write() as connection:
            cursor = connection.execute(
                "INSERT OR IGNORE INTO entries"
                " (id, priority, state, state_since, entry, profile, gpu_slots, explanation)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    entry.submission.id,
                    entry.submission.priority,
                    state.value,
                    self._now(),
                    encode(entry),
                    encode(profile),
                    profile.gpu_slots,
                    _text(blocked),
                ),
            )
            return cursor.rowcount == 1

    def request_cancel(self, submission_id: str) -> None:
        """Cancel what waits at once; ask the worker to end what runs; leave alone what has ended.

        Raises:
            SubmissionNotFoundError: no such id.
        """
        with self.database.write() as connection:
            state = _state(connection, submission_id)
            if state in _WAITING_STATES:
                _set_state(connection, submission_id, SubmissionState.CANCELLED, self._now(), cancelled_by_user())
            elif state in ADMITTED_STATES and state is not SubmissionState.CANCELLING:
                _set_state(connection, submission_id, SubmissionState.CANCELLING, self._now(), cancelling())

    def mark_released(self, submission_id: str) -> bool:
        """Note that the outputs are safe at home; False while the Submission has not ended.

        Raises:
            SubmissionNotFoundError: no such id.
        """
        with self.database.write() as connection:
            if _state(connection, submission_id) not in TERMINAL_STATES:
                return False
            connection.execute("UPDATE entries SET released = 1 WHERE id = ?", (submission_id,))
            return True

    # --- Reading --------------------------------------------------------------------------------------------------

    def entries(self) -> Sequence[QueueEntry]:
        """Everything that was ever handed in, in the order of arrival."""
        with self.database.read() as connection:
            rows = connection.execute("SELECT entry FROM entries ORDER BY seq").fetchall()
        return [wire.loads(QueueEntry, row["entry"]) for row in rows]

    def records(self, submission_ids: Sequence[str]) -> Sequence[EntryRecord]:
        """The records of those ids that are known."""
        return [parse_entry(row) for row in self._rows("SELECT * FROM entries WHERE id IN ({})", submission_ids)]

    def record(self, submission_id: str) -> EntryRecord:
        """One record.

        Raises:
            SubmissionNotFoundError: no such id.
        """
        found = self.records([submission_id])
        if not found:
            raise _not_found(submission_id)
        return found[0]

    def in_states(self, states: Sequence[SubmissionState]) -> Sequence[EntryRecord]:
        """The records in any of the states, in the order of arrival."""
        values = [state.value for state in states]
        return [
            parse_entry(row) for row in self._rows("SELECT * FROM entries WHERE state IN ({}) ORDER BY seq", values)
        ]

    def attempts(self, submission_ids: Sequence[str]) -> Mapping[str, Sequence[AttemptRecord]]:
        """The Attempts of those ids, first to last."""
        found: dict[str, list[AttemptRecord]] = {}
        for row in self._rows("SELECT * FROM attempts WHERE id IN ({}) ORDER BY id, number", submission_ids):
            found.setdefault(row["id"], []).append(parse_attempt(row))
        return found

    def work_order(self, submission_id: str) -> tuple[QueueEntry, Profile]:
        """What was handed in, and the Profile as it was then.

        Raises:
            SubmissionNotFoundError: no such id.
        """
        rows = self._rows("SELECT * FROM entries WHERE id IN ({})", [submission_id])
        if not rows:
            raise _not_found(submission_id)
        return parse_work_order(rows[0])

    def waiting(self) -> Sequence[Waiting]:
        """Queued Submissions in the order in which they are admitted."""
        with self.database.read() as connection:
            rows = connection.execute(
                "SELECT id, seq, priority, gpu_slots FROM entries WHERE state = ? ORDER BY priority DESC, seq",
                (SubmissionState.QUEUED.value,),
            ).fetchall()
        return [
            Waiting(id=row["id"], seq=row["seq"], priority=row["priority"], gpu_slots=row["gpu_slots"]) for row in rows
        ]

    def state(self, submission_id: str) -> SubmissionState:
        """The present state.

        Raises:
            SubmissionNotFoundError: no such id.
        """
        with self.database.read() as connection:
            return _state(connection, submission_id)

    def prunable(self, keep: int) -> Sequence[str]:
        """Ids of ended, released Submissions but for the ``keep`` newest."""
        marks = ",".join("?" * len(TERMINAL_STATES))
        with self.database.read() as connection:
            rows = connection.execute(
                f"SELECT id FROM entries WHERE released = 1 AND state IN ({marks})"  # noqa: S608 - question marks only
                " ORDER BY seq DESC LIMIT -1 OFFSET ?",
                (*(state.value for state in TERMINAL_STATES), keep),
            ).fetchall()
        return [row["id"] for row in rows]

    def has_active(self) -> bool:
        """Whether there is something that a worker should see to."""
        return bool(self._rows("SELECT 1 FROM entries WHERE state IN ({}) LIMIT 1", [s.value for s in ACTIVE_STATES]))

    def data_version(self) -> int:
        """A number that changes when another connection than this thread's has committed something."""
        with self.database.read() as connection:
            return int(connection.execute("PRAGMA data_version").fetchone()[0])

    # --- What the worker writes -----------------------------------------------------------------------------------

    def admit(self, submission_id: str) -> int | None:
        """Begin an Attempt and return its number; None when the Submission waits no longer."""
        with self.database.write() as connection:
            if _state(connection, submission_id) is not SubmissionState.QUEUED:
                return None
            (latest,) = connection.execute(
                "SELECT coalesce(max(number), 0) FROM attempts WHERE id = ?", (submission_id,)
            ).fetchone()
            connection.execute(
                "INSERT INTO attempts (id, number, admitted_at) VALUES (?, ?, ?)",
                (submission_id, latest + 1, self._now()),
            )
            connection.execute("UPDATE entries SET progress = NULL WHERE id = ?", (submission_id,))
            _set_state(connection, submission_id, SubmissionState.STARTING, self._now(), explanations.starting())
            return int(latest) + 1

    def set_running(
        self, submission_id: str, number: int, *, pid: int, pid_started: str | None, explanation: Explanation | None
    ) -> None:
        """The runner's process is there. A cancel that came meanwhile stays."""
        with self.database.write() as connection:
            connection.execute(
                "UPDATE attempts SET started_at = max(?, admitted_at), pid = ?, pid_started = ?"
                " WHERE id = ? AND number = ?",
                (self._now(), pid, pid_started, submission_id, number),
            )
            if _state(connection, submission_id) is SubmissionState.STARTING:
                _set_state(connection, submission_id, SubmissionState.RUNNING, self._now(), explanation)

    def set_evicting(self, submission_id: str, explanation: Explanation) -> None:
        """The worker is about to end the Attempt. A cancel that came before stays."""
        with self.database.write() as connection:
            if _state(connection, submission_id) in (SubmissionState.STARTING, SubmissionState.RUNNING):
                _set_state(connection, submission_id, SubmissionState.EVICTING, self._now(), explanation)

    def set_progress(self, submission_id: str, progress: Progress) -> None:
        with self.database.write() as connection:
            connection.execute("UPDATE entries SET progress = ? WHERE id = ?", (encode(progress), submission_id))

    def set_outputs(
        self, submission_id: str, number: int, outputs: OutputsSummary, *, stored_at: datetime, usage: Usage | None
    ) -> None:
        with self.database.write() as connection:
            connection.execute(
                "UPDATE attempts SET outputs = ? WHERE id = ? AND number = ?",
                (encode_outputs(outputs, stored_at=stored_at, usage=usage), submission_id, number),
            )

    def end_attempt(
        self,
        submission_id: str,
        number: int,
        *,
        ended_by: str,
        state: SubmissionState,
        explanation: Explanation | None,
        time_lost_s: float = 0.0,
        workers_lost: int = 0,
    ) -> None:
        """Close an Attempt and move the Submission to ``state``; ``queued`` gives it back its old place.

        An Attempt that was closed before stays as it is, and so does its Submission.
        """
        with self.database.write() as connection:
            closed = connection.execute(
                "UPDATE attempts SET ended_at = max(?, admitted_at, coalesce(started_at, '')), ended_by = ?,"
                " time_lost_s = ? WHERE id = ? AND number = ? AND ended_at IS NULL",
                (self._now(), ended_by, max(0.0, time_lost_s), submission_id, number),
            )
            if closed.rowcount == 0:
                return
            _set_state(connection, submission_id, state, self._now(), explanation)
            connection.execute("UPDATE entries SET workers_lost = ? WHERE id = ?", (workers_lost, submission_id))

    def block(self, submission_id: str, explanation: Explanation) -> None:
        """Take out of the waiting line what cannot run as it is."""
        self._move(submission_id, SubmissionState.QUEUED, SubmissionState.BLOCKED, explanation)

    def unblock(self, submission_id: str) -> None:
        """Put back into its place in the waiting line what can run now."""
        self._move(submission_id, SubmissionState.BLOCKED, SubmissionState.QUEUED, None)

    def close(self) -> None:
        self.database.close()

    # --------------------------------------------------------------------------------------------------------------

    def _move(
        self, submission_id: str, old: SubmissionState, new: SubmissionState, explanation: Explanation | None
    ) -> None:
        with self.database.write() as connection:
            if _state(connection, submission_id) is old:
                _set_state(connection, submission_id, new, self._now(), explanation)

    def _rows(self, statement: str, values: Sequence[str]) -> list[sqlite3.Row]:
        rows: list[sqlite3.Row] = []
        with self.database.read() as connection:
            for start in range(0, len(values), 500):  # SQLite's default limit was 999 parameters before 3.32
                batch = values[start : start + 500]
                rows += connection.execute(statement.format(",".join("?" * len(batch))), batch).fetchall()
        return rows

    def _now(self) -> str:
        return wire.format_time(self._clock())


def _state(connection: sqlite3.Connection, submission_id: str) -> SubmissionState:
    row = connection.execute("SELECT state FROM entries WHERE id = ?", (submission_id,)).fetchone()
    if row is None:
        raise _not_found(submission_id)
    return SubmissionState(row["state"])


def _set_state(
    connection: sqlite3.Connection,
    submission_id: str,
    state: SubmissionState,
    now: str,
    explanation: Explanation | None,
) -> None:
    connection.execute(
        "UPDATE entries SET state = ?, state_since = ?, explanation = ? WHERE id = ?",
        (state.value, now, _text(explanation), submission_id),
    )


def _text(explanation: Explanation | None) -> str | None:
    return encode(explanation) if explanation else None


def _not_found(submission_id: str) -> SubmissionNotFoundError:
    return SubmissionNotFoundError(
        "The local queue does not know this submission.", details={"submission_id": submission_id}
    )
