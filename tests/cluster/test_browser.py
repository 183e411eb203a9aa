"""A user in a browser, in front of a session in a pod: the specs of ``ui-tests`` that also run on one machine."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from testbed.places import ROOT

from .hub import PROFILE, TOKEN, Session, Start

UI_TESTS = ROOT / "ui-tests"
PLAYWRIGHT = UI_TESTS / "node_modules" / ".bin" / "playwright"
CHROMIUM = os.environ.get("CHROMIUM_PATH", "/usr/bin/chromium")
# JupyterLab brings the page's half of Galata with it.
GALATA = "/opt/venv/lib/python3.11/site-packages/jupyterlab/galata"
WITHIN_S = 1200.0
# Specs or options instead of the whole project: UI_TEST_ARGUMENTS="failure --headed"
CHOSEN = os.environ.get("UI_TEST_ARGUMENTS", "").split()

pytestmark = [
    pytest.mark.timeout(WITHIN_S + 200),
    pytest.mark.skipif(not PLAYWRIGHT.exists(), reason="no Playwright: run `npm ci` in ui-tests"),
    pytest.mark.skipif(shutil.which("node") is None, reason="no Node"),
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="no Chromium: install it, or set CHROMIUM_PATH"),
]


@pytest.fixture
def session(start: Start) -> Session:
    """A user's, with two queues to choose from."""
    return start(
        slices=2,
        queues=["batch", "interactive"],
        profiles=[{**PROFILE, "cpu_millicores": 500}],
        arguments=["--LabApp.expose_app_in_browser=True", f"--LabServerApp.extra_labextensions_path={GALATA}"],
    )


def test_the_browser_does_on_a_cluster_what_it_does_on_one_machine(session: Session):
    """Submit, watch, read the log, cancel, see a failure explained, find the files at home: the same specs pass."""
    environ = {**os.environ, "UI_TEST_SERVER": session.url, "UI_TEST_TOKEN": TOKEN, "CHROMIUM_PATH": CHROMIUM}
    # Playwright ends its browsers at its own timeout; who kills it leaves them.
    command = [str(PLAYWRIGHT), "test", f"--global-timeout={WITHIN_S * 1000:.0f}"]
    done = subprocess.run([*command, *CHOSEN], cwd=UI_TESTS, env=environ, check=False)
    assert done.returncode == 0, "what Playwright says is above"
