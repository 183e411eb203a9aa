"""A real registry on loopback, and what it says that it was sent.

The registry itself reports every finished upload to a listener here (its notifications): what is counted is not what
the client claims.
"""

from __future__ import annotations

import http.client
import json
import secrets
import shutil
import subprocess
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

from programs import require
from servers import MeasurementError, free_port, wait_until

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
ROLE = "ai-batch.role"


class LocalRegistry:
    """``docker-registry`` with its storage in ``directory``, which it empties first; a context manager."""

    def __init__(self, directory: Path) -> None:
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        self.address = f"127.0.0.1:{free_port()}"
        self._listener = _Listener()
        config = directory / "config.yml"
        config.write_text(json.dumps(self._configuration(directory / "storage")))  # JSON is YAML
        with (directory / "log.txt").open("wb") as log:
            command = [require("docker-registry"), "serve", str(config)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def _configuration(self, storage: Path) -> dict[str, Any]:
        listener = {
            "name": "benchmark",
            "url": self._listener.url,
            "timeout": "5s",
            "threshold": 3,
            "backoff": "1s",
            "ignore": {"actions": ["pull"]},
        }
        return {
            "version": "0.1",
            "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(storage)}},
            "http": {"addr": self.address, "secret": secrets.token_hex(16)},
            "notifications": {"endpoints": [listener]},
        }

    def __enter__(self) -> LocalRegistry:
        wait_until(self._answers, deadline_s=20, every_s=0.02, what="docker-registry")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._listener.close()

    def _answers(self) -> bool:
        if self._process.poll() is not None:
            raise MeasurementError("docker-registry ended; see log.txt beside its storage")
        try:
            return self._get("/v2/")[0] == http.HTTPStatus.OK
        except OSError:
            return False

    def _get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.address, timeout=20)
        try:
            connection.request("GET", path, headers={"Accept": MANIFEST})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def received_bytes(self) -> int:
        """Everything that the registry's process has read so far, from clients and from its storage."""
        fields = Path(f"/proc/{self._process.pid}/io").read_text().split()
        return int(fields[1 + fields.index("rchar:")])

    def take_uploads(self, repository: str, tag: str) -> dict[str, int]:
        """Bytes that were uploaded since the last call, by the role of their layer; those of no layer are ``other``.

        What was mounted from another repository, or found there, was not uploaded.
        """
        pushed = self._listener.take_until(repository, tag)
        status, content = self._get(f"/v2/{repository}/manifests/{tag}")
        if status != http.HTTPStatus.OK:
            raise MeasurementError(f"the registry has no {repository}:{tag}: {status}")
        layers = json.loads(content)["layers"]
        roles = {layer["digest"]: layer.get("annotations", {}).get(ROLE, "base") for layer in layers}
        uploads = dict.fromkeys(("environment", "environment-index", "work", "control", "other"), 0)
        for digest, size in pushed:
            role = roles.get(digest, "other")
            uploads[role] = uploads.get(role, 0) + size
        return uploads


class _Listener:
    """Takes the registry's notifications. They come in order and behind the answers, so the manifest's ends a push."""

    def __init__(self) -> None:
        self._news = threading.Condition()
        self._events: list[Mapping[str, Any]] = []
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(http.HTTPStatus.OK)
                self.send_header("Content-Length", "0")
                self.end_headers()
                listener.add(body["events"])

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - named by the base class
                """Nothing: standard error is for the benchmark."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def add(self, events: list[Mapping[str, Any]]) -> None:
        with self._news:
            self._events += [event for event in events if event["action"] == "push"]
            self._news.notify_all()

    def take_until(self, repository: str, tag: str) -> list[tuple[str, int]]:
        """Digest and size of every blob pushed since the last call, once the tag's manifest has been pushed."""

        def arrived() -> bool:
            targets = [event["target"] for event in self._events]
            return any(target["repository"] == repository and target.get("tag") == tag for target in targets)

        with self._news:
            if not self._news.wait_for(arrived, timeout=20):
                raise MeasurementError(f"the registry did not report {repository}:{tag}")
            events, self._events = self._events, []
        blobs = [event["target"] for event in events if "manifest" not in event["target"]["mediaType"]]
        return [(target["digest"], int(target["size"])) for target in blobs]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
