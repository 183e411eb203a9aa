"""What an admin applies to mend the cluster, as text: complete, and only ever adding to what is there. Pure.

No secret is in it: passwords are words in capital letters, to be replaced.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from .api import LOCAL_QUEUES, VISIBILITY, Resource
from .export import dump_yaml

KUEUE_MANIFESTS = "https://github.com/kubernetes-sigs/kueue/releases/download/v0.19.0/manifests.yaml"
KUEUE_NAMESPACE = "kueue-system"
_RBAC = "rbac.authorization.k8s.io"
_ACCOUNT = "system:serviceaccount:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """One line of a Role."""

    resource: Resource
    verbs: Sequence[str]
    subresource: str = ""

    @property
    def target(self) -> str:
        """As in a Role's ``resources``."""
        return f"{self.resource.plural}/{self.subresource}" if self.subresource else self.resource.plural

    @property
    def rule(self) -> dict[str, Any]:
        return {"apiGroups": [self.resource.group], "resources": [self.target], "verbs": list(self.verbs)}

    def __str__(self) -> str:
        return f"{self.resource}/{self.subresource}" if self.subresource else str(self.resource)


def documents(*bodies: Mapping[str, Any], says: Sequence[str] = ()) -> str:
    """Objects for ``kubectl apply -f -``, after comments."""
    comments = "".join(f"# {line}\n" for line in says)
    return comments + "---\n".join(dump_yaml(body) for body in bodies)


def commands(*lines: str, says: Sequence[str] = ()) -> str:
    return "\n".join([*(f"# {line}" for line in says), *lines]) + "\n"


def parse_account(user: str) -> tuple[str, str] | None:
    """Namespace and name of a ServiceAccount; None for any other user."""
    namespace, _, name = user.removeprefix(_ACCOUNT).partition(":")
    return (namespace, name) if user.startswith(_ACCOUNT) and name else None


def role(namespace: str, user: str, rights: Sequence[Right]) -> str:
    """These rights alone, under a name made of them: applied beside other Roles, it takes nothing away."""
    rules = [right.rule for right in rights]
    name = f"ai-batch-{sha256(json.dumps([rules, user]).encode()).hexdigest()[:8]}"
    metadata = {"name": name, "namespace": namespace}
    account = parse_account(user)
    subject = (
        {"kind": "ServiceAccount", "namespace": account[0], "name": account[1]}
        if account is not None
        else {"kind": "User", "apiGroup": _RBAC, "name": user}
    )
    return documents(
        {"apiVersion": f"{_RBAC}/v1", "kind": "Role", "metadata": metadata, "rules": rules},
        {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": _RBAC, "kind": "Role", "name": name},
            "subjects": [subject],
        },
    )


def service_account(namespace: str, name: str) -> str:
    metadata = {"name": name, "namespace": namespace}
    return documents({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})


def local_queue(namespace: str, name: str, cluster_queue: str) -> str:
    """Args: ``cluster_queue``: where it belonged; empty when nobody here ever saw it."""
    says = () if cluster_queue else (f"clusterQueue: the ClusterQueue of batch jobs, if it is not called {name}",)
    metadata = {"name": name, "namespace": namespace}
    spec = {"clusterQueue": cluster_queue or name}
    body = {"apiVersion": LOCAL_QUEUES.version, "kind": "LocalQueue", "metadata": metadata, "spec": spec}
    return documents(body, says=says)


def started_queue(kind: str, name: str, namespace: str = "") -> str:
    """A command that lets a stopped queue take jobs again."""
    patch = shlex.quote(json.dumps({"spec": {"stopPolicy": "None"}}))
    where = f" --namespace={namespace}" if namespace else ""
    return f"kubectl patch {kind}.kueue.x-k8s.io {shlex.quote(name)}{where} --type=merge --patch={patch}"


def cluster_queue(name: str, quotas: Mapping[str, str]) -> str:
    """A pool of exactly ``quotas``, by resource, on any node."""
    flavor = {"apiVersion": LOCAL_QUEUES.version, "kind": "ResourceFlavor", "metadata": {"name": f"{name}-any"}}
    return documents(
        {**flavor, "spec": {}},
        {
            "apiVersion": LOCAL_QUEUES.version,
            "kind": "ClusterQueue",
            "metadata": {"name": name},
            "spec": {"namespaceSelector": {}, "resourceGroups": [_group(f"{name}-any", quotas)]},
        },
        says=("nominalQuota: what the pool has; here it is enough for one job",),
    )


def covered_resource(name: str, resource: str, amount: int) -> str:
    """Commands that let a ClusterQueue give a resource that it does not know yet."""
    flavor_name = f"{name}-{resource.rpartition('/')[2]}".replace(".", "-")
    flavor = {"apiVersion": LOCAL_QUEUES.version, "kind": "ResourceFlavor", "metadata": {"name": flavor_name}}
    group = _group(flavor_name, {resource: str(amount)})
    patch = json.dumps([{"op": "add", "path": "/spec/resourceGroups/-", "value": group}])
    return commands(
        f"echo {shlex.quote(json.dumps({**flavor, 'spec': {}}))} | kubectl apply -f -",
        f"kubectl patch clusterqueue.kueue.x-k8s.io {shlex.quote(name)} --type=json --patch={shlex.quote(patch)}",
        says=("nominalQuota: how many the pool has; here it is enough for one job",),
    )


def _group(flavor: str, quotas: Mapping[str, str]) -> Mapping[str, Any]:
    resources = [{"name": resource, "nominalQuota": amount} for resource, amount in quotas.items()]
    return {"coveredResources": list(quotas), "flavors": [{"name": flavor, "resources": resources}]}


def kueue_installed() -> str:
    return commands(
        f"kubectl apply --server-side --filename={KUEUE_MANIFESTS}",
        f"kubectl wait deployment/kueue-controller-manager --namespace={KUEUE_NAMESPACE} --for=condition=available",
    )


def kueue_restarted(namespace: str = KUEUE_NAMESPACE) -> str:
    return commands(
        f"kubectl scale deployment/kueue-controller-manager --namespace={namespace} --replicas=1",
        f"kubectl rollout restart deployment/kueue-controller-manager --namespace={namespace}",
        says=(f"why: kubectl get deployments,pods,endpointslices --namespace={namespace}",),
    )


def visibility_api() -> str:
    group, _, version = VISIBILITY.version.partition("/")
    spec = {
        "group": group,
        "groupPriorityMinimum": 100,
        "insecureSkipTLSVerify": True,
        "service": {"name": "kueue-visibility-server", "namespace": KUEUE_NAMESPACE},
        "version": version,
        "versionPriority": 100,
    }
    name = {"name": f"{version}.{group}"}
    return documents(
        {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": name, "spec": spec},
        says=("as Kueue's own manifests have it; its feature gate VisibilityOnDemand has to be on",),
    )


def registry_secret(namespace: str, name: str, server: str) -> str:
    """A command; user and password are to be filled in."""
    return commands(
        f"kubectl create secret docker-registry {shlex.quote(name)} --namespace={namespace}"
        f" --docker-server={server} --docker-username=USER --docker-password=PASSWORD"
        " --dry-run=client --output=yaml | kubectl apply -f -",
        says=("USER, PASSWORD: for the user's repository, to push and to pull",),
    )


def authorities(namespace: str, name: str) -> str:
    """A command; the file is to be filled in."""
    return commands(
        f"kubectl create configmap {shlex.quote(name)} --namespace={namespace} --from-file=ca.crt=AUTHORITY.pem"
        " --dry-run=client --output=yaml | kubectl apply -f -",
        says=("AUTHORITY.pem: the certificate of the authority that signed the registry's",),
    )
