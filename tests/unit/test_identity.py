"""Equal packages are equal layers: whoever installs them, when and how, at the same prefix.

The packages are wheels made here and installed by pip without a network, into the same prefix again and again.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import py_compile
import shutil
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from snapshot_world import World

from jupyterlab_ai_batch.oci.manifest import LayerRole
from jupyterlab_ai_batch.snapshot.restore import read_image

pytest.importorskip("pip", reason="pip installs the packages")

LARGE = bytes(range(256)) * (16 * 4096)
MADE_HERE = {"directories", "local"}
SITE = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"


def make_wheel(place: Path, name: str, files: dict[str, bytes], *, needs: str = "", script: str = "") -> None:
    info = f"{name}-1.0.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n" + (f"Requires-Dist: {needs}\n" if needs else "")
    wheel = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    content = {**files, f"{info}/METADATA": metadata.encode(), f"{info}/WHEEL": wheel.encode()}
    if script:
        content[f"{info}/entry_points.txt"] = f"[console_scripts]\n{script} = {name}:main\n".encode()
    record = ""
    with zipfile.ZipFile(place / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        for path, data in content.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record += f"{path},sha256={digest},{len(data)}\n"
            archive.writestr(path, data)
        archive.writestr(f"{info}/RECORD", f"{record}{info}/RECORD,,\n")


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    place = tmp_path_factory.mktemp("wheels")
    module = b"import json\n\n\ndef main():\n    return {key: [key] for key in ('a', 'b', 1.5, None)}\n"
    heavy = {"heavy/__init__.py": module, "heavy/core.so": LARGE, "heavy-1.0.data/scripts/heavy-check": b"#!python\n"}
    make_wheel(place, "heavy", {**heavy, "heavy.libs/lib.so": LARGE}, needs="base", script="heavy")
    make_wheel(place, "base", {"base/__init__.py": module, "base/part/deep.py": module * 40})
    make_wheel(place, "themed", {"themed.py": module, "themed-1.0.data/data/share/jupyter/themes/t.css": b"x"})
    return place


@dataclass
class Machine:
    """One prefix where environments come and go, and a user who captures what is there."""

    base: Path
    wheels: Path

    def install(self, *packages: str, umask: int = 0o022, options: tuple[str, ...] = ()) -> None:
        self.prefix = self.base / "prefix"
        shutil.rmtree(self.prefix, ignore_errors=True)
        second = int(time.time())
        while int(time.time()) == second:  # bytecode keeps whole seconds: two installations must not share one
            os.sched_yield()
        command = [sys.executable, "-m", "venv", "--without-pip", self.prefix]
        subprocess.run(command, check=True, umask=umask)
        pip = [sys.executable, "-m", "pip", "--python", self.prefix / "bin/python", "--disable-pip-version-check"]
        command = [*pip, "install", "-q", "--no-index", "--find-links", self.wheels, *options, *packages]
        subprocess.run(command, check=True, umask=umask)

    def layers(self, user: str) -> dict[str, str]:
        """Digest by name of the environment's layers, captured by a user who has never captured anything."""
        world = World(self.base / user)
        world.prefix = self.prefix
        image = read_image(world.store, world.capture().digest)
        return {layer.name: layer.digest for layer in image.with_role(LayerRole.ENVIRONMENT)}


@pytest.fixture(scope="module")
def machine(tmp_path_factory, wheels):
    return Machine(tmp_path_factory.mktemp("machine"), wheels)


@pytest.fixture(scope="module")
def reference(machine):
    """The layers of the first user's environment."""
    machine.install("heavy", "base", "themed")
    layers = machine.layers("first")
    assert {"heavy", "directories", "local"} < layers.keys()
    return layers


def different(layers: dict[str, str], others: dict[str, str]) -> set[str]:
    return {name for name in layers.keys() | others.keys() if layers.get(name) != others.get(name)}


def test_the_same_packages_are_the_same_layers(machine, reference):
    """Installed later, under another umask, by another user where that can be tried."""
    machine.install("heavy", "base", "themed", umask=0o077)
    if os.geteuid() == 0:
        for path in [machine.prefix, *machine.prefix.rglob("*")]:
            os.chown(path, 12345, 54321, follow_symlinks=False)
    assert different(machine.layers("second"), reference) == set()


def test_bytecode_is_apart(machine, reference):
    """An installer that compiles nothing, as uv does by default."""
    machine.install("heavy", "base", "themed", options=("--no-compile",))
    layers = machine.layers("not-compiled")
    compiled = {name for name in reference if name.startswith("compiled-")}
    assert compiled
    assert different(layers, reference) == compiled | MADE_HERE
    subprocess.run([machine.prefix / "bin/python", "-m", "compileall", "-q", machine.prefix / SITE], check=True)
    assert different(machine.layers("compiled-later"), reference) == {"local"}


def test_how_packages_were_asked_for_is_apart(machine, reference):
    """As a dependency, or by the path of the wheel: pip notes both beside the package."""
    machine.install("heavy", machine.wheels / "themed-1.0-py3-none-any.whl")
    assert different(machine.layers("other-command"), reference) == {"local"}


def test_use_leaves_the_packages_alone(machine, reference):
    """Optimised bytecode, notes of programs beside the packages, a setting: no package's layer changes."""
    machine.install("heavy", "base", "themed")
    python = machine.prefix / "bin/python"
    subprocess.run([python, "-O", "-c", "import heavy, base"], check=True)
    (machine.prefix / SITE / "heavy/cache.json").write_text("{}")
    (machine.prefix / "etc").mkdir()
    (machine.prefix / "etc/setting.json").write_text("{}")
    changed = different(machine.layers("used"), reference)
    assert {name for name in changed if not name.startswith("compiled-")} == MADE_HERE


def test_another_package_leaves_the_large_ones_alone(machine, reference):
    """Different environments share what they have in common."""
    machine.install("heavy", "base")
    layers = machine.layers("fewer")
    assert layers["heavy"] == reference["heavy"]


class CondaPrefix:
    """A conda base environment, as one user's conda leaves it: linked packages, their records, a cache, a history."""

    def __init__(self, prefix: Path, user: str, installed_at: int) -> None:
        self.prefix, self.user, self.installed_at = prefix, user, installed_at
        shutil.rmtree(prefix, ignore_errors=True)
        cache = self.write(f"pkgs/leftover-of-{user}.conda", user.encode())
        self.write("envs/other/bin/python", user.encode())
        self.write("conda-meta/history", f"==> {installed_at} <==\n# cmd: /home/{user}/conda install\n".encode())
        self.write("conda-meta/state", user.encode())
        self.write(".condarc", f"pkgs_dirs: [{cache}]".encode())
        self.write(f"lib/gone-{user}.so.c~", user.encode())
        stdlib = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}"
        self.add(
            "python",
            {f"{stdlib}/os.py": b"import sys\n", "lib/libpython.so": LARGE, "bin/python": b"\x7fELF"},
            old=True,
        )
        self.add("mkl", {"lib/libmkl_core.so": LARGE, "etc/mkl.conf": f"prefix={prefix}\n".encode()}, old=True)
        self.add("noarch-tool", {f"{SITE}/tool/__init__.py": b"def main(): ...\n"}, script="bin/tool")

    def write(self, path: str, content: bytes, *, mtime: int | None = None) -> Path:
        target = self.prefix / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        os.utime(target, (mtime or self.installed_at,) * 2)
        return target

    def add(self, name: str, files: dict[str, bytes], *, script: str = "", old: bool = False) -> None:
        """A package; with the times of its archive when ``old``, else those of its installation (noarch)."""
        paths = []
        for path, content in files.items():
            source = self.write(path, content, mtime=1_600_000_000 if old else None)
            paths.append({"_path": path, "path_type": "hardlink", "sha256": hashlib.sha256(content).hexdigest()})
            if path.endswith(".py"):
                compiled = Path(py_compile.compile(str(source), doraise=True))
                paths.append({"_path": str(compiled.relative_to(self.prefix)), "path_type": "pyc_file"})
        if script:
            self.write(script, f"#!{self.prefix}/bin/python\n".encode()).chmod(0o755)
            paths.append({"_path": script, "path_type": "unix_python_entry_point"})
        record = {
            "name": name,
            "files": [path["_path"] for path in paths],
            "paths_data": {"paths": paths, "paths_version": 1},
            "extracted_package_dir": f"/home/{self.user}/.conda/pkgs/{name}-1-0",
            "requested_spec": name if self.user == "alice" else "",
        }
        self.write(f"conda-meta/{name}-1-0.json", json.dumps(record).encode())


def test_the_same_conda_packages_are_the_same_layers(tmp_path):
    """Whoever installed them: only conda's own notes differ, and neither its cache nor other environments are taken."""
    found = []
    for user, installed_at in (("alice", 1_700_000_000), ("bob", 1_750_000_000)):
        made = CondaPrefix(tmp_path / "conda", user, installed_at)
        world = World(tmp_path / user)
        world.prefix = made.prefix
        request = replace(world.request().environment, apart=(made.prefix / "envs", made.prefix / "pkgs"))
        digest = world.capture(environment=request).digest
        (mount,) = world.materialise(digest).mounts
        assert sorted(path.name for path in mount.source.iterdir()) == [".condarc", "bin", "conda-meta", "etc", "lib"]
        image = read_image(world.store, digest)
        found.append({layer.name: layer.digest for layer in image.with_role(LayerRole.ENVIRONMENT)})
    alice, bob = found
    assert {"mkl", "python"} < alice.keys()
    assert different(alice, bob) == {"local"}
