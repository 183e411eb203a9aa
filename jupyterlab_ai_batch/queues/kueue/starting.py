"""An admitted Submission: whether its pod runs, and what it waits for when it does not yet. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from ...models import Explanation
from ...words import SubmissionState
from . import pod_explanations as explanations
from .events import JOB, POD, Event, newest_about
from .evictions import explain_disruption
from .explanations import evicted
from .pods import Pod, begun
from .view import Standing, View
from .workloads import PODS_READY, Workload

DEFAULT_START_LIMIT_S = 1800  # Kueue's own default of waitForPodsReady.timeout; what the admin set is not in the API
_SLOW_START_S = 120
_RECORDED_WITHIN_S = 15

_PULL_FAILURES = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    }
)
_CONFIG_FAILURES = frozenset({"CreateContainerConfigError", "FailedMount", "FailedAttachVolume"})
_SETTLED = frozenset({"Pulled", "Created", "Started", "Scheduled"})
_PULLED = re.compile(r'Pulling image "([^"]{1,400})"')
_DIGEST = re.compile(r"(@sha256:[0-9a-f]{12})[0-9a-f]{52}")
_CAUSE = re.compile(r"(?:ErrImagePull|Failed to pull image \"[^\"]*\"): (.+)\Z")
_STATUS = re.compile(r"\A(?:rpc error: )?code = \w+ desc = ")


def stand_admitted(view: View) -> Standing:
    """Where a Submission with a slot stands."""
    pod = view.pod
    if pod is None or _is_former(pod, view.workload):
        if pod is None and view.workload is not None and view.workload.holds(PODS_READY):
            return Standing(state=SubmissionState.RUNNING)
        return Standing(state=SubmissionState.STARTING, explanation=_with_limit(_explain_no_pod(view), view))
    if pod.is_ending:
        return Standing(state=SubmissionState.EVICTING, explanation=_explain_end(pod, view))
    if pod.has_ended and pod.is_disrupted:
        lost = _recovering(pod.disruption.reason, pod.disruption.since)
        return Standing(state=SubmissionState.STARTING, explanation=lost)
    if pod.has_ended or pod.has_run:
        return Standing(state=SubmissionState.RUNNING, explanation=_explain_unrecorded(pod, view.observed_at))
    return Standing(state=SubmissionState.STARTING, explanation=_with_limit(_explain_pod(pod, view), view))


def _explain_unrecorded(pod: Pod, now: datetime) -> Explanation | None:
    """A pod that has ended by itself: in a moment its Job says how it went, unless Kueue or a controller is away."""
    ended_at = pod.container.finished_at
    if not pod.has_ended or ended_at is None or (now - ended_at).total_seconds() < _RECORDED_WITHIN_S:
        return None
    return replace(explanations.end_unrecorded(), since=ended_at)


def _is_former(pod: Pod, workload: Workload | None) -> bool:
    """It was ended in an earlier admission, and may still be saving what it has."""
    since = workload.admitted_since if workload else None
    over = pod.is_ending or pod.has_ended
    return over and since is not None and begun(pod) < since


def _explain_end(pod: Pod, view: View) -> Explanation:
    if view.job is not None and view.job.suspended and not pod.is_disrupted:
        return evicted("by the queue")  # whose reason has not been heard of yet
    return explain_disruption(pod)


def _explain_no_pod(view: View) -> Explanation:
    since = view.workload.admitted_since if view.workload else None
    for event in newest_about(view.events, JOB):
        if event.reason == "SuccessfulCreate" or _is_before(event, since):
            break
        if event.reason == "FailedCreate":
            return replace(_explain_failed_create(event.message), since=since or event.at)
    ready = view.workload.condition(PODS_READY) if view.workload else None
    if ready is not None and ready.reason == "WaitForRecovery":
        return _recovering(ready.reason, ready.since)
    return replace(explanations.starting(), since=since)


def _explain_failed_create(said: str) -> Explanation:
    words = said.removeprefix("Error creating: ")
    if "exceeded quota" in words:
        return explanations.namespace_quota(words)
    if "is forbidden" in words or "denied the request" in words or "denied request" in words:
        return explanations.pod_refused(words.partition(" is forbidden: ")[2] or words)
    return explanations.pod_not_created(words)


def _explain_pod(pod: Pod, view: View) -> Explanation:
    scheduled = pod.scheduled
    if scheduled.holds is False and scheduled.reason != "SchedulingGated":
        said = explanations.unschedulable(scheduled.reason or "Unschedulable", scheduled.message)
        return replace(said, since=scheduled.since)
    container = pod.container
    told = _explain_wait(container.waiting, container.message, view.events, pod) if container.is_hindered else None
    told = told or _explain_by_events(list(newest_about(view.events, POD, pod.name)), pod, view)
    return told or replace(explanations.starting(), since=scheduled.since or pod.created_at)


def _explain_wait(reason: str, said: str, events: Sequence[Event], pod: Pod) -> Explanation:
    since = pod.scheduled.since or pod.created_at
    if reason in _PULL_FAILURES:
        return replace(explanations.image_pull_failed(reason, _registry_words(said, events, pod)), since=since)
    if reason in _CONFIG_FAILURES:
        return replace(explanations.container_config_missing(reason, said), since=since)
    return replace(explanations.container_not_created(reason, said), since=since)


def _explain_by_events(events: Sequence[Event], pod: Pod, view: View) -> Explanation | None:
    """What the node does or cannot do, while the container's own status only says that it is being created."""
    for event in events:
        if event.reason in _SETTLED:
            return None
        if event.reason == "Pulling":
            match = _PULLED.search(event.message)
            image = _DIGEST.sub(r"\1", match.group(1) if match else pod.image)
            added_bytes = view.job.added_bytes if view.job is not None else None
            waited_s = (view.observed_at - event.at).total_seconds() if event.at else 0
            return replace(explanations.pulling_image(image, waited_s, added_bytes), since=event.at)
        if event.reason in _CONFIG_FAILURES:
            return replace(explanations.container_config_missing(event.reason, event.message), since=event.at)
        if event.reason == "FailedCreatePodSandBox":
            return replace(explanations.container_not_created(event.reason, event.message), since=event.at)
    return None


def _registry_words(said: str, events: Sequence[Event], pod: Pod) -> str:
    """The cause in the registry's words, which a back-off's own message need not hold."""
    pulls = (event.message for event in newest_about(events, POD, pod.name) if event.reason == "Failed")
    for text in (said, *pulls):
        match = _CAUSE.search(text)
        if match:
            return _last_cause(match.group(1))
    return _last_cause(said)


def _last_cause(said: str) -> str:
    """Without the layers of "failed to …" around it, each of which repeats the image's long name."""
    return _DIGEST.sub(r"\1", _STATUS.sub("", said).rpartition('": ')[2])


def _with_limit(explanation: Explanation, view: View) -> Explanation:
    """Say until when a slow start may go on, where Kueue watches that pods start."""
    until = _start_limit(view.workload, view.observed_at)
    if until is None:
        return explanation
    limit = f"If it does not run by {until:%H:%M} UTC, the pool by default takes its slot back and queues it again."
    return replace(explanation, resolution=f"{explanation.resolution} {limit}".strip())


def _start_limit(workload: Workload | None, now: datetime) -> datetime | None:
    since = workload.admitted_since if workload else None
    if workload is None or since is None or workload.condition(PODS_READY).reason != "WaitForStart":
        return None
    slow = (now - since).total_seconds() >= _SLOW_START_S
    return since + timedelta(seconds=DEFAULT_START_LIMIT_S) if slow else None


def _recovering(reason: str, since: datetime | None) -> Explanation:
    return replace(explanations.recovering(reason), since=since)


def _is_before(event: Event, since: datetime | None) -> bool:
    return event.at is not None and since is not None and event.at < since
