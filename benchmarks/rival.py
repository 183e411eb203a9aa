"""jupyter-scheduler 2.12, in an environment of its own: install it, run it, ask it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from servers import JupyterServer, MeasurementError, wait_until

REQUIREMENTS = ("jupyter-scheduler==2.12.*", "ipykernel")
EXTENSIONS = {"jupyter_scheduler": True}
TERMINAL = {"COMPLETED", "FAILED"}  # a new job is STOPPED until its process says otherwise
CONSTRAINTS = Path(__file__).resolve().parent.parent / "constraints.txt"


def install(venv: Path) -> Path:
    """Make ``venv`` have jupyter-scheduler, with the same Jupyter packages as ours; done once."""
    if not (venv / "bin/jupyter-server").exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        pip = [str(venv / "bin/python"), "-m", "pip", "install", "-q", "-c", str(CONSTRAINTS)]
        subprocess.run([*pip, *REQUIREMENTS], check=True)
    return venv


def version(venv: Path) -> str:
    code = "import importlib.metadata as m; print(m.version('jupyter-scheduler'))"
    return subprocess.check_output([str(venv / "bin/python"), "-c", code], text=True).strip()


def share_kernel(home: Path, python: str) -> dict[str, str]:
    """Make the kernelspec ``python3`` start ``python``, so that both sides run the very same kernel."""
    folder = home / "shared-kernel/kernels/python3"
    folder.mkdir(parents=True, exist_ok=True)
    argv = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (folder / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "Python 3", "language": "python"}))
    return {"JUPYTER_PATH": str(folder.parent.parent)}


def start(venv: Path, home: Path, root: Path) -> JupyterServer:
    return JupyterServer(venv, home, root, EXTENSIONS, **share_kernel(home, sys.executable))


def run_to_end(server: JupyterServer, notebook: str, *, poll_s: float) -> dict[str, Any]:
    """Create a job and wait until it ended.

    Raises:
        MeasurementError: it did not complete.
    """
    environment = server.call("GET", "/scheduler/runtime_environments")[0]["name"]
    body = {
        "name": "benchmark",
        "input_uri": notebook,
        "runtime_environment_name": environment,
        "runtime_environment_parameters": {},
        "output_formats": ["ipynb"],
    }
    identity = server.call("POST", "/scheduler/jobs", body)["job_id"]

    def ended() -> dict[str, Any] | None:
        job: dict[str, Any] = server.call("GET", f"/scheduler/jobs/{identity}")
        return job if job["status"] in TERMINAL else None

    job: dict[str, Any] = wait_until(ended, deadline_s=120, every_s=poll_s, what="jupyter-scheduler's job")
    if job["status"] != "COMPLETED":
        raise MeasurementError(f"jupyter-scheduler: {job['status']} {job.get('status_message')}")
    return job


SEED = """
import sys
from jupyter_scheduler.orm import Job, create_session, create_tables
url, count = sys.argv[1], int(sys.argv[2])
create_tables(url)
now = 1_780_000_000_000
with create_session(url)() as session:
    for n in range(count):
        session.add(Job(
            runtime_environment_name="python", runtime_environment_parameters={}, input_filename="train-digits.ipynb",
            output_formats=["ipynb"], name=f"train-digits {n}", tags=[], parameters={"quick": "True"},
            output_filename_template="{{input_filename}}-{{create_time}}", status="COMPLETED",
            create_time=now + n * 1000, update_time=now + n * 1000, start_time=now + n * 1000, end_time=now + n * 1000,
            package_input_folder=False, packaged_files=[]))
        if n % 1000 == 999:
            session.commit()
    session.commit()
"""


def seed(venv: Path, home: Path, count: int) -> None:
    """Fill its database with ``count`` completed jobs by its own model."""
    (home / "data").mkdir(parents=True, exist_ok=True)
    url = f"sqlite:///{home / 'data/scheduler.sqlite'}"
    env = {**os.environ, "JUPYTER_DATA_DIR": str(home / "data")}
    subprocess.run([str(venv / "bin/python"), "-c", SEED, url, str(count)], check=True, env=env)


LIST_PATH = "/scheduler/jobs?max_items=100&sort_by=desc(create_time)"
