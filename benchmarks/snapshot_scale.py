"""Measure how a snapshot's cost grows with the number of files: ``python benchmarks/snapshot_scale.py --json FILE``.

Work trees of 10 thousand, 100 thousand and a million small files and no environment, pushed to a registry on loopback:
the first snapshot, an unchanged one, the plan (a dry run), and the work tree restored.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import snapshot_trees
from machine import describe_machine
from processes import Run, describe_run
from programs import program_version, require
from servers import MeasurementError
from snapshot_tools import Ours, Subject

SIZES = (10_000, 100_000, 1_000_000)
# Linear: a file of the largest tree costs at most this many times one of the tree before.
GROWTH_LIMIT = 1.25


def make_kernel(folder: Path) -> Path:
    """A prefix with nothing but a kernelspec whose program is no Python: there is no environment to capture."""
    spec = folder / "share/jupyter/kernels" / snapshot_trees.KERNEL
    spec.mkdir(parents=True)
    command = {"argv": [shutil.which("cat")], "display_name": "None", "language": "none"}
    (spec / "kernel.json").write_text(json.dumps(command))
    return folder


def measure_size(tree: Path, scratch: Path, repeats: int) -> dict[str, list[Run]]:
    """Every step ``repeats`` times, each time from an empty registry and index."""
    runs: dict[str, list[Run]] = {"first": [], "unchanged": [], "plan": [], "restore": []}
    subject = Subject(user="first", work=tree, environment=make_kernel(scratch / "prefix"))
    ours = Ours(scratch / "ours")
    # Each restore has a target of its own that stays: for minutes ext4 is slow to make files where many were deleted.
    targets = (scratch / f"restored-{number}" for number in range(repeats))
    steps: dict[str, Callable[[], Run]] = {
        "first": lambda: ours.snapshot(subject),
        "unchanged": lambda: ours.snapshot(subject),
        "plan": lambda: ours.plan(subject),
        "restore": lambda: ours.restore("work", next(targets)),
    }
    try:
        for _ in range(repeats):
            ours.begin()
            for name, step in steps.items():
                os.sync()
                run = step()
                print(f"  {name}: {describe_run(run)}", flush=True)
                runs[name].append(run)
    finally:
        ours.close()
    return runs


def summarise(files: int, runs: dict[str, list[Run]]) -> dict[str, Any]:
    result: dict[str, Any] = {"files": files}
    for name, samples in runs.items():
        seconds = statistics.median(run.seconds for run in samples)
        result[name] = {
            "seconds": round(seconds, 3),
            "us_per_file": round(seconds / files * 1e6, 1),
            "cpu_s": round(statistics.median(run.cpu_seconds for run in samples), 3),
            "peak_rss_bytes": max(run.peak_rss_bytes for run in samples),
            "samples_s": [round(run.seconds, 4) for run in samples],
        }
    return result


def measure_and_summarise(base: Path, scratch: Path, files: int, repeats: int) -> dict[str, Any]:
    """One size, in a directory of its own in ``scratch``; the largest, which takes the longest, once."""
    tree = base / f"many/{files}"
    snapshot_trees.fill_many(tree, files)
    snapshot_trees.settle((tree / snapshot_trees.NOTEBOOK).stat().st_ctime)
    snapshot_trees.read_through(tree)
    print(f"{files} files", flush=True)
    folder = scratch / str(files)
    folder.mkdir()
    return summarise(files, measure_size(tree, folder, 1 if files >= SIZES[-1] else repeats))


def run(base: Path, sizes: Sequence[int], repeats: int) -> dict[str, Any]:
    """All sizes.

    Raises:
        MeasurementError: a program is missing or failed.
    """
    require("docker-registry")
    with tempfile.TemporaryDirectory(prefix="run-", dir=base) as scratch:
        results = [measure_and_summarise(base, Path(scratch), files, repeats) for files in sizes]
    return {
        "measured_at": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "machine": describe_machine(),
        "versions": {
            "python": ".".join(map(str, sys.version_info[:3])),
            "docker-registry": program_version("docker-registry"),
        },
        "growth_limit": GROWTH_LIMIT,
        "sizes": results,
    }


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="where the figures go")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES, help="numbers of files")
    parser.add_argument(
        "--repeats", type=int, default=3, help="runs of each size below a million; medians are reported"
    )
    parser.add_argument(
        "--work-dir", type=Path, default=snapshot_trees.DEFAULT_DIRECTORY, help="trees (kept, 5 GB) and repositories"
    )
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    base = arguments.work_dir.absolute()
    base.mkdir(parents=True, exist_ok=True)
    try:
        figures = run(base, arguments.sizes, arguments.repeats)
    except MeasurementError as error:
        print(error, file=sys.stderr)
        return 1
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
