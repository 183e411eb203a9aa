"""What the service says: a sentence and what to do, for every state and error that is its own."""

from datetime import datetime, timedelta, timezone

import pytest

from jupyterlab_ai_batch import errors, explain
from jupyterlab_ai_batch.capture_models import CaptureProgress
from jupyterlab_ai_batch.models import Explanation, MergeEntry, MergeReport, OutputsSummary
from jupyterlab_ai_batch.words import MergeAction, OutputsState, SubmissionState

NOW = datetime(2026, 11, 20, 14, 0, tzinfo=timezone.utc)
ENDED = Explanation(code="cell_failed", summary="Cell 5 failed with ValueError.", resolution="Open it.")


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 B"), (-1, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (41_000_000, "41 MB"), (2 * 10**12, "2.0 TB")],
)
def test_sizes_are_said_as_people_say_them(size, words):
    """Powers of 1000, two digits."""
    assert explain.size_words(size) == words


def test_capture_says_how_far_and_when_edits_no_longer_matter():
    """From the share that is done follows the time that is left."""
    progress = CaptureProgress(phase="work", done_bytes=62, total_bytes=100, new_bytes=41_000_000)
    said = explain.explain_capture(progress, since=NOW, now=NOW + timedelta(seconds=10))
    assert said.code == "capturing"
    assert said.summary == "Capturing 62 %, 41 MB new."
    assert said.resolution.startswith("Edits no longer reach the job in about 6 s")


@pytest.mark.parametrize(
    ("progress", "elapsed_s"),
    [
        (None, 1),
        (CaptureProgress(phase="plan", done_bytes=0, total_bytes=0), 1),
        (CaptureProgress(phase="work", done_bytes=1, total_bytes=1000), 1),
        (CaptureProgress(phase="work", done_bytes=500, total_bytes=1000), -3600),
        (CaptureProgress(phase="work", done_bytes=5000, total_bytes=1000), 1),
    ],
)
def test_capture_never_guesses_wildly(progress, elapsed_s):
    """No estimate without a share, or with a clock that went back; never over 100 %."""
    said = explain.explain_capture(progress, since=NOW, now=NOW + timedelta(seconds=elapsed_s))
    assert said.summary.endswith(".")
    assert "-" not in said.resolution
    assert "500 %" not in said.summary


def _all_errors(root=errors.BatchError):
    return [root, *(kind for child in root.__subclasses__() for kind in _all_errors(child))]


@pytest.mark.parametrize("kind", _all_errors())
def test_every_error_of_a_capture_says_what_to_do(kind):
    """The error's code and words, and always a next step."""
    said = explain.explain_capture_failed(kind("The disk is full."), since=NOW)
    assert (said.code, said.summary) == (kind.code, "Could not capture: The disk is full.")
    assert said.resolution


def test_silence_keeps_the_moment_at_which_it_began():
    """Asked again and again, it is silent since the first time."""
    error = errors.QueueUnreachableError("No answer.")
    first = explain.explain_unreachable(error, last=ENDED, since=NOW)
    second = explain.explain_unreachable(error, last=first, since=NOW + timedelta(hours=1))
    assert (second.since, second.raw_reason) == (NOW, "queue_unreachable")


def test_what_came_home_is_said_with_conflicts():
    """Counts, the executed notebook, and what to compare."""
    report = MergeReport(
        entries=(
            MergeEntry(path="a", action=MergeAction.CREATED, installed_as="a"),
            MergeEntry(path="b", action=MergeAction.KEPT_BOTH, installed_as="b.batch-1"),
            MergeEntry(path="c", action=MergeAction.REFUSED, reason="a device"),
        ),
        executed_notebook="n.batch-1.ipynb",
    )
    said = explain.explain_collected(report, state=SubmissionState.SUCCEEDED, ended=None, since=NOW)
    assert said.code == "collected_with_conflicts"
    assert said.summary == (
        "1 file came home. 1 file changed on both sides: both versions are kept. 1 file stayed behind."
        " The executed notebook is n.batch-1.ipynb."
    )
    assert said.resolution == "Compare b with b.batch-1, and keep what you want."


def test_a_failure_stays_the_reason_when_files_come_home():
    """The user reads first why it failed, then what came home."""
    said = explain.explain_collected(MergeReport(), state=SubmissionState.FAILED, ended=ENDED, since=NOW)
    assert said.code == "cell_failed"
    assert said.summary == "Cell 5 failed with ValueError. No other file changed."


def test_a_failed_collect_says_that_nothing_is_lost():
    """The reason of the run stays; the resolution says how to get the files."""
    error = errors.StorageFullError("There is no space left at home.", hint="Free some space.")
    said = explain.explain_collect_failed(error, ended=ENDED, since=NOW)
    assert said.code == "collect_failed"
    assert said.summary.startswith("Cell 5 failed with ValueError. Its files could not come home:")
    assert said.resolution == "Free some space. Nothing is lost: collect again when that is mended."


def test_files_that_wait_are_counted():
    """Without automatic collection, the user is told what can come home."""
    outputs = OutputsSummary(state=OutputsState.AVAILABLE, files=3, bytes=1500)
    assert explain.explain_outputs_waiting(ended=None, outputs=outputs, since=NOW).summary == (
        "It has run. 3 files (1.5 kB) can come home."
    )
    assert explain.explain_outputs_waiting(ended=ENDED, outputs=outputs, since=NOW) == ENDED
