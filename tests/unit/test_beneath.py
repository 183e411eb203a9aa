"""Directories are opened below a directory and nowhere else, by either way."""

from __future__ import annotations

import os

import pytest

from jupyterlab_ai_batch.snapshot import beneath


@pytest.fixture(params=[beneath.open_beneath, beneath.open_step_by_step], ids=["openat2", "step by step"])
def open_directory(request):
    if request.param is beneath.open_beneath and not beneath._has_openat2():
        pytest.skip("the kernel has no openat2")
    return request.param


@pytest.fixture
def root(tmp_path):
    top = tmp_path / "top"
    (top / "a/b").mkdir(parents=True)
    (top / "file").touch()
    (top / "out").symlink_to("..")
    (top / "in").symlink_to("a")
    (top / "loop").symlink_to("loop")
    fd = os.open(top, os.O_RDONLY)
    yield top, fd
    os.close(fd)


@pytest.mark.parametrize("path", ["", "a", "a/b", "."])
def test_what_lies_below_is_opened(root, open_directory, path):
    """The descriptor is the directory's own."""
    top, fd = root
    found = open_directory(fd, path)
    assert os.fstat(found).st_ino == (top / path).stat().st_ino
    os.close(found)


@pytest.mark.parametrize(
    "path", ["..", "a/../..", "/", "/etc", "out", "out/top", "in", "in/b", "loop", "file", "none", "a/none"]
)
def test_nothing_else_is(root, open_directory, path):
    """Nor does a descriptor stay open."""
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with pytest.raises(OSError, match=r"\w"):
        open_directory(root[1], path)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_a_name_with_a_nul_is_no_shorter_name(root, open_directory):
    """C would end it there."""
    with pytest.raises(ValueError, match="null"):
        open_directory(root[1], "a\0b")


def test_without_the_call_the_steps_are_taken(root, monkeypatch):
    """Kernels before 5.6, and sandboxes that forbid it."""
    monkeypatch.setattr(beneath, "_has_openat2", lambda: False)
    monkeypatch.setattr(beneath, "_open_by_openat2", None)
    os.close(beneath.open_beneath(root[1], "a/b"))
