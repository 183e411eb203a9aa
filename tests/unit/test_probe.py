"""How far a probe gets: each step on the way to a repository is told from the others."""

import base64
import http.server
import json
import threading
from contextlib import contextmanager

import pytest

from jupyterlab_ai_batch.oci import probe
from jupyterlab_ai_batch.oci.credentials import Credentials
from jupyterlab_ai_batch.oci.probe import Step, probe_network, probe_repository
from jupyterlab_ai_batch.oci.reference import parse_reference
from jupyterlab_ai_batch.oci.registry import RegistrySettings, connect
from jupyterlab_ai_batch.oci.transport_settings import RetryPolicy, TransportSettings
from jupyterlab_ai_batch.oci.trust import Origin
from tests.registries import free_port

LOGIN = base64.b64encode(b"ada:right").decode()


class Answers(http.server.BaseHTTPRequestHandler):
    """A registry behind Basic authentication; ``may_write`` belongs to the server."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self._answer(200, json.dumps({"name": "ada/work", "tags": []}).encode())

    def do_POST(self):
        self._answer(202 if self.server.may_write else 403, location="/v2/ada/work/blobs/uploads/1")

    def do_DELETE(self):
        self.server.cancelled = True
        self._answer(204)

    def log_message(self, *_):
        pass

    def _answer(self, status, body=b"", *, location=""):
        if self.headers.get("Authorization") != f"Basic {LOGIN}":
            status, body = 401, b""
        self.send_response(status)
        self.send_header("WWW-Authenticate", 'Basic realm="x"')
        self.send_header("Location", location)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serving(*, may_write=True):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.may_write, server.cancelled = may_write, False
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def look(port, password="right", *, push=True):  # noqa: S107 - of this test
    reference = parse_reference(f"127.0.0.1:{port}/ada/work")
    transport = TransportSettings(connect_timeout_s=2, read_timeout_s=2, retry=RetryPolicy(attempts=1))
    settings = RegistrySettings(transport=transport, credentials=Credentials(username="ada", password=password))
    with connect(reference, settings) as registry:
        return probe_repository(registry, reference, push=push)


def test_a_repository_to_write_to():
    """Nothing is amiss; the upload that was begun is given up."""
    with serving() as server:
        assert look(server.server_port) is None
        assert server.cancelled


def test_a_wrong_password():
    """It is the login, not the right to this repository."""
    with serving() as server:
        found = look(server.server_port, "wrong")
    assert found is not None
    assert Step.LOGIN is found.step


def test_a_repository_to_read_only():
    """It can be read; what is lacking is the right to write."""
    with serving(may_write=False) as server:
        found = look(server.server_port)
        assert look(server.server_port, push=False) is None
    assert found is not None
    assert (Step.ACCESS, "write") == (found.step, found.doing)


def test_nothing_listens():
    """The name has an address, and there is nobody."""
    found = probe_network(Origin.of(f"http://localhost:{free_port()}"))
    assert found is not None
    assert Step.REFUSED is found.step
    assert found.addresses


def test_something_listens():
    """A connection is all that is asked for."""
    with serving() as server:
        assert probe_network(Origin.of(f"http://127.0.0.1:{server.server_port}")) is None


@pytest.mark.parametrize(
    ("number", "step"), [("EAI_NONAME", Step.NAME), ("EAI_AGAIN", Step.NO_RESOLVER)], ids=["unknown", "unanswered"]
)
def test_names(monkeypatch, number, step):
    """A name that does not exist is told from a resolver that does not answer."""

    def fail(*_args, **_options):
        raise probe.socket.gaierror(getattr(probe.socket, number), "no")

    monkeypatch.setattr(probe.socket, "getaddrinfo", fail)
    found = probe_network(Origin.of("https://registry.example"))
    assert found is not None
    assert step is found.step


def test_a_name_that_nobody_is_asked_for(monkeypatch):
    """A resolver that knows other names works: this one does not exist."""

    def find(host, port, **_options):
        if host == "registry.example":
            raise probe.socket.gaierror(probe.socket.EAI_AGAIN, "no")
        return [(2, 1, 6, "", ("192.0.2.1", port))]

    monkeypatch.setattr(probe.socket, "getaddrinfo", find)
    found = probe_network(Origin.of("https://registry.example"), known="kubernetes.example")
    assert found is not None
    assert Step.NAME is found.step


def test_a_resolver_that_is_silent(monkeypatch):
    """It is not waited for."""
    answered = threading.Event()
    monkeypatch.setattr(probe, "NAME_TIMEOUT_S", 0.01)
    monkeypatch.setattr(probe.socket, "getaddrinfo", lambda *_args, **_options: answered.wait(10) and [])
    found = probe_network(Origin.of("https://registry.example"))
    answered.set()
    assert found is not None
    assert Step.NO_RESOLVER is found.step
