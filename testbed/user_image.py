"""The image of users' servers: Debian, JupyterLab with JupyterHub's single-user server, and this package. No Docker.

Three layers, each made anew only when what goes into it changes: Debian packages unpacked into a tree; Python packages
in ``/opt/venv`` on top of it; this working tree's package. The trees are kept beside the layers to build upon.
"""

from __future__ import annotations

import ast
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from jupyterlab_ai_batch.oci.layout import ImageLayout

from .binaries import report
from .chroot import run_in
from .debian import unpacked
from .errors import BuildError
from .images import image_of, only_layer, write_image, write_layer
from .places import ROOT

SUITE = "bookworm"
PYTHON = "python3.11"
USER, GROUP, HOME = 1000, 100, "/home/jovyan"
_PACKAGES = (
    "base-files", "bash", "ca-certificates", "coreutils", "dash", "findutils", "grep", "gzip", "hostname", "libc-bin",
    "libstdc++6", "procps", "python3-minimal", "python3.11-venv", "sed", "tar", "tini", "tzdata",
)  # fmt: skip
_REQUIREMENTS = ("jupyterlab", "jupyterhub==6.1.1", "ipykernel")
_SOURCES = ("jupyterlab_ai_batch", "jupyter-config", "schema", "package.json", "pyproject.toml", "install.json")
_ACCOUNTS = {
    "etc/passwd": f"root:x:0:0:root:/root:/bin/bash\njovyan:x:{USER}:{GROUP}::{HOME}:/bin/bash\n",
    "etc/group": f"root:x:0:\nusers:x:{GROUP}:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "etc/resolv.conf": "",
    "etc/hosts": "127.0.0.1 localhost\n",
}
_VENV = "opt/venv"
_TREE = "tree"
_CONFIG = {
    "User": f"{USER}:{GROUP}",
    "WorkingDir": HOME,
    "Env": [
        "PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        f"HOME={HOME}",
        "LANG=C.UTF-8",
        "SHELL=/bin/bash",
    ],
    "Entrypoint": ["tini", "--"],
    "Cmd": ["jupyter", "lab", "--ip=0.0.0.0", "--no-browser"],
}


def user_image() -> Path:
    """The layout of the finished image."""
    layers = _layers()

    def write(layout: ImageLayout) -> None:
        found = []
        for one in layers:
            source = ImageLayout(one)
            layer = only_layer(source)
            layout.mount_blob(layer.descriptor, source)
            found.append(layer)
        write_image(layout, found, _CONFIG)

    return image_of("user-image", _digest([str(_CONFIG), *(one.name for one in layers)]), write)


def _layers() -> Sequence[Path]:
    """Their layouts, the lowest first; each with the tree that it was packed from."""
    debian = _layer("user-debian", [SUITE, *_PACKAGES, *map(str, _ACCOUNTS.items())], _unpack_debian)
    constraints = (ROOT / "constraints.txt").read_text()
    requirements = [*_REQUIREMENTS, *_own_requirements()]
    python = _layer(
        "user-python",
        [debian.name, *requirements, constraints],
        lambda tree: _install_python(tree, debian / _TREE, requirements),
    )
    package = _layer(
        "user-package",
        [python.name, *_source_digests()],
        lambda tree: _install_package(tree, [debian / _TREE, python / _TREE]),
    )
    return debian, python, package


def _layer(name: str, inputs: Iterable[str], fill: Callable[[Path], None]) -> Path:
    """A layout with one layer: what ``fill`` put into the directory that it is given."""

    def write(layout: ImageLayout) -> None:
        started = time.monotonic()
        report(f"{name}: building")
        layout.path.mkdir(mode=0o700, parents=True)
        tree = layout.path / _TREE
        fill(tree)
        for leftover in layout.path.glob(f"{_TREE}.*"):
            shutil.rmtree(leftover)
        write_image(layout, [write_layer(layout, lambda tar: _pack(tar, tree), name=name)], {})
        report(f"{name}: built in {time.monotonic() - started:.0f} s")

    return image_of(name, _digest(inputs), write)


def _unpack_debian(tree: Path) -> None:
    """Packages as they are: no maintainer script runs, so the few that matter here are done by hand."""
    program = unpacked("mmdebstrap") / "usr/bin/mmdebstrap"
    options = ["--variant=extract", "--format=directory", "--quiet", f"--include={','.join(_PACKAGES)}"]
    done = subprocess.run([str(program), *options, SUITE, str(tree)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"The Debian packages of the user image cannot be unpacked:\n{done.stderr[-2000:]}")
    for name, content in _ACCOUNTS.items():
        (tree / name).write_text(content)
    for name in ("mnt", "srv", "media", "opt", "usr/local/bin"):
        (tree / name).mkdir(parents=True, exist_ok=True)
    (tree / "tmp").mkdir(exist_ok=True)
    (tree / "tmp").chmod(0o1777)
    home = tree / HOME.lstrip("/")
    home.mkdir(parents=True)
    os.chown(home, USER, GROUP)
    authorities = sorted((tree / "usr/share/ca-certificates").rglob("*.crt"))
    bundle = tree / "etc/ssl/certs/ca-certificates.crt"
    bundle.parent.mkdir(parents=True, exist_ok=True)
    bundle.write_text("".join(path.read_text() for path in authorities))


def _install_python(tree: Path, debian: Path, requirements: Sequence[str]) -> None:
    with _shared(tree) as shared:
        (shared / "constraints.txt").write_text((ROOT / "constraints.txt").read_text())
        (shared / "requirements.txt").write_text("\n".join(requirements))
        pip = f"/{_VENV}/bin/pip install --no-cache-dir --quiet --disable-pip-version-check"
        install = f"{pip} -c /mnt/shared/constraints.txt -r /mnt/shared/requirements.txt"
        # Debian's pip is too old for the metadata of some packages.
        newer = f"{pip} --upgrade pip"
        # The standard library's bytecode too: nobody else compiles it, and users may not write there.
        script = f"{PYTHON} -m venv /{_VENV} && {newer} && {install} && {PYTHON} -m compileall -q /usr/lib/{PYTHON}"
        run_in([debian], tree, shared, "sh", "-ec", script)


def _install_package(tree: Path, lowers: Sequence[Path]) -> None:
    if not (ROOT / "jupyterlab_ai_batch/labextension/package.json").exists():
        raise BuildError("The front end is not built: make setup")
    with _shared(tree) as shared:
        build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(shared), str(ROOT)]
        done = subprocess.run(build, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BuildError(f"The package's wheel cannot be built:\n{(done.stdout + done.stderr)[-2000:]}")
        (wheel,) = shared.glob("*.whl")
        pip = [f"/{_VENV}/bin/pip", "install", "--no-cache-dir", "--quiet", "--no-deps", "--no-index"]
        run_in(lowers, tree, shared, *pip, f"/mnt/shared/{wheel.name}")


@contextmanager
def _shared(tree: Path) -> Iterator[Path]:
    directory = tree.with_name(f"{tree.name}.shared")
    directory.mkdir()
    yield directory


def _pack(tar: tarfile.TarFile, tree: Path) -> None:
    for path in sorted(tree.iterdir()):
        tar.add(path, arcname=path.name, filter=_as_in_image)


def _as_in_image(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Users install packages into the environment of their server, as in the images that hubs commonly run."""
    entry.uname = entry.gname = ""
    if entry.name == _VENV or entry.name.startswith(f"{_VENV}/"):
        entry.uid, entry.gid = USER, GROUP
    return entry


def _own_requirements() -> list[str]:
    """This package's dependencies and those of its extra ``cluster``."""
    text = (ROOT / "pyproject.toml").read_text()
    found = (
        re.search(rf"^{name} = (\[.*?\])$", text, re.MULTILINE | re.DOTALL) for name in ("dependencies", "cluster")
    )
    return [requirement for one in found if one is not None for requirement in ast.literal_eval(one[1])]


def _source_digests() -> Iterator[str]:
    for name in _SOURCES:
        path = ROOT / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and "__pycache__" not in file.parts and file.name != "_version.py":
                yield f"{file.relative_to(ROOT)} {hashlib.sha256(file.read_bytes()).hexdigest()}"


def _digest(inputs: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(inputs).encode()).hexdigest()[:16]
