"""Small pods and Jobs. Pod Security ``restricted`` lets every one of them in."""

from collections.abc import Mapping, Sequence
from typing import Any

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
SECURITY = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def pod_spec(image: str, script: str, *, resources: Mapping[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    """A pod that runs a shell script once and does not linger when it is told to go."""
    amounts = {"cpu": "10m", "memory": "32Mi", **(resources or {})}
    container = {
        "name": "main",
        "image": image,
        "command": ["sh", "-c", script],
        "resources": {"requests": amounts, "limits": {k: v for k, v in amounts.items() if k != "cpu"}},
        "securityContext": SECURITY,
    }
    return {"containers": [container], "restartPolicy": "Never", "terminationGracePeriodSeconds": 1, **spec}


def pod(name: str, spec: Mapping[str, Any], *, labels: Mapping[str, str] | None = None) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": dict(labels or {})}, "spec": spec}


def job(
    name: str,
    spec: Mapping[str, Any],
    *,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """A Job of one pod that is not tried again; ``annotations`` are the pod's."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": dict(labels or {})},
        "spec": {
            "backoffLimit": 0,
            "template": {"metadata": {"annotations": dict(annotations or {})}, "spec": spec},
        },
    }


def service(name: str, selector: Mapping[str, str], *, port: int) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": dict(selector), "ports": [{"port": port, "targetPort": port}]},
    }


def environment(**values: str) -> Sequence[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in values.items()]
