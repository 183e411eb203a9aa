"""What the command line says of a Submission."""

from datetime import datetime, timedelta, timezone

import pytest

from jupyterlab_ai_batch.models import Attempt, Submission
from jupyterlab_ai_batch.presenting import format_submission
from jupyterlab_ai_batch.words import SubmissionState

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=timezone.utc)


def attempt(**fields):
    return Attempt(number=1, admitted_at=NOW, started_at=NOW, **fields)


def shown(one, **fields):
    submission = Submission(
        id="a" * 32,
        state=SubmissionState.QUEUED,
        title="t",
        notebook_path="a.ipynb",
        backend="kueue",
        target="kueue",
        profile="cpu",
        queue="batch",
        created_at=NOW,
        observed_at=NOW,
        attempts=(one,),
        **fields,
    )
    return dict(line.split("  ", 1) for line in format_submission(submission).splitlines())


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (attempt(), "since "),
        (attempt(ended_by="Preempted"), "Preempted"),
        (attempt(ended_by="succeeded", ended_at=NOW + timedelta(seconds=9)), "succeeded at "),
        (
            attempt(
                ended_by="Preempted",
                ended_at=NOW + timedelta(seconds=90),
                ended_because="to make room for an interactive session",
                time_lost_s=4.4,
            ),
            ", after 90 s, to make room for an interactive session; 4 s lost",
        ),
    ],
)
def test_how_an_attempt_ended(one, words):
    """When, by what class of work, and what that cost."""
    assert words in shown(one)["attempt 1"]


def test_whether_it_resumes():
    assert "its saved files" in shown(attempt(), resume=True)["after an interruption"]
    assert "after an interruption" not in shown(attempt())
