"""Hints from a user's own runs: only where they help, and never a profile that is too small."""

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from jupyterlab_ai_batch.models import Attempt, Explanation, Profile, Submission, Usage
from jupyterlab_ai_batch.rightsize import hint_for
from jupyterlab_ai_batch.words import SubmissionState

NOW = datetime(2026, 11, 20, 14, tzinfo=timezone.utc)
GB = 10**9


def shape(name, memory_gb, *, cores=None, gpus=1):
    return Profile(
        name=name,
        title=name,
        memory_bytes=None if memory_gb is None else memory_gb * GB,
        cpu_millicores=None if cores is None else cores * 1000,
        gpu_slots=gpus,
    )


TINY, SMALL, LARGE, HUGE = shape("tiny", 4), shape("small", 8), shape("large", 16), shape("huge", 64)
ALL = (LARGE, TINY, SMALL, HUGE)


def run(peak_gb, *, profile="large", state="succeeded", cpu_s=60.0, code=None):
    """A run of 100 s."""
    usage = None if peak_gb is None else Usage(peak_memory_bytes=int(peak_gb * GB), cpu_s=cpu_s)
    attempt = Attempt(
        number=1, admitted_at=NOW, started_at=NOW, ended_at=NOW + timedelta(seconds=100), ended_by=state, usage=usage
    )
    return Submission(
        id="a" * 32,
        state=SubmissionState(state),
        title="t",
        notebook_path="a.ipynb",
        backend="kueue",
        target="kueue",
        profile=profile,
        queue="batch",
        created_at=NOW,
        observed_at=NOW,
        explanation=Explanation(code=code, summary="s") if code else None,
        attempts=(attempt,),
    )


OUT_OF_MEMORY = run(16, state="failed", code="out_of_memory")


@pytest.mark.parametrize(
    ("profiles", "finished", "hint"),
    [
        (ALL, [], ""),
        (ALL, [run(2)], ""),
        (ALL, [run(2), run(2.1)], "Your last 2 runs used at most 2.1 GB of 16 GB memory: the profile tiny would do."),
        (ALL, [run(2)] * 9, "Your last 5 runs used at most 2.0 GB of 16 GB memory: the profile tiny would do."),
        (ALL, [run(1), run(3.3)], "Your last 2 runs used at most 3.3 GB of 16 GB memory: the profile small would do."),
        (ALL, [run(6.5), run(1)], ""),
        (ALL, [run(15.3)], "Your last run used up to 15 GB of 16 GB memory: the profile huge has more (64 GB)."),
        ((LARGE, TINY), [run(15.9)], "Your last run used up to 16 GB of 16 GB memory: no profile has more."),
        (
            ALL,
            [OUT_OF_MEMORY, run(1)],
            "Your last run needed more memory than its 16 GB: the profile huge has more (64 GB).",
        ),
        (ALL, [run(1), OUT_OF_MEMORY], ""),
        (ALL, [run(1, profile="tiny"), run(1, profile="tiny")], ""),
        (ALL, [run(None), run(None)], ""),
        (ALL, [run(1, state="failed"), run(1, state="cancelled")], ""),
        # One that does more than one core's work does not fit where there is one.
        ((LARGE, shape("one", 4, cores=1)), [run(1, cpu_s=150), run(1)], ""),
        (
            (LARGE, shape("two", 4, cores=2)),
            [run(1, cpu_s=150), run(1)],
            "Your last 2 runs used at most 1.0 GB of 16 GB memory: the profile two would do.",
        ),
        # Whether a GPU was used is not known.
        ((LARGE, shape("cpu", 4, gpus=0)), [run(1), run(1)], ""),
        (
            (LARGE, shape("all", None)),
            [run(16)],
            "Your last run used up to 16 GB of 16 GB memory: the profile all has more (no limit).",
        ),
    ],
)
def test_hints(profiles, finished, hint):
    assert hint == hint_for(LARGE, profiles, finished)


def test_without_a_limit_there_is_nothing_to_compare():
    everything = replace(LARGE, memory_bytes=None)
    assert "" == hint_for(everything, (everything, TINY), [run(2), run(2)])
