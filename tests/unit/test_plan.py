from __future__ import annotations

import json
import os
import time

import pytest
from snapshot_world import World, describe_tree

from jupyterlab_ai_batch.capture_models import Excluded, SecretFinding
from jupyterlab_ai_batch.wire import dumps
from jupyterlab_ai_batch.words import CaptureFrom


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_a_plan_agrees_with_the_capture_that_follows(world):
    """Files and bytes of the plan are those of the Snapshot."""
    (world.home / "data").write_bytes(os.urandom(1000))
    plan = world.plan()
    summary = world.capture()
    assert (plan.work_files + plan.environment_files, plan.work_bytes + plan.environment_bytes) == (
        summary.files,
        summary.bytes,
    )
    assert (plan.capture_from, plan.work_root) == (CaptureFrom.ROOT, summary.work_root)


def test_after_a_capture_only_changes_are_new(world):
    """The environment is unchanged, and new bytes are those of the changed file."""
    assert not world.plan().environment_unchanged
    world.capture()
    (world.home / "data").write_bytes(bytes(777))
    plan = world.plan()
    assert (plan.environment_unchanged, plan.new_files, plan.new_bytes) == (True, 1, 777)


def test_a_plan_changes_nothing(world):
    """Neither the home nor the store."""
    before = describe_tree(world.home)
    world.plan()
    assert describe_tree(world.home) == before
    assert not (world.data / "store").exists()


def test_findings_stay_while_the_file_stays(world):
    """A suspected secret is shown by every plan, captured or not, and never its text."""
    (world.home / "conf.py").write_text("a = 1\ntoken = 'ghp_" + "A1b2" * 10 + "'\n")
    expected = (SecretFinding(path="conf.py", line=2, kind="GitHub token"),)
    assert world.plan().findings == expected
    world.capture()
    assert world.plan().findings == expected


def test_secrets_left_out_are_listed(world):
    """By path, apart from what is left out for other reasons."""
    (world.home / ".env").write_text("x")
    plan = world.plan()
    assert plan.secrets_excluded == (".env",)
    assert any(entry.path == ".env" for entry in plan.excluded)


def test_the_heaviest_directories_are_named(world):
    """Heaviest first; a directory that only holds another gives way to it."""
    for name, size in {"small/f": 10, "outer/inner/f": 5000, "two/a/f": 900, "two/b/f": 900}.items():
        (world.home / name).parent.mkdir(parents=True, exist_ok=True)
        (world.home / name).write_bytes(bytes(size))
    assert [path for path, _ in world.plan().heaviest][:2] == ["outer/inner", "two"]


def test_auto_falls_back_to_the_folder_when_the_root_is_too_large(world):
    """The plan says what auto became."""
    (world.home / "big").write_bytes(bytes(5000))
    plan = world.plan(limit_bytes=2000)
    assert (plan.capture_from, plan.work_root) == (CaptureFrom.FOLDER, str(world.notebook.parent))


def test_a_tree_over_the_limit_is_planned_with_a_warning(world):
    """Not an error: the user sees what is heavy."""
    (world.home / "heavy").mkdir()
    with (world.home / "heavy/huge").open("wb") as stream:
        stream.truncate(100 << 30)
    began = time.monotonic()
    plan = world.plan(capture_from=CaptureFrom.ROOT)
    assert time.monotonic() - began < 2
    assert plan.work_bytes > plan.limit_bytes
    assert "holds more than" in plan.warnings[0]
    assert plan.heaviest[0] == ("heavy", 100 << 30)


def test_excludes_of_the_request_shrink_the_plan(world):
    """Patterns given with the Submission count."""
    (world.home / "big.csv").write_bytes(bytes(5000))
    assert world.plan(exclude=("*.csv",)).work_bytes == world.plan().work_bytes - 5000


def test_what_is_new_and_gone_is_named(world):
    """The heaviest new files of the work tree and of the environment; how many files are gone."""
    (world.home / "old").write_text("x")
    world.capture()
    (world.home / "old").unlink()
    (world.home / "data").write_bytes(bytes(777))
    added = world.prefix / "lib/python3.11/site-packages/pack/new.py"
    added.write_bytes(bytes(888))
    plan = world.plan()
    assert (plan.new, plan.removed_files) == (((str(added), 888), ("data", 777)), 1)


def test_layers_of_the_environment_are_told(world):
    """Which there are, and which are new since the last capture: only those that a change touches."""
    site = world.prefix / "lib/python3.11/site-packages"
    for name in ("heavy", "other"):
        (site / f"{name}-1.0.dist-info").mkdir()
        (site / f"{name}-1.0.dist-info/RECORD").write_text(f"{name}.bin,,\n")
        with (site / f"{name}.bin").open("wb") as stream:
            stream.truncate(16 * 1000**2)
    first = world.plan().environment_layers
    assert all(layer.new for layer in first)
    assert [(layer.name, layer.files) for layer in first[:2]] == [("heavy", 1), ("other", 1)]
    world.capture()
    assert [(layer.name, layer.bytes, layer.new) for layer in world.plan().environment_layers] == [
        (layer.name, layer.bytes, False) for layer in first
    ]
    (site / "heavy.bin").write_bytes(b"less")
    changed = {layer.name for layer in world.plan().environment_layers if layer.new}
    assert "other" not in changed
    assert changed


def test_what_cannot_be_captured_says_why(world):
    """A FIFO, a name that layers cannot hold, a file that may not be read: the cause, and no pattern."""
    os.mkfifo(world.home / "pipe")
    (world.home / ".wh.x").write_text("x")
    found = [entry for entry in world.plan().excluded if not entry.origin]
    assert found == [
        Excluded(path=".wh.x", rule="a name that begins with .wh. cannot be stored"),
        Excluded(path="pipe", rule="a FIFO"),
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_files_are_named_before_a_capture_fails_on_them(world):
    """The plan warns; it does not fail."""
    (world.home / "closed").write_text("x")
    (world.home / "closed").chmod(0)
    plan = world.plan()
    assert any(entry.path == "closed" and "not allowed" in entry.rule for entry in plan.excluded)
    assert any(warning.startswith("closed cannot be read") for warning in plan.warnings)


def test_excluded_paths_are_counted_beyond_the_list(world):
    """The list is bounded, the count is not."""
    for number in range(250):
        (world.home / f"{number}.key").write_text("x")
    plan = world.plan()
    assert (len(plan.excluded), plan.excluded_count) == (200, 250)


def test_no_secret_is_anywhere_but_in_the_layers(world):
    """Neither the plan, nor the summary, nor the signature index, nor progress holds its text."""
    token = "ghp_" + "q7Rz" + "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6"
    (world.home / "conf.py").write_text(f"t = '{token}'\n")
    told = [
        dumps(world.plan()),
        dumps(world.capture()),
        dumps(world.plan()),
        json.dumps(list(map(str, world.progress))),
    ]
    assert len(world.plan().findings) == 1
    assert not any(token in text for text in told)
    assert token.encode() not in (world.data / "index.db").read_bytes()
