"""What is remembered of Submissions beyond their Jobs."""

from datetime import datetime, timedelta, timezone
from multiprocessing.pool import ThreadPool

import pytest

from jupyterlab_ai_batch.models import Observation, QueueEntry, RunSpec, Submission
from jupyterlab_ai_batch.queues.kueue.memory import Memory, expendable, with_cancel, with_end, with_release
from jupyterlab_ai_batch.queues.kueue.paths import KueuePaths, is_safe_id
from jupyterlab_ai_batch.words import SubmissionState

NOW = datetime(2026, 11, 20, 10, tzinfo=timezone.utc)


def entry(submission_id, created_at=NOW):
    submission = Submission(
        id=submission_id,
        state=SubmissionState.QUEUED,
        title="t",
        notebook_path="a.ipynb",
        backend="kueue",
        target="kueue",
        profile="p",
        queue="q",
        created_at=created_at,
        observed_at=NOW,
    )
    run = RunSpec(submission_id=submission_id, attempt=1, work_root="/w", notebook="a.ipynb", kernel_name="python3")
    return QueueEntry(submission=submission, snapshot_digest="sha256:" + "a" * 64, run=run)


def ended(submission_id, state=SubmissionState.SUCCEEDED):
    return Observation(submission_id=submission_id, state=state, observed_at=NOW)


@pytest.fixture
def memory(tmp_path):
    return Memory(KueuePaths(tmp_path))


def test_is_kept(memory, tmp_path):
    """What was written down is there for every process, and nothing of what was not."""
    memory.update(entry("a"), with_cancel(NOW))
    memory.update(entry("b"), with_end(ended("b")))
    other = Memory(KueuePaths(tmp_path))
    assert (NOW, None) == (other.get("a").cancel_asked_at, other.get("a").ended)
    assert (None, ended("b"), entry("b")) == (
        other.get("b").cancel_asked_at,
        other.get("b").ended,
        other.get("b").entry,
    )
    assert {"a", "b"} == set(other.get_all(["a", "b", "c", "../x"]))
    assert {"a", "b"} == {remembered.submission_id for remembered in other.everything()}
    other.forget("a")
    other.forget("a")
    assert memory.get("a") is None


def test_the_first_end_counts(memory):
    """An end is never another one afterwards; a cancel after it changes nothing."""
    memory.update(entry("a"), with_end(ended("a")))
    memory.update(entry("a"), with_end(ended("a", SubmissionState.FAILED)))
    memory.update(entry("a"), with_cancel(NOW))
    memory.update(entry("a"), with_release(NOW))
    memory.update(entry("a"), with_release(NOW + timedelta(days=1)))
    remembered = memory.get("a")
    assert (SubmissionState.SUCCEEDED, None, NOW) == (
        remembered.ended.state,
        remembered.cancel_asked_at,
        remembered.released_at,
    )


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"entry": 3}', b"\xff"])
def test_a_damaged_file_is_forgotten(memory, tmp_path, damage):
    """A file that is not what was written is as good as none, and is written anew."""
    memory.update(entry("a"), with_cancel(NOW))
    KueuePaths(tmp_path).record("a").write_bytes(damage)
    assert memory.get("a") is None
    assert [] == list(memory.everything())
    assert NOW == memory.update(entry("a"), with_cancel(NOW)).cancel_asked_at


def test_a_file_of_another_id_is_not_believed(memory, tmp_path):
    memory.update(entry("a"), with_cancel(NOW))
    paths = KueuePaths(tmp_path)
    paths.record("a").rename(paths.record("b"))
    assert memory.get("b") is None


def test_changes_at_the_same_time_all_count(memory):
    """Several threads, or processes, that write about one Submission lose nothing of each other's."""
    changes = [with_cancel(NOW), with_release(NOW)] * 10
    with ThreadPool(4) as threads:
        threads.map(lambda change: memory.update(entry("a"), change), changes)
    assert (NOW, NOW) == (memory.get("a").cancel_asked_at, memory.get("a").released_at)


def test_the_oldest_released_ones_may_go(memory):
    """What was not released stays, whatever its age."""
    for day, name in enumerate("abcd"):
        memory.update(entry(name, NOW + timedelta(days=day)), with_end(ended(name)))
        if name != "b":
            memory.update(entry(name), with_release(NOW))
    assert ["a"] == list(expendable(memory.everything(), keep=2))


@pytest.mark.parametrize(("submission_id", "safe"), [("a" * 32, True), ("a-b", True), ("../a", False), ("a.b", False)])
def test_ids_that_can_be_names(submission_id, safe):
    assert safe == is_safe_id(submission_id)
    assert not is_safe_id(submission_id + "\n")
