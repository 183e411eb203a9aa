"""Users by the hundred: each a namespace with what the docs give it, and a service over its own connection."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import yaml

from jupyterlab_ai_batch.ledger import Ledger
from jupyterlab_ai_batch.models import Profile, QueueEntry, RunSpec, Submission
from jupyterlab_ai_batch.oci.layout import ImageLayout
from jupyterlab_ai_batch.queues.kueue.api import Json, Listing, Resource
from jupyterlab_ai_batch.queues.kueue.api_client import KubernetesApi
from jupyterlab_ai_batch.queues.kueue.api_connection import ConnectionSettings
from jupyterlab_ai_batch.queues.kueue.backend import KueueBackend
from jupyterlab_ai_batch.queues.kueue.preflight import Surroundings
from jupyterlab_ai_batch.queues.kueue.settings import KueueProfile, KueueSettings, PoolQueues
from jupyterlab_ai_batch.service import ServiceConfig, SubmissionService
from jupyterlab_ai_batch.words import SubmissionState
from tests.cluster.hub import objects_of_docs, readers_of
from tests.cluster.objects import pod, pod_spec
from tests.cluster.queues import GPU, Kueue, Pool
from tests.cluster.reach import Cluster, Namespace, unique, wait_for

FAKE = "kwok.x-k8s.io/node"
SESSION = "session"
IMAGE = "registry.testbed:5000/base/user"
DIGEST = f"sha256:{'0' * 64}"
NOTEBOOK = "a.ipynb"
AT_ONCE = 8


class LayoutRepository(ImageLayout):
    """An empty one, in place of the registry's."""

    def close(self) -> None:
        """There is nothing to let go of."""


class CountingApi(KubernetesApi):
    """Counts what it asks for."""

    def __init__(self, settings: ConnectionSettings, requests: Counter[str]) -> None:
        super().__init__(settings)
        self._requests = requests

    async def get(self, resource: Resource, name: str) -> Json | None:
        self._requests[f"get {resource.plural}"] += 1
        return await super().get(resource, name)

    async def create(self, resource: Resource, body: Json, *, dry_run: bool = False) -> Json | None:
        self._requests[f"create {resource.plural}"] += 1
        return await super().create(resource, body, dry_run=dry_run)

    async def list(self, resource: Resource, *, labels: str = "") -> Listing:
        self._requests[f"list {resource.plural}"] += 1
        return await super().list(resource, labels=labels)

    def watch(self, resource: Resource, *, version: str, labels: str = "") -> AsyncGenerator[Any, None]:
        self._requests[f"watch {resource.plural}"] += 1
        return super().watch(resource, version=version, labels=labels)

    async def pending_workloads(self, queue: str) -> Sequence[Json] | None:
        self._requests["get pendingworkloads"] += 1
        return await super().pending_workloads(queue)

    async def stream_log(self, pod: str, *, since: str = "", follow: bool = True) -> AsyncGenerator[bytes, None]:
        """Pods that KWOK plays have none: a stream that says nothing until it is left."""
        del pod, since
        yield b""
        if follow:
            await asyncio.Event().wait()


@dataclass
class Tenant:
    """A user's service.

    Attributes:
        requests: How many of each kind it has made.
    """

    namespace: str
    service: SubmissionService
    backend: KueueBackend
    ledger: Ledger
    requests: Counter[str] = field(default_factory=Counter)

    async def submit(self, number: int) -> None:
        """What follows a capture."""
        now, submission_id = datetime.now(timezone.utc), uuid.uuid4().hex
        submission = Submission(
            id=submission_id,
            state=SubmissionState.QUEUED,
            title=f"a{number}",
            notebook_path=NOTEBOOK,
            backend="kueue",
            target="kueue",
            profile="slice",
            queue="batch",
            created_at=now,
            observed_at=now,
        )
        run = RunSpec(
            submission_id=submission_id, attempt=1, work_root="/home", notebook=NOTEBOOK, kernel_name="python3"
        )
        await self.backend.submit(QueueEntry(submission=submission, snapshot_digest=DIGEST, run=run))
        await asyncio.to_thread(self.ledger.create, submission)


async def everybody(tenants: Sequence[Tenant], do: Callable[[Tenant], Awaitable[object]]) -> None:
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(tenant: Tenant) -> None:
        async with turns:
            await do(tenant)

    await asyncio.gather(*map(one, tenants))


def prepare(cluster: Cluster, kueue: Kueue, place: Path, *, users: int, slices: int) -> Sequence[Tenant]:
    """All users, with a pool of so many slices on nodes that KWOK plays."""
    toleration = {"key": FAKE, "value": "fake", "effect": "NoSchedule", "operator": "Equal"}
    pool = kueue.make_pool(slices=slices, flavor={"nodeLabels": {"type": "kwok"}, "tolerations": [toleration]})
    for body in readers_of(pool):
        cluster.create(body)
    with ThreadPoolExecutor(AT_ONCE) as threads:
        return list(threads.map(lambda number: make_tenant(cluster, pool, place / str(number)), range(users)))


def make_tenant(cluster: Cluster, pool: Pool, place: Path) -> Tenant:
    name = unique("tenant")
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    namespace = Namespace(cluster, name)
    wait_for("the account", lambda: cluster.get("v1", "ServiceAccount", "default", namespace=name))
    for body in objects_of_docs():
        if body["kind"] == "RoleBinding":
            body["subjects"][0]["namespace"] = name
        namespace.create(body)
    pool.admit(namespace)
    make_session(cluster, namespace)
    return connect(name, pool, place, write_account(cluster, name, place))


def make_session(cluster: Cluster, namespace: Namespace) -> None:
    """The pod that jobs take over from; nobody runs it."""
    namespace.create(pod(SESSION, pod_spec(f"{IMAGE}:v1", "sleep 3600", schedulerName="nobody")))
    status = {
        "name": "main",
        "ready": True,
        "restartCount": 0,
        "image": f"{IMAGE}:v1",
        "imageID": f"{IMAGE}@{DIGEST}",
        "state": {"running": {"startedAt": "2026-11-20T10:00:00Z"}},
    }
    path = f"/api/v1/namespaces/{namespace.name}/pods/{SESSION}/status"
    cluster.request("PATCH", path, {"status": {"containerStatuses": [status]}})


def write_account(cluster: Cluster, namespace: str, place: Path) -> Path:
    """The files that a pod of the service account has."""
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 7200}}
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/notebook/token"
    token = json.loads(cluster.request("POST", path, body))["status"]["token"]
    directory = place / "account"
    directory.mkdir(parents=True)
    (directory / "token").write_text(token)
    (directory / "ca.crt").write_bytes(base64.b64decode(_kubeconfig()["certificate-authority-data"]))
    return directory


def connect(namespace: str, pool: Pool, place: Path, account: Path) -> Tenant:
    host, _, port = _kubeconfig()["server"].removeprefix("https://").rpartition(":")
    environ = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
    shape = Profile(name="slice", title="One slice", cpu_millicores=100, memory_bytes=1 << 28, gpu_slots=1)
    settings = KueueSettings(
        namespace=namespace,
        queues=("batch",),
        profiles=(KueueProfile(profile=shape, gpu_resource=GPU),),
        repository="registry.testbed:5000/users/nobody",
        pool_queues=PoolQueues(interactive=(f"{pool.name}-interactive",), batch=(f"{pool.name}-batch",)),
    )
    requests: Counter[str] = Counter()
    data = place / "data"
    data.mkdir(mode=0o700)
    backend = KueueBackend(
        data,
        settings=settings,
        api=CountingApi(ConnectionSettings(namespace=namespace, environ=environ, service_account=account), requests),
        open_repository=lambda: LayoutRepository(place / "repository"),
        pod=SESSION,
        python=sys.executable,
        surroundings=Surroundings(probe_registry=lambda _: None),
        now=_now,
    )
    ledger = Ledger(data / "ledger.db", clock=_now)
    service = SubmissionService(
        backend=backend,
        ledger=ledger,
        open_store=lambda: nullcontext(ImageLayout(data / "store")),
        open_layout=ImageLayout,
        config=ServiceConfig(root_dir=place, data_dir=data),
        clock=_now,
    )
    return Tenant(namespace, service, backend, ledger, requests)


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _kubeconfig() -> dict[str, Any]:
    path = Path(os.environ["KUBECONFIG"].split(os.pathsep)[0])
    found: dict[str, Any] = yaml.safe_load(path.read_text())["clusters"][0]["cluster"]
    return found
