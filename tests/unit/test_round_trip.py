"""Whatever a tree holds comes back from its Snapshot."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from snapshot_world import World, describe_tree

from jupyterlab_ai_batch.snapshot import work_layers

_STRANGE = (b"n" * 255, "é".encode() * 127, b"new\nline", b"-", b" ", b"\xff")
_NAME = st.sampled_from(_STRANGE) | st.binary(min_size=1, max_size=12).filter(
    lambda name: not {0, ord("/")} & set(name) and name not in (b".", b"..")
)
_CONTENT = st.binary(max_size=40) | st.integers(0, 9000).map(bytes) | st.integers(0, 36).map(bytes(range(256)).__mul__)
_MTIME_NS = st.integers(-(10**9), 4 * 10**9).map((10**9).__mul__) | st.integers(0, 2 * 10**18)
_FILE = st.tuples(_CONTENT, st.sampled_from([0o644, 0o600, 0o755, 0o444]), _MTIME_NS)
_LINK = st.binary(min_size=1, max_size=30).filter(lambda target: 0 not in target)
_TREE = st.recursive(
    st.dictionaries(_NAME, _FILE | _LINK, max_size=5),
    lambda inner: st.dictionaries(_NAME, _FILE | _LINK | inner, max_size=5),
    max_leaves=12,
)


@pytest.fixture
def small_layers(monkeypatch):
    """Thresholds that give a tree of a few kilobytes every kind of layer."""
    monkeypatch.setattr(work_layers, "LARGE_BYTES", 3000)
    monkeypatch.setattr(work_layers, "PART_BYTES", 4000)


@pytest.mark.usefixtures("small_layers")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=_TREE, second=_TREE)
def test_any_tree_comes_back_as_it_was(tmp_path_factory, first, second):
    """Any names, contents, modes, times and links, through a base and a delta of many layers."""
    world = World(tmp_path_factory.mktemp("world"))
    for number, tree in enumerate((first, second)):
        top = world.home / f"tree{number}"
        top.mkdir()
        _plant(os.fsencode(top), tree)
        restored = world.restore(world.capture().digest, f"restored{number}")
        assert describe_tree(restored) == describe_tree(world.home)


def _plant(top, tree):
    for name, node in tree.items():
        path = Path(os.fsdecode(top), os.fsdecode(name))
        if isinstance(node, dict):
            path.mkdir()
            _plant(os.fsencode(path), node)
        elif isinstance(node, bytes):
            path.symlink_to(os.fsdecode(node))
        else:
            content, mode, mtime_ns = node
            path.write_bytes(content)
            path.chmod(mode)
            os.utime(path, ns=(0, mtime_ns))
