"""``deploy/`` as an admin has it: a copy with users of its own, applied and taken away again."""

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.places import REGISTRY, ROOT

from .reach import Cluster, Namespace, Testbed, wait_for

ACCOUNT = "notebook"
POLICIES = "policies"


@dataclass(frozen=True)
class Deployment:
    """A copy of ``deploy/`` and what of it is applied."""

    directory: Path
    cluster: Cluster
    testbed: Testbed

    def apply(self, part: str) -> None:
        kubectl("apply", "-k", str(self.directory / part))

    def remove(self, part: str) -> None:
        kubectl("delete", "-k", str(self.directory / part), "--ignore-not-found", "--wait=false")

    def add_user(self, user: str, namespace: str) -> Namespace:
        """The namespace of a user who has an account of the registry."""
        part = f"example/users/{user}"
        folder = self.directory / part
        shutil.copytree(ROOT / "deploy/example/users/alice", folder, dirs_exist_ok=True)
        edited = folder / "kustomization.yaml"
        text = edited.read_text().replace("jupyter-alice", namespace).replace("registry.example.org", REGISTRY)
        edited.write_text(text.replace("users/alice", f"users/{user}"))
        (folder / "registry.json").write_text(json.dumps(self._login(user)))
        self.apply(part)
        return Namespace(self.cluster, namespace)

    def _login(self, user: str) -> Mapping[str, Any]:
        password = json.loads((self.testbed.directory / "accounts.json").read_text())[user]
        return {"auths": {REGISTRY: {"username": user, "password": password}}}


@contextmanager
def deployed(directory: Path, cluster: Cluster, testbed: Testbed) -> Iterator[Deployment]:
    """The policies in force as far as the cluster was told; they are gone afterwards."""
    shutil.copytree(ROOT / "deploy", directory)
    (directory / "example/user/ca.crt").write_text(testbed.authority)
    deployment = Deployment(directory, cluster, testbed)
    deployment.apply(POLICIES)
    yield deployment
    deployment.remove(POLICIES)


def account(namespace: Namespace, name: str = ACCOUNT) -> Cluster:
    """The cluster as a service account, by a token of its own. To be closed."""
    found = wait_for(
        "the account", lambda: namespace.cluster.get("v1", "ServiceAccount", name, namespace=namespace.name)
    )
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
    core = namespace.cluster.core
    token = core.create_namespaced_service_account_token(found["metadata"]["name"], namespace.name, body).status.token
    return Cluster(token=token)


def kubectl(*arguments: str) -> str:
    done = subprocess.run(["kubectl", *arguments], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout
