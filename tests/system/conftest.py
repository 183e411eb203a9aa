"""A user with a home, a small environment of their own, and the command line: nothing here is a stand-in."""

import json
import os
import signal
import subprocess
import sys
import time
import venv
from pathlib import Path

import pytest

from jupyterlab_ai_batch.queues.local.lock import worker_pid

WAIT_S = 150.0

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background: children would ignore Ctrl-C too
    signal.signal(signal.SIGINT, signal.default_int_handler)


def cell(source, *tags):
    return {
        "cell_type": "code",
        "id": f"c{abs(hash(source)) % 10**8}",
        "source": source,
        "metadata": {"tags": list(tags)},
        "outputs": [],
        "execution_count": None,
    }


class User:
    """``home`` is the root directory; ``site`` holds the packages of the kernel's environment."""

    def __init__(self, base):
        self.home = base / "home"
        self.home.mkdir()
        self.data_dir = base / "data"
        self.environment = base / "environment"
        share, config = base / "share", base / "config"
        config.mkdir()
        traits = {"BatchExtensionApp": {"idle_exit_s": 5.0, "stop_grace_s": 3.0, "slots": 1}}
        (config / "jupyter_server_config.json").write_text(json.dumps(traits))
        self.site = self._make_environment()
        self._make_kernel(share / "kernels" / "tiny")
        self.environ = {**os.environ, "JUPYTER_CONFIG_DIR": str(config), "JUPYTER_DATA_DIR": str(share)}

    def _make_environment(self):
        """A venv with packages of its own."""
        venv.EnvBuilder(symlinks=True, with_pip=False).create(self.environment)
        (site,) = self.environment.glob("lib/python*/site-packages")
        return site

    def _make_kernel(self, directory):
        """ipykernel comes, uncaptured, from the environment that runs the tests."""
        directory.mkdir(parents=True)
        python = str(self.environment / "bin" / "python")
        spec = {
            "argv": [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            "display_name": "Tiny",
            "language": "python",
            "env": {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path.endswith("site-packages"))},
        }
        (directory / "kernel.json").write_text(json.dumps(spec))

    def write_notebook(self, name, *cells):
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        spec = {"name": "tiny", "display_name": "Tiny", "language": "python"}
        notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": spec}, "cells": list(cells)}
        path.write_text(json.dumps(notebook))
        return path

    def install(self, name, source):
        """Put a module into the environment as installers do: a new file under the old name."""
        new = self.site / f".{name}.new"
        new.write_text(source)
        new.replace(self.site / f"{name}.py")

    def start(self, *arguments):
        command = [sys.executable, "-m", "jupyterlab_ai_batch", *map(str, arguments), "--data-dir", str(self.data_dir)]
        return subprocess.Popen(
            command, cwd=self.home, env=self.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run(self, *arguments):
        """(exit status, stdout, stderr)"""
        with self.start(*arguments) as child:
            out, err = child.communicate(timeout=WAIT_S)
        return child.returncode, out, err

    def json(self, *arguments):
        """What a command that must succeed prints."""
        status, out, err = self.run(*arguments, "--json")
        assert status == 0, (status, out, err)
        return json.loads(out)

    def reach(self, submission_id, *states):
        return self.until(submission_id, lambda submission: submission["state"] in states)

    def until(self, submission_id, holds):
        deadline = time.monotonic() + WAIT_S
        while not holds(submission := self.json("show", submission_id)):
            assert time.monotonic() < deadline, submission
        return submission

    def outputs_of(self, name):
        """The text that each cell of an executed notebook has printed."""
        notebook = json.loads((self.home / name).read_text())
        return ["".join("".join(o.get("text", "")) for o in c["outputs"]) for c in notebook["cells"]]

    def worker_pid(self):
        return worker_pid(self.data_dir / "queue" / "worker.lock")

    def kill_worker(self):
        pid = self.worker_pid()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

    def close(self):
        deadline = time.monotonic() + 20
        while (pid := self.worker_pid()) is not None and time.monotonic() < deadline:
            os.kill(pid, signal.SIGTERM)
            time.sleep(0.1)


@pytest.fixture
def user(tmp_path):
    user = User(Path(tmp_path))
    yield user
    user.close()
