"""What an admin sets up for a shared pool: queues, and a namespace for each user."""

from __future__ import annotations

import base64
import json

from ..component import Cluster, Component, has_condition, manifest
from ..places import REGISTRY
from .mig import RESOURCE

USERS = ("alice", "bob")
_QUEUES = "/apis/kueue.x-k8s.io/v1beta2/clusterqueues/"


class Pool(Component):
    name = "pool"
    after = ("kueue", "mig")

    def start(self, cluster: Cluster) -> None:
        passwords = json.loads(cluster.instance.accounts_file.read_text())
        queues = manifest("pool.yaml", resource=RESOURCE, slices=cluster.settings.mig_slices)
        users = [
            manifest("user.yaml", user=user, registry_login=_docker_config(user, passwords[user])) for user in USERS
        ]
        cluster.apply("---\n".join([queues, *users]))

    def ready(self, cluster: Cluster) -> bool:
        return all(has_condition(cluster.get(_QUEUES + name), "Active") for name in ("interactive", "batch"))

    def stop(self, cluster: Cluster) -> None:
        """Queues stay: stopping them is the admin's ``stopPolicy``, not the testbed's."""


def _docker_config(user: str, password: str) -> str:
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    content = json.dumps({"auths": {REGISTRY: {"username": user, "password": password, "auth": auth}}})
    return base64.b64encode(content.encode()).decode()
