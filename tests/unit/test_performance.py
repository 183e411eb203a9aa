"""The page of figures says missed where a limit is missed, and the benchmark's own tools do what the page says."""

from __future__ import annotations

import copy
import hashlib
import os
import py_compile
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "benchmarks")]
import cluster_performance  # noqa: E402
import performance  # noqa: E402
import snapshot_performance  # noqa: E402
import snapshot_trees  # noqa: E402
from processes import measure  # noqa: E402
from snapshot_imports import fits  # noqa: E402

MACHINE = {"cpu": "some", "cores": 2, "memory_gib": 8, "system": "Linux"}
TOOLS = ("ours", "restic", "borg", "borg_zstd")


def case(*, ratio_limit=None, uploaded_limit=None):
    return {
        **{f"{tool}_s": 1.0 for tool in TOOLS},
        "uploaded_layer_bytes": 0,
        "peak_rss_bytes": 199_000_000,
        "ratio": 0.1,
        "ratio_packing": 0.1,
        "ratio_limit": ratio_limit,
        "uploaded_limit_bytes": uploaded_limit,
        "uploads_by_role": {"other": 300},
        "stored_bytes": dict.fromkeys(TOOLS, 1),
        "samples": {**{f"{tool}_rss_bytes": [1] for tool in TOOLS}, "uploaded_layer_bytes": [0, 0]},
    }


def figures():
    """Figures that meet every limit."""
    return {
        "measured_at": "2026-01-01",
        "load_before": 0.1,
        "machine": MACHINE,
        "versions": {"python": "3.12"},
        "runs": 5,
        "peak_rss_limit_bytes": 200_000_000,
        "environment": {"files": 27_000, "bytes": 1},
        "work": {"files": 2_000, "bytes": 1},
        "cases": {
            "unchanged": case(ratio_limit=0.15),
            "env_first": case(ratio_limit=0.55),
            "env_work_first": case(ratio_limit=0.60),
            "second_user": case(uploaded_limit=0),
            "ctime_only": case(uploaded_limit=0),
        },
        "imports": {
            "modules": ["numpy"],
            "original_s": 1.0,
            "restored_s": 1.0,
            "ratio": 1.0,
            "ratio_limit": 1.1,
            "bytecode_files": 1,
            "bytecode_stale": 0,
            "bytecode_rewritten": 0,
            "restore_s": 1.0,
            "samples": {"restored_s": [1.0]},
        },
    }


def scale(us_per_file=(10.0, 10.0)):
    steps = ("first", "unchanged", "plan", "restore")
    sizes = [
        {
            "files": files,
            **{step: {"seconds": cost * files / 1e6, "us_per_file": cost, "peak_rss_bytes": 1} for step in steps},
        }
        for files, cost in zip((1_000, 10_000), us_per_file, strict=True)
    ]
    return {"measured_at": "", "machine": MACHINE, "versions": {}, "growth_limit": 1.25, "sizes": sizes}


def test_limits_that_are_kept_are_met():
    """Nothing is called missed when every figure is within its limit."""
    page = snapshot_performance.rivals_part(figures()) + snapshot_performance.scale_part(scale())
    assert "missed" not in page


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("cases", "unchanged", "ratio"), 0.151),
        (("cases", "env_first", "ratio"), 0.56),
        (("cases", "second_user", "samples", "uploaded_layer_bytes"), [0, 1]),
        (("cases", "ctime_only", "samples", "uploaded_layer_bytes"), [0, 1]),
        (("cases", "env_work_first", "peak_rss_bytes"), 200_000_001),
        (("imports", "ratio"), 1.11),
    ],
)
def test_a_limit_that_is_not_kept_is_missed(path, value):
    """One figure beyond its limit is called missed, once."""
    changed = figures()
    place = changed
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    assert snapshot_performance.rivals_part(changed).count("**missed**") == 1


def test_growth_beyond_the_limit_is_missed():
    """A tree whose files cost more than those of the smaller one."""
    assert snapshot_performance.scale_part(scale((10.0, 12.6))).count("**missed**") == 1


def test_a_page_without_figures_has_no_such_part(tmp_path):
    """Only what was measured is told, and charts come with their figures."""
    assert list(performance.pages(tmp_path)) == [tmp_path / "performance.md"]


@pytest.mark.parametrize(
    "chart", [snapshot_performance.rivals_chart(figures()), snapshot_performance.scale_chart(scale())]
)
def test_charts_are_pictures(chart):
    """Well-formed, inside their frame, and the same for the same figures."""
    picture = ET.fromstring(chart)  # noqa: S314 - ours
    width, height = float(picture.get("width")), float(picture.get("height"))
    for item in picture.iter():
        for name, limit in (("x", width), ("x2", width), ("cx", width), ("y", height), ("y2", height), ("cy", height)):
            assert 0 <= float(item.get(name, 0)) <= limit


def test_charts_of_equal_figures_are_equal():
    """Nothing but the figures is in them."""
    assert snapshot_performance.rivals_chart(figures()) == snapshot_performance.rivals_chart(copy.deepcopy(figures()))


def digest(folder):
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*.*")):
        found.update(f"{path.relative_to(folder)}\0".encode() + path.read_bytes())
    return found.hexdigest()


def test_small_files_depend_on_nothing_but_the_seed(tmp_path):
    """Two trees of one seed are equal; rewriting with another seed changes 20 files and no size."""
    first, second = tmp_path / "first", tmp_path / "second"
    for work in (first, second):
        snapshot_trees.rewrite_small(work, 20, seed=1)
    assert digest(first) == digest(second)
    sizes = {path: path.stat().st_size for path in first.rglob("*.*")}
    snapshot_trees.rewrite_small(first, 20, seed=2)
    assert {path: path.stat().st_size for path in first.rglob("*.*")} == sizes
    assert len(sizes) == 20
    assert digest(first) != digest(second)


def test_touching_ctimes_changes_nothing_else(tmp_path):
    """Names, content, inodes and mtimes stay, also of directories and links."""
    tree = tmp_path / "tree"
    (tree / "folder").mkdir(parents=True)
    (tree / "folder/file").write_bytes(b"content")
    (tree / "link").symlink_to("nowhere")
    paths = [tree, tree / "folder", tree / "folder/file", tree / "link"]
    before = [path.lstat() for path in paths]
    after = before
    while any(old.st_ctime_ns == new.st_ctime_ns for old, new in zip(before[2:], after[2:], strict=True)):
        snapshot_trees.touch_ctimes(tree)  # again, where the clock of the file system has not ticked yet
        after = [path.lstat() for path in paths]
    assert [(f.st_ino, f.st_mtime_ns, f.st_size, f.st_nlink) for f in before] == [
        (f.st_ino, f.st_mtime_ns, f.st_size, f.st_nlink) for f in after
    ]
    assert list(tmp_path.iterdir()) == [tree]


def test_bytecode_that_does_not_fit_its_source_is_found(tmp_path):
    """The mtime in the header decides, as for the interpreter."""
    source = tmp_path / "module.py"
    source.write_text("x = 1\n")
    compiled = Path(py_compile.compile(str(source), doraise=True))
    assert fits(compiled)
    os.utime(source, (1, 1))
    assert not fits(compiled)


def test_memory_of_children_counts(tmp_path):
    """What a child of the measured process holds is in the peak."""
    child = "held = bytearray(300_000_000); held[::4096] = b'x' * len(held[::4096])"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}], check=True); print('done')"
    run = measure([sys.executable, "-c", parent], env=os.environ, cwd=tmp_path)
    assert run.stdout == "done\n"
    assert run.peak_rss_bytes > 300_000_000


def cluster_figures(*, click_s=1.0, start_s=3.0):
    """Those of the cluster, with these medians."""

    def spread(median_s, steps=()):
        found = {"count": 12, "median_s": median_s, "min_s": 0.1, "max_s": 9.0}
        return {**found, "steps": dict.fromkeys(steps, found)}

    start = spread(start_s, cluster_performance.START_STEPS)
    execute = spread(2.0, cluster_performance.EXECUTE_STEPS)
    return {
        "measured_at": "2026-01-01",
        "load_before": 0.1,
        "machine": MACHINE,
        "versions": {"kubernetes": "1.36"},
        "click": {"limit_s": 1.5, "ours": spread(click_s, cluster_performance.CLICK_STEPS)},
        "start": {
            "limit_s": 4.0,
            "cpu_millicores": 1000,
            "ours": start,
            "apply": start,
            "applied": spread(3.5),
            "execute": execute,
            "bare": spread(0.6),
        },
    }


@pytest.mark.parametrize(
    ("figures_of_cluster", "missed"),
    [(cluster_figures(), 0), (cluster_figures(click_s=1.51), 1), (cluster_figures(click_s=2.0, start_s=4.01), 2)],
)
def test_limits_of_the_cluster(figures_of_cluster, missed):
    """Each is judged by the median."""
    page = cluster_performance.cluster_part(figures_of_cluster)
    assert page.count("**missed**") == missed
    assert page.count(": met.") == 2 - missed
