"""Prove that the sdist is complete: a wheel built from it, with no Node to be found, installs and is enabled.

Builds the sdist (front end included), then the wheel from the sdist in an isolated environment whose ``PATH`` has no
``node``, installs it in a new environment, and asks Jupyter for the server extension, the Lab extension and the CLI.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from prepare import BIN, ROOT, environment


class CheckError(Exception):
    """The distribution is not what it should be."""


def run(command: list[str], env: dict[str, str], cwd: Path) -> str:
    """Run to the end and return both streams; what went wrong is printed."""
    done = subprocess.run(command, env=env, cwd=cwd, text=True, capture_output=True, check=False)
    if done.returncode != 0:
        raise CheckError(f"`{' '.join(command)}` ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def path_without_node(folder: Path, python_bin: Path) -> str:
    """A ``PATH`` of symlinks to every program but Node's."""
    folder.mkdir()
    for directory in ["/usr/bin", "/bin"]:
        for program in Path(directory).iterdir():
            link = folder / program.name
            if program.name not in {"node", "nodejs", "npm", "npx"} and not link.is_symlink():
                link.symlink_to(program)
    return os.pathsep.join([str(python_bin), str(folder)])


def build_sdist(target: Path) -> Path:
    """Build the front end for production and pack the sdist."""
    env = environment()
    run(["npm", "run", "--silent", "build:prod"], env, ROOT)
    run([str(BIN / "python"), "-m", "build", "--sdist", "--outdir", str(target)], env, ROOT)
    return next(target.glob("*.tar.gz"))


def build_wheel(sdist: Path, target: Path, env: dict[str, str]) -> Path:
    """Build the wheel from the sdist alone."""
    command = [str(BIN / "python"), "-m", "pip", "wheel", "--no-deps", "-w", str(target), str(sdist)]
    run(command, env, target)
    return next(target.glob("*.whl"))


def check_installed(venv: Path, env: dict[str, str], cwd: Path) -> None:
    """Raise CheckError unless Jupyter finds both extensions and the command in ``venv``."""
    jupyter = str(venv / "bin/jupyter")
    server = run([jupyter, "server", "extension", "list"], env, cwd)
    if not re.search(r"jupyterlab_ai_batch\b.*enabled", server) or not re.search(r"jupyterlab_ai_batch .*OK", server):
        raise CheckError(f"the server extension is not enabled:\n{server}")
    labextension = venv / "share/jupyter/labextensions/jupyterlab-ai-batch"
    for name in ("package.json", "install.json", "static/style.js"):
        if not (labextension / name).is_file():
            raise CheckError(f"the wheel does not install {name} of the Lab extension")
    if shutil.which("node", path=env["PATH"]):
        raise CheckError("this check means nothing: node is on the path")
    run([jupyter, "ai-batch", "--help"], env, cwd)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--keep", type=Path, help="directory to copy the sdist and the wheel to")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ai-batch-wheel-") as scratch:
        folder = Path(scratch)
        venv = folder / "venv"
        try:
            sdist = build_sdist(folder)
            run([sys.executable, "-m", "venv", str(venv)], environment(), folder)
            env = {k: v for k, v in environment().items() if k != "VIRTUAL_ENV"}
            env["PATH"] = path_without_node(folder / "programs", venv / "bin")
            wheel = build_wheel(sdist, folder, env)
            constraints = str(ROOT / "constraints.txt")
            run([str(venv / "bin/pip"), "install", "-q", "-c", constraints, str(wheel)], env, folder)
            check_installed(venv, env, folder)
        except CheckError as error:
            print(f"Wheel check failed: {error}", file=sys.stderr)
            return 1
        if arguments.keep:
            arguments.keep.mkdir(parents=True, exist_ok=True)
            for file in (sdist, wheel):
                shutil.copy(file, arguments.keep / file.name)
                print(arguments.keep / file.name)
    print("Wheel check passed: built from the sdist without Node, installed, server and Lab extension enabled.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
