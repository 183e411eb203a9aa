"""Tidying: what a Submission still needs stays, whatever its age; the rest goes."""

from datetime import datetime, timezone

import pytest

from jupyterlab_ai_batch.ledger import Ledger
from jupyterlab_ai_batch.models import OutputsSummary, Submission
from jupyterlab_ai_batch.oci.layout import ImageLayout
from jupyterlab_ai_batch.retention import KEEP_CAPTURE_LOGS, KEEP_NEWEST, snapshot_tag, tidy
from jupyterlab_ai_batch.words import OutputsState, SubmissionState

NOW = datetime(2026, 11, 20, 14, 0, tzinfo=timezone.utc)
COUNT = KEEP_CAPTURE_LOGS + 10


def make(number, state, outputs):
    return Submission(
        id=f"{number:032x}",
        state=state,
        title="t",
        notebook_path="a.ipynb",
        backend="local",
        target="local",
        profile="cpu",
        queue="local",
        created_at=NOW,
        observed_at=NOW,
        outputs=OutputsSummary(state=outputs),
    )


@pytest.fixture
def world(tmp_path):
    ledger = Ledger(tmp_path / "ledger.db", clock=lambda: NOW)
    store = ImageLayout(tmp_path / "store")
    yield tmp_path, ledger, store
    ledger.close()


def add(world, number, state=SubmissionState.SUCCEEDED, outputs=OutputsState.COLLECTED):
    data_dir, ledger, store = world
    submission = make(number, state, outputs)
    ledger.create(submission)
    store.put_manifest(b"{}", tag=snapshot_tag(submission.id), media_type="application/json")
    (data_dir / "captures" / submission.id).mkdir(parents=True)


def tags(store):
    return {int(tag.rpartition("-")[2], 16) for tag, _ in store.tags()}


def test_the_newest_the_active_and_the_uncollected_stay(world):
    """Old ones whose files are home lose their Snapshot; nothing else does."""
    data_dir, ledger, store = world
    for number in range(COUNT):
        add(world, number)
    special = {
        1000: (SubmissionState.QUEUED, OutputsState.PENDING),
        1001: (SubmissionState.FAILED, OutputsState.AVAILABLE),
    }
    for number, (state, outputs) in special.items():
        add(world, number, state, outputs)
    for number in range(2000, 2000 + KEEP_NEWEST):
        add(world, number)
    tidy(data_dir, ledger=ledger, store=store, keep_runs=200)
    assert tags(store) == {*special, *range(2000, 2000 + KEEP_NEWEST)}
    left = {int(path.name, 16) for path in (data_dir / "captures").iterdir()}
    assert len(left) == KEEP_CAPTURE_LOGS
    assert left >= {*special, *range(2000, 2000 + KEEP_NEWEST)}


def test_files_that_nobody_fetched_for_long_are_given_up_with_their_run(world):
    """Beyond the runs that the backend keeps there is nothing to bring home."""
    data_dir, ledger, store = world
    add(world, 1, SubmissionState.FAILED, OutputsState.AVAILABLE)
    for number in range(100, 100 + KEEP_NEWEST):
        add(world, number)
    tidy(data_dir, ledger=ledger, store=store, keep_runs=KEEP_NEWEST)
    assert 1 not in tags(store)


def test_what_the_ledger_does_not_know_stays(world):
    """After losing the ledger, nothing is deleted on suspicion."""
    data_dir, ledger, store = world
    store.put_manifest(b"{}", tag=snapshot_tag("f" * 32), media_type="application/json")
    (data_dir / "captures" / ("f" * 32)).mkdir(parents=True)
    tidy(data_dir, ledger=ledger, store=store, keep_runs=0)
    assert [tag for tag, _ in store.tags()] == [snapshot_tag("f" * 32)]
    assert (data_dir / "captures" / ("f" * 32)).exists()
