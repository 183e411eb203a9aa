"""Programs of other projects that are measured or needed for measuring."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from servers import MeasurementError

PACKAGES = {"restic": "restic", "borg": "borgbackup", "docker-registry": "docker-registry"}
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "jupyterlab-ai-batch"
PLACES = ("/usr/sbin", "/sbin", str(CACHE / "programs/current/bin"))


def require(name: str) -> str:
    """The absolute path of a program.

    Raises:
        MeasurementError: it is not installed; the message says how to get it.
    """
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), *PLACES]))
    if found is None:
        raise MeasurementError(f"{name} is missing. On Debian: sudo apt-get install {' '.join(PACKAGES.values())}")
    return found


def program_version(name: str) -> str:
    """The first word with a digit in front that the program says about its version."""
    command = [require(name), "version" if name == "restic" else "--version"]
    words = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return next((word.lstrip("v") for word in words if word.lstrip("v")[:1].isdigit()), "unknown")
