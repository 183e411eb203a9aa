"""Jobs that alice's account may not make: what each changes in the product's own, and the policy that refuses it."""

import copy
from collections.abc import Callable
from typing import Any

from .hub import REPOSITORY, SECRET
from .objects import QUEUE_LABEL
from .queues import GPU

Json = dict[str, Any]
BOBS_IMAGE = f"registry.testbed:5000/users/bob@sha256:{'1' * 64}"


def _pod(job: Json) -> Json:
    return job["spec"]["template"]["spec"]


def _container(job: Json) -> Json:
    return _pod(job)["containers"][0]


def _label(job: Json, name: str, value: str) -> None:
    job["metadata"]["labels"][name] = value


def _annotate_pod(job: Json, name: str, value: str) -> None:
    job["spec"]["template"]["metadata"].setdefault("annotations", {})[name] = value


def _mount(job: Json, **source: Any) -> None:
    _pod(job)["volumes"].append({"name": "more", **source})


def _secret_variable(job: Json) -> None:
    reference = {"secretKeyRef": {"name": SECRET, "key": ".dockerconfigjson"}}
    _container(job)["env"].append({"name": "LOGIN", "valueFrom": reference})


def _token_volume(job: Json) -> None:
    _mount(job, projected={"sources": [{"serviceAccountToken": {"path": "token"}}]})


def _unqueued_init_container(job: Json) -> None:
    first = {**copy.deepcopy(_container(job)), "name": "first", "image": BOBS_IMAGE}
    _pod(job)["initContainers"] = [first]


def _without_gpus(job: Json, amount: str | None) -> None:
    """As an image that says ``NVIDIA_VISIBLE_DEVICES=all`` needs it."""
    for amounts in _container(job)["resources"].values():
        del amounts[GPU]
        if amount is not None:
            amounts[GPU] = amount


JOBS: dict[str, tuple[str, Callable[[Json], Any]]] = {
    # to jump the queue
    "in the queue of sessions": ("queue", lambda job: _label(job, QUEUE_LABEL, "interactive")),
    "in another queue": ("queue", lambda job: _label(job, QUEUE_LABEL, "vip")),
    "in no queue": ("queue", lambda job: job["metadata"]["labels"].pop(QUEUE_LABEL)),
    "in no queue and running": (
        "queue",
        lambda job: (job["metadata"]["labels"].pop(QUEUE_LABEL), job["spec"].update(suspend=False)),
    ),
    "with a priority of Kueue": ("queue", lambda job: _label(job, "kueue.x-k8s.io/priority-class", "high")),
    "with a Workload of its own": ("queue", lambda job: _label(job, "kueue.x-k8s.io/prebuilt-workload-name", "mine")),
    "as an elastic job": (
        "(queue|placement)",  # Kueue gives it a gate before the policies see it
        lambda job: job["metadata"]["annotations"].update({"kueue.x-k8s.io/elastic-job": "true"}),
    ),
    "with pods in another queue": (
        "queue",
        lambda job: job["spec"]["template"]["metadata"]["labels"].update({QUEUE_LABEL: "interactive"}),
    ),
    "run by another controller": ("owner", lambda job: job["spec"].update(managedBy="example.org/mine")),
    "that cannot be deleted": ("owner", lambda job: job["metadata"].update(finalizers=["example.org/never"])),
    "with a priority class": ("placement", lambda job: _pod(job).update(priorityClassName="system-node-critical")),
    "on a node of its choice": ("placement", lambda job: _pod(job).update(nodeName="node1")),
    "with another scheduler": ("placement", lambda job: _pod(job).update(schedulerName="mine")),
    "with a gate of its own": ("placement", lambda job: _pod(job).update(schedulingGates=[{"name": "a.org/mine"}])),
    "that tolerates every taint": ("placement", lambda job: _pod(job).update(tolerations=[{"operator": "Exists"}])),
    "that keeps its slot when evicted": (
        "placement",
        lambda job: _pod(job).update(terminationGracePeriodSeconds=86400),
    ),
    "that claims devices past the queue": (
        "placement",
        lambda job: _pod(job).update(resourceClaims=[{"name": "gpu", "resourceClaimName": "gpu"}]),
    ),
    "that sees every GPU": (
        "placement",
        lambda job: _container(job)["env"].append({"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}),
    ),
    "that sees the GPUs of its image": ("placement", lambda job: _without_gpus(job, None)),
    "that asks for no GPU to see all": ("placement", lambda job: _without_gpus(job, "0")),
    "with options of a site's batch system": (
        "placement",
        lambda job: _annotate_pod(job, "slurm-job.vk.io/flags", "--qos=high"),
    ),
    "with a second network": ("placement", lambda job: _annotate_pod(job, "k8s.v1.cni.cncf.io/networks", "host")),
    # to be more than a user
    "privileged": ("isolation", lambda job: _container(job).update(securityContext={"privileged": True})),
    "with a capability": (
        "isolation",
        lambda job: _container(job)["securityContext"].update(capabilities={"add": ["SYS_ADMIN"]}),
    ),
    "that may gain rights": (
        "isolation",
        lambda job: _container(job)["securityContext"].update(allowPrivilegeEscalation=True),
    ),
    "that may turn out to be root": (
        "isolation",
        lambda job: _pod(job)["securityContext"].update(runAsNonRoot=False),
    ),
    "without a filter for system calls": (
        "isolation",
        lambda job: _pod(job)["securityContext"].update(seccompProfile={"type": "Unconfined"}),
    ),
    "as root": ("isolation", lambda job: _pod(job)["securityContext"].update(runAsUser=0)),
    "in the node's network": ("isolation", lambda job: _pod(job).update(hostNetwork=True)),
    "among the node's processes": ("isolation", lambda job: _pod(job).update(hostPID=True)),
    "with a port of the node": (
        "isolation",
        lambda job: _container(job).update(ports=[{"containerPort": 80, "hostPort": 80}]),
    ),
    "with the node's files": ("volumes", lambda job: _mount(job, hostPath={"path": "/"})),
    "as the session's account": ("account", lambda job: _pod(job).update(serviceAccountName="notebook")),
    "with a token": ("account", lambda job: _pod(job).update(automountServiceAccountToken=True)),
    "with a token that it asks for": ("volumes", _token_volume),
    # to reach what is somebody else's
    "with another Secret": ("volumes", lambda job: _mount(job, secret={"secretName": "hub"})),
    "with another login to pull": ("volumes", lambda job: _pod(job)["imagePullSecrets"].append({"name": "hub"})),
    "with a Secret in its environment": ("volumes", _secret_variable),
    "with a Secret as its environment": (
        "volumes",
        lambda job: _container(job).update(envFrom=[{"secretRef": {"name": "hub"}}]),
    ),
    "with another volume claim": (
        "volumes",
        lambda job: _mount(job, persistentVolumeClaim={"claimName": "claim-bob"}),
    ),
    "with a network file system": ("volumes", lambda job: _mount(job, nfs={"server": "10.0.0.1", "path": "/home"})),
    "with bob's image": ("images", lambda job: _container(job).update(image=BOBS_IMAGE)),
    "with bob's image before its own": ("images", _unqueued_init_container),
    "with an image by a tag": ("images", lambda job: _container(job).update(image=f"{REPOSITORY}:latest")),
}
