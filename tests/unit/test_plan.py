from __future__ import annotations

import os
import time

import pytest
from snapshot_world import World, describe_tree

from jupyterlab_ai_batch.models import CaptureFrom, SecretFinding


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
