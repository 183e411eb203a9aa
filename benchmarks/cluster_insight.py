"""How soon a change shows, on the testbed's cluster: ``python benchmarks/cluster_insight.py --json FILE``, inside.

(a) from a state that Kueue's Workload or the pod has, as a watch shows it, to the same state in the session's REST API
(b) how old positions are that somebody looks at

A job is admitted, runs, is evicted by an interactive pod, waits, is admitted again, runs and ends; rounds of it.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cluster import SHELL_IMAGE, Stage, parse_arguments, stage, versions
from cluster_sides import epoch
from cluster_watch import Sighting, belongs
from machine import describe_machine
from servers import MeasurementError
from tests.cluster.hub import Session
from tests.cluster.objects import QUEUE_LABEL, pod, pod_spec
from tests.cluster.queues import GPU, SLEEP, condition
from tests.cluster.reach import Cluster, Testbed, testbed_directory, wait_for

CHANGE_LIMIT_S, AGE_LIMIT_S = 2.0, 6.0
LOOK_S = 5.0  # as a tab does
SAMPLE_S = 0.05
HELD_S = 8.0  # an interactive session's stay: long enough for a second answer about positions
RUNS = "import time\nfor _ in range(60): time.sleep(0.1)"


@dataclass
class Diary:
    """What the session's REST API said of a Submission: the moments at which its state was seen to change.

    Attributes:
        ages_s: Of its position, whenever it was looked at.
    """

    states: list[tuple[float, str]] = field(default_factory=list)
    ages_s: list[float] = field(default_factory=list)

    def note(self, seen: dict[str, Any]) -> None:
        now = time.time()
        if not self.states or self.states[-1][1] != seen["state"]:
            self.states.append((now, seen["state"]))
        if seen["state"] == "queued" and seen["position"]:
            self.ages_s.append(now - epoch(seen["position"]["observed_at"]))


class Reader:
    """Somebody in front of the sidebar."""

    def __init__(self, session: Session, submission: str) -> None:
        self.diary = Diary()
        self._session = session
        self._submission = submission
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _read(self) -> None:
        looked_at = 0.0
        while not self._done.is_set():
            if time.monotonic() > looked_at + LOOK_S:
                looked_at = time.monotonic()
                self._session.call("GET", "queues")
            self.diary.note(self._session.get(self._submission))
            time.sleep(SAMPLE_S)


def play(staged: Stage, number: int) -> tuple[list[dict[str, Any]], Sequence[float]]:
    """One round; its changes as ``{"change", "delay_s"}``, and the ages of positions."""
    submission = staged.session.submit_cells(f"round{number}", RUNS)
    visitor = f"visitor-{number}"
    with Reader(staged.session, submission) as reader:
        staged.session.wait_for(submission, "running")
        spec = pod_spec(SHELL_IMAGE, SLEEP, resources={GPU: "2"})
        staged.other.create(pod(visitor, spec, labels={QUEUE_LABEL: "interactive"}))
        staged.other.wait_for_phase(visitor, "Running")
        time.sleep(HELD_S)
        staged.other.cluster.delete("v1", "Pod", visitor, namespace=staged.other.name)
        staged.session.wait_for(submission, "succeeded")
        wait_for("the reader saw it", lambda: reader.diary.states[-1][1] == "succeeded")
    sightings = [one for one in staged.of_session.sightings if belongs(one.seen, f"ai-batch-{submission}")]
    return list(delays(sightings, reader.diary.states)), reader.diary.ages_s


# --- from two diaries to delays -----------------------------------------------------------------------------------


def delays(sightings: Sequence[Sighting], states: Sequence[tuple[float, str]]) -> Iterator[dict[str, Any]]:
    """Each change in the cluster with the first state after it that shows it."""
    shown_by = {
        "admitted": {"starting", "running"},
        "running": {"running"},
        "evicted": {"evicting", "queued"},
        "finished": {"collecting", "succeeded"},
    }
    for change, moments in moments_of(sightings).items():
        shown = [at for at, _ in entered(states, shown_by[change])]
        if len(shown) != len(moments):
            raise MeasurementError(f"{change}: {len(moments)} times in the cluster, {len(shown)} times shown: {states}")
        for there, here in zip(moments, shown, strict=True):
            yield {"change": change, "delay_s": round(max(0.0, here - there), 3)}


def moments_of(sightings: Sequence[Sighting]) -> dict[str, list[float]]:
    workload = [one for one in sightings if one.kind == "Workload"]
    pods = [one for one in sightings if one.kind == "Pod"]
    first_running: dict[str, float] = {}
    for one in pods:
        if one.seen["status"].get("phase") == "Running":
            first_running.setdefault(one.seen["metadata"]["name"], one.at)

    def rises(kind: str) -> list[float]:
        return rising(workload, lambda seen: condition(dict(seen), kind) == "True")

    return {
        "admitted": rises("Admitted"),
        "running": sorted(first_running.values()),
        "evicted": rises("Evicted"),
        "finished": rises("Finished"),
    }


def rising(sightings: Sequence[Sighting], holds: Callable[[Any], bool]) -> list[float]:
    """When it began to hold."""
    found = [(one.at, holds(one.seen)) for one in sightings]
    return [at for (_, before), (at, now) in pairwise([(0.0, False), *found]) if now and not before]


def entered(states: Sequence[tuple[float, str]], wanted: set[str]) -> Iterator[tuple[float, str]]:
    """Changes from a state that is none of these into one of them; being queued for the first time is no eviction."""
    for (_, before), (at, state) in pairwise([(0.0, "capturing"), *states]):
        if state in wanted and before not in wanted and not (state == "queued" and before == "capturing"):
            yield at, state


# --- figures ------------------------------------------------------------------------------------------------------


def summary(samples: Sequence[float], limit_s: float) -> dict[str, Any]:
    ordered = sorted(samples)
    figures = {
        "median_s": statistics.median(ordered),
        "p95_s": ordered[min(len(ordered) - 1, round(0.95 * len(ordered)))],
        "max_s": ordered[-1],
    }
    return {"count": len(ordered), "limit_s": limit_s, **{name: round(value, 3) for name, value in figures.items()}}


def figures_of(changes: Sequence[dict[str, Any]], ages_s: Sequence[float]) -> dict[str, Any]:
    kinds = dict.fromkeys(change["change"] for change in changes)
    by_kind = {kind: [one["delay_s"] for one in changes if one["change"] == kind] for kind in kinds}
    return {
        "changes": summary([one["delay_s"] for one in changes], CHANGE_LIMIT_S),
        "by_change": {kind: summary(samples, CHANGE_LIMIT_S) for kind, samples in by_kind.items()},
        "position_age": summary(ages_s, AGE_LIMIT_S),
    }


def main() -> int:
    arguments = parse_arguments(__doc__)
    directory = testbed_directory()
    if directory is None:
        print("This runs inside of the testbed: python -m testbed run …", file=sys.stderr)
        return 2
    load = round(os.getloadavg()[0], 2)
    cluster = Cluster()
    changes: list[dict[str, Any]] = []
    ages_s: list[float] = []
    try:
        with stage(cluster, Testbed(directory)) as staged:
            for number in range(arguments.rounds):
                found, ages = play(staged, number)
                said = ", ".join(f"{one['change']} {one['delay_s']:.2f}" for one in found)
                print(f"  round {number}: {said}", flush=True)
                changes += found
                ages_s += ages
    except MeasurementError as error:
        print(error, file=sys.stderr)
        return 1
    figures = {
        "measured_at": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "machine": describe_machine(),
        "versions": versions(cluster),
        "load_before": load,
        **figures_of(changes, ages_s),
    }
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
