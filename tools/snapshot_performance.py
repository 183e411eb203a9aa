"""The parts of docs/performance.md on snapshots: beside restic and borg, and by the number of files."""

from __future__ import annotations

from typing import Any

from charts import bar_chart, line_chart
from tables import machine_words, ms, table, verdict

RIVALS_CHART, SCALE_CHART = "images/snapshot-rivals.svg", "images/snapshot-scale.svg"
TOOLS = {"ours": "this extension", "restic": "restic", "borg": "borg", "borg_zstd": "borg, zstd 3"}
CASES = {
    "unchanged": "nothing has changed",
    "changed20": "20 small files have changed",
    "env_first": "environment, first time",
    "env_work_first": "environment and work tree, first time",
    "second_user": "second user, same packages",
    "ctime_only": "environment has new ctimes only",
}
STEPS = {"first": "first snapshot", "unchanged": "unchanged", "plan": "plan (dry run)", "restore": "restore"}


def seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} s"


def megabytes(value: int | None) -> str:
    return "–" if value is None else f"{value / 1e6:.0f} MB"


def amount(value: int | None) -> str:
    if value is None:
        return "–"
    return f"{value / 1e6:.1f} MB" if value >= 100_000 else f"{value} B"  # noqa: PLR2004


def count(number: int) -> str:
    return f"{number:,}".replace(",", " ")


# --- beside restic and borg ---------------------------------------------------------------------------------------


def rivals_part(figures: dict[str, Any]) -> str:
    sections = [
        "## Snapshots beside restic and borg",
        conditions(figures),
        time_section(figures),
        upload_section(figures),
        memory_section(figures),
        store_section(figures["cases"]),
    ]
    if "imports" in figures:
        sections.append(import_section(figures["imports"]))
    if "cold" in figures:
        sections.append(cold_section(figures["cold"]["env_first"]))
    return "\n\n".join(sections)


def conditions(figures: dict[str, Any]) -> str:
    environment, work = figures["environment"], figures["work"]
    return (
        f"Measured by `make bench-snapshot` (`benchmarks/snapshot.py`), median of {figures['runs']} rounds in which "
        "all take turns. Times are of the whole process, from its start to its end. Ours pushes gzip layers to a "
        "`docker-registry` on the same machine; restic (as it comes: encrypted, which costs it about 0.6 s of each run "
        "to derive its key) and borg (no encryption; with its default, lz4, and with zstd 3, which packs as well as "
        "the others do) write to local repositories on the same disk. The page cache is warm and written back before "
        "each run.\n\n"
        "The environment is installed by pip: JupyterLab, NumPy, SciPy, pandas, scikit-learn and Matplotlib, "
        f"{count(environment['files'])} files, {megabytes(environment['bytes'])}. The work tree holds 2 000 files of "
        "1–100 KB and 500 MB each of random bytes, CSV and float64: "
        f"{count(work['files'])} files, {megabytes(work['bytes'])}.\n\n"
        f"{machine_words(figures)} Load average before: {figures['load_before']:.1f}."
    )


def time_section(figures: dict[str, Any]) -> str:
    cases = figures["cases"]
    rows = [
        [words, *(seconds(cases[name][f"{tool}_s"]) for tool in TOOLS), *ratio_words(cases[name])]
        for name, words in CASES.items()
        if name in cases
    ]
    head = ["snapshot", *TOOLS.values(), "limit", "of the fastest rival", "of restic and borg, zstd 3"]
    return (
        f"### Time\n\n![Seconds of each snapshot]({RIVALS_CHART})\n\n{table(head, rows)}\n\n"
        "The limit is a share of the fastest rival's time. borg with lz4 writes a quarter more than the others (see "
        "below); the last column leaves it out. In the third and the fifth line a folder with one notebook belongs to "
        "the environment, else the work tree."
    )


def ratio_words(case: dict[str, Any]) -> list[str]:
    limit = case["ratio_limit"]
    cells = ["–" if limit is None else f"{limit:.2f} ×"]
    for ratio in (case["ratio"], case["ratio_packing"]):
        times = "–" if ratio is None else f"{ratio:.2f} ×"
        cells.append(times if ratio is None or limit is None else f"{times}, {verdict(met=ratio <= limit)}")
    return cells


def rivals_chart(figures: dict[str, Any]) -> str:
    cases = figures["cases"]
    groups = {
        words: {TOOLS[tool]: float(cases[name][f"{tool}_s"]) for tool in TOOLS if cases[name][f"{tool}_s"] is not None}
        for name, words in CASES.items()
        if name in cases
    }
    return bar_chart(groups, unit="s")


def upload_section(figures: dict[str, Any]) -> str:
    rows = []
    for name, words in CASES.items():
        case = figures["cases"].get(name)
        if case is None or case["uploaded_layer_bytes"] is None:
            continue
        limit = case["uploaded_limit_bytes"]
        met = "" if limit is None else verdict(met=max(case["samples"]["uploaded_layer_bytes"]) <= limit)
        other = sum(case["uploads_by_role"].values()) - case["uploaded_layer_bytes"]
        rows.append([words, amount(case["uploaded_layer_bytes"]), amount(other), amount(limit), met])
    head = ["snapshot", "layers", "other blobs", "limit", ""]
    return (
        "### What is sent\n\nCounted by the registry, which reports each upload; what it had already, or took over "
        "from another repository of its own, is not sent. Layers are those of the environment and of the work tree; "
        "where the environment is the subject, its own only: the one notebook beside it is among the other blobs, as "
        "are the list of the work tree's files and the image's config.\n\n"
        "The second user has a home, a signature index and a repository of their own, may read the first user's "
        "(`--mount-from`), and installed the same packages separately at the same path: mtimes and bytecode headers "
        "differ. For the last line every file of the environment got a new ctime, as from an installer that links its "
        "cache's files once more.\n\n"
        f"{table(head, rows)}"
    )


def store_section(cases: dict[str, Any]) -> str:
    rows = [
        [CASES[name], *(megabytes(cases[name]["stored_bytes"].get(tool)) for tool in TOOLS)]
        for name in ("env_first", "env_work_first")
        if name in cases
    ]
    return (
        "### What is stored\n\nThe size of the registry's storage, or of the repository, after the first snapshot. "
        f"Only restic encrypts.\n\n{table(['snapshot', *TOOLS.values()], rows)}"
    )


def memory_section(figures: dict[str, Any]) -> str:
    limit = figures["peak_rss_limit_bytes"]
    cases = figures["cases"]
    rows = []
    for name, words in CASES.items():
        if name in cases and cases[name]["peak_rss_bytes"] is not None:
            samples = cases[name]["samples"]
            largest = [max(samples[f"{tool}_rss_bytes"]) if f"{tool}_rss_bytes" in samples else None for tool in TOOLS]
            rows.append([words, *map(megabytes, largest), verdict(met=cases[name]["peak_rss_bytes"] <= limit)])
    return (
        "### Memory\n\nThe largest resident memory of all processes together in any round (what they share counts for "
        f"each). Limit for ours: {megabytes(limit)}.\n\n{table(['snapshot', *TOOLS.values(), ''], rows)}"
    )


def import_section(figures: dict[str, Any]) -> str:
    rows = [
        ["the original", ms(figures["original_s"]), "–"],
        ["restored from the registry", ms(figures["restored_s"]), f"{figures['ratio']:.2f} ×"],
    ]
    runs = len(figures["samples"]["restored_s"])
    met = verdict(met=figures["ratio"] <= figures["ratio_limit"])
    return (
        f"### Imports from a restored environment\n\n`import {', '.join(figures['modules'])}` in a fresh process, "
        f"median of {runs} of each, in turns, at the same path. Of {count(figures['bytecode_files'])} bytecode "
        f"files in the restored environment, {figures['bytecode_stale']} do not fit their source and "
        f"{figures['bytecode_rewritten']} were written anew.\n\n"
        f"{table(['environment', 'median', 'ratio'], rows)}\n\n"
        f"Limit: {figures['ratio_limit']:.1f} ×: {met}. Restoring took {seconds(figures['restore_s'])}."
    )


def cold_section(case: dict[str, Any]) -> str:
    rows = [[words, seconds(case[f"{tool}_s"])] for tool, words in TOOLS.items()]
    return (
        "### With an empty page cache\n\nThe environment for the first time; the kernel's caches are dropped before "
        f"each run.\n\n{table(['what', 'median'], rows)}"
    )


# --- by the number of files ---------------------------------------------------------------------------------------


def scale_part(figures: dict[str, Any]) -> str:
    sizes = figures["sizes"]
    rows = [[count(size["files"]), words, *step_words(size[step])] for size in sizes for step, words in STEPS.items()]
    head = ["files", "what", "time", "per file", "peak memory"]
    return (
        "## Cost by the number of files\n\n"
        "Measured by `make bench-scale` (`benchmarks/snapshot_scale.py`): work trees of files of 200–1 000 bytes, 250 "
        "in each directory, and no environment; whole processes, pushed to and restored from a registry on the same "
        f"machine. {machine_words(figures)}\n\n"
        f"![Seconds by the number of files]({SCALE_CHART})\n\n{table(head, rows)}\n\n{growth_words(figures)}"
    )


def step_words(step: dict[str, Any]) -> list[str]:
    return [seconds(step["seconds"]), f"{step['us_per_file']:.0f} µs", megabytes(step["peak_rss_bytes"])]


def growth_words(figures: dict[str, Any]) -> str:
    if len(figures["sizes"]) < 2:  # noqa: PLR2004
        return ""
    before, largest = figures["sizes"][-2:]
    limit = figures["growth_limit"]
    growths = {words: largest[step]["us_per_file"] / before[step]["us_per_file"] for step, words in STEPS.items()}
    listed = ", ".join(f"{words} {growth:.2f} ×" for words, growth in growths.items())
    return (
        f"A file among {count(largest['files'])} costs, against one among {count(before['files'])}: {listed}. "
        f"Limit for linear growth: {limit:.2f} ×: {verdict(met=max(growths.values()) <= limit)}."
    )


def scale_chart(figures: dict[str, Any]) -> str:
    lines = {
        words: [(float(size["files"]), float(size[step]["seconds"])) for size in figures["sizes"]]
        for step, words in STEPS.items()
    }
    return line_chart(lines, x_label="files", unit="s")
