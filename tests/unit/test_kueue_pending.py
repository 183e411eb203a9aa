"""Why a Workload waits: every reason of Kueue, the granular ones and the older ones with their messages."""

import pytest
from kueue_objects import at, brief, look, make_job, pending

from jupyterlab_ai_batch import wire

COULD_NOT = "couldn't assign flavors to pod set main: "
MIG = "nvidia.com/mig-1g.5gb"
IN_USE = f"{COULD_NOT}insufficient unused quota for {MIG} in flavor mig, 1 more needed"
TOO_LARGE = (
    f"{COULD_NOT}insufficient quota for {MIG} in flavor mig, previously considered podsets requests (0)"
    " + current podset request (8) > maximum capacity (7)"
)
NOT_OFFERED = f"{COULD_NOT}resource ephemeral-storage unavailable in ClusterQueue"
TAINTED = f"{COULD_NOT}untolerated taint {{gpu: NoSchedule}} in flavor mig"
NO_QUEUE = "LocalQueue nowhere doesn't exist"
NO_POOL = "ClusterQueue gone doesn't exist"
STOPPED = "LocalQueue batch is inactive"
NAMESPACE = "workload namespace doesn't match ClusterQueue selector"
LIMITS = "resources didn't satisfy LimitRange constraints: spec.podSets[0]: Invalid value"
PLACEMENT = f'{COULD_NOT}topology "racks" doesn\'t allow to fit any of 1 pod(s)'
PREEMPTING = f"{IN_USE}. Pending the preemption of 1 workload(s)"
GATED = "Workload requires preemption, but it's gated"


def see(reason, message=""):
    return look(job=make_job(suspend=True), workload=pending(reason, message))


@pytest.mark.parametrize(
    ("reason", "message", "expected"),
    [
        # Granular
        ("WaitingForQuota", IN_USE, ("queued", "waiting_for_quota")),
        (
            "WaitingForQuota",
            "Workload no longer fits after processing another workload",
            ("queued", "waiting_for_quota"),
        ),
        ("WaitingForPreemptedWorkloads", PREEMPTING, ("queued", "waiting_for_preempted")),
        ("WaitingForPodsReady", "", ("queued", "waiting_for_other_starts")),
        ("PendingEvaluation", "Workload is pending evaluation", ("queued", "waiting_in_queue")),
        ("TopologyPlacementFailed", PLACEMENT, ("queued", "waiting_for_placement")),
        ("AdmissionGated", "Admission is gated by: example.com/gate", ("queued", "admission_gated")),
        ("ExceedsMaxQuota", TOO_LARGE, ("blocked", "exceeds_quota")),
        ("NoMatchingFlavor", NOT_OFFERED, ("blocked", "no_matching_flavor")),
        ("NoMatchingFlavor", TAINTED, ("blocked", "no_matching_flavor")),
        ("Misconfigured", NO_QUEUE, ("blocked", "queue_missing")),
        ("Misconfigured", NO_POOL, ("blocked", "queue_missing")),
        ("Misconfigured", "ClusterQueue gone not found", ("blocked", "queue_missing")),
        ("Misconfigured", NAMESPACE, ("blocked", "namespace_refused")),
        ("Misconfigured", LIMITS, ("blocked", "misconfigured")),
        ("Misconfigured", "", ("blocked", "misconfigured")),
        ("Suspended", STOPPED, ("blocked", "queue_stopped")),
        ("Suspended", "", ("blocked", "queue_stopped")),
        ("Deactivated", "The workload is deactivated", ("blocked", "stopped_by_admin")),
        ("OnHold", "Job is on hold", ("blocked", "on_hold")),
        # Legacy
        ("Pending", "", ("queued", "waiting_in_queue")),
        ("Pending", IN_USE, ("queued", "waiting_for_quota")),
        (
            "Pending",
            f"{TOO_LARGE}, insufficient unused quota for cpu in flavor b, 1 more needed",
            ("queued", "waiting_for_quota"),
        ),
        ("Pending", PREEMPTING, ("queued", "waiting_for_preempted")),
        ("Pending", TOO_LARGE, ("blocked", "exceeds_quota")),
        ("Pending", NOT_OFFERED, ("blocked", "no_matching_flavor")),
        ("Pending", TAINTED, ("blocked", "no_matching_flavor")),
        ("Pending", f"{COULD_NOT}flavor mig doesn't match node affinity", ("blocked", "no_matching_flavor")),
        ("Pending", f"{COULD_NOT}flavor mig not found", ("blocked", "no_matching_flavor")),
        ("Pending", PLACEMENT, ("queued", "waiting_for_placement")),
        ("Pending", 'topology "racks" allows to fit only 1 out of 2 pod(s)', ("queued", "waiting_for_placement")),
        ("Pending", GATED, ("queued", "admission_gated")),
        ("Pending", "ClusterQueue batch is inactive", ("blocked", "queue_stopped")),
        ("Pending", NAMESPACE, ("blocked", "namespace_refused")),
        ("Pending", LIMITS, ("blocked", "misconfigured")),
        ("Pending", "The LocalQueue is stopped", ("blocked", "queue_stopped")),
        (
            "Waiting",
            "waiting for all admitted workloads to be in PodsReady condition",
            ("queued", "waiting_for_other_starts"),
        ),
        ("Inadmissible", NO_QUEUE, ("blocked", "queue_missing")),
        ("Inadmissible", "LocalQueue batch is terminating or missing", ("blocked", "queue_missing")),
        ("Inadmissible", NO_POOL, ("blocked", "queue_missing")),
        ("Inadmissible", STOPPED, ("blocked", "queue_stopped")),
        ("Inadmissible", "ClusterQueue batch is stopped", ("blocked", "queue_stopped")),
        ("Inadmissible", "DRA resource claims not supported", ("blocked", "misconfigured")),
        # Of a Kueue that is newer than this
        ("WaitingForTheMoon", "full in 3 days", ("queued", "waiting_unknown")),
        ("", "", ("queued", "waiting_in_queue")),
    ],
)
def test_reasons(reason, message, expected):
    """The granular reason decides; of the older ones the message does; Kueue's word is kept."""
    seen = see(reason, message)
    assert expected == brief(seen)
    assert (reason or None) == seen.explanation.raw_reason
    assert at(-60) == wire.format_time(seen.explanation.since).replace(".000", "")


@pytest.mark.parametrize(
    ("reason", "message", "words"),
    [
        ("Pending", IN_USE, f"The pool is full: your notebook waits until enough {MIG} is free."),
        ("WaitingForQuota", "", "The pool is full: your notebook waits until a slot is free."),
        ("Pending", TOO_LARGE, f"Your notebook asks for 8 of {MIG}; the pool has 7 at most."),
        ("ExceedsMaxQuota", "", "Your notebook asks for more than the pool has."),
        ("Pending", NOT_OFFERED, "The pool does not offer ephemeral-storage."),
        ("NoMatchingFlavor", TAINTED, f"Nothing in the pool fits your notebook. {TAINTED}."),
        ("Inadmissible", NO_QUEUE, f"The queue that your notebook was sent to does not exist. {NO_QUEUE}."),
        ("WaitingForTheMoon", "full in 3 days", "Your notebook waits. WaitingForTheMoon: full in 3 days."),
        ("WaitingForTheMoon", "", "Your notebook waits. WaitingForTheMoon."),
    ],
)
def test_words(reason, message, words):
    """What is asked for and what there is, and the cluster's own words."""
    assert words == see(reason, message).explanation.summary


def test_long_and_dirty_texts():
    """Reasons and messages of a cluster are one printable line, cut."""
    seen = see("New\nReason" + "x" * 500, "a\x1b[31m\u202eb\n" * 5000)
    assert seen.explanation.summary.isprintable()
    assert len(seen.explanation.summary) < 400
    assert len(seen.explanation.raw_reason) <= 100
