"""Measure the local backend beside jupyter-scheduler: ``python benchmarks/local.py --json FILE``.

(a) a repeated Submission, submit to finished, of a ten-second notebook: ours, `jupyter execute`, jupyter-scheduler
(b) the submit call's latency with a small and with a 1 GiB work tree that is captured for the first time
(c) a page of 100 of 10 000 finished Submissions over HTTP: ours, theirs; ours of 100 000 too
(d) the delay of the server's event loop while a 1 GiB capture runs

Everything is a real server, spoken to over loopback. Sides take turns, so that a busy machine disturbs both alike.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import product
import rival
import workloads
from machine import describe_machine
from servers import JupyterServer, home_environment

POLL_S = 0.1
TREE_FILES = 1024
NOTEBOOK = "benchmark.ipynb"


def summarise(samples_s: Sequence[float]) -> dict[str, Any]:
    """Median, extremes and 99th percentile in seconds, with the count; the samples themselves when they are few."""
    ordered = sorted(samples_s)
    summary: dict[str, Any] = {
        "count": len(ordered),
        "median_s": round(statistics.median(ordered), 5),
        "p99_s": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 5),
        "min_s": round(ordered[0], 5),
        "max_s": round(ordered[-1], 5),
    }
    return summary if len(ordered) > 20 else {**summary, "samples_s": [round(s, 4) for s in samples_s]}


def timed(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def execute(home: Path, root: Path) -> None:
    """`jupyter execute` of the same notebook with the same kernel, the yardstick of (a)."""
    env = home_environment(home, product.VENV)
    command = [str(product.VENV / "bin/jupyter"), "execute", NOTEBOOK]
    subprocess.run(command, cwd=root, env=env, check=True, capture_output=True)


def measure_round_trip(scratch: Path, venv: Path, rounds: int, seconds: float) -> dict[str, Any]:
    """(a) submit to finished; each round all three, after one round that does not count."""
    roots = {name: scratch / f"a/{name}/root" for name in ("ours", "execute", "theirs")}
    for root in roots.values():
        workloads.write_notebook(root / NOTEBOOK, seconds=seconds)
        workloads.fill_tree(root / "inputs", files=20, file_bytes=50_000, seed=1)
    samples: dict[str, list[float]] = {name: [] for name in roots}
    finished: list[dict[str, Any]] = []
    with (
        product.start(scratch / "a/ours/home", roots["ours"]) as ours,
        rival.start(venv, scratch / "a/theirs/home", roots["theirs"]) as theirs,
    ):
        actions: dict[str, Callable[[], object]] = {
            "execute": lambda: execute(scratch / "a/execute/home", roots["execute"]),
            "theirs": lambda: rival.run_to_end(theirs, NOTEBOOK, poll_s=POLL_S),
            "ours": lambda: finished.append(product.run_to_end(ours, NOTEBOOK, poll_s=POLL_S)),
        }
        for number in range(rounds + 1):
            for name, action in actions.items():
                took = timed(action)
                print(f"  (a) round {number} {name}: {took:.2f} s", flush=True)
                if number > 0:
                    samples[name].append(took)
    product.end_worker(scratch / "a/ours/home")
    spent = [product.phases(submission) for submission in finished[1:]]
    phases = {name: round(statistics.median(one[name] for one in spent), 3) for name in spent[0]}
    results = {name: summarise(values) for name, values in samples.items()}
    return {"notebook_s": seconds, **results, "phases_s": phases}


def submit_once(server: JupyterServer) -> float:
    """The submit call's latency; the Submission is cancelled afterwards, outside the measurement."""
    took, identity = product.submit(server, NOTEBOOK)
    product.cancel(server, identity)
    return took


def measure_submit(scratch: Path, rounds: int) -> dict[str, Any]:
    """(b) latency of the submit call; before each call with the big tree all of its bytes have changed."""
    results: dict[str, Any] = {}
    for name, files in (("small", 4), ("large", TREE_FILES)):
        root = scratch / f"b/{name}/root"
        workloads.write_notebook(root / NOTEBOOK, seconds=0.1)
        samples = []
        with product.start(scratch / f"b/{name}/home", root) as server:
            for number in range(rounds):
                workloads.fill_tree(root / "inputs", files=files, file_bytes=workloads.MEBIBYTE, seed=number)
                samples.append(submit_once(server))
        results[name] = {"tree_bytes": files * workloads.MEBIBYTE, **summarise(samples)}
        print(f"  (b) {name}: {results[name]['median_s'] * 1000:.0f} ms", flush=True)
        product.end_worker(scratch / f"b/{name}/home")
        shutil.rmtree(scratch / f"b/{name}")
    return results


def measure_pages(scratch: Path, venv: Path, sizes: Sequence[int], requests: int) -> dict[str, Any]:
    """(c) a page of 100, newest first, over one kept connection; the sides take turns."""
    homes = {f"ours_{size}": scratch / f"c/ours-{size}" for size in sizes}
    for size in sizes:
        product.seed(homes[f"ours_{size}"], size)
    their_home = scratch / "c/theirs"
    rival.seed(venv, their_home, sizes[0])
    samples: dict[str, list[float]] = {name: [] for name in (*homes, f"theirs_{sizes[0]}")}
    with (
        product.start(homes[f"ours_{sizes[0]}"], scratch / "c/root") as ours,
        product.start(homes[f"ours_{sizes[1]}"], scratch / "c/root") as ours_large,
        rival.start(venv, their_home, scratch / "c/root") as theirs,
    ):
        servers = {f"ours_{sizes[0]}": ours, f"ours_{sizes[1]}": ours_large, f"theirs_{sizes[0]}": theirs}
        assert len(ours.call("GET", product.LIST_PATH)["submissions"]) == 100
        assert len(theirs.call("GET", rival.LIST_PATH)["jobs"]) == 100
        for number in range(requests + 10):
            for name, server in servers.items():
                path = rival.LIST_PATH if name.startswith("theirs") else product.LIST_PATH
                took, _ = server.timed("GET", path)
                if number >= 10:
                    samples[name].append(took)
    results = {name: summarise(values) for name, values in samples.items()}
    for name, result in results.items():
        print(f"  (c) {name}: {result['median_s'] * 1000:.1f} ms", flush=True)
    return results


def measure_loop(scratch: Path, rounds: int) -> dict[str, Any]:
    """(d) how late the loop wakes while 1 GiB is captured, and while nothing happens."""
    root = scratch / "d/root"
    workloads.write_notebook(root / NOTEBOOK, seconds=0.1)
    idle: list[float] = []
    busy: list[float] = []
    captures: list[float] = []
    with product.start(scratch / "d/home", root) as server:
        time.sleep(2)
        server.call("GET", "/loop-probe?reset=1")
        time.sleep(5)
        idle += server.call("GET", "/loop-probe?reset=1")
        for number in range(rounds):
            workloads.fill_tree(root / "inputs", files=TREE_FILES, file_bytes=workloads.MEBIBYTE, seed=number)
            server.call("GET", "/loop-probe?reset=1")
            started = time.perf_counter()
            _, identity = product.submit(server, NOTEBOOK)
            after = {"queued", "starting", "running", "collecting", *product.TERMINAL}
            product.wait_for(server, identity, after, deadline_s=600, poll_s=1)
            captures.append(time.perf_counter() - started)
            busy += server.call("GET", "/loop-probe?reset=1")
            product.cancel(server, identity)
    result = {"idle": summarise(idle), "capturing": summarise(busy), "capture": summarise(captures)}
    print(f"  (d) p99 {result['capturing']['p99_s'] * 1000:.1f} ms while capturing", flush=True)
    product.end_worker(scratch / "d/home")
    shutil.rmtree(scratch / "d")
    return result


def versions(venv: Path) -> dict[str, str]:
    ours = {name: version(name) for name in ("jupyter_server", "nbclient", "ipykernel")}
    return {"python": platform.python_version(), **ours, "jupyter_scheduler": rival.version(venv)}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="where the figures go")
    parser.add_argument("--only", default="abcd", help="which of a, b, c, d; figures of the others in FILE are kept")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each (a), (b); medians are reported")
    parser.add_argument("--requests", type=int, default=300, help="pages read in (c)")
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "jupyterlab-ai-batch"
    parser.add_argument("--rival-venv", type=Path, default=cache / "jupyter-scheduler-2.12", help="made when missing")
    parser.add_argument("--scratch", type=Path, help="directory for work trees and stores (about 12 GB)")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    venv = rival.install(arguments.rival_venv.absolute())
    figures: dict[str, Any] = json.loads(arguments.json.read_text()) if arguments.json.exists() else {}
    figures |= {
        "measured_at": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "machine": describe_machine(),
        "versions": versions(venv),
    }
    with tempfile.TemporaryDirectory(prefix="ai-batch-bench-", dir=arguments.scratch) as folder:
        scratch = Path(folder)
        measurements: dict[str, Callable[[], dict[str, Any]]] = {
            "a": lambda: measure_round_trip(scratch, venv, arguments.rounds, 10.0),
            "b": lambda: measure_submit(scratch, arguments.rounds),
            "c": lambda: measure_pages(scratch, venv, (10_000, 100_000), arguments.requests),
            "d": lambda: measure_loop(scratch, 2),
        }
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        for name in arguments.only:
            print(f"({name})", flush=True)
            load = round(os.getloadavg()[0], 2)
            figures[name] = {**measurements[name](), "load_before": load}
            arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
