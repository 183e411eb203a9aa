"""Configuration of the test server: this working tree's extension, a fresh home, no login, loopback only.

Never use it for anything else: it removes every protection that a Jupyter server has.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from jupyterlab.galata import configure_jupyter_server

HERE = Path(__file__).resolve().parent
HOME = Path(os.environ["UI_TEST_HOME"])

c = get_config()  # noqa: F821 - injected by traitlets

ROOT = Path(os.environ["JUPYTERLAB_GALATA_ROOT_DIR"])
ROOT.mkdir(parents=True, exist_ok=True)

# It makes temporary directories and files that nobody would remove.
tempfile.tempdir = str(HOME)
configure_jupyter_server(c)
tempfile.tempdir = None

# After configure_jupyter_server, which sets a port of its own.
c.ServerApp.ip = "localhost"
c.ServerApp.port = int(os.environ["UI_TEST_PORT"])
c.ServerApp.port_retries = 0
c.ServerApp.allow_root = True
c.ServerApp.jpserver_extensions = {"jupyterlab": True, "jupyterlab_ai_batch": True}
c.LabApp.workspaces_dir = str(HOME / "workspaces")
c.BatchExtensionApp.slots = 1
c.BatchExtensionApp.stop_grace_s = 5.0
c.BatchExtensionApp.idle_exit_s = 5.0

# The build of this working tree, whatever else is installed beside it.
EXTENSIONS = HOME / "labextensions"
EXTENSIONS.mkdir(parents=True, exist_ok=True)
LINK = EXTENSIONS / "jupyterlab-ai-batch"
if not LINK.is_symlink():
    LINK.symlink_to(HERE.parent / "jupyterlab_ai_batch" / "labextension")
c.LabServerApp.extra_labextensions_path = [str(EXTENSIONS), c.LabServerApp.extra_labextensions_path]

if os.environ.get("UI_TEST_KEEP") != "1":
    atexit.register(shutil.rmtree, HOME, ignore_errors=True)
