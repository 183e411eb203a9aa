"""Why an Attempt is, or was, interrupted: every eviction reason of Kueue, by class and without anybody's name."""

import pytest
from kueue_objects import (
    NOW,
    PREEMPTED,
    admitted,
    at,
    attempt,
    brief,
    condition,
    evicted,
    evictions,
    look,
    make_job,
    pending,
)

from jupyterlab_ai_batch import wire
from jupyterlab_ai_batch.models import QueuePosition

SUSPENDED = make_job(suspend=True)


def preempted(detail, said=PREEMPTED, **more):
    return evicted("Preempted", said, condition("Preempted", True, detail, said), **more)


@pytest.mark.parametrize(
    ("reason", "code", "words"),
    [
        ("PodsReadyTimeout", "evicted", "because it did not start in time"),
        ("AdmissionCheck", "evicted", "because one of the pool's admission checks asked for another try"),
        ("ClusterQueueStopped", "evicted", "because an admin stopped the pool"),
        ("LocalQueueStopped", "evicted", "because an admin stopped your queue"),
        ("NodeFailures", "node_lost", "failed or was shut down"),
        ("FlavorMigration", "evicted", "to move to hardware that suits it better"),
        ("EvictedOnManagerCluster", "evicted", "because the cluster that manages the pool took it back"),
        ("Deactivated", "evicted", "because an admin stopped it"),
        ("DeactivatedDueToMaximumExecutionTimeExceeded", "evicted", "because its time limit was over"),
        ("DeactivatedDueToRequeuingLimitExceeded", "evicted", "because it did not start in time again and again"),
        ("DeactivatedDueToAdmissionCheck", "evicted", "admission checks refused it"),
        ("DeactivatedDueToBrandNew", "evicted", "by the queue (DeactivatedDueToBrandNew)"),
        ("BrandNew", "evicted", "by the queue (BrandNew)"),
        ("", "evicted", "by the queue;"),
    ],
)
def test_evicting(reason, code, words):
    """Each reason has its sentence; an unknown one is shown as it is."""
    seen = look(workload=evicted(reason, "said why"))
    assert ("evicting", code) == brief(seen)
    assert words in seen.explanation.summary
    assert (reason or None) == seen.explanation.raw_reason
    assert at(-20) == wire.format_time(seen.explanation.since).replace(".000", "")


OTHER_QUEUE = PREEMPTED.replace("/gpu-pool/interactive", "/gpu-pool/physics")
UNKNOWN_QUEUE = PREEMPTED.replace("/gpu-pool/interactive", "UNKNOWN")


@pytest.mark.parametrize(
    ("detail", "said", "words"),
    [
        ("InCohortReclamation", PREEMPTED, "to make room for an interactive session"),
        ("InCohortReclamation", OTHER_QUEUE, "to give back a slot of the queue physics"),
        ("InCohortReclamation", UNKNOWN_QUEUE, "to give back a slot that it had borrowed"),
        ("InCohortReclamation", "", "to give back a slot that it had borrowed"),
        ("InClusterQueue", OTHER_QUEUE, "to make room for work of higher priority in the same queue"),
        ("InCohortFairSharing", OTHER_QUEUE, "to make room for a queue that has used less than its share"),
        ("InCohortReclaimWhileBorrowing", OTHER_QUEUE, "to make room for more important work of another queue"),
        ("BrandNew", PREEMPTED, "to make room for other work (BrandNew)"),
        ("", "", "to make room for other work"),
    ],
)
def test_preempted_by_class(detail, said, words):
    """By what kind of work, from Kueue's reason and the preemptor's queue; both words are kept."""
    seen = look(workload=preempted(detail, said))
    assert ("evicting", "preempted") == brief(seen)
    assert f"Your notebook is interrupted {words}; what it has produced is being saved." == seen.explanation.summary
    assert ("Preempted/" + detail if detail else "Preempted") == seen.explanation.raw_reason


def test_nobody_is_named():
    """Neither who needed the slot nor their objects appear."""
    summary = look(workload=preempted("InCohortReclamation")).explanation.summary
    assert not any(secret in summary for secret in ("5f0c", "77aa", "UID", "gpu-pool"))


def test_requeued():
    """How often, why last, and what it waits for now."""
    position = QueuePosition(in_local_queue=0, in_cluster_queue=2, observed_at=NOW)
    once = preempted("InCohortReclamation", reserved=False, schedulingStats=evictions(("Preempted", "", 1)))
    seen = look(job=SUSPENDED, workload=once, position=position)
    assert ("queued", "requeued") == brief(seen)
    assert seen.explanation.summary == (
        "Your notebook was interrupted once to make room for an interactive session."
        " Your notebook waits for its turn in the pool. 2 submissions of other users are ahead of it."
    )
    assert "Preempted" == seen.explanation.raw_reason
    counts = evictions(("Preempted", "", 2), ("PodsReadyTimeout", "WaitForStart", 1))
    thrice = preempted("InCohortReclamation", reserved=False, schedulingStats=counts)
    summary = look(job=SUSPENDED, workload=thrice).explanation.summary
    assert summary.startswith("Your notebook was interrupted 3 times, last to make room for an interactive session.")


@pytest.mark.parametrize(("resumes", "words"), [(True, "continues with"), (False, "from the start")])
@pytest.mark.parametrize(("times", "code"), [(2, "requeued"), (3, "interrupted_often")])
def test_when_it_keeps_happening(times, code, resumes, words):
    """What to do about it, and what an interruption costs with and without resume."""
    job = make_job(suspend=True)
    job["metadata"]["annotations"] = {"jupyterlab-ai-batch/resume": "true"} if resumes else {}
    counts = evictions(("Preempted", "", times))
    seen = look(job=job, workload=preempted("InCohortReclamation", reserved=False, schedulingStats=counts))
    assert ("queued", code) == brief(seen)
    assert words in seen.explanation.resolution
    assert ("submit it with 'resume'" in seen.explanation.resolution) == (times == 3 and not resumes)


@pytest.mark.parametrize(
    ("said", "clause"),
    [
        (PREEMPTED, "to make room for an interactive session"),
        (OTHER_QUEUE, "to give back a slot of the queue physics"),
        (
            OTHER_QUEUE.replace("reclamation within the cohort", "prioritization in the ClusterQueue"),
            "to make room for work of higher priority in the same queue",
        ),
        (
            OTHER_QUEUE.replace("reclamation within", "Fair Sharing within"),
            "to make room for a queue that has used less than its share",
        ),
        (
            OTHER_QUEUE.replace("due to reclamation within the cohort", ""),
            "to make room for other work of the queue physics",
        ),
        ("The pods were not ready in time", ""),
    ],
)
def test_the_clause_of_the_last_eviction_stays(said, clause):
    """Kueue keeps the message when it gives the next slot, not the reason."""
    again = admitted(condition("Evicted", False, "QuotaReserved", f"Previously: {said}"))
    history = [attempt(1, -300), attempt(2, -50)]
    assert [clause, ""] == [one.ended_because for one in look(workload=again, attempts=history).attempts]


def test_requeued_without_the_condition():
    """Counters alone: the reason when there is one, none when there were several."""
    one = pending(schedulingStats=evictions(("NodeFailures", "", 2)))
    seen = look(job=SUSPENDED, workload=one)
    assert seen.explanation.summary.startswith("Your notebook was interrupted 2 times, last because its node failed.")
    several = pending(schedulingStats=evictions(("NodeFailures", "", 1), ("Preempted", "", 1)))
    seen = look(job=SUSPENDED, workload=several)
    assert seen.explanation.summary.startswith("Your notebook was interrupted 2 times. ")
    assert "Pending" == seen.explanation.raw_reason


def test_a_stopped_queue_is_blocked_even_after_an_eviction():
    """It waits for the admin, not for its turn."""
    stopped = evicted("LocalQueueStopped", "The LocalQueue is stopped", reserved=False)
    assert ("blocked", "queue_stopped") == brief(look(job=SUSPENDED, workload=stopped))


def test_back_off():
    """Until when and why; over when that time has come."""
    backing = condition("Requeued", False, "PodsReadyTimeout", since=-19)
    state = {"count": 1, "requeueAt": at(60)}
    workload = evicted("PodsReadyTimeout", "", backing, reserved=False, requeueState=state)
    explanation = look(job=SUSPENDED, workload=workload).explanation
    assert explanation.summary == (
        "Your notebook was interrupted because it did not start in time and pauses;"
        " it enters the queue again at 14:01:00 UTC."
    )
    assert "PodsReadyTimeout" == explanation.raw_reason
    workload = evicted("PodsReadyTimeout", "", backing, reserved=False, requeueState={"requeueAt": at(0)})
    assert ("queued", "requeued") == brief(look(job=SUSPENDED, workload=workload))


def test_running_again_after_an_eviction():
    """Kueue keeps the old condition as "Previously: …": that is history, not a state."""
    again = admitted(
        condition("Evicted", False, "QuotaReserved", f"Previously: {PREEMPTED}"),
        condition("Preempted", False, "QuotaReserved", f"Previously: {PREEMPTED}"),
        condition("PodsReady", True, "Started"),
        schedulingStats=evictions(("Preempted", "", 1)),
    )
    assert ("running", None) == brief(look(workload=again))


@pytest.mark.parametrize("deactivation", ["target", "stats"])
def test_why_kueue_took_it_out_of_the_queue(deactivation):
    """From the condition DeactivationTarget or the counters, where Evicted does not say."""
    cause = "MaximumExecutionTimeExceeded"
    if deactivation == "target":
        workload = pending("Pending", "", condition("DeactivationTarget", True, cause), active=False)
    else:
        workload = pending(active=False, schedulingStats=evictions(("Deactivated", cause, 1)))
    seen = look(job=SUSPENDED, workload=workload)
    assert ("failed", "time_limit") == brief(seen)
    assert f"DeactivatedDueTo{cause}" == seen.explanation.raw_reason


def test_an_admin_who_stops_it_after_kueue_did_once():
    """The condition tells why it is out of the queue now; the counters only what was."""
    counts = evictions(("Deactivated", "RequeuingLimitExceeded", 1), ("Deactivated", "", 1))
    workload = evicted("Deactivated", "by hand", reserved=False, active=False, schedulingStats=counts)
    assert ("blocked", "stopped_by_admin") == brief(look(job=SUSPENDED, workload=workload))
