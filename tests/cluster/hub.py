"""A user's session as a hub starts it: a pod of the users' image with JupyterLab, and only the docs' Role."""

import json
import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from testbed.places import ROOT
from testbed.user_image import GROUP, HOME, USER

from .objects import SECURITY
from .queues import GPU, Pool
from .reach import Cluster, Namespace, wait_for

IMAGE = "registry.testbed:5000/base/user:v1"
REPOSITORY = "registry.testbed:5000/users/alice"
SESSION = "jupyter-alice"
SECRET = "registry"
AUTHORITIES = "registry-ca"
CONFIG = "batch-config"
PORT = 8888
TOKEN = "of-this-test"
WAITS = "import time\nprint('begun', flush=True)\nwhile True: time.sleep(0.1)"
ENDED = frozenset({"succeeded", "failed", "cancelled"})
Start = Callable[..., "Session"]
PROFILE = {
    "name": "slice",
    "title": "One slice",
    "cpu_millicores": 200,
    "memory_bytes": 512 * 1024**2,
    "gpu_slots": 1,
    "gpu_resource": GPU,
    "scratch_bytes": 1024**3,
    "grace_period_s": 15,
}
SETTINGS = {
    "repository": REPOSITORY,
    "registry_secret": SECRET,
    "registry_auth_file": "/etc/ai-batch/registry/config.json",
    "registry_ca_config_map": AUTHORITIES,
    "registry_ca_file": "/etc/ai-batch/ca/ca.crt",
    "queues": ["batch"],
    "profiles": [PROFILE],
    "checkpoint_interval_s": 2.0,
}


def objects_of_docs(section: str = "role") -> Sequence[dict[str, Any]]:
    """ServiceAccount, Role and RoleBinding, as docs/cluster.md has them, or what is in another section."""
    text = (ROOT / "docs/cluster.md").read_text()
    block = re.search(rf"<!-- begin: {section} -->\n```yaml\n(.*?)```", text, re.DOTALL)
    assert block is not None
    return list(yaml.safe_load_all(block[1]))


def readers_of(pool: Pool) -> Sequence[dict[str, Any]]:
    """The right to a pool's numbers, as docs/cluster.md gives it."""
    objects = objects_of_docs("pool")
    for body in objects:
        body["metadata"]["name"] = body.get("roleRef", body["metadata"])["name"] = pool.name
        for rule in body.get("rules", ()):
            rule["resourceNames"] = [f"{pool.name}-{name}" for name in rule["resourceNames"]]
    return objects


def prepare_namespace(namespace: Namespace, *, settings: Mapping[str, Any], authority: str) -> None:
    """All that an admin gives a user's namespace, but the queues."""
    for body in objects_of_docs():
        if body["kind"] == "RoleBinding":
            body["subjects"][0]["namespace"] = namespace.name
        namespace.create(body)
    config = json.dumps({"BatchExtensionApp": dict(settings)})
    for name, data in ((AUTHORITIES, {"ca.crt": authority}), (CONFIG, {"jupyter_server_config.json": config})):
        namespace.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})


def copy_login(cluster: Cluster, namespace: Namespace) -> None:
    """Alice's credentials for her repository."""
    found = cluster.get("v1", "Secret", SECRET, namespace="alice")
    assert found is not None
    body = {"type": "kubernetes.io/dockerconfigjson", "metadata": {"name": SECRET}, "data": found["data"]}
    namespace.create({"apiVersion": "v1", "kind": "Secret", **body})


def session_pod(*, environ: Mapping[str, str], arguments: Sequence[str] = ()) -> dict[str, Any]:
    """As KubeSpawner makes it of docs/cluster.md."""
    own = [
        {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
        for name, path in (("POD_NAME", "metadata.name"), ("POD_NAMESPACE", "metadata.namespace"))
    ]
    mounts = {"home": HOME, SECRET: "/etc/ai-batch/registry", AUTHORITIES: "/etc/ai-batch/ca", CONFIG: "/etc/jupyter"}
    container = {
        "name": "notebook",
        "image": IMAGE,
        "args": ["jupyter", "lab", "--ip=0.0.0.0", f"--port={PORT}", f"--IdentityProvider.token={TOKEN}", *arguments],
        "workingDir": HOME,
        "env": [*own, *({"name": name, "value": value} for name, value in environ.items())],
        "resources": {"requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"memory": "2Gi"}},
        "securityContext": {**SECURITY, "runAsUser": USER, "runAsGroup": GROUP},
        "volumeMounts": [{"name": name, "mountPath": path} for name, path in mounts.items()],
    }
    volumes = [
        {"name": "home", "emptyDir": {}},
        {
            "name": SECRET,
            "secret": {"secretName": SECRET, "items": [{"key": ".dockerconfigjson", "path": "config.json"}]},
        },
        {"name": AUTHORITIES, "configMap": {"name": AUTHORITIES}},
        {"name": CONFIG, "configMap": {"name": CONFIG}},
    ]
    spec = {
        "serviceAccountName": "notebook",
        "automountServiceAccountToken": True,
        "imagePullSecrets": [{"name": SECRET}],
        "securityContext": {"fsGroup": GROUP},
        "terminationGracePeriodSeconds": 1,
        "containers": [container],
        "volumes": volumes,
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": SESSION}, "spec": spec}


@dataclass(frozen=True)
class Session:
    """A user in front of JupyterLab: what a browser does, and what is typed into its terminal."""

    namespace: Namespace
    address: str

    @property
    def url(self) -> str:
        return f"http://{self.address}:{PORT}"

    def run(self, script: str, *, stdin: bytes = b"", check: bool = True) -> str:
        """A shell script in the terminal; its output."""
        command = ["kubectl", "exec", "-i", "-n", self.namespace.name, SESSION, "--", "sh", "-ec", script]
        done = subprocess.run(command, input=stdin, capture_output=True, check=False, timeout=120)
        assert not check or done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")
        return done.stdout.decode()

    def write(self, path: str, content: str | bytes) -> None:
        """A file, by its path below the home."""
        data = content.encode() if isinstance(content, str) else content
        self.run(f'mkdir -p "$(dirname "$HOME/{path}")" && cat > "$HOME/{path}"', stdin=data)

    def read(self, path: str) -> str:
        return self.run(f'cat "$HOME/{path}"')

    def has(self, path: str) -> bool:
        return self.run(f'test -e "$HOME/{path}" && echo yes || true').strip() == "yes"

    def write_notebook(self, path: str, *cells: str) -> None:
        import nbformat

        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(source) for source in cells], metadata={"kernelspec": kernel}
        )
        self.write(path, nbformat.writes(notebook))

    def call(self, method: str, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None) -> Any:
        """The REST API, as the sidebar uses it."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.url}/ai-batch/v1/{path}",
            data=data,
            method=method,
            headers={"Authorization": f"token {TOKEN}", **(headers or {})},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            content = answer.read()
        return json.loads(content) if "json" in answer.headers["Content-Type"] else content.decode()

    def submit(self, notebook: str, **options: Any) -> str:
        """The Submission's id."""
        return self.call("POST", "submissions", {"notebook_path": notebook, "profile": "slice", **options})["id"]

    def submit_cells(self, name: str, *cells: str, **options: Any) -> str:
        """A notebook of these cells, alone in a folder of its name; the Submission's id."""
        self.write_notebook(f"{name}/{name}.ipynb", *cells)
        return self.submit(f"{name}/{name}.ipynb", capture_from="folder", **options)

    def get(self, submission_id: str) -> dict[str, Any]:
        return self.call("GET", f"submissions/{submission_id}")

    def wait_for(self, submission_id: str, *states: str, within_s: float = 120.0) -> dict[str, Any]:
        """The Submission in one of these states, or ended."""
        wanted = frozenset(states) or ENDED
        found = wait_for(
            f"the Submission is {' or '.join(sorted(wanted))}",
            lambda: self.get(submission_id),
            until=lambda seen: seen["state"] in wanted | ENDED,
            within_s=within_s,
        )
        assert found["state"] in wanted, found
        return found


def refused(call: Callable[[], object]) -> dict[str, Any]:
    """The error that a call is answered with."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        call()
    return json.loads(caught.value.read())["error"]


def start_session(
    cluster: Cluster,
    namespace: Namespace,
    *,
    authority: str,
    settings: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    arguments: Sequence[str] = (),
) -> Session:
    """A session whose server answers; ``arguments`` are JupyterLab's."""
    copy_login(cluster, namespace)
    prepare_namespace(namespace, settings={**SETTINGS, **(settings or {})}, authority=authority)
    namespace.create(session_pod(environ=environ or {}, arguments=arguments))
    session = Session(namespace, namespace.wait_for_phase(SESSION, "Running")["status"]["podIP"])
    wait_for("the server answers", lambda: answers(session))
    return session


def answers(session: Session) -> bool:
    try:
        session.call("GET", "profiles")
    except urllib.error.HTTPError:
        raise
    except OSError:
        return False
    return True
