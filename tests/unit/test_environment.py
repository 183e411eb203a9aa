from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from jupyterlab_ai_batch.errors import KernelUnknownError
from jupyterlab_ai_batch.oci.manifest import MAX_LAYERS
from jupyterlab_ai_batch.snapshot.environment import describe_environment
from jupyterlab_ai_batch.snapshot.environment_groups import (
    BUCKETS,
    LOCAL,
    MAX_OWN_LAYERS,
    OTHER,
    OWN_LAYER_BYTES,
    assign_groups,
)
from jupyterlab_ai_batch.snapshot.work_layers import MAX_LAYERS as WORK_LAYERS


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


def test_condas_package_cache_and_other_environments_are_apart(kernels, tmp_path):
    """They lie in the prefix of its base environment."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "v")], check=True)
    add_kernel(kernels, "venv", [str(tmp_path / "v/bin/python"), "-m", "ipykernel_launcher"])
    (tmp_path / "v/pkgs").mkdir()
    assert describe_environment("venv", kernel_dirs=[str(kernels)]).apart == ()
    (tmp_path / "v/conda-meta").mkdir()
    assert describe_environment("venv", kernel_dirs=[str(kernels)]).apart == (tmp_path / "v/pkgs",)


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


SITE = "v/lib/python3.11/site-packages"


def groups_of(sizes, records, *, sources=(), prefixes=("/v",)):
    """Layer names by path; files named in ``records`` have that content, and every path is written without SITE/."""
    sizes = {path.replace("S/", f"{SITE}/", 1): size for path, size in sizes.items()}
    contents = {path.replace("S/", f"{SITE}/", 1): content.encode() for path, content in records.items()}
    groups = assign_groups(
        {**sizes, **dict.fromkeys(contents, 10)},
        sources=sources,
        prefixes=prefixes,
        read=lambda path: contents.get(path, b""),
    )
    return {path.replace(f"{SITE}/", "S/", 1): group for path, group in groups.items()}


def test_large_distributions_have_layers_of_their_own():
    """What came with them; what was made of them is kept apart, and small ones share buckets."""
    sizes = {
        "S/big/core.so": OWN_LAYER_BYTES,
        "S/big/__pycache__/m.cpython-311.pyc": OWN_LAYER_BYTES,
        "S/big/m.py": 10,
        "S/big/cache.bin": 10,
        "S/big/weights.bin": OWN_LAYER_BYTES,
        "S/big-1.0.dist-info/METADATA": 10,
        "S/big-1.0.dist-info/INSTALLER": 4,
        "S/small/x.py": 10,
        "v/bin/big": 200,
        "v/bin/big-program": 10**6,
        "v/pyvenv.cfg": 10,
    }
    files = ("big/core.so", "big/m.py", "../../../bin/big", "../../../bin/big-program")
    dist = ("big-1.0.dist-info/METADATA", "big-1.0.dist-info/INSTALLER", "big-1.0.dist-info/RECORD")
    record = "".join(f"{file},,\n" for file in (*files, *dist))
    groups = groups_of(sizes, {"S/big-1.0.dist-info/RECORD": record})
    own = {"S/big/core.so", "S/big/m.py", "S/big-1.0.dist-info/METADATA", "v/bin/big-program"}
    assert {path for path, group in groups.items() if group == "big"} == own
    local = {
        "S/big/cache.bin",
        "S/big-1.0.dist-info/INSTALLER",
        "S/big-1.0.dist-info/RECORD",
        "v/bin/big",
        "v/pyvenv.cfg",
    }
    assert {path for path, group in groups.items() if group == LOCAL} == local
    assert groups["S/big/__pycache__/m.cpython-311.pyc"].startswith("compiled-")
    assert groups["S/small/x.py"].startswith("rest-")
    assert groups["S/big/weights.bin"] == OTHER


def test_a_layer_depends_on_its_distribution_only():
    """Another package, or another one's version, moves nothing; nor does the order of the walk."""
    sizes = {"S/big/core.so": OWN_LAYER_BYTES, "S/one/x.py": 10, "S/one/__pycache__/x.cpython-311.pyc": 10}
    records = {"S/big-1.dist-info/RECORD": "big/core.so,,\n", "S/one-1.dist-info/RECORD": "one/x.py,,\n"}
    before = groups_of(sizes, records)
    more = {**sizes, "S/two/core.so": 3 * OWN_LAYER_BYTES, "S/big/new.py": 10**6}
    records = {
        "S/two-1.dist-info/RECORD": "two/core.so,,\n",
        "S/one-1.dist-info/RECORD": "one/x.py,,\n",
        "S/big-2.dist-info/RECORD": "big/core.so,,\nbig/new.py,,\n",
    }
    after = groups_of(dict(reversed(more.items())), records)
    assert {path: after[path] for path in sizes} == {path: before[path] for path in sizes}


def test_another_prefix_keeps_to_itself():
    """A user's own site-packages change often: the layers of the shared environment must not."""
    user = "home/u/.local/lib/python3.11/site-packages"
    sizes = {
        "S/big/core.so": 2 * OWN_LAYER_BYTES,
        f"{user}/big/core.so": OWN_LAYER_BYTES,
        f"{user}/tiny/x.py": 10,
        f"{user}/tiny/__pycache__/x.cpython-311.pyc": 10,
    }
    groups = groups_of(sizes, {}, prefixes=("/v", f"/{user}"))
    assert list(groups.values()) == ["big", f"big (/{user})", OTHER, OTHER]


def test_the_standard_library_is_a_package():
    """Where no package manager owns it."""
    sizes = {"v/lib/python3.11/os.py": OWN_LAYER_BYTES, "v/lib/python3.11/__pycache__/os.cpython-311.pyc": 10}
    groups = groups_of(sizes, {})
    assert groups["v/lib/python3.11/os.py"] == "python"
    assert groups["v/lib/python3.11/__pycache__/os.cpython-311.pyc"].startswith("compiled-")


def test_what_pip_left_behind_is_no_package():
    """Half-removed distributions, renamed by pip."""
    assert groups_of({"S/~umpy/core.so": OWN_LAYER_BYTES}, {})["S/~umpy/core.so"] == OTHER


def test_conda_packages_are_as_conda_meta_says():
    """Their files inside and outside site-packages; conda's own records, and the scripts it writes, are local."""
    libtorch = {
        "name": "LibTorch",
        "files": ["lib/libtorch.so", "S/torch/__init__.py".replace("S/", f"{SITE}/")[2:], "bin/torchrun"],
        "paths_data": {"paths": [{"_path": "bin/torchrun", "path_type": "unix_python_entry_point"}]},
    }
    records = {
        "v/conda-meta/libtorch-2.json": json.dumps(libtorch),
        "v/conda-meta/broken.json": "[",
        "S/torch-2.dist-info/RECORD": "torch/__init__.py,,\n",
    }
    sizes = {
        "v/lib/libtorch.so": OWN_LAYER_BYTES,
        "S/torch/__init__.py": 10,
        "v/bin/torchrun": 10,
        "v/conda-meta/history": 10,
    }
    groups = groups_of(sizes, records)
    own = {"v/lib/libtorch.so", "S/torch/__init__.py"}
    assert {path for path, group in groups.items() if group == "libtorch"} == own
    assert {path for path, group in groups.items() if group == LOCAL} == {*sizes, *records} - own


def test_a_snapshot_never_has_more_layers_than_images_may():
    """At most: own layers, buckets, bytecode, local, other, directories, sources, removed; index, work, control."""
    environment = MAX_OWN_LAYERS + 2 * BUCKETS + len(("local", "other", "directories", "sources", "removed"))
    assert environment + len(("index", "control")) + WORK_LAYERS <= MAX_LAYERS


def test_a_prefix_inside_a_source_directory_is_not_source():
    """A checkout with its .venv inside: an edit must not rewrite the packages."""
    sizes = {"code/mod.py": 1, "code/.venv/lib/x.so": OWN_LAYER_BYTES}
    groups = groups_of(sizes, {}, sources=["/code"], prefixes=["/code/.venv"])
    assert groups == {"code/mod.py": "sources", "code/.venv/lib/x.so": OTHER}
