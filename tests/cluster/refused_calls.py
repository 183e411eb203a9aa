"""Calls of the API server that alice's account may not make: ``BOBS`` reach for bob's, ``OWN`` for the admin's."""

from typing import Any

from .hub import SECRET

Json = dict[str, Any]
BATCH, CORE = "/apis/batch/v1/namespaces", "/api/v1/namespaces"
QUEUES, RBAC = "/apis/kueue.x-k8s.io/v1beta2", "/apis/rbac.authorization.k8s.io/v1"
VISIBLE = "/apis/visibility.kueue.x-k8s.io/v1beta2"
SUBMISSION = "ai-batch-of-bob"

BOBS: dict[str, tuple[str, str]] = {
    "list his Submissions": ("GET", f"{BATCH}/BOB/jobs"),
    "read one of them": ("GET", f"{BATCH}/BOB/jobs/{SUBMISSION}"),
    "cancel it": ("DELETE", f"{BATCH}/BOB/jobs/{SUBMISSION}"),
    "submit as he": ("POST", f"{BATCH}/BOB/jobs"),
    "see his pods": ("GET", f"{CORE}/BOB/pods"),
    "read their log": ("GET", f"{CORE}/BOB/pods/jupyter-bob/log"),
    "be in his session": ("POST", f"{CORE}/BOB/pods/jupyter-bob/exec?command=id&stdout=true"),
    "reach its port": ("GET", f"{CORE}/BOB/pods/jupyter-bob/proxy/"),
    "read his login": ("GET", f"{CORE}/BOB/secrets/{SECRET}"),
    "have a token of his": ("POST", f"{CORE}/BOB/serviceaccounts/notebook/token"),
    "see his queue": ("GET", f"{QUEUES}/namespaces/BOB/localqueues/batch"),
    "see what waits there": ("GET", f"{VISIBLE}/namespaces/BOB/localqueues/batch/pendingworkloads"),
    "see his Workloads": ("GET", f"{QUEUES}/namespaces/BOB/workloads"),
    "see his events": ("GET", f"{CORE}/BOB/events"),
    "see who waits in the pool": ("GET", f"{VISIBLE}/clusterqueues/batch/pendingworkloads"),
    "see everybody's Submissions": ("GET", "/apis/batch/v1/jobs"),
    "see everybody's Workloads": ("GET", f"{QUEUES}/workloads"),
    "see who there is": ("GET", CORE),
}


OWN: dict[str, tuple[str, str, Json | None]] = {
    "read the login of jobs": ("GET", f"{CORE}/ALICE/secrets/{SECRET}", None),
    "start a Job past its queue": ("PATCH", f"{BATCH}/ALICE/jobs/any", {"spec": {"suspend": False}}),
    "raise a Workload's priority": ("PATCH", f"{QUEUES}/namespaces/ALICE/workloads/any", {"spec": {"priority": 9}}),
    "admit a Workload": ("PATCH", f"{QUEUES}/namespaces/ALICE/workloads/any/status", {"status": {}}),
    "make a Workload": ("POST", f"{QUEUES}/namespaces/ALICE/workloads", {}),
    "raise the own weight": (
        "PATCH",
        f"{QUEUES}/namespaces/ALICE/localqueues/batch",
        {"spec": {"fairSharing": {"weight": "100"}}},
    ),
    "make a queue": ("POST", f"{QUEUES}/namespaces/ALICE/localqueues", {}),
    "raise the pool's quota": ("PATCH", f"{QUEUES}/clusterqueues/batch", {"spec": {}}),
    "lift the quota": ("DELETE", f"{CORE}/ALICE/resourcequotas/ai-batch", None),
    "lift the limits": ("DELETE", f"{CORE}/ALICE/limitranges/ai-batch", None),
    "open the network": (
        "DELETE",
        "/apis/networking.k8s.io/v1/namespaces/ALICE/networkpolicies/default-deny",
        None,
    ),
    "take the policies' label away": (
        "PATCH",
        f"{CORE}/ALICE",
        {"metadata": {"labels": {"jupyterlab-ai-batch/user": None}}},
    ),
    "name another repository": (
        "PATCH",
        f"{CORE}/ALICE",
        {"metadata": {"annotations": {"jupyterlab-ai-batch/repository": "registry.testbed:5000/users/bob"}}},
    ),
    "have more rights": ("PATCH", f"{RBAC}/namespaces/ALICE/roles/ai-batch", {"rules": []}),
    "give rights away": ("POST", f"{RBAC}/namespaces/ALICE/rolebindings", {}),
    "have a token for longer": ("POST", f"{CORE}/ALICE/serviceaccounts/notebook/token", {}),
    "make an account": ("POST", f"{CORE}/ALICE/serviceaccounts", {}),
    "be in a job's pod": ("POST", f"{CORE}/ALICE/pods/any/exec?command=id&stdout=true", {}),
    "add a container to a pod": ("PATCH", f"{CORE}/ALICE/pods/any/ephemeralcontainers", {"spec": {}}),
    "change a pod's labels": ("PATCH", f"{CORE}/ALICE/pods/any", {"metadata": {"labels": {"a": "b"}}}),
    "bind a pod to a node": ("POST", f"{CORE}/ALICE/pods/any/binding", {}),
    "make pods by a Deployment": ("POST", "/apis/apps/v1/namespaces/ALICE/deployments", {}),
    "make Jobs by a CronJob": ("POST", f"{BATCH}/ALICE/cronjobs", {}),
    "make a volume of the node": ("POST", "/api/v1/persistentvolumes", {}),
    "use a node's kubelet": ("GET", "/api/v1/nodes/node1/proxy/pods", None),
    "remove a policy": (
        "DELETE",
        "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/ai-batch-queue",
        None,
    ),
}
