"""A real Jupyter server that is killed: what was submitted through it goes on and comes home."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from tests.system.conftest import WAIT_S, cell

pytestmark = pytest.mark.timeout(400)

TOKEN = "for-this-test-only"


class Server:
    """``jupyter server`` of the user, with the extension, on loopback."""

    def __init__(self, user):
        self._user = user
        self._log = (user.home.parent / "server.log").open("ab")
        self._child = None

    def start(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._url = f"http://127.0.0.1:{port}/ai-batch/v1/"
        options = {
            "ServerApp.jpserver_extensions": "jupyterlab_ai_batch=True",
            "ServerApp.root_dir": str(self._user.home),
            "ServerApp.port": str(port),
            "ServerApp.open_browser": "False",
            "ServerApp.allow_root": "True",
            "IdentityProvider.token": TOKEN,
            "BatchExtensionApp.data_dir": str(self._user.data_dir),
        }
        command = [sys.executable, "-m", "jupyter_server", *(f"--{name}={value}" for name, value in options.items())]
        environ = {**self._user.environ, "JUPYTER_RUNTIME_DIR": str(self._user.home.parent / "runtime")}
        self._child = subprocess.Popen(command, env=environ, stdout=self._log, stderr=self._log)
        self._until_it_answers()

    def _until_it_answers(self):
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                return self.call("queues")
            except urllib.error.URLError:
                assert self._child.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)

    def call(self, path, body=None):
        """GET, or POST with a body; what the server answers."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data=data, headers={"Authorization": f"token {TOKEN}"})
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)

    def until(self, submission_id, holds):
        deadline = time.monotonic() + WAIT_S
        while not holds(seen := self.call(f"submissions/{submission_id}")):
            assert time.monotonic() < deadline, seen
            time.sleep(0.05)
        return seen

    def kill(self):
        os.kill(self._child.pid, signal.SIGKILL)
        self._child.wait(timeout=WAIT_S)

    def close(self):
        if self._child is not None and self._child.poll() is None:
            self._child.terminate()
            self._child.wait(timeout=WAIT_S)
        self._log.close()


@pytest.fixture
def server(user):
    server = Server(user)
    try:
        server.start()
        yield server
    finally:
        server.close()


def test_killing_server_and_worker_loses_nothing(user, server):
    """kill -9 of the server, then of the worker, mid-run: two Attempts, succeeded, files home without a click."""
    user.write_notebook("k.ipynb", cell("import time; time.sleep(5); open('done.txt', 'w').write('yes')"))
    submission = server.call("submissions", {"notebook_path": "k.ipynb"})
    server.until(submission["id"], lambda seen: (seen["progress"] or {}).get("cell") == 1)
    server.kill()
    user.kill_worker()
    server.start()
    ended = server.until(submission["id"], lambda seen: seen["state"] in ("succeeded", "failed"))
    assert [attempt["ended_by"] for attempt in ended["attempts"]] == ["WorkerLost", "succeeded"]
    assert (ended["state"], ended["outputs"]["state"]) == ("succeeded", "collected")
    assert (user.home / "done.txt").read_text() == "yes"
    assert (user.home / ended["executed_notebook"]).exists()


def test_a_server_killed_during_capture_does_not_stop_it(user, server):
    """The capture is a process of its own: it queues the Submission although nobody waits for it."""
    (user.home / "large.bin").write_bytes(os.urandom(64 * 1024**2))
    user.write_notebook("c.ipynb", cell("open('done.txt', 'w').write('yes')"))
    submission = server.call("submissions", {"notebook_path": "c.ipynb"})
    assert submission["state"] == "capturing"
    server.kill()
    server.start()
    ended = server.until(submission["id"], lambda seen: seen["state"] in ("succeeded", "failed"))
    assert (ended["state"], (user.home / "done.txt").read_text()) == ("succeeded", "yes")


def test_two_servers_of_one_user_tell_the_same(user, server):
    """What one accepts the other lists, and its files come home once."""
    other = Server(user)
    other.start()
    try:
        user.write_notebook("t.ipynb", cell("open('done.txt', 'w').write('yes')"))
        submission = server.call("submissions", {"notebook_path": "t.ipynb"})
        for seen_by in (other, server):
            ended = seen_by.until(submission["id"], lambda seen: seen["state"] in ("succeeded", "failed"))
            assert ended["state"] == "succeeded"
        assert [item["id"] for item in other.call("submissions")["submissions"]] == [submission["id"]]
        short = submission["id"][:8]
        assert sorted(path.name for path in user.home.iterdir()) == ["done.txt", f"t.batch-{short}.ipynb", "t.ipynb"]
    finally:
        other.close()
