"""Every state of a Submission in the shared pool, from what the cluster says."""

from dataclasses import replace

import pytest
from kueue_objects import (
    ID,
    NOW,
    PREEMPTED,
    READINGS,
    SLICE,
    admitted,
    at,
    attempt,
    brief,
    condition,
    ended,
    evicted,
    evictions,
    failed_job,
    load,
    look,
    make_event,
    make_job,
    make_pod,
    make_workload,
    pending,
    running,
    waiting,
)

from jupyterlab_ai_batch import wire
from jupyterlab_ai_batch.models import OutputsSummary, PoolReading, Progress, QueuePosition
from jupyterlab_ai_batch.queues.kueue.conditions import observe
from jupyterlab_ai_batch.words import OutputsState

CELL = {"cell": 5, "ename": "KeyError", "evalue": "'x'", "code": "cell_failed"}
COMPLETE = condition("Complete", True, "CompletionsReached", since=-5)
SUSPENDED = make_job(suspend=True)
POSITION = QueuePosition(in_local_queue=1, in_cluster_queue=7, observed_at=NOW)
STILL_SAVING = make_pod(state=running(), deleted=30)
FULL = "insufficient unused quota for nvidia.com/mig-1g.5gb in flavor mig, 1 more needed"


@pytest.mark.parametrize(
    ("reading", "expected"),
    [
        # 1. The Job has ended, or Kueue has finished with it.
        ({"job": make_job(COMPLETE)}, ("succeeded", None)),
        ({"job": make_job(COMPLETE, deleted=-1)}, ("succeeded", None)),
        ({"workload": make_workload(condition("Finished", True, "Succeeded"))}, ("succeeded", None)),
        ({"job": failed_job(), "failure": CELL}, ("failed", "cell_failed")),
        ({"workload": make_workload(condition("Finished", True, "Failed"))}, ("failed", "pod_lost")),
        ({"workload": make_workload(condition("Finished", True, "FailedToStart"))}, ("failed", "misconfigured")),
        ({"workload": make_workload(condition("Finished", True, "OutOfSync"))}, ("failed", "misconfigured")),
        ({"workload": make_workload(condition("Finished", True, "BrandNew"))}, ("failed", "misconfigured")),
        ({"workload": admitted(condition("Finished", True, "WorkloadSliceReplaced"))}, ("starting", "starting")),
        # 2. The Job is being deleted.
        ({"job": make_job(deleted=-1), "workload": admitted()}, ("cancelling", "deleted_elsewhere")),
        # 3. Taken out of the queue.
        ({"workload": pending(active=False)}, ("blocked", "stopped_by_admin")),
        ({"workload": evicted("Deactivated", active=False), "pods": [STILL_SAVING]}, ("evicting", "evicted")),
        ({"workload": evicted("Deactivated", reserved=False, active=False)}, ("blocked", "stopped_by_admin")),
        (
            {"workload": evicted("DeactivatedDueToMaximumExecutionTimeExceeded", active=False)},
            ("evicting", "evicted"),
        ),
        (
            {"workload": evicted("DeactivatedDueToMaximumExecutionTimeExceeded", reserved=False, active=False)},
            ("failed", "time_limit"),
        ),
        (
            {"workload": evicted("DeactivatedDueToRequeuingLimitExceeded", reserved=False, active=False)},
            ("failed", "never_started"),
        ),
        (
            {"workload": evicted("DeactivatedDueToAdmissionCheck", reserved=False, active=False)},
            ("failed", "check_rejected"),
        ),
        (
            {"workload": evicted("DeactivatedDueToSomethingNew", reserved=False, active=False)},
            ("blocked", "stopped_by_admin"),
        ),
        # 4. Being evicted: until Kueue has its quota back, and until the pod has saved what it has.
        ({"workload": evicted("Preempted", PREEMPTED)}, ("evicting", "preempted")),
        ({"workload": evicted("Preempted", reserved=False), "pods": [STILL_SAVING]}, ("evicting", "preempted")),
        # 5. Admitted: starting, running, recovering.
        ({"workload": admitted()}, ("starting", "starting")),
        ({"workload": admitted(condition("PodsReady", True, "Started"))}, ("running", None)),
        ({"workload": admitted(condition("PodsReady", True, "Recovered"))}, ("running", None)),
        ({"workload": admitted(condition("PodsReady", False, "WaitForStart"))}, ("starting", "starting")),
        ({"workload": admitted(condition("PodsReady", False, "WaitForRecovery"))}, ("starting", "recovering")),
        ({"workload": admitted(), "pods": [make_pod(state=running())]}, ("running", None)),
        (
            {"workload": admitted(condition("WaitingForReplacementPods", True)), "pods": [make_pod(state=running())]},
            ("running", None),
        ),
        ({"workload": admitted(), "pods": [make_pod(state=ended(0, "Completed"))]}, ("running", None)),
        ({"workload": admitted(), "pods": [make_pod(state=ended(1), phase="Failed")]}, ("running", None)),
        # 6. Its slot is reserved.
        (
            {"workload": make_workload(condition("QuotaReserved", True, "QuotaReserved"))},
            ("queued", "waiting_for_checks"),
        ),
        *(
            (
                {"workload": make_workload(condition("QuotaReserved", True), condition("Admitted", False, reason))},
                ("queued", "waiting_for_checks"),
            )
            for reason in ("UnsatisfiedAdmissionChecks", "PendingDelayedTopologyRequests", "NoReservation")
        ),
        # 7. Back-off.
        (
            {
                "workload": evicted(
                    "PodsReadyTimeout",
                    "Exceeded the PodsReady timeout",
                    condition("Requeued", False, "PodsReadyTimeout"),
                    reserved=False,
                    requeueState={"count": 1, "requeueAt": at(90)},
                )
            },
            ("queued", "backing_off"),
        ),
        # 8. Evicted before.
        ({"workload": evicted("Preempted", PREEMPTED, reserved=False)}, ("queued", "requeued")),
        (
            {"workload": pending("Pending", FULL, schedulingStats=evictions(("Preempted", "", 2)))},
            ("queued", "requeued"),
        ),
        *(
            (
                {
                    "workload": pending(
                        "Pending",
                        FULL,
                        condition("Requeued", True, reason),
                        schedulingStats=evictions(("Preempted", "", 2)),
                    )
                },
                ("queued", "requeued"),
            )
            for reason in ("BackoffFinished", "Reactivated", "ClusterQueueRestarted", "LocalQueueRestarted")
        ),
        # 9. Waiting for the first time; test_kueue_pending has every reason.
        (
            {
                "job": SUSPENDED,
                "workload": pending("Pending", FULL, condition("BlockedOnPreemptionGates", True, "Gated")),
            },
            ("queued", "waiting_for_quota"),
        ),
        ({"job": SUSPENDED, "workload": pending("Pending", FULL)}, ("queued", "waiting_for_quota")),
        ({"job": SUSPENDED, "workload": pending("OnHold")}, ("blocked", "on_hold")),
        ({"job": SUSPENDED, "workload": make_workload()}, ("queued", "waiting_in_queue")),
        # 10. No Workload.
        ({"job": make_job(created=-3, suspend=True)}, ("queued", "entering_queue")),
        ({"job": make_job(created=-11, suspend=True)}, ("blocked", "not_picked_up")),
        ({"job": make_job(created=-11, suspend=True, queue="")}, ("blocked", "not_picked_up")),
        ({"job": make_job()}, ("starting", "queue_bypassed")),
        ({"job": make_job(), "pods": [make_pod(state=running())]}, ("running", "queue_bypassed")),
        ({"job": make_job(created=-3), "pods": [make_pod(state=running())]}, ("running", None)),
    ],
)
def test_states(reading, expected):
    """First match wins, from the Job's end to a Job that Kueue has not seen."""
    assert expected == brief(look(**reading))


@pytest.mark.parametrize(
    ("reading", "expected"),
    [
        ({"job": make_job(COMPLETE)}, ("succeeded", None)),
        ({"job": failed_job(), "failure": CELL}, ("cancelled", "cancelled_by_user")),
        ({"job": make_job(), "workload": admitted()}, ("cancelling", "cancelling")),
        ({"job": SUSPENDED, "workload": pending()}, ("cancelling", "cancelling")),
        ({"job": make_job(deleted=-1), "pods": [STILL_SAVING]}, ("cancelling", "cancelling")),
        ({"job": None, "pods": [STILL_SAVING]}, ("cancelling", "cancelling")),
        ({"job": None, "workload": pending()}, ("cancelling", "cancelling")),
        ({"job": None}, ("cancelled", "cancelled_by_user")),
        (
            {"job": None, "pods": [make_pod(state=ended(75), phase="Failed", deleted=0)]},
            ("cancelled", "cancelled_by_user"),
        ),
        ({"job": None, "attempts": [attempt(1, -90, ended_by="succeeded")]}, ("succeeded", None)),
        ({"job": None, "attempts": [attempt(1, -90)]}, ("cancelled", "cancelled_by_user")),
    ],
)
def test_cancelled_by_the_user(reading, expected):
    """Success counts however late it came; else it is cancelling until nothing of it runs, then cancelled."""
    assert expected == brief(look(cancel_asked=True, **reading))


@pytest.mark.parametrize(
    ("reading", "expected"),
    [
        ({"attempts": [attempt(1, -90)]}, ("cancelled", "deleted_elsewhere")),
        ({"attempts": [attempt(1, -90, ended_by="succeeded")]}, ("succeeded", None)),
        ({"attempts": [attempt(1, -90, ended_by="failed")]}, ("failed", "pod_lost")),
        ({"attempts": [attempt(2, -90, ended_by="succeeded"), attempt(1, -200)]}, ("succeeded", None)),
        ({"attempts": [attempt(1, -90)], "failure": CELL}, ("failed", "cell_failed")),
        ({"pods": [STILL_SAVING]}, ("cancelling", "deleted_elsewhere")),
        ({"workload": make_workload(deleted=-1)}, ("cancelled", "deleted_elsewhere")),
        ({"workload": make_workload(condition("Finished", True, "OwnerNotFound"))}, ("cancelled", "deleted_elsewhere")),
        # The Job's children are there and nobody removes them: the Job was only not seen yet.
        ({"workload": pending()}, ("queued", "waiting_in_queue")),
        ({"pods": [make_pod(state=running())]}, ("running", None)),
    ],
)
def test_a_job_that_is_gone(reading, expected):
    """Deleted by somebody else: ended as the history says, else cancelled; never because a watch is behind."""
    assert expected == brief(look(job=None, **reading))


def test_nothing_known():
    """Neither objects nor history: not ours to say anything about."""
    assert look(job=None) is None
    assert look(job={}, workload={}, pods=[], events=[make_event("Pulling")]) is None


def test_a_slot_given_again_while_the_last_pod_still_saves():
    """An ending pod of an earlier admission does not make the new one an eviction."""
    former = make_pod(state=running(-200), created=-210, deleted=20)
    seen = look(workload=admitted(since=-5), pods=[former])
    assert ("starting", "starting") == brief(seen)


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("TerminationByKubelet", "node_pressure"),
        ("EvictionByEvictionAPI", "node_drained"),
        ("PreemptionByScheduler", "outranked"),
        ("DeletionByTaintManager", "node_lost"),
        ("DeletionByPodGC", "node_lost"),
        ("BrandNew", "node_lost"),
    ],
)
def test_disruptions(reason, code):
    """What the cluster below Kueue ends is evicting while the pod lives, and starts anew when it has ended."""
    hit = condition("DisruptionTarget", True, reason, "said why", -9)
    leaving = look(workload=admitted(), pods=[make_pod("p", hit, state=running(), deleted=20)])
    assert ("evicting", code) == brief(leaving)
    assert (reason, at(-9)) == (leaving.explanation.raw_reason, wire.format_time(leaving.explanation.since)[:19] + "Z")
    left = look(workload=admitted(), pods=[make_pod("p", hit, state=ended(75), phase="Failed")])
    assert ("starting", "recovering") == brief(left)
    assert reason == left.explanation.raw_reason


def test_a_pod_deleted_by_hand():
    """Told to end by neither queue nor node; by the queue, when its Job is suspended already."""
    assert ("evicting", "pod_stopped") == brief(look(workload=admitted(), pods=[STILL_SAVING]))
    assert ("evicting", "evicted") == brief(look(job=SUSPENDED, workload=admitted(), pods=[STILL_SAVING]))


def test_the_newest_pod_counts():
    """A Job that replaced a lost pod is as far as its new pod."""
    hit = condition("DisruptionTarget", True, "DeletionByTaintManager")
    lost = make_pod("a", hit, state=ended(143), phase="Failed", created=-50)
    fresh = make_pod("b", phase="Pending", created=-8, state=waiting("ContainerCreating"))
    assert ("starting", "starting") == brief(look(workload=admitted(), pods=[fresh, lost]))


def test_what_goes_with_which_state():
    """Position while queued, progress once it runs, outputs always; the id and the moment are passed on."""
    extras = {
        "position": POSITION,
        "progress": Progress(cell=2, of=3),
        "outputs": OutputsSummary(state=OutputsState.PARTIAL, files=1, bytes=2),
    }
    queued = look(job=SUSPENDED, workload=pending(), **extras)
    assert (POSITION, None, 1) == (queued.position, queued.progress, queued.outputs.files)
    blocked = look(job=SUSPENDED, workload=pending("OnHold"), **extras)
    assert (None, None) == (blocked.position, blocked.progress)
    runs = look(workload=admitted(), pods=[make_pod(state=running())], **extras)
    assert (None, 2) == (runs.position, runs.progress.cell)
    assert (ID, NOW) == (runs.submission_id, runs.observed_at)


def test_position_in_words():
    """How many are ahead, in the pool and of one's own."""
    said = look(job=SUSPENDED, workload=pending(), position=POSITION).explanation.summary
    assert said == (
        "Your notebook waits for its turn in the pool. 7 submissions are ahead of it: 1 of your own, 6 of other users."
    )
    first = replace(POSITION, in_local_queue=0, in_cluster_queue=0)
    assert look(job=SUSPENDED, workload=pending(), position=first).explanation.summary.endswith(" It is next.")
    second = replace(POSITION, in_local_queue=0, in_cluster_queue=1)
    said = look(job=SUSPENDED, workload=pending(), position=second).explanation.summary
    assert said.endswith(" 1 submission of other users is ahead of it.")
    own = replace(POSITION, in_local_queue=2, in_cluster_queue=2)
    said = look(job=SUSPENDED, workload=pending(), position=own).explanation.summary
    assert said.endswith(" 2 submissions of your own are ahead of it.")


SESSIONS_FIRST = PoolReading(
    resource=SLICE,
    slots=7,
    mine=1,
    others_batch=2,
    interactive=4,
    free=0,
    interactive_waiting=1,
    observed_at=NOW,
)


@pytest.mark.parametrize(
    ("message", "pool", "said"),
    [
        (
            "",
            SESSIONS_FIRST,
            (
                "Its 7 slots are in use: 1 by your batch jobs, 2 by batch jobs of others, 4 by interactive sessions."
                " It is next. 1 interactive session waits, too, and goes first."
            ),
        ),
        (FULL, replace(SESSIONS_FIRST, interactive_waiting=2), " 2 interactive sessions wait, too, and go first."),
        (
            FULL,
            replace(SESSIONS_FIRST, mine=0, others_batch=0, interactive=7, interactive_waiting=0),
            " Its 7 slots are in use: 7 by interactive sessions. It is next.",
        ),
        ("", replace(SESSIONS_FIRST, free=3, interactive_waiting=0), "for its turn in the pool. It is next."),
        ("", None, "for its turn in the pool. It is next."),
    ],
)
def test_who_holds_the_pool(message, pool, said):
    """By class, where it is full and the user may know."""
    first = replace(POSITION, in_local_queue=0, in_cluster_queue=0)
    seen = look(job=SUSPENDED, workload=pending("Pending", message), position=first, pool=pool)
    assert seen.explanation.summary.endswith(said)


def test_not_picked_up_says_what_the_cluster_said():
    """A warning about the Job is the best hint why Kueue made no Workload."""
    warning = make_event("WorkloadPriorityClassNotFound", 'priority class "x" not found', about="Job", name="j")
    seen = look(job=make_job(suspend=True), events=[warning, make_event("Other", "of a pod")])
    assert ("blocked", "not_picked_up") == brief(seen)
    assert 'priority class "x" not found.' in seen.explanation.summary
    assert "WorkloadPriorityClassNotFound" == seen.explanation.raw_reason


def test_checks_are_named():
    """Those that are not ready, with their own words."""
    checks = [
        {"name": "budget", "state": "Pending", "message": "asking the accountant"},
        {"name": "ready", "state": "Ready", "message": ""},
    ]
    reserved = make_workload(
        condition("QuotaReserved", True, "QuotaReserved"),
        condition("Admitted", False, "UnsatisfiedAdmissionChecks", since=-7),
        admissionChecks=checks,
    )
    explanation = look(job=SUSPENDED, workload=reserved).explanation
    assert explanation.summary.endswith("admission checks: budget (asking the accountant).")
    assert "UnsatisfiedAdmissionChecks" == explanation.raw_reason
    assert at(-7) == wire.format_time(explanation.since).replace(".000", "")


def test_a_rejected_check_is_quoted():
    """The check's own message says why it was refused."""
    checks = [{"name": "budget", "state": "Rejected", "message": "no money left"}]
    workload = evicted("DeactivatedDueToAdmissionCheck", reserved=False, active=False, admissionChecks=checks)
    assert "no money left." in look(job=SUSPENDED, workload=workload).explanation.summary


def test_the_pools_time_limit_is_told():
    """Kueue's limit over all Attempts, from the Workload."""
    reason = "DeactivatedDueToMaximumExecutionTimeExceeded"
    workload = evicted(reason, reserved=False, active=False, spec={"maximumExecutionTimeSeconds": 7200})
    explanation = look(job=SUSPENDED, workload=workload).explanation
    assert "Your notebook was stopped after its time limit of 2 h." == explanation.summary
    assert reason == explanation.raw_reason


@pytest.mark.parametrize("path", sorted(READINGS.glob("*.json")), ids=lambda path: path.stem)
def test_recorded_readings(path):
    """Whole objects, as a cluster writes them."""
    reading, cancel_asked, expected = load(path)
    seen = wire.to_json(observe(ID, reading, cancel_asked=cancel_asked))
    assert expected == {key: seen[key] for key in expected}
