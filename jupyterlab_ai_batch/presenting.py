"""What the command line prints for people. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from .capture_models import SnapshotSummary
from .explain import count_words, size_words
from .models import Attempt, MergeReport, OutputSet, PreflightCheck, Profile, QueueReading, Submission
from .wire import parse_time
from .words import MergeAction, SubmissionState

_ACTION_WORDS = {
    MergeAction.CREATED: "new",
    MergeAction.UPDATED: "updated",
    MergeAction.UNCHANGED: "unchanged",
    MergeAction.KEPT_BOTH: "kept both",
    MergeAction.KEPT_HOME: "kept yours",
    MergeAction.REFUSED: "left out",
}
_MARKS = {True: "ok", False: "NO", None: "??"}


def format_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as they need to be; the last one is not padded."""
    lines = [list(header), *(list(map(printable, row)) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)


def printable(text: str) -> str:
    """Text that a notebook, a file name or a job chose, without what a terminal would obey."""
    return "".join(char if char.isprintable() else "�" for char in text)


def format_progress(submission: Submission) -> str:
    """One line: what it is and why."""
    words = [f"{submission.short_id} {submission.title}: {submission.state.value}"]
    if submission.progress is not None and submission.state is SubmissionState.RUNNING:
        words.append(f"cell {submission.progress.cell} of {submission.progress.of}")
    if submission.explanation is not None and submission.state is not SubmissionState.RUNNING:
        words.append(submission.explanation.summary)
    return printable(" - ".join(words))


def format_page(submissions: Sequence[Mapping[str, Any]]) -> str:
    if not submissions:
        return "No Submissions yet. Submit one with: jupyter ai-batch submit NOTEBOOK"
    rows = (
        (
            str(item["id"])[:8],
            str(item["state"]) + (" (stale)" if item.get("stale") else ""),
            _local(parse_time(str(item["created_at"]))),
            str(item["notebook_path"]),
            str(item["title"]),
        )
        for item in submissions
    )
    return format_table(("ID", "STATE", "SUBMITTED", "NOTEBOOK", "TITLE"), rows)


def format_submission(submission: Submission) -> str:
    pairs: list[tuple[str, str]] = [
        ("id", submission.id),
        ("title", submission.title),
        ("notebook", submission.notebook_path),
        ("state", submission.state.value + (" (the queue cannot be reached)" if submission.stale else "")),
    ]
    if submission.explanation is not None:
        pairs += [("why", submission.explanation.summary), ("what next", submission.explanation.resolution)]
    if submission.position is not None:
        pairs.append(("ahead in the queue", str(submission.position.in_local_queue)))
    if submission.progress is not None:
        pairs.append(("cell", f"{submission.progress.cell} of {submission.progress.of}"))
    pairs += [
        ("runs on", f"{submission.target}, profile {submission.profile}, queue {submission.queue}"),
        ("submitted", _local(submission.created_at)),
        ("parameters", ", ".join(f"{name}={value!r}" for name, value in submission.parameters.items())),
        *_snapshot_pairs(submission),
        ("after an interruption", "it continues with its saved files" if submission.resume else ""),
        *((f"attempt {attempt.number}", _attempt_words(attempt)) for attempt in submission.attempts),
        *_output_pairs(submission),
    ]
    width = max(len(name) for name, value in pairs if value)
    return "\n".join(f"{name.ljust(width)}  {printable(value)}" for name, value in pairs if value)


def _snapshot_pairs(submission: Submission) -> list[tuple[str, str]]:
    snapshot = submission.snapshot
    if snapshot is None:
        return []
    files = count_words(snapshot.files, "file")
    return [
        ("captured", f"{files}, {size_words(snapshot.bytes)}, {size_words(snapshot.new_bytes)} new"),
        ("captured until", f"{_local(snapshot.captured_until)}; later edits are not in it"),
        ("captured from", snapshot.work_root),
        *(("note", warning) for warning in snapshot.warnings),
    ]


def _output_pairs(submission: Submission) -> list[tuple[str, str]]:
    outputs = submission.outputs
    if outputs is None:
        return []
    conflicts = f", {outputs.conflicts} kept twice" if outputs.conflicts else ""
    words = f"{outputs.state.value}: {count_words(outputs.files, 'file')}, {size_words(outputs.bytes)}{conflicts}"
    return [("outputs", words), ("executed notebook", submission.executed_notebook or "")]


def _attempt_words(attempt: Attempt) -> str:
    if attempt.started_at is None:
        return "starting" if attempt.ended_by is None else attempt.ended_by
    if attempt.ended_at is None:
        return f"since {_local(attempt.started_at)}" if attempt.ended_by is None else attempt.ended_by
    lasted_s = max((attempt.ended_at - attempt.started_at).total_seconds(), 0)
    words = f"{attempt.ended_by or 'ended'} at {_local(attempt.ended_at)}, after {lasted_s:.0f} s"
    because = f", {attempt.ended_because}" if attempt.ended_because else ""
    lost = f"; {attempt.time_lost_s:.0f} s lost" if because or attempt.time_lost_s else ""
    peak = attempt.usage.peak_memory_bytes if attempt.usage else None
    used = f"; at most {size_words(peak)} of memory" if peak else ""
    return f"{words}{because}{lost}{used}"


def format_merge(report: MergeReport) -> str:
    rows = [
        (_ACTION_WORDS[entry.action], entry.path, " ".join(filter(None, (entry.installed_as, entry.reason))))
        for entry in report.entries
    ]
    lines = [format_table(("WHAT", "FILE", "INSTALLED AS"), rows)] if rows else ["No file changed."]
    if report.executed_notebook:
        lines.append(f"Executed notebook: {printable(report.executed_notebook)}")
    if report.dry_run:
        lines.append("Nothing was changed: this is what would happen.")
    return "\n".join(lines)


def format_output_set(output_set: OutputSet) -> str:
    rows = ((file.change.value, size_words(file.size_bytes), file.path) for file in output_set.files)
    return format_table(("CHANGE", "SIZE", "FILE"), rows)


def format_snapshot(snapshot: SnapshotSummary) -> str:
    files = f"{count_words(snapshot.files, 'file')} ({size_words(snapshot.bytes)})"
    first = f"Captured {files} from {printable(snapshot.work_root)}: {size_words(snapshot.new_bytes)} new."
    return "\n".join([first, snapshot.digest, *(f"Note: {printable(warning)}" for warning in snapshot.warnings)])


def format_queues(queues: Sequence[QueueReading]) -> str:
    """A table, and below it who holds each queue's pool and what the user's share of it is."""
    table = format_table(("QUEUE", "BACKEND", "SLOTS BUSY", "GPU SLOTS BUSY", "WAITING"), map(_queue_row, queues))
    return "\n".join([table, *(line for queue in queues for line in _pool_lines(queue))])


def _queue_row(queue: QueueReading) -> tuple[str, ...]:
    busy, gpu_busy = str(queue.busy), str(queue.gpu_busy)
    if queue.slots is not None:
        busy, gpu_busy = f"{busy} of {queue.slots}", f"{gpu_busy} of {queue.gpu_slots}"
    return queue.name, queue.backend, busy, gpu_busy, str(queue.waiting)


def _pool_lines(queue: QueueReading) -> Iterator[str]:
    if queue.pool is not None:
        pool = queue.pool
        classes = f"{pool.mine} yours, {pool.others_batch} batch of others, {pool.interactive} interactive"
        waiting = f"; {count_words(pool.interactive_waiting, 'session')} waiting" if pool.interactive_waiting else ""
        yield f"{queue.name}: {pool.free} of {count_words(pool.slots, 'slot')} free ({classes}{waiting})"
    if queue.share is not None:
        yield f"{queue.name}: {printable(queue.share.summary)}"


def format_profiles(profiles: Sequence[Profile]) -> str:
    rows = (
        (
            profile.name,
            f"{profile.cpu_millicores / 1000:g}" if profile.cpu_millicores is not None else "all",
            size_words(profile.memory_bytes) if profile.memory_bytes is not None else "all",
            str(profile.gpu_slots),
            str(profile.available) if profile.available is not None else "?",
            profile.title,
        )
        for profile in profiles
    )
    table = format_table(("PROFILE", "CPU", "MEMORY", "GPU SLOTS", "FREE NOW", "TITLE"), rows)
    hints = (f"{profile.name}: {printable(profile.hint)}" for profile in profiles if profile.hint)
    return "\n".join([table, *hints])


def format_checks(checks: Sequence[PreflightCheck]) -> str:
    lines = []
    for check in checks:
        lines.append(f"{_MARKS[check.ok]}  {check.name}: {printable(check.summary)}")
        if check.resolution and check.ok is not True:
            lines.append(f"      {printable(check.resolution)}")
        if check.fix and check.ok is not True:
            lines += [f"        {printable(line)}".rstrip() for line in check.fix.splitlines()]
    return "\n".join(lines)


def _local(at: datetime) -> str:
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
