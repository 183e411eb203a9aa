"""What the service itself says about a Submission: facts in, Explanation out. Pure.

A queue backend explains its own states (waiting, blocked, evicted, failed in cell 5); here is what happens before a
backend has a Submission (capture) and after its run (collect), and what is said while a backend cannot be reached.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from .capture_models import CaptureProgress
from .errors import BatchError
from .models import Explanation, MergeReport, OutputsSummary
from .words import MergeAction, SubmissionState

_UNITS = ("B", "kB", "MB", "GB", "TB")
_MIN_SHARE_FOR_ESTIMATE = 0.05

_RESUBMIT = "Submit it again."


def size_words(size_bytes: int) -> str:
    """A size as people say it, in powers of 1000: ``41 MB``."""
    size = float(max(size_bytes, 0))
    unit = 0
    while size >= 999.5 and unit < len(_UNITS) - 1:  # noqa: PLR2004
        size /= 1000
        unit += 1
    return f"{size:.1f} {_UNITS[unit]}" if unit and size < 9.95 else f"{size:.0f} {_UNITS[unit]}"  # noqa: PLR2004


def count_words(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def explain_capture(progress: CaptureProgress | None, *, since: datetime, now: datetime) -> Explanation:
    """Capturing: how far, and from when on edits no longer matter."""
    if progress is None or progress.total_bytes <= 0:
        return Explanation(
            code="capturing",
            summary="Capturing your environment and files: looking at what there is.",
            resolution="Edits that you save now can still reach the job.",
            since=since,
        )
    share = min(max(progress.done_bytes / progress.total_bytes, 0.0), 1.0)
    wait = _seconds_left(share, (now - since).total_seconds())
    when = f"in about {wait} s" if wait is not None else "in a moment"
    return Explanation(
        code="capturing",
        summary=f"Capturing {int(share * 100)} %, {size_words(progress.new_bytes)} new.",
        resolution=f"Edits no longer reach the job {when}; it says so as soon as it waits in the queue.",
        since=since,
    )


def _seconds_left(share: float, elapsed_s: float) -> int | None:
    if share < _MIN_SHARE_FOR_ESTIMATE or elapsed_s <= 0:
        return None
    return max(1, round(elapsed_s * (1 - share) / share))


def explain_captured(*, since: datetime) -> Explanation:
    """The Snapshot is complete and the backend has taken it."""
    return Explanation(
        code="captured",
        summary="Captured and handed to the queue. What you edit or install now does not change this job.",
        since=since,
    )


def explain_handing_over(error: BatchError, *, since: datetime) -> Explanation:
    """The Snapshot is complete, the backend does not answer yet."""
    return Explanation(
        code="handing_over",
        summary=f"Captured, but the queue does not take it yet: {error.message}",
        resolution="It is handed over as soon as the queue answers; edits no longer reach the job.",
        raw_reason=error.code,
        since=since,
    )


def explain_capture_failed(error: BatchError, *, since: datetime) -> Explanation:
    """Nothing was queued; the code is the error's own."""
    return Explanation(
        code=error.code,
        summary=f"Could not capture: {error.message}",
        resolution=error.hint or ("Try again in a moment." if error.retryable else _RESUBMIT),
        raw_reason=type(error).__name__,
        since=since,
    )


def explain_capture_interrupted(*, since: datetime) -> Explanation:
    return Explanation(
        code="capture_interrupted",
        summary="The capture was interrupted before it was complete, so nothing was queued.",
        resolution="Resubmit it: what was captured so far is not read again.",
        since=since,
    )


def explain_capture_cancelled(*, since: datetime) -> Explanation:
    return Explanation(code="capture_cancelled", summary="You cancelled it before it was queued.", since=since)


def explain_cancelling(*, since: datetime) -> Explanation:
    return Explanation(code="cancelling", summary="Cancelling. It ends in a moment.", since=since)


def explain_unreachable(error: BatchError, *, last: Explanation | None, since: datetime) -> Explanation:
    """The last state stays; ``last`` keeps the moment since when the backend has been silent."""
    known = last is not None and last.code == "backend_unreachable"
    return Explanation(
        code="backend_unreachable",
        summary=f"The queue cannot be reached: {error.message} This is what it last said.",
        resolution="It is asked again by itself; your Submission is not affected.",
        raw_reason=error.code,
        since=last.since if last is not None and known else since,
    )


def explain_unwritten(error: BatchError, *, since: datetime) -> Explanation:
    """The last state stays: what has happened since cannot be written down."""
    return Explanation(
        code="ledger_unwritable",
        summary=f"What happens to this Submission cannot be written down: {error.message}",
        resolution=error.hint or "It is tried again by itself.",
        raw_reason=error.code,
        since=since,
    )


def explain_lost(*, since: datetime) -> Explanation:
    return Explanation(
        code="submission_lost",
        summary="The queue no longer knows this Submission, so nothing more can be learned about it.",
        resolution=_RESUBMIT,
        since=since,
    )


def explain_collecting(*, since: datetime) -> Explanation:
    return Explanation(
        code="collecting",
        summary="It has run. Its files are coming home.",
        resolution="They come by themselves while a Jupyter server of yours is up; collect them to have them at once.",
        since=since,
    )


def explain_outputs_waiting(*, ended: Explanation | None, outputs: OutputsSummary, since: datetime) -> Explanation:
    """It has ended and its files stay where they are until asked for."""
    if ended is not None and ended.code not in ("succeeded", "collecting"):
        return replace(ended, resolution=ended.resolution or "Collect its files to see how far it came.")
    return Explanation(
        code="outputs_waiting",
        summary=f"It has run. {count_words(outputs.files, 'file')} ({size_words(outputs.bytes)}) can come home.",
        resolution="Collect them when you want them here.",
        since=since,
    )


def explain_collect_failed(error: BatchError, *, ended: Explanation | None, since: datetime) -> Explanation:
    """The state stays what the run made it; the files are kept where they are."""
    before = f"{ended.summary} " if ended is not None and _is_failure(ended) else ""
    hint = f"{error.hint} " if error.hint else ""
    return Explanation(
        code="collect_failed",
        summary=f"{before}Its files could not come home: {error.message}",
        resolution=f"{hint}Nothing is lost: collect again when that is mended.",
        raw_reason=error.code,
        since=since,
    )


def explain_collected(
    report: MergeReport, *, state: SubmissionState, ended: Explanation | None, since: datetime
) -> Explanation:
    """What came home, after what the run itself said when it did not succeed."""
    home = _home_words(report)
    conflicts = [entry for entry in report.entries if entry.action is MergeAction.KEPT_BOTH]
    resolution = _conflict_words(conflicts[0].path, conflicts[0].installed_as, len(conflicts)) if conflicts else ""
    if state is not SubmissionState.SUCCEEDED and ended is not None:
        return replace(ended, summary=f"{ended.summary} {home}".strip(), resolution=ended.resolution or resolution)
    return Explanation(
        code="collected_with_conflicts" if conflicts else "collected", summary=home, resolution=resolution, since=since
    )


def _home_words(report: MergeReport) -> str:
    came = sum(entry.action in (MergeAction.CREATED, MergeAction.UPDATED) for entry in report.entries)
    words = [f"{count_words(came, 'file')} came home." if came else "No other file changed."]
    if report.conflicts:
        both = count_words(report.conflicts, "file")
        words.append(f"{both} changed on both sides: both versions are kept.")
    refused = sum(entry.action is MergeAction.REFUSED for entry in report.entries)
    if refused:
        words.append(f"{count_words(refused, 'file')} stayed behind.")
    if report.executed_notebook:
        words.append(f"The executed notebook is {report.executed_notebook}.")
    return " ".join(words)


def _conflict_words(path: str, installed_as: str | None, count: int) -> str:
    others = f" and {count - 1} more" if count > 1 else ""
    return f"Compare {path} with {installed_as or 'its copy'}{others}, and keep what you want."


def _is_failure(explanation: Explanation) -> bool:
    return explanation.code not in ("succeeded", "collecting", "outputs_waiting", "collected", "collect_failed")
