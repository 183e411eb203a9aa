"""Readings of a backend change a Submission; what has ended stays ended."""

from dataclasses import replace
from datetime import datetime, timedelta, timezone

from jupyterlab_ai_batch.errors import QueueUnreachableError
from jupyterlab_ai_batch.models import (
    Attempt,
    Explanation,
    Observation,
    OutputsSummary,
    Progress,
    QueuePosition,
    Submission,
)
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


def ran(number, start, end=None, **fields):
    """An Attempt; times in seconds after NOW."""
    began = NOW + timedelta(seconds=start)
    ended_at = None if end is None else NOW + timedelta(seconds=end)
    return Attempt(number=number, admitted_at=began, started_at=began, ended_at=ended_at, **fields)


INTERRUPTED = ran(
    1, 0, 60, ended_by="Preempted", ended_because="to make room for an interactive session", time_lost_s=60
)
CLAUSE = INTERRUPTED.ended_because


def attempts_after(known, *seen, resume=False, state=SubmissionState.RUNNING):
    before = replace(BASE, attempts=tuple(known), resume=resume)
    return apply_observation(before, see(state, attempts=seen), auto_collect=True).attempts


def test_what_the_cluster_forgets_of_an_attempt_stays():
    """When and why it ended, and what that cost; what it saved may have been read since."""
    saved_at = NOW + timedelta(seconds=55)
    again = replace(ran(1, 0, ended_by="Preempted"), saved_at=saved_at)
    later = ran(2, 100)
    assert (replace(INTERRUPTED, saved_at=saved_at), later) == attempts_after([INTERRUPTED], again, later)
    (first, _) = attempts_after([INTERRUPTED], again, later, resume=True)
    assert (CLAUSE, 5.0) == (first.ended_because, first.time_lost_s)


def test_what_the_cluster_knows_counts():
    """A new Attempt is as it is observed, and so is one that had not ended."""
    running = ran(1, 0)
    assert (running,) == attempts_after([], running)
    assert (INTERRUPTED,) == attempts_after([running], INTERRUPTED, state=SubmissionState.QUEUED)
    unexplained = replace(INTERRUPTED, ended_because="")
    assert (INTERRUPTED,) == attempts_after([INTERRUPTED], unexplained, state=SubmissionState.QUEUED)


def test_a_history_that_was_not_read_yet_takes_nothing_away():
    """After a restart the running Attempt seems to be the first one, until the registry has answered."""
    known = (INTERRUPTED, ran(2, 100))
    assert known == attempts_after(known, ran(1, 100))
    assert known == attempts_after(known, ran(2, 100))
    assert (ran(1, 100, 160, ended_by="succeeded"),) == attempts_after(
        [INTERRUPTED], ran(1, 100, 160, ended_by="succeeded"), state=SubmissionState.SUCCEEDED
    )


def test_an_attempt_that_ended_before_its_number_was_taken():
    """The next one has its number: it is not taken for ended."""
    assert (ran(1, 100),) == attempts_after([INTERRUPTED], ran(1, 100))
