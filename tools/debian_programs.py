"""Programs of other projects that tests run against, unpacked from Debian's packages without installing them.

Installing them would start services on a developer's machine. They go to ``<cache>/programs/<key>``, where the key
stands for the packages' versions; ``<cache>/programs/current/bin`` has what can be run. tests/programs.py finds it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

PACKAGES = ("containerd", "docker-registry", "runc", "skopeo", "umoci")
PROGRAMS = ("containerd", "containerd-shim-runc-v2", "ctr", "docker-registry", "runc", "skopeo", "umoci")
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "jupyterlab-ai-batch"
CURRENT = CACHE / "programs/current"
_PLACES = ("usr/bin", "usr/sbin", "bin", "sbin")
_LIBRARIES = ("usr/lib", "lib")


def is_installed(program: str) -> bool:
    return shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin") is not None


def missing_programs() -> list[str]:
    """Programs that are neither installed nor unpacked."""
    return [name for name in PROGRAMS if not is_installed(name) and not (CURRENT / "bin" / name).exists()]


def provide_programs() -> None:
    """Unpack what is missing; where that is impossible, say so: the tests that need it skip."""
    missing = missing_programs()
    if not missing:
        return
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        print(f"Not a Debian system: tests that need {', '.join(missing)} are skipped unless you install them.")
        return
    programs = CURRENT.parent
    programs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=programs) as temporary:
        try:
            files = _download(Path(temporary))
        except (subprocess.CalledProcessError, OSError) as error:
            print(f"Debian's packages cannot be fetched ({error}): tests that need {', '.join(missing)} are skipped.")
            return
        _publish(files, Path(temporary) / "root")


def _download(directory: Path) -> list[Path]:
    """The packages, and the libraries that they need and that this system does not have."""
    options = _apt_options(directory, PACKAGES)
    waiting, known = list(PACKAGES), set(PACKAGES)
    while waiting:
        _run(["apt-get", "-q", *options, "download", *waiting], cwd=directory)
        needed = {name for file in directory.glob("*.deb") for name in _libraries_of(file)} - known
        known |= needed
        waiting = [name for name in sorted(needed) if not _has_package(name)]
    return sorted(directory.glob("*.deb"))


def _apt_options(directory: Path, packages: Sequence[str]) -> list[str]:
    """Nothing where apt knows the packages; else options for lists of our own, which need no root."""
    shown = subprocess.run(["apt-cache", "show", "-q", *packages], capture_output=True, text=True, check=False).stdout
    if all(f"Package: {name}\n" in shown for name in packages):
        return []
    state, cache = directory / "state", directory / "cache"
    for path in (state / "lists/partial", cache / "archives/partial"):
        path.mkdir(parents=True)
    options = [f"Dir::State={state}", f"Dir::Cache={cache}", "Dir::State::status=/var/lib/dpkg/status"]
    arguments = [argument for option in options for argument in ("-o", option)]
    _run(["apt-get", "-q", *arguments, "update"], cwd=directory)
    return arguments


def _libraries_of(file: Path) -> list[str]:
    depends = subprocess.run(
        ["dpkg-deb", "--field", str(file), "Depends"], capture_output=True, text=True, check=True
    ).stdout
    names = [re.split(r"[\s(:|]", part.strip(), maxsplit=1)[0] for part in depends.split(",")]
    return [name for name in names if name.startswith("lib")]


def _has_package(name: str) -> bool:
    command = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", name]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout == "installed"


def _publish(files: Sequence[Path], root: Path) -> None:
    """Unpack into ``root``, and put that in place of what was current."""
    root.mkdir()
    for file in files:
        _run(["dpkg-deb", "--extract", str(file), str(root)], cwd=root)
    key = hashlib.sha256("\n".join(file.name for file in files).encode()).hexdigest()[:16]
    target = CURRENT.parent / key
    _write_starters(root, target)
    if not target.exists():
        root.rename(target)
    link = CURRENT.with_name(f"current.{os.getpid()}")
    link.symlink_to(key)
    link.replace(CURRENT)


def _write_starters(root: Path, target: Path) -> None:
    """Programs in ``bin`` that find each other and their libraries below ``target``, wherever they are started."""
    (root / "bin").mkdir(exist_ok=True)
    libraries = sorted({path.parent for place in _LIBRARIES for path in (root / place).rglob("*.so.*")})
    library_path = ":".join(str(target / path.relative_to(root)) for path in libraries)
    path = ":".join(str(target / place) for place in _PLACES)
    for name in PROGRAMS:
        found = [place for place in _PLACES if place != "bin" and (root / place / name).is_file()]
        if found:
            starter = root / "bin" / name
            starter.write_text(
                f'#!/bin/sh\nexport PATH="{path}:$PATH"\n'
                f'export LD_LIBRARY_PATH="{library_path}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"\n'
                f'exec "{target / found[0] / name}" "$@"\n'
            )
            starter.chmod(0o755)


def _run(command: Sequence[str], *, cwd: Path) -> None:
    print("+", " ".join(command), flush=True)
    subprocess.run(list(command), cwd=cwd, check=True, stdout=subprocess.DEVNULL)
