"""Real Jupyter servers for measuring: started in a directory of their own, spoken to over loopback HTTP."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any


class MeasurementError(Exception):
    """A server or a job did not do what the measurement needs."""


def wait_until(condition: Callable[[], Any], *, deadline_s: float, every_s: float = 0.1, what: str) -> Any:
    """Return the first true answer of ``condition``.

    Raises:
        MeasurementError: there was none within ``deadline_s``.
    """
    until = time.monotonic() + deadline_s
    while time.monotonic() < until:
        answer = condition()
        if answer:
            return answer
        time.sleep(every_s)
    raise MeasurementError(f"{what}: nothing within {deadline_s:.0f} s")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def home_environment(home: Path, venv: Path, **extra: str) -> dict[str, str]:
    """Environment variables that keep everything which Jupyter writes below ``home``."""
    merged = {
        **os.environ,
        "HOME": str(home),
        "PATH": os.pathsep.join([str(venv / "bin"), os.environ.get("PATH", os.defpath)]),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "JUPYTER_CONFIG_DIR": str(home / ".jupyter"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "IPYTHONDIR": str(home / ".ipython"),
        "JUPYTER_PLATFORM_DIRS": "0",
    }
    merged.pop("PYTHONDONTWRITEBYTECODE", None)  # installed packages have their bytecode
    return {**merged, **extra}


class JupyterServer:
    """A ``jupyter server`` process of ``venv`` with one extension enabled; a context manager.

    Args:
        home: Directory of its own: data, configuration and log lie there.
        root: The server's root directory.
        extensions: Server extensions to enable.
    """

    def __init__(self, venv: Path, home: Path, root: Path, extensions: Mapping[str, bool], **environment: str) -> None:
        (home / "data").mkdir(parents=True, exist_ok=True)  # some extensions expect it to be there
        root.mkdir(parents=True, exist_ok=True)
        self.home, self.root = home, root
        self._port, self._token = free_port(), secrets.token_hex(16)
        self._connection: http.client.HTTPConnection | None = None
        command = [
            *(str(venv / "bin/python"), "-m", "jupyter_server", "--no-browser", "--allow-root"),
            *(f"--ServerApp.port={self._port}", "--ServerApp.port_retries=0", "--ServerApp.ip=127.0.0.1"),
            *(f"--IdentityProvider.token={self._token}", f"--ServerApp.root_dir={root}"),
            *(f"--ServerApp.jpserver_extensions={dict(extensions)}", "--ServerApp.log_level=WARN"),
        ]
        env = home_environment(home, venv, **environment)
        with (home / "server.log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=root, env=env, stdout=log, stderr=log)

    def __enter__(self) -> JupyterServer:
        wait_until(self._answers, deadline_s=60, what=f"server in {self.home}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._connection:
            self._connection.close()
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _answers(self) -> bool:
        if self._process.poll() is not None:
            raise MeasurementError(f"the server ended:\n{(self.home / 'server.log').read_text()[-3000:]}")
        try:
            self.call("GET", "/api/status")
        except (OSError, http.client.HTTPException, MeasurementError):
            self._connection = None
            return False
        return True

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Send one request over the kept connection and return the JSON answer (None for an empty one).

        Raises:
            MeasurementError: the answer's status is 400 or more.
        """
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)
            self._connection.connect()
            # http.client sends head and body apart: with Nagle's algorithm each POST would wait 40 ms for the ACK.
            self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        headers = {"Authorization": f"token {self._token}", "Content-Type": "application/json"}
        payload = None if body is None else json.dumps(body)
        self._connection.request(method, path, body=payload, headers=headers)
        response = self._connection.getresponse()
        text = response.read()
        if response.status >= http.HTTPStatus.BAD_REQUEST:
            raise MeasurementError(f"{method} {path}: {response.status} {text[:500]!r}")
        return json.loads(text) if text else None

    def timed(self, method: str, path: str, body: object = None) -> tuple[float, Any]:
        """Like ``call``; also the seconds from sending the request to having read the answer."""
        started = time.perf_counter()
        answer = self.call(method, path, body)
        return time.perf_counter() - started, answer
