"""Jobs, Workloads, pods and events as a cluster writes them, for tests."""

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

from jupyterlab_ai_batch import wire
from jupyterlab_ai_batch.models import Attempt
from jupyterlab_ai_batch.queues.kueue.conditions import Reading, observe

ID = "0123456789abcdef0123456789abcdef"
NOW = datetime(2026, 11, 22, 14, 0, tzinfo=timezone.utc)
READINGS = Path(__file__).parent / "kueue_readings"
MEMORY = "8Gi"
SLICE, LARGE = "nvidia.com/mig-1g.5gb", "nvidia.com/mig-3g.20gb"
IMAGE = "registry.example/user-alice@sha256:" + "a" * 64
PREEMPTED = (
    "Preempted to accommodate a workload (UID: 5f0c, JobUID: 77aa) due to reclamation within the cohort;"
    " preemptor path: /gpu-pool/interactive; preemptee path: /gpu-pool/batch"
)


def at(seconds):
    """A time that many seconds after NOW, as the cluster writes it."""
    return (NOW + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def condition(kind, status, reason="", message="", since=-60):
    value = {True: "True", False: "False", None: "Unknown"}[status]
    return {
        "type": kind,
        "status": value,
        "reason": reason,
        "message": message,
        "lastTransitionTime": at(since),
        "observedGeneration": 1,
    }


def make_job(*conditions, created=-300, suspend=False, deleted=None, queue="batch", **spec):
    metadata = {"name": f"ai-batch-{ID}", "uid": "77aa", "creationTimestamp": at(created)}
    metadata["labels"] = {"kueue.x-k8s.io/queue-name": queue} if queue else {}
    if deleted is not None:
        metadata["deletionTimestamp"] = at(deleted)
    return {"metadata": metadata, "spec": {"suspend": suspend, **spec}, "status": {"conditions": list(conditions)}}


def make_workload(*conditions, active=True, deleted=None, spec=None, **status):
    metadata = {"name": f"job-ai-batch-{ID}-1a2b3", "creationTimestamp": at(-299)}
    if deleted is not None:
        metadata["deletionTimestamp"] = at(deleted)
    return {
        "metadata": metadata,
        "spec": {"active": active, "queueName": "batch", **(spec or {})},
        "status": {"conditions": list(conditions), **status},
    }


def pending(reason="Pending", message="", *others, **status):
    return make_workload(condition("QuotaReserved", False, reason, message), *others, **status)


def admitted(*others, since=-60, **status):
    return make_workload(
        condition("QuotaReserved", True, "QuotaReserved", "Quota reserved in ClusterQueue batch", since),
        condition("Admitted", True, "Admitted", "The workload is admitted", since),
        *others,
        **status,
    )


def evicted(reason, message="", *others, reserved=True, since=-20, **status):
    return make_workload(
        condition("QuotaReserved", reserved, "QuotaReserved" if reserved else "Pending", message, since),
        condition("Evicted", True, reason, message, since),
        *others,
        **status,
    )


def evictions(*counts):
    return {"evictions": [{"reason": reason, "underlyingCause": cause, "count": n} for reason, cause, n in counts]}


def make_pod(name="ai-batch-x", *conditions, phase="Running", created=-58, deleted=None, state=None, **status):
    metadata = {"name": name, "uid": f"uid-{name}", "creationTimestamp": at(created)}
    if deleted is not None:
        metadata["deletionTimestamp"] = at(deleted)
    statuses = [{"name": "notebook", "state": state}] if state is not None else []
    resources = {"limits": {"memory": MEMORY, "cpu": "2"}}
    return {
        "metadata": metadata,
        "spec": {
            "activeDeadlineSeconds": 5400,
            "containers": [{"name": "notebook", "image": IMAGE, "resources": resources}],
        },
        "status": {"phase": phase, "conditions": list(conditions), "containerStatuses": statuses, **status},
    }


def running(since=-50):
    return {"running": {"startedAt": at(since)}}


def waiting(reason, message=""):
    return {"waiting": {"reason": reason, "message": message}}


def ended(exit_code, reason="Error", message="", since=-50, until=-10):
    return {
        "terminated": {
            "exitCode": exit_code,
            "reason": reason,
            "message": message,
            "startedAt": at(since),
            "finishedAt": at(until),
        }
    }


def failed_job(reason="BackoffLimitExceeded", message="Job has reached the specified backoff limit", **spec):
    return make_job(condition("Failed", True, reason, message, -5), **spec)


def make_event(reason, message="", *, about="Pod", name="ai-batch-x", warning=True, when=-30):
    return {
        "involvedObject": {"kind": about, "name": name},
        "reason": reason,
        "message": message,
        "type": "Warning" if warning else "Normal",
        "lastTimestamp": at(when),
    }


def attempt(number, since, **fields):
    return Attempt(number=number, admitted_at=NOW + timedelta(seconds=since), **fields)


def look(cancel_asked=False, **reading):
    """Observe a Reading at NOW; a Job that runs, and nothing else, unless told."""
    objects = {"job": make_job(), "workload": None, "observed_at": NOW, **reading}
    return observe(ID, Reading(**objects), cancel_asked=cancel_asked)


def brief(observation):
    """State and code."""
    explanation = observation.explanation
    return observation.state.value, explanation.code if explanation else None


def load(path):
    """A recorded Reading and what is expected of it."""
    content = json.loads(path.read_text())
    fields = content["reading"]
    fields["observed_at"] = wire.parse_time(fields["observed_at"])
    return Reading(**fields), content["cancel_asked"], content["expected"]


def cluster_queue(*, pending=0, **resources):
    """A ClusterQueue's numbers; ``resources``: kind -> (quota, reserved)."""
    kinds = {"small": SLICE, "large": LARGE, "cpu": "cpu"}
    quotas = [{"name": kinds[kind], "nominalQuota": quota} for kind, (quota, _) in resources.items()]
    totals = [{"name": kinds[kind], "total": total} for kind, (_, total) in resources.items()]
    return {
        "spec": {
            "resourceGroups": [
                {
                    "coveredResources": [quota["name"] for quota in quotas],
                    "flavors": [{"name": "a", "resources": quotas}],
                }
            ]
        },
        "status": {"pendingWorkloads": pending, "flavorsReservation": [{"name": "a", "resources": totals}]},
    }
