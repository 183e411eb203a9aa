"""How long imports take from a restored environment, and from the one that it was taken of.

The two take turns at the same path. Bytecode that does not fit its source would be compiled again at every import and
written anew; whether that happened is looked at, too.
"""

from __future__ import annotations

import statistics
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MODULES = ("numpy", "scipy", "sklearn")
TIMED = f"import time; began = time.perf_counter(); import {', '.join(MODULES)}; print(time.perf_counter() - began)"


def compare(environment: Path, restored: Path, *, runs: int) -> dict[str, Any]:
    """Medians of ``runs`` fresh processes of each, in turns, after one of each that does not count.

    Args:
        restored: The same environment, written elsewhere.
    """
    before = read_bytecode(restored)
    samples: dict[str, list[float]] = {"original": [], "restored": []}
    for number in range(runs + 1):
        for name, seconds in samples.items():
            took = import_in_place(environment, restored if name == "restored" else None)
            if number > 0:
                seconds.append(took)
    after = read_bytecode(restored)
    medians = {name: statistics.median(seconds) for name, seconds in samples.items()}
    return {
        "modules": list(MODULES),
        **{f"{name}_s": round(median, 4) for name, median in medians.items()},
        "ratio": round(medians["restored"] / medians["original"], 3),
        "bytecode_files": len(before),
        "bytecode_stale": sum(not fits(path) for path in bytecode(restored)),
        "bytecode_rewritten": sum(after.get(path) != found for path, found in before.items())
        + len(after)
        - len(before),
        "samples": {f"{name}_s": [round(second, 4) for second in seconds] for name, seconds in samples.items()},
    }


def import_in_place(environment: Path, restored: Path | None) -> float:
    """Seconds of the imports in a fresh process; ``restored``, when given, lies at the environment's path meanwhile."""
    aside = environment.with_name("environment-aside")
    if restored is None:
        return _import(environment)
    environment.rename(aside)
    try:
        restored.rename(environment)
        try:
            return _import(environment)
        finally:
            environment.rename(restored)
    finally:
        aside.rename(environment)


def _import(environment: Path) -> float:
    command = [str(environment / "bin/python"), "-c", TIMED]
    return float(subprocess.run(command, check=True, capture_output=True, text=True, cwd="/").stdout)


def bytecode(folder: Path) -> Iterator[Path]:
    yield from folder.rglob("*.pyc")


def read_bytecode(folder: Path) -> dict[Path, tuple[int, int]]:
    """Inode and mtime of every bytecode file: an interpreter that writes one makes a new file."""
    return {path: (found.st_ino, found.st_mtime_ns) for path in bytecode(folder) for found in [path.stat()]}


def fits(path: Path) -> bool:
    """Whether an interpreter would take the file as it is: its source's mtime and size stand in its header."""
    source = path.parent.parent / f"{path.name.split('.')[0]}.py" if path.parent.name == "__pycache__" else path
    with path.open("rb") as stream:
        flags, mtime, size = struct.unpack("<4xIII", stream.read(16))
    if flags or not source.is_file():  # checked by hash, or bytecode without a source: mtimes do not matter
        return True
    found = source.stat()
    return (mtime, size) == (int(found.st_mtime) & 0xFFFFFFFF, found.st_size & 0xFFFFFFFF)
