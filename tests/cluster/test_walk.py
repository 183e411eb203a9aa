"""An admin who follows docs/install.md on a cluster with nothing but Kueue ends with a notebook that ran as a job."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from traitlets.config import Config

from testbed.places import REGISTRY, ROOT

from .deployment import account
from .hub import SESSION, Session, session_pod
from .queues import GPU
from .reach import KUEUE, Cluster, Namespace, Testbed, wait_for

pytestmark = pytest.mark.timeout(600)

PAGE = ROOT / "docs/install.md"
HUB = "jupyterhub"
ALICE = "jupyter-alice"
POOL = (("ClusterQueue", "interactive"), ("ClusterQueue", "batch"), ("ResourceFlavor", "pool"))
_BLOCK = re.compile(r"<!-- run: (\w+) -->\n```bash\n(.*?)```", re.DOTALL)


def blocks(who: str) -> list[str]:
    """The commands that the page has somebody run."""
    return [script for name, script in _BLOCK.findall(PAGE.read_text()) if name == who]


class Admin:
    """Who runs the page's commands in a checkout, with these numbers."""

    def __init__(self, checkout: Path, values: Mapping[str, str]) -> None:
        self._checkout = checkout
        self._values = values

    def run(self, script: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self._checkout,
            env={**os.environ, **self._values},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def hub_configuration(self) -> Config:
        """What KubeSpawner is told."""
        config = Config()
        source = (self._checkout / "deploy/site/jupyterhub_config.py").read_text()
        exec(compile(source, "jupyterhub_config.py", "exec"), {"get_config": lambda: config})  # noqa: S102
        return config.KubeSpawner


@pytest.fixture
def bare(cluster: Cluster, testbed: Testbed) -> Iterator[None]:
    """Kueue without a queue: the testbed's own pool is away for as long."""
    wait_for("the image is in the registry", lambda: testbed.component("user-image")["state"] == "ready")
    testbed.stop("pool")
    _remove(cluster, POOL)
    yield
    testbed.start("pool")


@pytest.fixture
def hub(cluster: Cluster, bare: None) -> Iterator[Cluster]:
    """The cluster as the account of a hub that is there already; it may nothing yet."""
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": HUB}})
    cluster.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "hub"}}, namespace=HUB)
    api = account(Namespace(cluster, HUB), "hub")
    yield api
    api.close()
    cluster.delete("v1", "Namespace", HUB)


@pytest.fixture
def admin(testbed: Testbed, hub: Cluster, tmp_path: Path) -> Iterator[Admin]:
    """One with a checkout; what was installed is gone afterwards, by the page's own commands."""
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy", ignore=shutil.ignore_patterns("site"))
    (tmp_path / "registry-ca.crt").write_text(testbed.authority)
    values = {
        "REGISTRY": REGISTRY,
        "REGISTRY_CA": "registry-ca.crt",
        "GPU_RESOURCE": GPU,
        "GPU_SLOTS": "2",
        "CPUS": "64",
        "MEMORY": "256Gi",
        "ALICE_PASSWORD": json.loads((testbed.directory / "accounts.json").read_text())["alice"],
    }
    assert set(re.findall(r"(\w+)=", "".join(blocks("values")))) == set(values)
    found = Admin(tmp_path, values)
    yield found
    for script in blocks("uninstall"):
        found.run(script)


def test_the_first_submission(admin: Admin, cluster: Cluster, hub: Cluster):
    """Every command of the page, in its order, ends as it should; uninstalling leaves nothing behind."""
    for script in blocks("admin"):
        admin.run(script)

    session = _start_session(admin, Namespace(cluster, ALICE), hub)
    said = [session.run(script) for script in blocks("session")]

    assert len(said) == 2
    assert said[-1].endswith("42"), said
    for script in blocks("uninstall"):
        admin.run(script)
    left = [cluster.get(KUEUE, kind, name) for kind, name in (*POOL[:2], ("ResourceFlavor", "gpu-pool"))]
    assert [*left, cluster.get("v1", "Namespace", ALICE)] == [None] * 4


def _start_session(admin: Admin, namespace: Namespace, hub: Cluster) -> Session:
    """As the hub does, with its own rights and the page's configuration."""
    configured = admin.hub_configuration()
    body = session_pod(environ={"JUPYTERHUB_USER": "alice"})
    body["metadata"]["labels"] = dict(configured.extra_labels)
    spec = body["spec"]
    spec["serviceAccountName"] = configured.service_account
    spec["automountServiceAccountToken"] = configured.automount_service_account_token
    spec["imagePullSecrets"] = [{"name": name} for name in configured.image_pull_secrets]
    spec["volumes"] = [spec["volumes"][0], *map(dict, configured.volumes)]
    container = spec["containers"][0]
    container["volumeMounts"] = [container["volumeMounts"][0], *map(dict, configured.volume_mounts)]
    container["env"] = [*map(dict, configured.environment.values()), container["env"][-1]]
    hub.create(body, namespace=namespace.name)
    return Session(namespace, namespace.wait_for_phase(SESSION, "Running")["status"]["podIP"])


def _remove(cluster: Cluster, objects: Any) -> None:
    for kind, name in objects:
        cluster.delete(KUEUE, kind, name)
    for kind, name in objects:
        gone = f"{kind} {name} is gone"
        wait_for(gone, lambda kind=kind, name=name: cluster.get(KUEUE, kind, name) is None, within_s=120)
