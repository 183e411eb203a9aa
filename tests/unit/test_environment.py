from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from jupyterlab_ai_batch.errors import KernelUnknownError
from jupyterlab_ai_batch.snapshot.environment import describe_environment
from jupyterlab_ai_batch.snapshot.environment_groups import OWN_LAYER_BYTES, assign_groups


@pytest.fixture
def kernels(tmp_path):
    return tmp_path / "kernels"


def add_kernel(kernels: Path, name: str, argv: list[str], language: str = "python") -> None:
    (kernels / name).mkdir(parents=True)
    spec = {"argv": argv, "display_name": name, "language": language}
    (kernels / name / "kernel.json").write_text(json.dumps(spec))


def test_a_bare_python_is_the_servers_own(kernels):
    """As the kernel manager does it; the kernelspec's directory is captured too."""
    add_kernel(kernels, "mine", ["python", "-m", "ipykernel_launcher"])
    found = describe_environment("mine", kernel_dirs=[str(kernels)])
    assert (str(found.prefix), kernels / "mine" in found.prefixes) == (sys.prefix, True)
    assert found.python_version == ".".join(map(str, sys.version_info[:3]))


def test_the_kernels_own_prefix_is_described(kernels, tmp_path):
    """Another virtual environment, with an editable install in it."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "v")], check=True)
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    site = tmp_path / "v/lib" / version / "site-packages"
    source = tmp_path / "so urce"
    source.mkdir()
    (site / "mine-1.dist-info").mkdir()
    (site / "mine-1.dist-info/direct_url.json").write_text(
        json.dumps({"url": f"file://{tmp_path}/so%20urce", "dir_info": {"editable": True}})
    )
    add_kernel(kernels, "venv", [str(tmp_path / "v/bin/python"), "-m", "ipykernel_launcher"])
    found = describe_environment("venv", kernel_dirs=[str(kernels)])
    assert (found.prefix, found.editable_sources) == (tmp_path / "v", (source,))
    assert found.executable == tmp_path / "v/bin/python"


def test_a_kernel_that_is_not_python_has_only_its_kernelspec(kernels):
    """No interpreter to ask."""
    add_kernel(kernels, "sh", ["/bin/sh", "-c", "exit"], language="bash")
    found = describe_environment("sh", kernel_dirs=[str(kernels)])
    assert (found.executable, found.prefix, found.prefixes) == (None, None, (kernels / "sh",))


@pytest.mark.parametrize("name", ["absent", "../etc", ""])
def test_an_unknown_kernel_is_refused(kernels, name):
    """With kernel_unknown."""
    add_kernel(kernels, "present", ["python"])
    with pytest.raises(KernelUnknownError):
        describe_environment(name, kernel_dirs=[str(kernels)])


@pytest.mark.parametrize("program", ["/nowhere/python", "python-that-fails"])
def test_a_kernel_whose_program_does_not_run_is_refused(kernels, tmp_path, program):
    """Missing, or a Python that cannot start."""
    script = tmp_path / "python-that-fails"
    script.write_text("#!/bin/sh\nexit 1\n")
    script.chmod(0o755)
    argv0 = program if program.startswith("/") else str(script)
    add_kernel(kernels, "broken", [argv0, "-m", "x"])
    with pytest.raises(KernelUnknownError):
        describe_environment("broken", kernel_dirs=[str(kernels)])


def test_large_distributions_have_layers_of_their_own():
    """By RECORD, with compiled files following their sources; the rest is in buckets."""
    site = "v/lib/python3.11/site-packages"
    sizes = {
        f"{site}/big/core.so": OWN_LAYER_BYTES,
        f"{site}/big/__pycache__/m.cpython-311.pyc": 10,
        f"{site}/big/m.py": 10,
        f"{site}/big-1.0.dist-info/RECORD": 10,
        f"{site}/small/x.py": 10,
        "v/src/mod.py": 10,
    }
    record = b"big/core.so,,\nbig/m.py,,\nbig-1.0.dist-info/RECORD,,\n"
    groups = assign_groups(sizes, sources=["/v/src"], prefixes=["/v"], read=lambda _path: record)
    assert {path for path, group in groups.items() if group == "big"} == set(list(sizes)[:4])
    assert groups[f"{site}/small/x.py"].startswith("rest-")
    assert groups["v/src/mod.py"] == "sources"


def test_a_prefix_inside_a_source_directory_is_not_source():
    """A checkout with its .venv inside: an edit must not rewrite the packages."""
    sizes = {"code/mod.py": 1, "code/.venv/lib/x.py": 1}
    groups = assign_groups(sizes, sources=["/code"], prefixes=["/code/.venv"], read=lambda _path: b"")
    assert groups["code/mod.py"] == "sources"
    assert groups["code/.venv/lib/x.py"].startswith("rest-")
