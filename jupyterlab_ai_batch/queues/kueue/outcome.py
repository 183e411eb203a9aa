"""Why a Submission failed: what the runner, the kubelet and the Job say of its last Attempt. Pure."""

from __future__ import annotations

import re
import signal
from dataclasses import replace

from ...models import Explanation
from ..explanations import (
    explain_failure,
    format_size,
    killed_by_signal,
    out_of_memory,
    run_failed,
    runner_crashed,
    time_limit,
)
from . import explanations, pod_explanations
from .evictions import CHECK, DEACTIVATED, DUE_TO, TIME_OVER, TRIES_OVER, deactivation_reason
from .json_fields import quantity
from .pods import Pod
from .view import View
from .workloads import EVICTED, FINISHED, Job, Workload

STOPPED = 75  # the runner's exit status after it was told to end and has saved
_SHELL_SIGNAL_BASE = 128
_CANNOT_EXECUTE = (126, 127)
_START_FAILURES = frozenset({"StartError", "ContainerCannotRun"})
_NODE_GONE = frozenset({"NodeLost", "NodeShutdown", "Terminated", "Shutdown", "ContainerStatusUnknown"})
_NODE_REFUSALS = re.compile(r"OutOf\w|UnexpectedAdmissionError\Z|NodeAffinity\Z|NodePorts\Z|Outdated\Z")
_DISK_LIMIT = re.compile(
    r'(?:exceeds the (?:total )?limit(?: of containers)?|ephemeral storage limit) "?(\d[\d.]{0,20}[A-Za-z]{0,2})'
)


def explain_outcome(view: View) -> Explanation:
    """Why the Job failed; the newest pod knows best, then the runner's own words, then the Job."""
    pod = view.pod if view.pod is not None and (view.pod.has_ended or view.pod.has_run) else None
    explanation = _explain_pod(pod) if pod else None
    if explanation is None and view.failure is not None:
        explanation = explain_failure(view.failure, out_of_memory=_memory_words(pod))
    if explanation is None and pod is not None:
        explanation = _explain_exit(pod)
    return explanation or _explain_job(view.job, view.workload)


def explain_deactivated(workload: Workload) -> Explanation | None:
    """Why Kueue itself took a Workload out of the queue for good; None when an admin did."""
    reason = deactivation_reason(workload)
    cause = reason.removeprefix(DEACTIVATED + DUE_TO)
    if cause == TIME_OVER:
        explanation = time_limit(workload.max_execution_s)
    elif cause == TRIES_OVER:
        explanation = explanations.never_started()
    elif cause == CHECK:
        said = "; ".join(check.message for check in workload.checks if check.state == "Rejected" and check.message)
        explanation = explanations.check_rejected(said)
    else:
        return None
    return replace(explanation, raw_reason=reason, since=workload.condition(EVICTED).since)


def explain_unfit(workload: Workload) -> Explanation:
    """Kueue finished the Workload although its Job has not: it cannot be run as it is."""
    condition = workload.condition(FINISHED)
    return replace(explanations.misconfigured(condition.message), raw_reason=condition.reason, since=condition.since)


def _explain_pod(pod: Pod) -> Explanation | None:
    """What the kubelet decided about the pod as a whole."""
    if pod.reason == "DeadlineExceeded":
        return replace(time_limit(pod.deadline_s), raw_reason=pod.reason)
    if pod.reason == "Evicted":
        return _explain_kubelet_eviction(pod)
    if _NODE_REFUSALS.match(pod.reason):
        return pod_explanations.node_refused(pod.reason, pod.message)
    if pod.reason in _NODE_GONE or pod.container.reason in _NODE_GONE or pod.is_disrupted:
        return pod_explanations.node_lost(pod.disruption.reason or pod.reason or pod.container.reason, again=False)
    return None


def _explain_kubelet_eviction(pod: Pod) -> Explanation:
    match = _DISK_LIMIT.search(pod.message)
    if match is None:
        return pod_explanations.node_pressure(pod.reason, pod.message, again=False)
    limit_bytes = quantity(match.group(1).rstrip("."))
    return pod_explanations.disk_quota(format_size(limit_bytes) if limit_bytes else match.group(1))


def _memory_words(pod: Pod | None) -> Explanation | None:
    if pod is None or pod.container.reason != "OOMKilled":
        return None
    return out_of_memory(used_bytes=None, limit_bytes=pod.memory_limit_bytes)


def _explain_exit(pod: Pod) -> Explanation:
    """What the end of the container alone tells."""
    container, status = pod.container, pod.container.exit_code or 0
    number = status - _SHELL_SIGNAL_BASE
    if container.reason == "OOMKilled":
        return _memory_words(pod) or out_of_memory(used_bytes=None, limit_bytes=None)
    if container.reason in _START_FAILURES or status in _CANNOT_EXECUTE:
        return pod_explanations.python_missing(container.reason, _start_words(container.message))
    if status == STOPPED or number == signal.SIGTERM:
        return pod_explanations.pod_stopped(container.reason)
    if 0 < number < _SHELL_SIGNAL_BASE:
        return killed_by_signal(number)
    return runner_crashed(status) if status else run_failed({"ename": pod.reason, "evalue": pod.message})


def _start_words(said: str) -> str:
    """Without the runtime's layers before the cause."""
    return said.rpartition("unable to start container process: ")[2]


def _explain_job(job: Job | None, workload: Workload | None) -> Explanation:
    failed = job.condition("Failed") if job else None
    if failed is not None and failed.reason == "DeadlineExceeded":
        return replace(time_limit(job.deadline_s if job else None), raw_reason=failed.reason)
    if failed is not None and failed.reason:
        return pod_explanations.pod_lost(failed.reason, failed.message)
    finished = workload.condition(FINISHED) if workload else None
    return pod_explanations.pod_lost(finished.reason if finished else "", finished.message if finished else "")
