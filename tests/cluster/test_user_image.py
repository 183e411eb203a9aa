"""The image of users' servers runs under Pod Security ``restricted``, with this package in it."""

import json
import urllib.error
import urllib.request
from collections.abc import Callable

import pytest

from .objects import pod, pod_spec
from .reach import Namespace, Testbed, wait_for

IMAGE = "registry.testbed:5000/base/user:v1"
PORT = 8888
TOKEN = "of-this-test"
MEMORY = {"memory": "512Mi"}


@pytest.fixture
def restricted(testbed: Testbed, make_namespace: Callable) -> Namespace:
    wait_for("the image is in the registry", lambda: testbed.component("user-image")["state"] == "ready")
    return make_namespace(**{"pod-security.kubernetes.io__enforce": "restricted"})


@pytest.mark.timeout(300)
def test_server_runs_with_this_package(restricted: Namespace):
    script = f"jupyter server --ip=0.0.0.0 --port={PORT} --IdentityProvider.token={TOKEN}"
    restricted.create(pod("server", pod_spec(IMAGE, script, resources=MEMORY)))
    address = restricted.wait_for_phase("server", "Running")["status"]["podIP"]

    def submissions() -> list | None:
        request = urllib.request.Request(
            f"http://{address}:{PORT}/ai-batch/v1/submissions", headers={"Authorization": f"token {TOKEN}"}
        )
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return [json.load(answer)]
        except urllib.error.HTTPError:
            raise
        except OSError:
            return None

    assert wait_for("the server answers", submissions)


@pytest.mark.timeout(300)
def test_what_a_session_needs_is_there(restricted: Namespace):
    script = """
        set -e
        jupyterhub-singleuser --version
        jupyter kernelspec list
        python -c 'import kubernetes.aio.client, jupyterlab_ai_batch'
        pip install --no-index --help >/dev/null
        touch /opt/venv/lib/installed-by-user "$HOME/file" /tmp/file
        id -u
    """
    restricted.create(pod("session", pod_spec(IMAGE, script, resources=MEMORY)))

    found = restricted.wait_for_phase("session", "Succeeded", "Failed")

    log = restricted.log("session")
    assert found["status"]["phase"] == "Succeeded", log
    assert "python3" in log
    assert log.split()[-1] == "1000"
