"""Rows of the queue's database as records."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ... import wire
from ...models import Attempt, Explanation, OutputsSummary, Profile, Progress, QueueEntry, Usage
from ...words import SubmissionState
from .explanations import EVICTED_BECAUSE


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryRecord:
    """One Submission in the queue.

    Attributes:
        seq: Order of arrival; never a wall-clock time, which may move back.
        workers_lost: Evictions by ``WorkerLost`` in a row.
    """

    seq: int
    id: str
    priority: int
    state: SubmissionState
    state_since: datetime
    gpu_slots: int
    explanation: Explanation | None
    progress: Progress | None
    workers_lost: int
    released: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """One Attempt: what the wire shows of it, and what only this machine knows."""

    attempt: Attempt
    pid: int | None
    pid_started: str | None
    outputs: OutputsSummary | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What the order of admission depends on."""

    id: str
    seq: int
    priority: int
    gpu_slots: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Beside:
    """What is kept of an OutputSet beside its summary."""

    stored_at: datetime | None = None
    usage: Usage | None = None


def encode_outputs(outputs: OutputsSummary, *, stored_at: datetime, usage: Usage | None) -> str:
    """One JSON object of all; ``parse_attempt`` reads it back."""
    return encode({**wire.to_json(outputs), "stored_at": stored_at, "usage": wire.to_json(usage)})


def encode(record: Any) -> str:
    """JSON in ASCII: paths that are not UTF-8 hold surrogates, which neither SQLite nor a file takes."""
    return json.dumps(wire.to_json(record), separators=(",", ":"), allow_nan=False)


def parse_entry(row: sqlite3.Row) -> EntryRecord:
    return EntryRecord(
        seq=row["seq"],
        id=row["id"],
        priority=row["priority"],
        state=SubmissionState(row["state"]),
        state_since=wire.parse_time(row["state_since"]),
        gpu_slots=row["gpu_slots"],
        explanation=wire.loads(Explanation, row["explanation"]) if row["explanation"] else None,
        progress=wire.loads(Progress, row["progress"]) if row["progress"] else None,
        workers_lost=row["workers_lost"],
        released=bool(row["released"]),
    )


def parse_attempt(row: sqlite3.Row) -> AttemptRecord:
    beside = wire.loads(_Beside, row["outputs"]) if row["outputs"] else _Beside()
    return AttemptRecord(
        attempt=Attempt(
            number=row["number"],
            admitted_at=wire.parse_time(row["admitted_at"]),
            started_at=wire.parse_time(row["started_at"]) if row["started_at"] else None,
            ended_at=wire.parse_time(row["ended_at"]) if row["ended_at"] else None,
            ended_by=row["ended_by"],
            ended_because=EVICTED_BECAUSE.get(row["ended_by"], ""),
            saved_at=beside.stored_at,
            time_lost_s=row["time_lost_s"],
            usage=beside.usage,
        ),
        pid=row["pid"],
        pid_started=row["pid_started"],
        outputs=wire.loads(OutputsSummary, row["outputs"]) if row["outputs"] else None,
    )


def parse_work_order(row: sqlite3.Row) -> tuple[QueueEntry, Profile]:
    """What was handed in, and the Profile as it was then."""
    return wire.loads(QueueEntry, row["entry"]), wire.from_json(Profile, json.loads(row["profile"]))
