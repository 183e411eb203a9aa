"""The cluster as tests see it: objects are dicts, waiting is for conditions."""

import json
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from kubernetes import client, config
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import NotFoundError

Result = TypeVar("Result")
Object = dict[str, Any]

KUEUE = "kueue.x-k8s.io/v1beta2"
VISIBILITY = "/apis/visibility.kueue.x-k8s.io/v1beta2"
WITHIN_S = 60.0
_KINDS_DUMPED = "pods,jobs,events,services,workloads.kueue.x-k8s.io,localqueues.kueue.x-k8s.io"


class NotInTimeError(AssertionError):
    """A condition did not come true."""


def wait_for(
    what: str,
    ask: Callable[[], Result | None],
    *,
    until: Callable[[Any], bool] = bool,
    within_s: float = WITHIN_S,
    every_s: float = 0.1,
) -> Result:
    """Ask until the answer is as wanted; the answer. Says what was waited for when time is up."""
    deadline = time.monotonic() + within_s
    while True:
        answer = ask()
        if until(answer):
            return answer
        if time.monotonic() > deadline:
            raise NotInTimeError(f"not within {within_s:.0f} s: {what}; the last answer: {answer!r}")
        time.sleep(every_s)


class Cluster:
    """Objects of every kind by one client; ``token``: as a service account instead of the admin."""

    def __init__(self, *, token: str | None = None) -> None:
        configuration = client.Configuration()
        config.load_kube_config(client_configuration=configuration)
        if token is not None:
            configuration.cert_file = configuration.key_file = None
            configuration.api_key = {"authorization": f"Bearer {token}"}
        self._api = client.ApiClient(configuration)
        self._dynamic = DynamicClient(self._api)
        self.core = client.CoreV1Api(self._api)

    def close(self) -> None:
        self._api.rest_client.pool_manager.clear()

    def create(self, body: Object, *, namespace: str | None = None, **options: Any) -> Object:
        return self._of(body["apiVersion"], body["kind"]).create(body=body, namespace=namespace, **options).to_dict()

    def get(self, api_version: str, kind: str, name: str, *, namespace: str | None = None) -> Object | None:
        """None where there is no such object."""
        try:
            return self._of(api_version, kind).get(name=name, namespace=namespace).to_dict()
        except NotFoundError:
            return None

    def list(self, api_version: str, kind: str, **options: Any) -> list[Object]:
        return self._of(api_version, kind).get(**options).to_dict()["items"]

    def patch(self, api_version: str, kind: str, name: str, body: Object, *, namespace: str | None = None) -> Object:
        content_type = "application/merge-patch+json"
        resource = self._of(api_version, kind)
        return resource.patch(name=name, namespace=namespace, body=body, content_type=content_type).to_dict()

    def delete(self, api_version: str, kind: str, name: str, *, namespace: str | None = None) -> None:
        """Nothing happens where there is no such object."""
        options = {"propagationPolicy": "Background"}
        try:
            self._of(api_version, kind).delete(name=name, namespace=namespace, body=options)
        except NotFoundError:
            return

    def watch(self, api_version: str, kind: str, *, namespace: str) -> Iterator[Object]:
        """Each object that is there, and each as it is whenever it changes; ends when the API server ends it."""
        for event in self._dynamic.watch(self._of(api_version, kind), namespace=namespace):
            yield event["raw_object"]

    def request(self, method: str, path: str, body: Object | None = None) -> str:
        """Any call of any path of the API server; a PATCH merges."""
        options = {"content_type": "application/merge-patch+json"} if method == "PATCH" else {}
        return self._dynamic.request(method, path, body=body, serialize=False, **options).data.decode()

    def read(self, path: str) -> Object:
        """GET of any path of the API server."""
        return json.loads(self._dynamic.request("GET", path, serialize=False).data)

    def _of(self, api_version: str, kind: str) -> Any:
        return self._dynamic.resources.get(api_version=api_version, kind=kind)


class Namespace:
    """One namespace, and the objects in it."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.name = name

    def create(self, body: Object, **options: Any) -> Object:
        return self.cluster.create(body, namespace=self.name, **options)

    def pod(self, name: str) -> Object | None:
        return self.cluster.get("v1", "Pod", name, namespace=self.name)

    def job(self, name: str) -> Object | None:
        return self.cluster.get("batch/v1", "Job", name, namespace=self.name)

    def log(self, pod: str) -> str:
        return self.cluster.core.read_namespaced_pod_log(pod, self.name)

    def workload_of(self, job: str) -> Object | None:
        """The Kueue Workload of a Job."""
        uid = (self.job(job) or {"metadata": {"uid": "-"}})["metadata"]["uid"]
        selector = f"kueue.x-k8s.io/job-uid={uid}"
        found = self.cluster.list(KUEUE, "Workload", namespace=self.name, label_selector=selector)
        return found[0] if found else None

    def position(self, queue: str, job: str) -> int | None:
        """Where a Job waits in its ClusterQueue as its LocalQueue's user is told; 0 is next, None: it does not wait."""
        path = f"{VISIBILITY}/namespaces/{self.name}/localqueues/{queue}/pendingworkloads"
        for item in self.cluster.read(path).get("items", []):
            if any(owner["name"] == job for owner in item["metadata"].get("ownerReferences", [])):
                return int(item["positionInClusterQueue"])
        return None

    def wait_for_phase(self, pod: str, *phases: str) -> Object:
        def ask() -> Object | None:
            found = self.pod(pod)
            return found if found and found["status"].get("phase") in phases else None

        return wait_for(f"pod {pod} is {' or '.join(phases)}", ask)

    def wait_for_job(self, job: str, *, active: int | None = None, succeeded: int | None = None) -> Object:
        def ask() -> Object | None:
            found = self.job(job) or {}
            status = found.get("status", {})
            fits = active in (None, status.get("active", 0)) and succeeded in (None, status.get("succeeded", 0))
            return found if fits else None

        return wait_for(f"job {job} has {active} active, {succeeded} succeeded", ask)

    def dump(self) -> str:
        """Objects, events and logs; for a human after a failure."""
        objects = _kubectl(
            "get", _KINDS_DUMPED, "--namespace", self.name, "--output=yaml", "--show-managed-fields=false"
        )
        parts = [objects]
        for pod in _kubectl("get", "pods", "--namespace", self.name, "--output=name").split():
            log = _kubectl("logs", pod, "--namespace", self.name, "--all-containers", "--tail=50")
            parts.append(f"--- log of {pod}\n{log}")
        return "\n".join(parts)


class Testbed:
    """What only our own cluster can: the machine below the API server."""

    __test__ = False

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def fake_nodes(self) -> int:
        return int(json.loads((self.directory / "settings.json").read_text())["fake_nodes"])

    @property
    def authority(self) -> str:
        """The certificate authority of its registry, PEM."""
        return (self.directory / "certificates" / "ca.crt").read_text()

    def stop(self, component: str) -> None:
        (self.directory / "stopped" / component).touch()
        wait_for(f"{component} is stopped", lambda: self._state(component) == "stopped")

    def start(self, component: str) -> None:
        (self.directory / "stopped" / component).unlink(missing_ok=True)
        wait_for(f"{component} is ready", lambda: self._state(component) == "ready")

    def component(self, name: str) -> Object:
        return json.loads((self.directory / "status.json").read_text())["components"][name]

    def _state(self, component: str) -> str:
        return self.component(component)["state"]


def unique(prefix: str) -> str:
    return f"{prefix}-{secrets.token_hex(4)}"


def testbed_directory() -> Path | None:
    """None in a cluster that is not ours."""
    place = os.environ.get("AI_BATCH_TESTBED")
    return Path(place) if place else None


def _kubectl(*arguments: str) -> str:
    try:
        done = subprocess.run(["kubectl", *arguments], capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return done.stdout + done.stderr
