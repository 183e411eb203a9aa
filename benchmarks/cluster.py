"""Measure the Kueue backend on the testbed's cluster: ``python benchmarks/cluster.py --json FILE``, inside of it.

(a) from the click to the Workload, in a session whose environment has not changed since the last Submission
(b) from admission to the first cell, beside `kubectl apply` of the exported YAML, `jupyter execute` in a pod of the
    same image, and a bare pod

Sides take turns. Everything is as in tests/cluster: a session in a pod, a pool of Kueue, a registry.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cluster_sides as sides
from cluster_watch import Chronicle
from machine import describe_machine
from servers import MeasurementError
from tests.cluster.hub import SECRET, SETTINGS, Session, copy_login, prepare_namespace, start_session
from tests.cluster.queues import Kueue
from tests.cluster.reach import Cluster, Namespace, Testbed, testbed_directory, unique, wait_for

SHELL_IMAGE = "registry.testbed:5000/base/busybox:v1"
SLICES = 2
CLICK_LIMIT_S, START_LIMIT_S = 1.5, 4.0
CLICK = ("sent", "answered", "capturing", "captured", "job", "workload")
START = ("admitted", "unsuspended", "pod", "scheduled", "container", "kernel", "cell")
EXECUTE = ("created", "container", "kernel", "cell")


@dataclass(frozen=True)
class Stage:
    """A user's session and its namespace, and another namespace where somebody applies YAML."""

    session: Session
    other: Namespace
    of_session: Chronicle
    of_other: Chronicle


@contextmanager
def stage(cluster: Cluster, testbed: Testbed) -> Iterator[Stage]:
    wait_for("the image is in the registry", lambda: testbed.component("user-image")["state"] == "ready")
    kueue = Kueue(cluster)
    namespaces = [make_namespace(cluster, prefix) for prefix in ("session", "other")]
    try:
        pool = kueue.make_pool(slices=SLICES, fair=False)
        for namespace in namespaces:
            pool.admit(namespace)
        mine, other = namespaces
        settings = {**SETTINGS, "profiles": [sides.PROFILE]}
        copy_login(cluster, other)
        prepare_namespace(other, settings=settings, authority=testbed.authority)
        session = start_session(cluster, mine, authority=testbed.authority, settings=settings)
        yield Stage(session, other, Chronicle(cluster, mine.name), Chronicle(cluster, other.name))
    finally:
        for namespace in namespaces:
            cluster.delete("v1", "Namespace", namespace.name)
        kueue.clean_up()


def make_namespace(cluster: Cluster, prefix: str) -> Namespace:
    name = unique(prefix)
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    wait_for("the account", lambda: cluster.get("v1", "ServiceAccount", "default", namespace=name))
    return Namespace(cluster, name)


def install_package(session: Session) -> None:
    """Something in the environment that its image has not, and has not been written a moment ago."""
    session.run(
        'site="$(python -c "import site; print(site.getsitepackages()[0])")"; mkdir "$site/mine";'
        ' echo "answer = 42" > "$site/mine/__init__.py"; python -m compileall -q "$site/mine";'
        ' find "$site/mine" -exec touch --no-create --date="1 hour ago" {} +'
    )


def play(staged: Stage, rounds: int) -> dict[str, list[sides.Points]]:
    """Every side in each round, after one round that does not count: then the node has every layer."""
    runs: dict[str, list[sides.Points]] = {"ours": [], "apply": [], "execute": [], "bare": []}
    for number in range(rounds + 1):
        ours, submission = sides.submit(staged.session, staged.of_session, number)
        manifest = staged.session.call("GET", f"submissions/{submission}/manifest")
        run = {
            "ours": ours,
            "apply": sides.apply(staged.other, staged.of_other, manifest),
            "execute": sides.execute(staged.other, SECRET),
            "bare": sides.bare(staged.other, SHELL_IMAGE),
        }
        print(f"  round {number}: {describe(run)}", flush=True)
        if number > 0:
            for name, points in run.items():
                runs[name].append(points)
    return runs


def describe(run: dict[str, sides.Points]) -> str:
    ours, applied, executed, bare = (run[name] for name in ("ours", "apply", "execute", "bare"))
    steps = ", ".join(
        f"{name} {ours[name] - ours[before]:.2f}" for before, name in [*pairwise(CLICK), *pairwise(START)]
    )
    return (
        f"click {ours['workload'] - ours['sent']:.2f} s, start {ours['cell'] - ours['admitted']:.2f} s"
        f" (applied {applied['cell'] - applied['admitted']:.2f}, executed {executed['cell'] - executed['created']:.2f},"
        f" bare {bare['output'] - bare['created']:.2f}): {steps}"
    )


# --- figures ------------------------------------------------------------------------------------------------------


def summarise(runs: Sequence[sides.Points], names: Sequence[str]) -> dict[str, Any]:
    """The whole from the first to the last of these points, and each step by the point that it ends with."""

    def between(first: str, last: str) -> list[float]:
        return [run[last] - run[first] for run in runs]

    whole = between(names[0], names[-1])
    steps = {name: summary(between(before, name)) for before, name in pairwise(names)}
    return {**summary(whole), "samples_s": [round(sample, 3) for sample in whole], "steps": steps}


def summary(samples: Sequence[float]) -> dict[str, Any]:
    figures = {"median_s": statistics.median(samples), "min_s": min(samples), "max_s": max(samples)}
    return {"count": len(samples), **{name: round(value, 3) for name, value in figures.items()}}


def figures_of(runs: dict[str, list[sides.Points]]) -> dict[str, Any]:
    return {
        "click": {"limit_s": CLICK_LIMIT_S, "ours": summarise(runs["ours"], CLICK)},
        "start": {
            "limit_s": START_LIMIT_S,
            "cpu_millicores": sides.PROFILE["cpu_millicores"],
            "ours": summarise(runs["ours"], START),
            "apply": summarise(runs["apply"], START),
            "applied": summarise(runs["apply"], ("applied", "cell")),
            "execute": summarise(runs["execute"], EXECUTE),
            "bare": summarise(runs["bare"], ("created", "output")),
        },
    }


def versions(cluster: Cluster) -> dict[str, str]:
    return {
        "python": ".".join(map(str, sys.version_info[:3])),
        "kubernetes": str(cluster.read("/version")["gitVersion"]).removeprefix("v"),
    }


def parse_arguments(about: str | None = __doc__) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(about or "").splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="where the figures go")
    parser.add_argument("--rounds", type=int, default=12, help="measured rounds; medians are reported")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    directory = testbed_directory()
    if directory is None:
        print("This runs inside of the testbed: python -m testbed run …", file=sys.stderr)
        return 2
    load = round(os.getloadavg()[0], 2)
    cluster = Cluster()
    try:
        with stage(cluster, Testbed(directory)) as staged:
            install_package(staged.session)
            runs = play(staged, arguments.rounds)
    except MeasurementError as error:
        print(error, file=sys.stderr)
        return 1
    figures = {
        "measured_at": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "machine": describe_machine(),
        "versions": versions(cluster),
        "load_before": load,
        **figures_of(runs),
    }
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
