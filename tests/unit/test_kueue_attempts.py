"""Attempts: the registry's history, completed by pods, conditions and counters."""

from dataclasses import replace
from datetime import timedelta

import pytest
from kueue_objects import (
    NOW,
    PREEMPTED,
    admitted,
    attempt,
    condition,
    ended,
    evicted,
    evictions,
    failed_job,
    look,
    make_job,
    make_pod,
    pending,
    running,
    waiting,
)

from jupyterlab_ai_batch.models import Attempt

COMPLETE = condition("Complete", True, "CompletionsReached", since=-5)
LOST = condition("DisruptionTarget", True, "DeletionByTaintManager")
SUSPENDED = make_job(suspend=True)


def second(at):
    return None if at is None else (at - NOW).total_seconds()


def see(**reading):
    """Every Attempt as (number, admitted, started, ended, by, lost), times in seconds after NOW."""
    return [
        (
            one.number,
            second(one.admitted_at),
            second(one.started_at),
            second(one.ended_at),
            one.ended_by,
            one.time_lost_s,
        )
        for one in look(**reading).attempts
    ]


def known(number, start, end=None, by=None):
    """An Attempt as the registry has it."""
    at = NOW + timedelta(seconds=start)
    until = None if end is None else NOW + timedelta(seconds=end)
    return Attempt(number=number, admitted_at=at, started_at=at, ended_at=until, ended_by=by)


@pytest.mark.parametrize(
    ("reading", "expected"),
    [
        # Nothing was admitted yet.
        ({"job": SUSPENDED, "workload": pending()}, []),
        # Admitted, without a pod yet; with one; with one that runs.
        ({"workload": admitted()}, [(1, -60, None, None, None, 0)]),
        ({"workload": admitted(), "pods": [make_pod(phase="Pending")]}, [(1, -60, None, None, None, 0)]),
        ({"workload": admitted(), "pods": [make_pod(state=running())]}, [(1, -60, -50, None, None, 0)]),
        # The registry knows it already: its number and its start.
        (
            {"workload": admitted(), "pods": [make_pod(state=running())], "attempts": [known(1, -48)]},
            [(1, -48, -48, None, None, 0)],
        ),
        # A partial OutputSet of an Attempt that still runs is not its end.
        (
            {"workload": admitted(), "pods": [make_pod(state=running())], "attempts": [known(1, -48, -20, "failed")]},
            [(1, -48, -48, None, None, 0)],
        ),
        # Being evicted: it has not ended yet.
        (
            {"workload": evicted("Preempted", PREEMPTED), "pods": [make_pod(state=running(), deleted=10)]},
            [(1, -58, -50, None, None, 0)],
        ),
        # Evicted and gone: the registry's beginning, the condition's end and reason.
        (
            {"workload": evicted("Preempted", PREEMPTED, reserved=False), "attempts": [known(1, -90)]},
            [(1, -90, -90, -20, "Preempted", 70)],
        ),
        # Running again: Kueue's counters tell the reason, and the time when it is one Attempt's.
        (
            {
                "workload": admitted(
                    schedulingStats=evictions(("Preempted", "", 1)), accumulatedPastExecutionTimeSeconds=9
                ),
                "pods": [make_pod(state=running())],
                "attempts": [known(1, -200)],
            },
            [(1, -200, -200, None, "Preempted", 9), (2, -60, -50, None, None, 0)],
        ),
        # Several reasons: which was whose is not known.
        (
            {
                "workload": admitted(schedulingStats=evictions(("Preempted", "", 1), ("NodeFailures", "", 1))),
                "attempts": [known(1, -300, -290), known(2, -200)],
            },
            [(1, -300, -300, -290, None, 10), (2, -200, -200, None, None, 0), (3, -60, None, None, None, 0)],
        ),
        # A pod that was replaced under the same admission.
        (
            {
                "workload": admitted(since=-120),
                "pods": [
                    make_pod("a", LOST, phase="Failed", state=ended(137, since=-100, until=-70), created=-110),
                    make_pod("b", phase="Pending", state=waiting("ContainerCreating"), created=-30),
                ],
            },
            [(1, -120, -100, -70, "DeletionByTaintManager", 30), (2, -30, None, None, None, 0)],
        ),
        # A pod whose program never began is no Attempt: the next one has its number.
        (
            {
                "workload": admitted(since=-120),
                "pods": [
                    make_pod("a", LOST, phase="Failed", created=-110),
                    make_pod("b", state=running(-20), created=-30),
                ],
            },
            [(1, -120, -20, None, None, 0)],
        ),
        # The end.
        (
            {"job": make_job(COMPLETE), "pods": [make_pod(state=ended(0), phase="Succeeded")]},
            [(1, -58, -50, -10, "succeeded", 0)],
        ),
        (
            {"job": failed_job(), "workload": admitted(), "attempts": [known(1, -50)]},
            [(1, -50, -50, -5, "failed", 0)],
        ),
        (
            {"job": make_job(COMPLETE), "attempts": [known(1, -200, -190), known(2, -60, -7)]},
            [(1, -200, -200, -190, None, 10), (2, -60, -60, -7, "succeeded", 0)],
        ),
        (
            {"job": None, "cancel_asked": True, "attempts": [known(1, -60, -7)]},
            [(1, -60, -60, -7, "cancelled", 0)],
        ),
        # The history in any order, a number twice.
        (
            {"job": make_job(COMPLETE), "attempts": [known(2, -60, -7), known(1, -200, -190), known(2, -60, -6)]},
            [(1, -200, -200, -190, None, 10), (2, -60, -60, -6, "succeeded", 0)],
        ),
    ],
)
def test_attempts(reading, expected):
    """Numbers are the registry's; times and reasons are the objects'."""
    assert expected == see(**reading)


def test_attempts_of_pods_one_after_the_other():
    """Each Attempt of the registry is completed by the pod in whose time it began."""
    pods = [
        make_pod("a", LOST, phase="Failed", state=ended(137, since=-200, until=-150), created=-210),
        make_pod("b", LOST, phase="Failed", state=ended(137, since=-100, until=-80), created=-110),
        make_pod("c", state=running(-40), created=-45),
    ]
    history = [known(1, -198), known(2, -98)]
    assert [
        (1, -198, -198, -150, "DeletionByTaintManager", 48),
        (2, -98, -98, -80, "DeletionByTaintManager", 18),
        (3, -45, -40, None, None, 0),
    ] == see(workload=admitted(since=-215), pods=pods, attempts=history)


def test_numbers_rise_by_the_registry():
    """Where history begins later, because an older tag was removed, the next number still follows it."""
    runs = look(workload=admitted(), pods=[make_pod(state=running())], attempts=[attempt(7, -300)])
    assert [7, 8] == [one.number for one in runs.attempts]


RESUMES = {"jupyterlab-ai-batch/resume": "true"}


def why(**reading):
    """Every Attempt as (number, by, because, lost)."""
    return [(one.number, one.ended_by, one.ended_because, one.time_lost_s) for one in look(**reading).attempts]


def resumed(job):
    return {**job, "metadata": {**job["metadata"], "annotations": RESUMES}}


@pytest.mark.parametrize(
    ("job", "saved", "lost"),
    [(SUSPENDED, -25, 70), (resumed(SUSPENDED), -25, 5), (resumed(SUSPENDED), None, 70), (resumed(SUSPENDED), -15, 0)],
)
def test_what_an_eviction_costs(job, saved, lost):
    """All of the run time; with resume what came after the last files were stored."""
    saved_at = None if saved is None else NOW + timedelta(seconds=saved)
    history = [replace(known(1, -90), saved_at=saved_at)]
    workload = evicted(
        "Preempted", PREEMPTED, condition("Preempted", True, "InCohortReclamation", PREEMPTED), reserved=False
    )
    because = "to make room for an interactive session"
    assert [(1, "Preempted", because, lost)] == why(job=job, workload=workload, attempts=history)


def test_why_while_it_runs_again():
    """What Kueue's conditions still say belongs to the last Eviction; of those before, the counters."""
    again = admitted(
        condition("Evicted", False, "QuotaReserved", f"Previously: {PREEMPTED}"),
        schedulingStats=evictions(("Preempted", "", 2)),
    )
    history = [known(1, -300), known(2, -200), known(3, -50)]
    assert [
        (1, "Preempted", "", 0),
        (2, "Preempted", "to make room for an interactive session", 0),
        (3, None, "", 0),
    ] == why(workload=again, pods=[make_pod(state=running())], attempts=history)
    failed = admitted(schedulingStats=evictions(("NodeFailures", "", 1)))
    assert (1, "NodeFailures", "because its node failed", 0) == why(workload=failed, attempts=[known(1, -300)])[0]


@pytest.mark.parametrize(
    ("reason", "because"),
    [
        ("DeletionByTaintManager", "because its node failed"),
        ("PreemptionByScheduler", "to make room on its node for a pod of higher priority"),
        ("EvictionByEvictionAPI", "because its node was emptied"),
        ("SomethingNew", ""),
    ],
)
def test_why_a_pod_was_taken_away(reason, because):
    """Below the queue: by the pod's own condition."""
    gone = condition("DisruptionTarget", True, reason)
    pods = [
        make_pod("a", gone, phase="Failed", state=ended(137, since=-100, until=-70), created=-110),
        make_pod("b", state=running(-20), created=-30),
    ]
    assert (1, reason, because, 30) == why(workload=admitted(since=-120), pods=pods)[0]
