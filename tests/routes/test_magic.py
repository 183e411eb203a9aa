"""magic: a real kernel of a real server submits its own notebook."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import nbformat
import pytest
from jupyter_client import BlockingKernelClient

from jupyterlab_ai_batch.magic.magics import INERT
from jupyterlab_ai_batch.routes.submissions import UNSAVED_NOTICE

DEADLINE_S = 60.0


@dataclass
class RealServer:
    """A server in a process of its own, below a base URL, with everything of it in a temporary directory."""

    home: Path
    port: int
    token: str = field(default_factory=lambda: secrets.token_hex(16))

    def call(self, method: str, path: str, body: Any = None) -> Any:
        request = Request(
            f"http://127.0.0.1:{self.port}/base/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"token {self.token}"},
        )
        with urlopen(request, timeout=30) as response:
            content = response.read()
        return json.loads(content) if content else None

    def arguments(self) -> list[str]:
        return [
            "--no-browser",
            "--allow-root",
            "--ServerApp.ip=127.0.0.1",
            f"--ServerApp.port={self.port}",
            "--ServerApp.port_retries=0",
            "--ServerApp.base_url=/base/",
            "--ServerApp.allow_unauthenticated_access=False",
            '--ServerApp.jpserver_extensions={"jupyterlab_ai_batch": True}',
            f"--ServerApp.root_dir={self.home / 'root'}",
        ]

    def environment(self) -> dict[str, str]:
        places = {
            name: str(self.home / name) for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR")
        }
        return {**os.environ, **places, "JUPYTER_TOKEN": self.token}


def wait_until(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not met():
        assert time.monotonic() < deadline, "not within the deadline"
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    home = tmp_path_factory.mktemp("server")
    (home / "root" / "sub dir").mkdir(parents=True)
    nbformat.write(
        nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell("epochs = 3", metadata={"tags": ["parameters"]})],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
        ),
        home / "root" / "sub dir" / "first name.ipynb",
    )
    started = RealServer(home=home, port=free_port())
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyter_server", *started.arguments()],
            stdout=log,
            stderr=log,
            env=started.environment(),
            cwd=home,
        )

    def answers() -> bool:
        assert process.poll() is None, (home / "log").read_text()
        try:
            started.call("GET", "api/status")
        except URLError:
            return False
        return True

    wait_until(answers)
    yield started
    process.send_signal(signal.SIGTERM)
    process.wait(DEADLINE_S)


@dataclass
class Cell:
    """What running a cell came to."""

    status: str
    text: str
    html: str
    error: list[str]


@pytest.fixture(scope="module")
def session(server: RealServer) -> Iterator[Any]:
    """A notebook session, opened through the collaboration drive and renamed since."""
    opened = server.call(
        "POST",
        "api/sessions",
        {"path": "RTC:sub dir/first name.ipynb", "type": "notebook", "name": "", "kernel": {"name": "python3"}},
    )
    (server.home / "root" / "sub dir" / "first name.ipynb").rename(server.home / "root" / "sub dir" / "renamed.ipynb")
    server.call("PATCH", f"api/sessions/{opened['id']}", {"path": "RTC:sub dir/renamed.ipynb"})
    yield opened
    server.call("DELETE", f"api/sessions/{opened['id']}")


@pytest.fixture(scope="module")
def run(server: RealServer, session: Any) -> Iterator[Callable[[str], Cell]]:
    """Run a cell in the notebook's kernel."""
    connection = server.home / "JUPYTER_RUNTIME_DIR" / f"kernel-{session['kernel']['id']}.json"
    client = BlockingKernelClient(connection_file=str(connection))
    client.load_connection_file()
    client.start_channels()
    client.wait_for_ready(timeout=DEADLINE_S)

    def execute(source: str) -> Cell:
        cell = Cell("", "", "", [])

        def collect(message: Any) -> None:
            content = message["content"]
            data = content.get("data", {})
            cell.text += content.get("text", "") + data.get("text/plain", "")
            cell.html += data.get("text/html", "")
            cell.error += content.get("traceback", [])

        cell.status = client.execute_interactive(source, output_hook=collect, timeout=DEADLINE_S)["content"]["status"]
        return cell

    execute("%load_ext jupyterlab_ai_batch")
    yield execute
    client.stop_channels()


def test_submit_and_cancel(server: RealServer, run: Callable[[str], Cell]) -> None:
    """%batch submits the notebook under its present name, says that nobody saved it, and can end it again."""
    shown = run("job = %batch --param epochs=5 --title 'from a cell'\njob")
    assert shown.status == "ok"
    assert shown.text.startswith("from a cell · capturing")
    assert UNSAVED_NOTICE in shown.text
    assert "<strong>from a cell</strong>" in shown.html
    (submission,) = server.call("GET", "ai-batch/v1/submissions")["submissions"]
    assert (submission["notebook_path"], submission["parameters"]) == ("sub dir/renamed.ipynb", {"epochs": 5})
    assert "cancel" in run("job.cancel()").text
    assert run("job.wait(timeout=50)").text == "'cancelled'"


def test_errors_are_lines(run: Callable[[str], Cell]) -> None:
    """An error ends the cell with one line and a hint, without a traceback."""
    failed = run("%batch --profile moon")
    assert (failed.status, failed.error[0].split(":")[0], len(failed.error)) == ("error", "profile_unknown", 2)


def test_inert_in_a_batch_job(server: RealServer, run: Callable[[str], Cell]) -> None:
    """A batch job that meets its own %batch goes on."""
    before = server.call("GET", "ai-batch/v1/submissions")
    cell = run(
        "import os\nos.environ['AI_BATCH_JOB'] = '1'\nresult = %batch\nprint(result)\ndel os.environ['AI_BATCH_JOB']"
    )
    assert cell.text.splitlines() == [INERT, "None"]
    assert server.call("GET", "ai-batch/v1/submissions") == before
