"""The whole way from a session in a pod to its own files and back: what a user of the shared pool sees."""

import io
import json
import subprocess
import zipfile
from collections.abc import Callable

import pytest
import yaml

from .hub import REPOSITORY, SECRET, WAITS, Session, Start, copy_login
from .reach import Cluster, Namespace, wait_for

pytestmark = pytest.mark.timeout(400)

TOKEN = "a-token-of-the-hub"
ENVIRON = {
    "SITE": "here",
    "OMP_NUM_THREADS": "3",
    "JUPYTERHUB_API_TOKEN": TOKEN,
    "JUPYTERHUB_USER": "alice",
    "MY_SECRET": "of nobody else",
}
LOOK = """
import json, os, pathlib, colours, local_module
from importlib.metadata import version
json.dump({
    "environ": dict(os.environ),
    "account": pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount").exists(),
    "package": [colours.NAME, version("colours")],
    "module": local_module.NAME,
    "data": pathlib.Path("data.txt").read_text(),
    "user": [os.getuid(), os.getgid()],
    "home": os.path.expanduser("~"),
    "here": os.getcwd(),
}, open("seen.json", "w"))
"""


def test_a_notebook_runs_and_comes_home(start: Start):
    """submit → queued → running → succeeded, with the executed notebook and the files at home."""
    session = start()
    session.write_notebook("study/a.ipynb", "open('result.txt', 'w').write('42')", "print('hello')")
    submission = session.submit("study/a.ipynb")
    seen = session.wait_for(submission)
    assert (seen["backend"], seen["state"], seen["outputs"]["state"]) == ("kueue", "succeeded", "collected"), seen
    usage = seen["attempts"][-1]["usage"]
    assert 2**20 < usage["peak_memory_bytes"] < 2**29, usage
    assert usage["cpu_s"] > 0
    assert session.read("study/result.txt") == "42"
    assert "hello" in session.read(seen["executed_notebook"])
    wait_for("the Job is gone", lambda: session.namespace.job(f"ai-batch-{submission}") is None)


def test_a_job_sees_what_was_submitted(start: Start):
    """Packages, modules and the admin's variables as they were; nothing that came later, and nothing secret."""
    session = start(environ=ENVIRON, environment_allow=["PATH", "HOME", "SITE", "*"])
    install(session, "1.0", name="red")
    session.write("study/local_module.py", "NAME = 'mine'")
    session.write("study/data.txt", "captured")
    session.write_notebook("study/a.ipynb", LOOK)
    blocker = session.submit_cells("wait", WAITS)
    session.wait_for(blocker, "running")
    submission = session.submit("study/a.ipynb")
    session.wait_for(submission, "queued")

    install(session, "2.0", name="blue")
    session.write("study/data.txt", "edited since")
    session.write("study/local_module.py", "NAME = 'edited since'")
    session.write_notebook("study/a.ipynb", "raise SystemExit('edited since')")
    session.call("POST", f"submissions/{blocker}/cancel")

    seen = session.wait_for(submission)
    assert seen["state"] == "succeeded", seen
    found = json.loads(session.read("study/seen.json"))
    environ = found.pop("environ")
    assert found == {
        "account": False,
        "package": ["red", "1.0"],
        "module": "mine",
        "data": "captured",
        "user": [1000, 100],
        "home": "/home/jovyan",
        "here": "/home/jovyan/study",
    }
    assert (environ["SITE"], environ["OMP_NUM_THREADS"]) == ("here", "3")
    assert [name for name in environ if name.startswith("JUPYTERHUB_") or "SECRET" in name] == []
    assert not {TOKEN, "of nobody else"} & set(environ.values())
    assert session.read("study/data.txt") == "edited since"
    job = json.dumps(session.call("GET", f"submissions/{submission}"))
    assert TOKEN not in job


def test_exported_yaml_runs_elsewhere(start: Start, cluster: Cluster, make_user: Callable[..., Namespace]):
    """``kubectl apply`` in a namespace that has only what the YAML's first lines name, after ours is gone."""
    session = start(environ=ENVIRON)
    session.write_notebook("a.ipynb", "open('result.txt', 'w').write('42')")
    submission = session.submit("a.ipynb")
    session.wait_for(submission)
    text = session.call("GET", f"submissions/{submission}/manifest")
    assert text == session.run(f"jupyter ai-batch export {submission}")
    exported = yaml.safe_load(text)
    assert TOKEN not in text

    elsewhere = make_user("elsewhere")
    copy_login(cluster, elsewhere)
    needs = [line for line in text.splitlines() if line.startswith("# needs")]
    assert len(needs) == 3, text
    copy_authorities(session, elsewhere)
    command = ["kubectl", "apply", "-n", elsewhere.name, "-f", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    elsewhere.wait_for_job(exported["metadata"]["name"], succeeded=1)
    assert exported["spec"]["template"]["spec"]["containers"][0]["image"].startswith(f"{REPOSITORY}@sha256:")
    assert SECRET in needs[1]


def install(session: Session, version: str, *, name: str) -> None:
    """A package of one module, into the environment of the session's image."""
    info = f"colours-{version}.dist-info"
    files = {
        "colours.py": f"NAME = {name!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: colours\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    listed = "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD"))
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as wheel:
        for path, text in {**files, f"{info}/RECORD": listed}.items():
            wheel.writestr(path, text)
    wheel_name = f"colours-{version}-py3-none-any.whl"
    session.run(f"cat > /tmp/{wheel_name}; pip install --no-index -q /tmp/{wheel_name}", stdin=content.getvalue())


def copy_authorities(session: Session, namespace: Namespace) -> None:
    found = session.namespace.cluster.get("v1", "ConfigMap", "registry-ca", namespace=session.namespace.name)
    assert found is not None
    body = {"metadata": {"name": "registry-ca"}, "data": found["data"]}
    namespace.create({"apiVersion": "v1", "kind": "ConfigMap", **body})
