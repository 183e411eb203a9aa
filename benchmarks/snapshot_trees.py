"""What snapshots are taken of: an installed environment, a work tree with large files, and many small files.

Everything is made once below one directory and used again. Work trees depend on nothing but a seed.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from programs import CACHE
from workloads import write_notebook

CONSTRAINTS = Path(__file__).resolve().parent.parent / "constraints.txt"
PACKAGES = ("jupyterlab", "numpy", "scipy", "pandas", "scikit-learn", "matplotlib")
KERNEL = "benchmark"
NOTEBOOK = "analysis.ipynb"
MEBIBYTE = 1024 * 1024
LARGE_BYTES = 500_000_000
SMALL_FILES = 2_000
WORK_SEED = 4
# What a capture finds changed within its last minute counts as unproven and is read again the next time.
SETTLE_S = 65.0
DEFAULT_DIRECTORY = CACHE / "snapshot-benchmark"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trees:
    """Where the shapes lie.

    Attributes:
        environment: The environment of both users, at one and the same path.
        other: A second installation of it, made separately; ``swap_environments`` gives it the path.
        work: The large work tree with a notebook.
        folder: A folder with nothing but a notebook.
        other_folder: The second user's.
    """

    base: Path
    environment: Path
    other: Path
    work: Path
    folder: Path
    other_folder: Path


def prepare(base: Path) -> Trees:
    """The trees below ``base``; what is there already is kept."""
    trees = Trees(
        base=base,
        environment=base / "environment",
        other=base / "environment-other",
        work=base / "work",
        folder=base / "folder",
        other_folder=base / "folder-other",
    )
    base.mkdir(parents=True, exist_ok=True)
    if not (_is_installed(trees.environment) and _is_installed(trees.other)):
        for path in (trees.environment, trees.other):
            shutil.rmtree(path, ignore_errors=True)
        install_environment(trees.environment)
        trees.environment.rename(trees.other)
        install_environment(trees.environment)
    if not (trees.work / NOTEBOOK).exists():
        shutil.rmtree(trees.work, ignore_errors=True)
        fill_work(trees.work, seed=WORK_SEED)
    for path in (trees.folder, trees.other_folder):
        if not (path / NOTEBOOK).exists():
            write_notebook(path / NOTEBOOK, seconds=0.1)
            make_kernel_known(path / NOTEBOOK)
    return trees


def _is_installed(environment: Path) -> bool:
    return (environment / "share/jupyter/kernels" / KERNEL / "kernel.json").exists()


def install_environment(path: Path) -> None:
    """A virtual environment with ``PACKAGES`` and all of its bytecode; the kernelspec comes last."""
    print(f"  installing {path.name} …", flush=True)
    python = str(path / "bin/python")
    subprocess.run([sys.executable, "-m", "venv", str(path)], check=True)
    subprocess.run([python, "-m", "pip", "install", "-q", "-c", str(CONSTRAINTS), *PACKAGES], check=True)
    # Some packages carry files for other versions of Python: those do not compile, here as anywhere.
    subprocess.run([python, "-m", "compileall", "-qq", str(path / "lib")], check=False)
    kernel = ["ipykernel", "install", "--sys-prefix", "--name", KERNEL]
    subprocess.run([python, "-m", *kernel], check=True, capture_output=True)


def make_kernel_known(notebook: Path) -> None:
    """Make the notebook ask for the environment's kernel."""
    content = json.loads(notebook.read_text())
    content["metadata"]["kernelspec"]["name"] = KERNEL
    notebook.write_text(json.dumps(content))


def swap_environments(trees: Trees) -> None:
    """Give the other installation the common path."""
    aside = trees.base / "environment-aside"
    trees.environment.rename(aside)
    trees.other.rename(trees.environment)
    aside.rename(trees.other)


# --- the work tree ------------------------------------------------------------------------------------------------


def fill_work(work: Path, *, seed: int) -> None:
    """2 000 files of 1-100 KB, and 500 MB each of random bytes, CSV and float64; the notebook comes last."""
    print(f"  writing {work.name} …", flush=True)
    for number in range(SMALL_FILES):
        write_small(work, number, seed=seed)
    (work / "data").mkdir()
    _write(work / "data/random.bin", _random_blocks(seed))
    _write(work / "data/table.csv", _csv_blocks(seed))
    write_floats(work / "data/signal.f64", seed=seed)
    write_notebook(work / NOTEBOOK, seconds=0.1)
    make_kernel_known(work / NOTEBOOK)


def write_small(work: Path, number: int, *, seed: int) -> None:
    """Small file ``number``: half of them text, half of them bytes; its size does not depend on the seed."""
    size = random.Random(number).randint(1_000, 100_000)  # noqa: S311 - reproducible, not secret
    source = random.Random(f"{seed}/{number}")  # noqa: S311
    path = work / f"small/{number // 100:02d}/{number:04d}.{'py' if number % 2 else 'bin'}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_text(source, size) if number % 2 else source.randbytes(size))


def rewrite_small(work: Path, files: int, *, seed: int) -> None:
    """Give ``files`` small files, spread over the tree, other content of the same size."""
    for number in range(0, SMALL_FILES, SMALL_FILES // files):
        write_small(work, number, seed=seed)


WORDS = ("value", "row", "index", "frame", "model", "score", "batch", "train", "epoch", "layer", "return", "for", "if")


def _text(source: random.Random, size: int) -> bytes:
    words = source.choices(WORDS, k=size // 4)
    lines = (" ".join(words[start : start + 9]) + f" = {source.random():.6f}" for start in range(0, len(words), 9))
    return "\n".join(lines).encode()[:size].ljust(size)


def _random_blocks(seed: int) -> Iterator[bytes]:
    source = random.Random(seed)  # noqa: S311
    while True:
        yield source.randbytes(MEBIBYTE)


def _csv_blocks(seed: int) -> Iterator[bytes]:
    source = random.Random(seed + 1)  # noqa: S311
    level = 100.0
    for start in count(step=10_000):
        lines = []
        for number in range(start, start + 10_000):
            level += source.random() - 0.5
            lines.append(f"{number},sensor-{number % 17:02d},{level:.3f},{level * 1.8 + 32:.2f},ok\n")
        yield "".join(lines).encode()


FLOATS = """
import sys
import numpy
path, seed, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
source = numpy.random.Generator(numpy.random.PCG64(seed))
with open(path, "wb") as stream:
    for start in range(0, count, 1 << 17):
        length = min(1 << 17, count - start)
        times = numpy.arange(start, start + length) / 1000
        signal = numpy.sin(times) * 20 + source.normal(0, 1, length)
        stream.write((numpy.rint(signal * 1024) / 1024).astype("<f8").tobytes())
"""


def write_floats(path: Path, *, seed: int) -> None:
    """A noisy sine, read by a converter of limited resolution; by another process, which may grow large for it."""
    subprocess.run([sys.executable, "-c", FLOATS, str(path), str(seed), str(LARGE_BYTES // 8)], check=True)


def _write(path: Path, blocks: Iterator[bytes]) -> None:
    left = LARGE_BYTES
    with path.open("wb") as stream:
        while left:
            left -= stream.write(next(blocks)[:left])


# --- many small files ---------------------------------------------------------------------------------------------


def fill_many(folder: Path, files: int, *, seed: int = 6) -> None:
    """``files`` files of 200-1 000 bytes of text, 250 in each directory; the notebook comes last."""
    if (folder / NOTEBOOK).exists():
        return
    print(f"  writing {files} files …", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    source = random.Random(seed)  # noqa: S311
    text = _text(source, MEBIBYTE)
    for number in range(files):
        if number % 250 == 0:
            directory = folder / f"{number // 25_000:03d}/{number // 250 % 100:02d}"
            directory.mkdir(parents=True)
        start, size = source.randrange(MEBIBYTE - 1_000), source.randint(200, 1_000)
        with open(f"{directory}/{number:07d}.txt", "wb") as stream:  # noqa: PTH123 - a million of them
            stream.write(text[start : start + size])
    write_notebook(folder / NOTEBOOK, seconds=0.1)
    make_kernel_known(folder / NOTEBOOK)


# --- what happens to trees ----------------------------------------------------------------------------------------


def touch_ctimes(environment: Path) -> None:
    """Give every file a new ctime and nothing else, as an installer does that links its cache's files once more."""
    probe = environment.with_name("linked-once")
    for directory, _, names in os.walk(environment):
        for name in names:
            path = os.path.join(directory, name)  # noqa: PTH118
            os.link(path, probe, follow_symlinks=False)
            os.unlink(probe)  # noqa: PTH108


def read_through(*folders: Path) -> None:
    """Bring every file into the page cache."""
    for folder in folders:
        for directory, _, names in os.walk(folder):
            for name in names:
                with open(os.path.join(directory, name), "rb", buffering=0) as stream:  # noqa: PTH118, PTH123
                    while stream.read(8 * MEBIBYTE):
                        pass


def settle(since: float) -> None:
    """Wait until changes made at ``since`` (epoch seconds) are old."""
    time.sleep(max(0.0, since + SETTLE_S - time.time()))
