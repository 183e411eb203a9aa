"""What the end of a run means."""

import pytest

from jupyterlab_ai_batch.queues.local.outcome import Asked, RunEnd, judge

CELL = {"cell": 5, "ename": "KeyError", "evalue": "'x'"}
DEAD = {"cell": 5, "ename": "DeadKernelError", "evalue": "", "signal": 9}


@pytest.mark.parametrize(
    ("end", "ended_by", "state", "code"),
    [
        ({"status": 0}, "succeeded", "succeeded", None),
        ({"status": 0, "asked": Asked.CANCEL}, "succeeded", "succeeded", None),
        ({"status": 75, "asked": Asked.CANCEL}, "cancelled", "cancelled", "cancelled_by_user"),
        ({"status": -9, "asked": Asked.CANCEL}, "cancelled", "cancelled", "cancelled_by_user"),
        ({"status": 75, "asked": Asked.TIME_LIMIT, "time_limit_s": 90}, "failed", "failed", "time_limit"),
        ({"status": 75, "asked": Asked.WORKER_STOP}, "WorkerStopped", "queued", "worker_stopped"),
        ({"status": 137, "asked": Asked.WORKER_STOP}, "WorkerStopped", "queued", "worker_stopped"),
        ({"status": 1, "asked": Asked.WORKER_STOP, "failure": CELL}, "failed", "failed", "cell_failed"),
        ({"status": 75}, "RunnerStopped", "queued", "runner_stopped"),
        ({"status": 1, "failure": CELL}, "failed", "failed", "cell_failed"),
        ({"status": 1, "failure": DEAD}, "failed", "failed", "kernel_died"),
        ({"status": 1, "failure": DEAD, "oom_kills": True}, "failed", "failed", "out_of_memory"),
        ({"status": 1, "failure": DEAD, "used_bytes": 9, "memory_limit_bytes": 8}, "failed", "failed", "out_of_memory"),
        ({"status": -11}, "failed", "failed", "killed_by_signal"),
        ({"status": 139}, "failed", "failed", "killed_by_signal"),
        ({"status": 137, "oom_kills": True}, "failed", "failed", "out_of_memory"),
        ({"status": 1}, "failed", "failed", "runner_crashed"),
        ({"status": 1, "failure": {"cell": "x", "ename": 3, "evalue": None}}, "failed", "failed", "cell_failed"),
    ],
)
def test_judge(end, ended_by, state, code):
    """Success first, then what was asked for, then what runner and system say."""
    verdict = judge(RunEnd(**end))
    explained = verdict.explanation.code if verdict.explanation else None
    assert (ended_by, state, code) == (verdict.ended_by, verdict.state.value, explained)


def test_words():
    """Limits and exceptions are told with their numbers."""
    summary = judge(RunEnd(status=75, asked=Asked.TIME_LIMIT, time_limit_s=5400)).explanation.summary
    assert "1 h 30 min" in summary
    assert "Cell 5 failed with KeyError: 'x'." == judge(RunEnd(status=1, failure=CELL)).explanation.summary
    long = judge(RunEnd(status=1, failure={**CELL, "evalue": "y" * 10_000})).explanation.summary
    assert len(long) < 600
