"""An Attempt's log for who reads it: from the file that follows its pod, else from what the runner stored."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import BatchError, SubmissionNotFoundError
from ...models import LogChunk
from ..log_file import read_log
from .history import History
from .kept_logs import KeptLogs
from .log_spool import LogCursor, LogSpool, spooled
from .paths import KueuePaths
from .waiting import in_thread


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptLog:
    """Where an Attempt's log may be.

    Attributes:
        pod_uid: Of the pod whose log is followed; empty when it was not.
    """

    number: int
    pod_uid: str = ""
    is_complete: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRequest:
    """Which piece of a log: ``number`` of the Attempt, None for the latest."""

    number: int | None
    offset: int
    limit_bytes: int


def number_logs(
    spools: Sequence[tuple[str, LogCursor]], history: History, present: Collection[str] = ()
) -> Sequence[AttemptLog]:
    """The logs by Attempt, first to last: the registry says which pod made which; later pods follow in their order.

    A pod that is ``present`` and whose log nobody has begun to follow is the last of them.
    """
    cursors = dict(spools)
    found = {}
    for stored in history.stored:
        cursor = cursors.get(stored.pod_uid)
        is_complete = cursor is not None and cursor.complete
        uid = stored.pod_uid if cursor is not None else ""
        found[stored.attempt.number] = AttemptLog(number=stored.attempt.number, pod_uid=uid, is_complete=is_complete)
    known = {stored.pod_uid for stored in history.stored}
    following = max(found, default=0) + 1
    for uid, cursor in spools:
        if uid not in known:
            found[following] = AttemptLog(number=following, pod_uid=uid, is_complete=cursor.complete)
            following += 1
    for uid in sorted(set(present) - known - cursors.keys()):
        found[following] = AttemptLog(number=following, pod_uid=uid)
        following += 1
    return [found[number] for number in sorted(found)]


async def read_attempt_log(
    submission_id: str,
    request: LogRequest,
    *,
    paths: KueuePaths,
    history: History,
    kept_logs: KeptLogs,
    present: Collection[str],
    has_ended: bool,
) -> LogChunk:
    """A piece of an Attempt's log.

    Args:
        present: Uids of the pods that are there, whose logs may go on.
        has_ended: The Submission has ended: nothing more comes at all.

    Raises:
        SubmissionNotFoundError: there is no Attempt of that number.
        StorageError
    """
    directory = paths.logs(submission_id)
    spools = await in_thread(spooled, directory)
    logs = number_logs(spools, history, () if request.number is None else present)
    if request.number is None and not logs:
        return LogChunk(attempt=0, text="", offset=0, next_offset=0, complete=has_ended)
    log = _choose(logs, request.number, submission_id)
    goes_on = log.pod_uid in present and not log.is_complete
    path = LogSpool(directory, log.pod_uid).text if log.pod_uid else None
    if path is None or not (log.is_complete or goes_on):
        path = await _kept(submission_id, log, history, kept_logs) or path
    if path is None:
        return LogChunk(attempt=log.number, text="", offset=0, next_offset=0, complete=True)
    return await in_thread(
        read_log,
        path,
        attempt=log.number,
        offset=request.offset,
        limit_bytes=request.limit_bytes,
        ended=not goes_on,
    )


def _choose(logs: Sequence[AttemptLog], number: int | None, submission_id: str) -> AttemptLog:
    if number is None:
        return logs[-1]
    for log in logs:
        if log.number == number:
            return log
    raise SubmissionNotFoundError(
        f"This submission has no attempt {number}.", details={"submission_id": submission_id, "attempt": number}
    )


async def _kept(submission_id: str, log: AttemptLog, history: History, kept_logs: KeptLogs) -> Path | None:
    stored = history.numbered(log.number)
    try:
        return await kept_logs.fetch(submission_id, stored) if stored is not None else None
    except BatchError:
        return None
