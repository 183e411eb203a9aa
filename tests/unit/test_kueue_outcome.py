"""Why a Submission failed: the runner's, the kubelet's and the Job's words."""

import pytest
from kueue_objects import at, brief, condition, ended, failed_job, look, make_job, make_pod, make_workload

from jupyterlab_ai_batch import wire

CELL = {"cell": 5, "ename": "KeyError", "evalue": "'x'", "code": "cell_failed"}
DEAD = {"cell": 5, "ename": "DeadKernelError", "evalue": "", "code": "kernel_died", "signal": 9}
REGISTRY = {
    "cell": 0,
    "ename": "RegistryUnreachableError",
    "evalue": "The registry does not answer.",
    "code": "registry_unreachable",
    "hint": "Submit it again.",
}
NO_PYTHON = (
    "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed:"
    ' unable to start container process: exec: "/opt/python": stat /opt/python: no such file or directory'
)
LOW_MEMORY = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. "
LOW_DISK = "The node was low on resource: ephemeral-storage. Container notebook was using 5Gi, request is 0. "


def see(state=None, *conditions, failure=None, **status):
    pod = make_pod("p", *conditions, phase="Failed", state=state, **status)
    return look(job=failed_job(), workload=make_workload(), pods=[pod], failure=failure)


@pytest.mark.parametrize(
    ("state", "failure", "code"),
    [
        (ended(1), CELL, "cell_failed"),
        (ended(1, "OOMKilled"), CELL, "cell_failed"),
        (ended(1), DEAD, "kernel_died"),
        (ended(1, "OOMKilled"), DEAD, "out_of_memory"),
        (ended(137, "OOMKilled"), None, "out_of_memory"),
        (ended(1), REGISTRY, "registry_unreachable"),
        (ended(1), {"code": "<script>"}, "run_failed"),
        (ended(75), None, "pod_stopped"),
        (ended(143), None, "pod_stopped"),
        (ended(137), None, "killed_by_signal"),
        (ended(139), None, "killed_by_signal"),
        (ended(1), None, "runner_crashed"),
        (ended(64), None, "runner_crashed"),
        (ended(128, "StartError", NO_PYTHON), None, "python_missing"),
        (ended(127), None, "python_missing"),
        (ended(126, "ContainerCannotRun"), None, "python_missing"),
        (ended(137, "ContainerStatusUnknown"), None, "node_lost"),
        (ended(0, "Completed"), None, "run_failed"),
        (None, None, "run_failed"),
    ],
)
def test_ends_of_the_container(state, failure, code):
    """What the runner said counts before what its exit status means."""
    seen = see(state, failure=failure)
    assert ("failed", code) == brief(seen)
    assert at(-5) == wire.format_time(seen.explanation.since).replace(".000", "")


@pytest.mark.parametrize(
    ("reason", "message", "code", "words"),
    [
        (
            "DeadlineExceeded",
            "Pod was active on the node longer than the specified deadline",
            "time_limit",
            "1 h 30 min",
        ),
        ("Evicted", 'Usage of EmptyDir volume "scratch" exceeds the limit "10Gi". ', "disk_quota", "10.0 GiB"),
        (
            "Evicted",
            "Pod ephemeral local storage usage exceeds the total limit of containers 500Mi. ",
            "disk_quota",
            "500 MiB",
        ),
        ("Evicted", 'Container notebook exceeded its local ephemeral storage limit "2Gi". ', "disk_quota", "2.0 GiB"),
        ("Evicted", 'Usage of EmptyDir volume "scratch" exceeds the limit "9qq". ', "disk_quota", "9qq"),
        ("Evicted", LOW_MEMORY, "node_pressure", "low on resource: memory"),
        ("Evicted", LOW_DISK, "node_pressure", "low on resource: ephemeral-storage"),
        ("Evicted", "", "node_pressure", "ran short"),
        ("NodeLost", "", "node_lost", "failed or was shut down"),
        ("Terminated", "Pod was terminated in response to imminent node shutdown.", "node_lost", "shut down"),
        ("UnexpectedAdmissionError", "Allocate failed: no devices", "node_refused", "no devices"),
        (
            "OutOfnvidia.com/mig-1g.5gb",
            "Node didn't have enough resource",
            "node_refused",
            "OutOfnvidia.com/mig-1g.5gb",
        ),
        ("BrandNew", "it is new", "run_failed", "it is new"),
    ],
)
def test_ends_of_the_pod(reason, message, code, words):
    """The kubelet's decisions about a pod, with their limits."""
    seen = see(reason=reason, message=message)
    assert ("failed", code) == brief(seen)
    assert words in seen.explanation.summary
    assert reason == seen.explanation.raw_reason


def test_a_time_limit_counts_before_what_the_runner_said_last():
    """The cell that was interrupted by it is not the cause."""
    assert ("failed", "time_limit") == brief(see(ended(1), failure=CELL, reason="DeadlineExceeded"))


def test_a_node_that_is_gone():
    """A disruption that the Job did not ignore."""
    seen = see(ended(137), condition("DisruptionTarget", True, "DeletionByTaintManager"))
    assert ("failed", "node_lost") == brief(seen)
    assert "DeletionByTaintManager" == seen.explanation.raw_reason


def test_words():
    """Limits and causes are told with their numbers."""
    assert "8.0 GiB" in see(ended(137, "OOMKilled")).explanation.summary
    assert "Cell 5 failed with KeyError: 'x'." == see(ended(1), failure=CELL).explanation.summary
    assert "ended by SIGSEGV" in see(ended(139)).explanation.summary
    assert "with status 3" in see(ended(3)).explanation.summary
    summary = see(ended(128, "StartError", NO_PYTHON)).explanation.summary
    assert summary.endswith('image. exec: "/opt/python": stat /opt/python: no such file or directory.')
    registry = see(ended(1), failure=REGISTRY).explanation
    assert ("The registry does not answer.", "Submit it again.") == (registry.summary, registry.resolution)


@pytest.mark.parametrize(
    ("job", "workload", "code", "raw_reason"),
    [
        (failed_job(), None, "pod_lost", "BackoffLimitExceeded"),
        (failed_job("PodFailurePolicy", "Container failed"), None, "pod_lost", "PodFailurePolicy"),
        (failed_job("DeadlineExceeded", "", activeDeadlineSeconds=60), None, "time_limit", "DeadlineExceeded"),
        (failed_job("BrandNew", "for once"), None, "pod_lost", "BrandNew"),
        (make_job(), make_workload(condition("Finished", True, "Failed", "it failed")), "pod_lost", "Failed"),
    ],
)
def test_the_job_alone(job, workload, code, raw_reason):
    """Without pod and log the Job's reason is what there is, verbatim."""
    seen = look(job=job, workload=workload)
    assert ("failed", code) == brief(seen)
    assert raw_reason == seen.explanation.raw_reason


def test_the_newest_pod_is_the_one_that_failed():
    """An earlier pod that was lost is not why the Job failed."""
    hit = condition("DisruptionTarget", True, "DeletionByTaintManager")
    lost = make_pod("a", hit, phase="Failed", state=ended(137), created=-200)
    last = make_pod("b", phase="Failed", state=ended(1), created=-100)
    assert ("failed", "runner_crashed") == brief(look(job=failed_job(), pods=[last, lost]))


def test_a_pod_that_never_began_does_not_hide_what_the_runner_said():
    """The log of the last Attempt outweighs a pod without any end."""
    begun = make_pod("b", phase="Pending", created=-3)
    assert ("failed", "cell_failed") == brief(look(job=failed_job(), pods=[begun], failure=CELL))
