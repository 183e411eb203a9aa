"""Programs of other projects that tests run: from PATH, else where ``tools/prepare.py --tests`` unpacked them."""

import os
import shutil
from pathlib import Path

import pytest

SYSTEM_DIRECTORIES = ("/usr/sbin", "/sbin")
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "jupyterlab-ai-batch"
UNPACKED = CACHE / "programs/current/bin"


def find_program(name: str) -> str | None:
    """The absolute path of a program, or None where there is none."""
    places = [*os.environ.get("PATH", os.defpath).split(os.pathsep), *SYSTEM_DIRECTORIES, str(UNPACKED)]
    return shutil.which(name, path=os.pathsep.join(places))


def program(name: str) -> str:
    """The absolute path of a program; skips the test where there is none."""
    found = find_program(name)
    if found is None:
        pytest.skip(f"{name} is neither installed nor unpacked by tools/prepare.py --tests (Debian only)")
    return found
