"""What an admitted Submission waits for: scheduler, registry, kubelet and the cluster's rules, in their own words."""

import pytest
from kueue_objects import (
    IMAGE,
    admitted,
    at,
    brief,
    condition,
    ended,
    look,
    make_event,
    make_job,
    make_pod,
    running,
    waiting,
)

from jupyterlab_ai_batch import wire
from jupyterlab_ai_batch.queues.kueue.naming import ADDED_ANNOTATION

SCHEDULED = condition("PodScheduled", True, since=-50)
NOT_FOUND = (
    f'rpc error: code = NotFound desc = failed to pull and unpack image "{IMAGE}": failed to resolve reference'
    f' "{IMAGE}": {IMAGE}: not found'
)
REFUSED = (
    f'failed to pull and unpack image "{IMAGE}": failed to do request: Head "https://registry.example/v2/": dial tcp'
    " 10.0.0.9:443: connect: connection refused"
)
DENIED = f'failed to pull and unpack image "{IMAGE}": failed to authorize: unexpected status: 401 Unauthorized'
NO_ROOM = "0/3 nodes are available: 3 Insufficient nvidia.com/mig-1g.5gb. preemption: 0/3 nodes are available."
POD_SECURITY = (
    'Error creating: pods "ai-batch-x" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true'
)


def see(*conditions, state=None, events=(), **pod):
    return look(
        workload=admitted(),
        pods=[make_pod("ai-batch-x", *conditions, phase="Pending", state=state, **pod)],
        events=events,
    )


@pytest.mark.parametrize(
    ("reason", "message", "code", "words"),
    [
        ("ErrImagePull", NOT_FOUND, "image_pull_failed", "user-alice@sha256:aaaaaaaaaaaa: not found."),
        (
            "ImagePullBackOff",
            f'Back-off pulling image "{IMAGE}": ErrImagePull: {REFUSED}',
            "image_pull_failed",
            "connection refused.",
        ),
        ("ErrImagePull", DENIED, "image_pull_failed", "401 Unauthorized."),
        (
            "InvalidImageName",
            'Failed to apply default image tag "A:b:c": couldn\'t parse image name',
            "image_pull_failed",
            "couldn't parse image name.",
        ),
        (
            "ErrImageNeverPull",
            "Container image is not present with pull policy of Never",
            "image_pull_failed",
            "not present",
        ),
        ("ImageInspectError", "inspect failed", "image_pull_failed", "inspect failed."),
        (
            "CreateContainerConfigError",
            'secret "registry" not found',
            "container_config_missing",
            'secret "registry" not found.',
        ),
        (
            "CreateContainerConfigError",
            'configmap "ca" not found',
            "container_config_missing",
            'configmap "ca" not found.',
        ),
        (
            "CreateContainerError",
            "context deadline exceeded",
            "container_not_created",
            "(CreateContainerError). context deadline exceeded.",
        ),
        ("RunContainerError", "boom", "container_not_created", "(RunContainerError). boom."),
        ("BrandNewError", "boom", "container_not_created", "(BrandNewError). boom."),
        ("ContainerCreating", "", "starting", "is being started"),
        ("PodInitializing", "", "starting", "is being started"),
    ],
)
def test_waiting_containers(reason, message, code, words):
    """The kubelet's reason decides; the cause is quoted without its layers; the reason is kept."""
    seen = see(SCHEDULED, state=waiting(reason, message))
    assert ("starting", code) == brief(seen)
    assert words in seen.explanation.summary
    assert (reason if code != "starting" else None) == seen.explanation.raw_reason
    assert at(-50) == wire.format_time(seen.explanation.since).replace(".000", "")


@pytest.mark.parametrize(
    ("message", "words"),
    [(NOT_FOUND, "submit it again"), (DENIED, "imagePullSecret"), (REFUSED, "tried again by itself")],
)
def test_what_to_do_about_a_failed_pull(message, words):
    """An image that is gone, a registry that refuses, one that is down."""
    assert words in see(SCHEDULED, state=waiting("ErrImagePull", message)).explanation.resolution


def test_a_back_off_without_its_cause():
    """The event of the failed pull has the registry's words."""
    events = [
        make_event("Failed", f'Failed to pull image "{IMAGE}": {NOT_FOUND}'),
        make_event("Failed", "Error: ErrImagePull"),
    ]
    seen = see(SCHEDULED, state=waiting("ImagePullBackOff", f'Back-off pulling image "{IMAGE}"'), events=events)
    assert seen.explanation.summary.endswith("user-alice@sha256:aaaaaaaaaaaa: not found.")


def test_an_init_container_that_the_cluster_put_in():
    """What keeps it waiting keeps ours waiting."""
    statuses = [{"name": "mesh", "state": waiting("ErrImagePull", "mesh: not found")}]
    seen = see(SCHEDULED, state=waiting("PodInitializing"), initContainerStatuses=statuses)
    assert ("starting", "image_pull_failed") == brief(seen)


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("Unschedulable", "unschedulable"),
        ("SchedulerError", "unschedulable"),
        ("", "unschedulable"),
        ("SchedulingGated", "starting"),
    ],
)
def test_scheduling(reason, code):
    """The scheduler's own words; a gate is only a moment."""
    seen = see(condition("PodScheduled", False, reason, NO_ROOM, -30))
    assert ("starting", code) == brief(seen)
    assert (NO_ROOM in seen.explanation.summary) is (code == "unschedulable")


PULLING = make_event("Pulling", f'Pulling image "{IMAGE}"', warning=False, when=-30)


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([PULLING], "pulling_image"),
        ([PULLING, make_event("Pulled", "Successfully pulled image", warning=False)], "starting"),
        ([make_event("Pulling", "Pulling image", name="another-pod")], "starting"),
        (
            [make_event("FailedMount", 'MountVolume.SetUp failed for volume "ca": configmap "ca" not found')],
            "container_config_missing",
        ),
        ([make_event("FailedAttachVolume", "timed out")], "container_config_missing"),
        ([make_event("FailedCreatePodSandBox", "no network")], "container_not_created"),
        (
            [make_event("FailedScheduling", "0/3"), make_event("Scheduled", "Successfully assigned", warning=False)],
            "starting",
        ),
        ([], "starting"),
    ],
)
def test_events_tell_what_the_status_does_not(events, expected):
    """While the container is only "being created", the pod's newest telling event says by what."""
    assert ("starting", expected) == brief(see(SCHEDULED, state=waiting("ContainerCreating"), events=events))


@pytest.mark.parametrize(
    ("when", "words"),
    [
        (-30, "aaaaaaaaaaaa)."),
        (-119, "aaaaaaaaaaaa), for 1 min so far."),
        (-3720, "aaaaaaaaaaaa), for 1 h 2 min so far."),
    ],
)
def test_pulling_says_what_and_for_how_long(when, words):
    """In whole minutes, so that the sentence does not change every second; since when is exact."""
    pulling = make_event("Pulling", f'Pulling image "{IMAGE}"', warning=False, when=when)
    explanation = see(SCHEDULED, state=waiting("ContainerCreating"), events=[pulling]).explanation
    assert explanation.summary.endswith("(registry.example/user-alice@sha256:" + words)
    assert at(when) == wire.format_time(explanation.since).replace(".000", "")


@pytest.mark.parametrize(("until", "code"), [(-3, None), (-30, "end_unrecorded")])
def test_an_end_that_nobody_records(until, code):
    """A moment after the pod's end is nothing; later somebody is away whom only the cluster's admin knows."""
    pods = [make_pod("ai-batch-x", SCHEDULED, phase="Succeeded", state=ended(0, until=until))]
    assert ("running", code) == brief(look(workload=admitted(), pods=pods))


def test_pulling_says_how_much_at_most():
    """The Snapshot's share, as the Job says it; junk there says nothing."""
    pulling = make_event("Pulling", f'Pulling image "{IMAGE}"', warning=False, when=-90)
    pods = [make_pod("ai-batch-x", SCHEDULED, phase="Pending", state=waiting("ContainerCreating"))]
    for text, words in (
        ("43000000", "), at most 41 MiB more than your session's image has, for 1 min"),
        ("-1", "), for"),
    ):
        annotated = make_job()
        annotated["metadata"]["annotations"] = {ADDED_ANNOTATION: text}
        seen = look(job=annotated, workload=admitted(), pods=pods, events=[pulling])
        assert words in seen.explanation.summary


def test_events_of_the_newer_api():
    """events.k8s.io/v1 has other names for the same."""
    event = {
        "regarding": {"kind": "Pod", "name": "ai-batch-x"},
        "reason": "Pulling",
        "note": f'Pulling image "{IMAGE}"',
        "eventTime": at(-70).replace("Z", ".123456Z"),
    }
    assert "for 1 min" in see(SCHEDULED, state=waiting("ContainerCreating"), events=[event]).explanation.summary


@pytest.mark.parametrize(
    ("event", "code", "words"),
    [
        (make_event("FailedCreate", POD_SECURITY, about="Job"), "pod_refused", "violates PodSecurity"),
        (
            make_event("FailedCreate", 'Error creating: admission webhook "x" denied the request: no', about="Job"),
            "pod_refused",
            "no.",
        ),
        (
            make_event(
                "FailedCreate",
                'Error creating: pods "x" is forbidden: exceeded quota: own, requested: pods=1',
                about="Job",
            ),
            "namespace_quota",
            "exceeded quota",
        ),
        (
            make_event("FailedCreate", "Error creating: Internal error occurred: failed calling webhook", about="Job"),
            "pod_not_created",
            "failed calling webhook.",
        ),
        (make_event("FailedCreate", POD_SECURITY, about="Job", when=-3600), "starting", ""),
        (make_event("FailedCreate", POD_SECURITY, about="Pod"), "starting", ""),
        (make_event("SuccessfulCreate", "Created pod", about="Job", warning=False), "starting", ""),
    ],
)
def test_a_pod_that_cannot_be_made(event, code, words):
    """The Job's event since this admission says who refused the pod, and why."""
    seen = look(workload=admitted(), events=[event])
    assert ("starting", code) == brief(seen)
    assert words in seen.explanation.summary


@pytest.mark.parametrize(
    ("ready", "since", "expected"),
    [
        (
            "WaitForStart",
            -600,
            "If it does not run by 14:20 UTC, the pool by default takes its slot back and queues it again.",
        ),
        ("WaitForStart", -60, ""),
        ("", -600, ""),
    ],
)
def test_how_long_a_start_may_take(ready, since, expected):
    """A slow start says when the pool gives up on it, where the pool watches that."""
    workload = admitted(condition("PodsReady", False, ready), since=since)
    pod = make_pod(phase="Pending", created=since + 1, state=waiting("ContainerCreating"))
    assert expected == look(workload=workload, pods=[pod]).explanation.resolution


def test_ready_is_running_only_without_better_knowledge():
    """The pod's own status outweighs the Workload's condition."""
    ready = admitted(condition("PodsReady", True, "Started"))
    creating = make_pod(phase="Pending", state=waiting("ContainerCreating"))
    assert ("starting", "starting") == brief(look(workload=ready, pods=[creating]))
    unready = admitted(condition("PodsReady", False, "WaitForStart"))
    assert ("running", None) == brief(look(workload=unready, pods=[make_pod(state=running())]))
