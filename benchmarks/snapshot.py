"""Measure the snapshot engine beside restic and borg: ``python benchmarks/snapshot.py --json FILE``.

Ours pushes to a registry on loopback, theirs write to local repositories on the same disk. One round:

    env_work_first, unchanged, changed20, ctime_only          the environment, and a work tree of 1.6 GB
    env_first, second_user                                    the environment, and a folder with a notebook

In every case all take turns; each round another one begins. Times are of whole processes. borg takes part twice: with
its default compression, and with one that packs as well as the others do.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import snapshot_imports
import snapshot_trees
from machine import describe_machine
from processes import describe_run
from programs import PACKAGES, program_version, require
from servers import MeasurementError
from snapshot_samples import Samples, summarise
from snapshot_tools import TOOLS, Ours, Subject, Tool, make_tools
from snapshot_trees import Trees

CASES = ("env_work_first", "unchanged", "changed20", "ctime_only", "env_first", "second_user")
# What each case needs before it, in the same repositories.
NEEDS = {
    "second_user": "env_first",
    "unchanged": "env_work_first",
    "changed20": "env_work_first",
    "ctime_only": "env_work_first",
}
PEAK_RSS_LIMIT = 200_000_000
IMPORT_LIMIT = 1.1


class Benchmark:
    """The rounds; ``samples`` holds what was measured so far."""

    def __init__(self, trees: Trees, tools: Sequence[Tool], cases: Sequence[str]) -> None:
        self.samples = {case: Samples() for case in cases}
        self._trees, self._tools = trees, tools
        self._steps = {*cases, *(NEEDS[case] for case in cases if case in NEEDS)}
        self._round = 0
        self._work = Subject(user="first", work=trees.work, environment=trees.environment)
        self._folder = Subject(user="first", work=trees.folder, environment=trees.environment)
        self._other_folder = Subject(
            user="second", work=trees.other_folder, environment=trees.environment, neighbour="first"
        )

    def run_round(self, number: int) -> None:
        self._round = number
        snapshot_trees.rewrite_small(self._trees.work, 20, seed=snapshot_trees.WORK_SEED)
        changed_at = time.time()
        if "env_work_first" in self._steps:
            snapshot_trees.settle(changed_at)
        self._begin("env_work_first")
        self._measure("env_work_first", self._work)
        self._measure("unchanged", self._work)
        self._changed20()
        self._ctime_only()
        self._begin("env_first")
        self._measure("env_first", self._folder)
        self._second_user()

    def _second_user(self) -> None:
        if "second_user" not in self._steps:
            return
        snapshot_trees.swap_environments(self._trees)
        self._measure("second_user", self._other_folder)
        snapshot_trees.swap_environments(self._trees)

    def _changed20(self) -> None:
        if "changed20" in self._steps:
            snapshot_trees.rewrite_small(self._trees.work, 20, seed=1000 + self._round)
            self._measure("changed20", self._work)

    def _ctime_only(self) -> None:
        if "ctime_only" in self._steps:
            snapshot_trees.touch_ctimes(self._trees.environment)
            self._measure("ctime_only", self._work)

    def _begin(self, case: str) -> None:
        if case in self._steps:
            for tool in self._tools:
                tool.begin()

    def _measure(self, case: str, subject: Subject) -> None:
        if case not in self._steps:
            return
        first = self._round % len(self._tools)
        for tool in (*self._tools[first:], *self._tools[:first]):
            snapshot_trees.read_through(
                subject.environment, subject.work
            )  # borg drops what it read from the page cache
            os.sync()  # nobody pays for writing back what another one wrote
            run = tool.snapshot(subject)
            print(f"  {case} {tool.name}: {describe_run(run)}", flush=True)
            if case in self.samples:
                self.samples[case].add(tool, run)


def measure_cold(trees: Trees, tools: Sequence[Tool], runs: int) -> dict[str, Any]:
    """The environment for the first time with nothing in the page cache. Needs root."""
    samples = Samples()
    subject = Subject(user="first", work=trees.folder, environment=trees.environment)
    for _ in range(runs):
        for tool in tools:
            tool.begin()
            os.sync()
            Path("/proc/sys/vm/drop_caches").write_text("3")
            run = tool.snapshot(subject)
            print(f"  cold {tool.name}: {run.seconds:.2f} s", flush=True)
            samples.add(tool, run)
    return summarise("env_first", samples)


def measure_imports(trees: Trees, ours: Ours, scratch: Path, runs: int) -> dict[str, Any]:
    """Imports from an environment that was pushed to a registry and restored from it, and from the original."""
    ours.begin()
    ours.snapshot(Subject(user="first", work=trees.folder, environment=trees.environment))
    restoring = ours.restore("environment", scratch / "restored")
    restored = Path(json.loads(restoring.stdout)[str(trees.environment)])
    result = snapshot_imports.compare(trees.environment, restored, runs=runs)
    print(f"  imports: {result['restored_s']:.3f} s, original {result['original_s']:.3f} s", flush=True)
    return {**result, "ratio_limit": IMPORT_LIMIT, "restore_s": round(restoring.seconds, 3)}


def versions(trees: Trees) -> dict[str, str]:
    listed = subprocess.run(
        [str(trees.environment / "bin/python"), "-m", "pip", "list", "--format", "json"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    packages = {item["name"]: item["version"] for item in json.loads(listed)}
    names = ("jupyterlab", "numpy", "scipy", "pandas", "scikit-learn", "matplotlib")
    return {
        "python": ".".join(map(str, sys.version_info[:3])),
        **{name: program_version(name) for name in PACKAGES},
        **{name: packages[name] for name in names},
    }


def count_tree(path: Path) -> dict[str, int]:
    """Files (and links) of a tree, and their bytes."""
    sizes = [os.lstat(os.path.join(folder, name)).st_size for folder, _, names in os.walk(path) for name in names]  # noqa: PTH118
    return {"files": len(sizes), "bytes": sum(sizes)}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="where the figures go")
    parser.add_argument("--runs", type=int, default=5, help="rounds; medians are reported")
    parser.add_argument("--cases", nargs="*", choices=CASES, default=CASES, help="only these")
    parser.add_argument("--tools", nargs="*", choices=TOOLS, default=TOOLS, help="only these")
    parser.add_argument("--no-imports", action="store_true", help="leave out importing from a restored environment")
    parser.add_argument("--import-runs", type=int, default=9, help="fresh processes of each side")
    parser.add_argument("--cold", action="store_true", help="also with an empty page cache; needs root")
    parser.add_argument(
        "--work-dir",
        type=Path,
        default=snapshot_trees.DEFAULT_DIRECTORY,
        help="trees (kept, 3 GB) and repositories (removed, up to 4 GB)",
    )
    return parser.parse_args()


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """All that was asked for.

    Raises:
        MeasurementError: a program is missing or failed.
    """
    for name in PACKAGES:
        require(name)
    base = arguments.work_dir.absolute()
    trees = snapshot_trees.prepare(base / "trees")
    figures: dict[str, Any] = {
        "measured_at": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "load_before": round(os.getloadavg()[0], 2),
        "machine": describe_machine(),
        "versions": versions(trees),
        "runs": arguments.runs,
        "peak_rss_limit_bytes": PEAK_RSS_LIMIT,
        "environment": count_tree(trees.environment),
        "work": count_tree(trees.work),
    }
    with tempfile.TemporaryDirectory(prefix="run-", dir=base) as folder:
        tools = make_tools(arguments.tools, Path(folder))
        try:
            figures["cases"] = run_rounds(Benchmark(trees, tools, arguments.cases), range(arguments.runs))
            ours = [tool for tool in tools if isinstance(tool, Ours)]
            if ours and not arguments.no_imports:
                figures["imports"] = measure_imports(trees, ours[0], Path(folder), arguments.import_runs)
            if arguments.cold:
                figures["cold"] = {"env_first": measure_cold(trees, tools, arguments.runs)}
        finally:
            for tool in tools:
                tool.close()
    return figures


def run_rounds(benchmark: Benchmark, rounds: Iterable[int]) -> dict[str, Any]:
    for number in rounds:
        print(f"round {number + 1}", flush=True)
        benchmark.run_round(number)
    return {case: summarise(case, samples) for case, samples in benchmark.samples.items()}


def timed(action: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    started = time.monotonic()
    return {**action(), "benchmark_s": round(time.monotonic() - started)}


def main() -> int:
    arguments = parse_arguments()
    try:
        figures = timed(lambda: run(arguments))
    except MeasurementError as error:
        print(error, file=sys.stderr)
        return 1
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    for case, figure in figures["cases"].items():
        seconds = " / ".join(str(figure[f"{name}_s"]) for name in TOOLS)
        print(f"{case:15} {seconds} s, ratio {figure['ratio']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
