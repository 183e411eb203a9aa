"""docs/performance.md from the figures of the benchmarks: jobs beside jupyter-scheduler, jobs on a cluster, snapshots.

A part whose figures are not there is left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cluster_performance
import snapshot_performance
from tables import machine_words, ms, table, verdict


def round_trip_section(figures: dict[str, Any]) -> str:
    base = figures["execute"]["median_s"]
    limit = base * 1.05 + 2
    names = {"execute": "`jupyter execute`", "ours": "this extension", "theirs": "jupyter-scheduler"}
    rows = [
        [text, f"{figures[name]['median_s']:.2f} s", f"{figures[name]['median_s'] - base:+.2f} s"]
        for name, text in names.items()
    ]
    met = verdict(met=figures["ours"]["median_s"] <= limit)
    return (
        "### A repeated Submission, from submit to finished\n\n"
        f"A notebook that computes for {figures['notebook_s']:.0f} s, same kernel everywhere, median of "
        f"{figures['ours']['count']} interleaved runs. Ours includes the capture (of a known environment), "
        "isolation, and the results' way home; jupyter-scheduler's ends with the results in its staging area. Both are "
        "asked every 0.1 s whether they have finished.\n\n"
        f"{table(['what', 'median', 'over `jupyter execute`'], rows)}\n\n"
        f"Target: at most 5 % + 2 s over `jupyter execute`, so {limit:.2f} s: {met}.{phase_words(figures)}"
    )


def phase_words(figures: dict[str, Any]) -> str:
    spent = figures.get("phases_s")
    if not spent:
        return ""
    return (
        f"\n\nWhere ours goes: {spent['captured']:.2f} s until the snapshot is complete, {spent['admitted']:.2f} s "
        f"until it is admitted, {spent['started']:.2f} s until files and environment are ready, {spent['ended']:.2f} s "
        f"of run, {spent['home']:.2f} s until the results are home."
    )


def submit_section(figures: dict[str, Any]) -> str:
    rows = [
        [f"{size['tree_bytes'] / 2**20:.0f} MiB", str(size["count"]), ms(size["median_s"]), ms(size["max_s"])]
        for size in (figures["small"], figures["large"])
    ]
    met = verdict(met=max(figures[name]["max_s"] for name in ("small", "large")) <= 0.3)  # noqa: PLR2004
    return (
        "### The submit call\n\nFrom the request to the answer; every byte of the work tree is new to the store before "
        "each call. The capture goes on in the background.\n\n"
        f"{table(['work tree', 'calls', 'median', 'slowest'], rows)}\n\nTarget: within 300 ms whatever the size: {met}."
    )


def page_section(figures: dict[str, Any]) -> str:
    names = {
        "ours_10000": "this extension, 10 000 Submissions",
        "ours_100000": "this extension, 100 000 Submissions",
        "theirs_10000": "jupyter-scheduler, 10 000 jobs",
    }
    rows = [[text, ms(figures[name]["median_s"]), ms(figures[name]["p99_s"])] for name, text in names.items()]
    ours, large, theirs = (figures[name]["median_s"] for name in names)
    return (
        "### A page of 100, newest first\n\n"
        f"Over HTTP on one kept connection, {figures['ours_10000']['count']} requests each, in turns.\n\n"
        f"{table(['what', 'median', '99th percentile'], rows)}\n\n"
        f"Targets: at most 0.5 × jupyter-scheduler's: {ours / theirs:.2f} ×, {verdict(met=ours <= theirs / 2)}; "
        f"no slower with 100 000 (at most 1.2 ×): {large / ours:.2f} ×, {verdict(met=large <= 1.2 * ours)}."
    )


def loop_section(figures: dict[str, Any]) -> str:
    rows = [
        [text, str(figures[name]["count"]), *(ms(figures[name][key]) for key in ("median_s", "p99_s", "max_s"))]
        for name, text in (("idle", "nothing"), ("capturing", "1 GiB is captured, the list is polled"))
    ]
    met = verdict(met=figures["capturing"]["p99_s"] <= 0.02)  # noqa: PLR2004
    return (
        "### The server's event loop during a capture\n\n"
        "How much later than asked for a 5 ms sleep inside the server ends. One capture took "
        f"{figures['capture']['median_s']:.1f} s.\n\n"
        f"{table(['meanwhile', 'samples', 'median', '99th percentile', 'worst'], rows)}\n\n"
        f"Target: at most 20 ms at the 99th percentile: {met}."
    )


def load_words(figures: dict[str, Any]) -> str:
    load = figures.get("load_before")
    return "" if load is None else f" (Load average of the machine before: {load:.1f}.)"


SECTIONS: dict[str, Callable[[dict[str, Any]], str]] = {
    "a": round_trip_section,
    "b": submit_section,
    "c": page_section,
    "d": loop_section,
}


def jobs_part(figures: dict[str, Any]) -> str:
    return "\n\n".join(
        [
            "## Jobs beside jupyter-scheduler",
            "Measured by `make bench-jobs` (`benchmarks/local.py`): real servers over loopback, this extension and "
            "jupyter-scheduler side by side in one run. " + machine_words(figures),
            *(
                section(figures[name]) + load_words(figures[name])
                for name, section in SECTIONS.items()
                if name in figures
            ),
        ]
    )


INTRODUCTION = (
    "This page is written from the figures that `make bench` and `make bench-cluster` leave beside it ({files}); "
    "do not edit it. Limits were set before anything was measured."
)
PARTS: dict[str, Callable[[dict[str, Any]], str]] = {
    "performance.json": jobs_part,
    "cluster-performance.json": cluster_performance.cluster_part,
    "cluster-insight.json": cluster_performance.insight_part,
    "cluster-users.json": cluster_performance.users_part,
    "cluster-memory.json": cluster_performance.memory_part,
    "snapshot-performance.json": snapshot_performance.rivals_part,
    "snapshot-scale.json": snapshot_performance.scale_part,
}
CHARTS: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "snapshot-performance.json": (snapshot_performance.RIVALS_CHART, snapshot_performance.rivals_chart),
    "snapshot-scale.json": (snapshot_performance.SCALE_CHART, snapshot_performance.scale_chart),
}


def pages(docs: Path) -> dict[Path, str]:
    """The page and its charts as they should be."""
    figures = {name: json.loads((docs / name).read_text()) for name in PARTS if (docs / name).exists()}
    files = ", ".join(f"[{name}]({name})" for name in figures)
    parts = [
        "# Performance",
        INTRODUCTION.format(files=files),
        *(PARTS[name](found) for name, found in figures.items()),
    ]
    charts = {docs / CHARTS[name][0]: CHARTS[name][1](found) for name, found in figures.items() if name in CHARTS}
    return {docs / "performance.md": "\n\n".join(parts) + "\n", **charts}
