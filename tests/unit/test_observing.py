"""Readings of a backend change a Submission; what has ended stays ended."""

from dataclasses import replace
from datetime import datetime, timedelta, timezone

from jupyterlab_ai_batch.errors import QueueUnreachableError
from jupyterlab_ai_batch.models import Explanation, Observation, OutputsSummary, Progress, QueuePosition, Submission
from jupyterlab_ai_batch.observing import apply_observation, is_same, mark_lost, mark_stale, unless_unchanged
from jupyterlab_ai_batch.words import OutputsState, SubmissionState

NOW = datetime(2026, 11, 20, 14, 0, tzinfo=timezone.utc)
BASE = Submission(
    id="a" * 32,
    state=SubmissionState.QUEUED,
    title="t",
    notebook_path="a.ipynb",
    backend="local",
    target="local",
    profile="cpu",
    queue="local",
    created_at=NOW,
    observed_at=NOW,
)
AVAILABLE = OutputsSummary(state=OutputsState.AVAILABLE, files=2, bytes=10)


def see(state, **fields):
    return Observation(submission_id=BASE.id, state=state, observed_at=NOW + timedelta(seconds=1), **fields)


def test_a_reading_replaces_state_position_and_progress():
    """Position goes when it runs; progress stays when a reading lacks it."""
    waiting = apply_observation(
        replace(BASE, stale=True),
        see(SubmissionState.QUEUED, position=QueuePosition(in_local_queue=1, in_cluster_queue=1, observed_at=NOW)),
        auto_collect=True,
    )
    assert (waiting.stale, waiting.position.in_local_queue) == (False, 1)
    running = apply_observation(
        waiting, see(SubmissionState.RUNNING, progress=Progress(cell=1, of=3)), auto_collect=True
    )
    assert (running.position, running.progress.cell) == (None, 1)
    later = apply_observation(running, see(SubmissionState.EVICTING), auto_collect=True)
    assert (later.state, later.progress.cell) == (SubmissionState.EVICTING, 1)


def test_a_finished_run_is_collected_first():
    """Succeeded or failed with files: collecting. Cancelled, or nothing to collect, or not automatic: ended."""
    for state in (SubmissionState.SUCCEEDED, SubmissionState.FAILED):
        assert (
            apply_observation(BASE, see(state, outputs=AVAILABLE), auto_collect=True).state
            is SubmissionState.COLLECTING
        )
        assert apply_observation(BASE, see(state), auto_collect=True).state is state
        assert apply_observation(BASE, see(state, outputs=AVAILABLE), auto_collect=False).state is state
    cancelled = apply_observation(BASE, see(SubmissionState.CANCELLED, outputs=AVAILABLE), auto_collect=True)
    assert cancelled.state is SubmissionState.CANCELLED


def test_files_that_do_not_come_by_themselves_are_announced():
    """Without automatic collection the explanation says that they wait."""
    seen = apply_observation(BASE, see(SubmissionState.SUCCEEDED, outputs=AVAILABLE), auto_collect=False)
    assert seen.explanation.code == "outputs_waiting"


def test_what_has_ended_stays_ended():
    """No late reading, silence or loss changes a terminal Submission."""
    ended = replace(BASE, state=SubmissionState.SUCCEEDED)
    assert apply_observation(ended, see(SubmissionState.RUNNING), auto_collect=True) is ended
    assert mark_stale(ended, QueueUnreachableError("x"), now=NOW) is ended
    assert mark_lost(ended, now=NOW) is ended


def test_cancelling_is_not_forgotten():
    """A reading from before the cancel arrived does not show it as running again."""
    cancelling = replace(BASE, state=SubmissionState.CANCELLING)
    assert apply_observation(cancelling, see(SubmissionState.RUNNING), auto_collect=True).state is (
        SubmissionState.CANCELLING
    )
    assert apply_observation(cancelling, see(SubmissionState.CANCELLED), auto_collect=True).state is (
        SubmissionState.CANCELLED
    )


def test_silence_keeps_the_last_state_and_marks_it():
    """Stale, with the reason; the next reading clears it."""
    stale = mark_stale(BASE, QueueUnreachableError("No answer."), now=NOW)
    assert (stale.state, stale.stale, stale.explanation.code) == (SubmissionState.QUEUED, True, "backend_unreachable")
    assert apply_observation(stale, see(SubmissionState.RUNNING), auto_collect=True).stale is False


def test_unknown_to_the_backend():
    """Lost means failed, or cancelled where that was asked."""
    assert mark_lost(BASE, now=NOW).state is SubmissionState.FAILED
    assert mark_lost(replace(BASE, state=SubmissionState.CANCELLING), now=NOW).state is SubmissionState.CANCELLED


def test_the_same_reading_is_not_written_again_for_a_while():
    """Only a change, or 15 s, is worth a write; a clock that jumps does not stop writes."""
    keep = unless_unchanged(lambda s: replace(s, observed_at=NOW + timedelta(seconds=2)))
    assert keep(BASE) is BASE
    for moved in (timedelta(seconds=20), timedelta(days=-1)):
        assert unless_unchanged(lambda s, by=moved: replace(s, observed_at=NOW + by))(BASE) is not BASE
    position = QueuePosition(in_local_queue=0, in_cluster_queue=1, observed_at=NOW)
    waits = replace(BASE, position=position)
    for seconds, is_kept in ((2, True), (5, False)):  # others change it: how old it is matters
        later = replace(position, observed_at=NOW + timedelta(seconds=seconds))
        assert (unless_unchanged(lambda s, p=later: replace(s, position=p))(waits) is waits) is is_kept
    changed = unless_unchanged(lambda s: replace(s, explanation=Explanation(code="c", summary="s")))
    assert changed(BASE) is not BASE
    dated = replace(BASE, explanation=Explanation(code="c", summary="s", since=NOW))
    assert is_same(dated, replace(dated, observed_at=NOW + timedelta(hours=1)))
