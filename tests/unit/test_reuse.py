"""What a restore takes from this machine instead of the layers."""

from __future__ import annotations

import errno
import os

import pytest
from snapshot_world import World, an_hour_later, describe_environment, describe_tree

from jupyterlab_ai_batch.snapshot import restore, reuse, work_layers

PACK = "lib/python3.11/site-packages/pack"


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


@pytest.fixture
def small_layers(monkeypatch):
    """Files of a few kilobytes are large ones."""
    monkeypatch.setattr(work_layers, "LARGE_BYTES", 3000)


def make_elsewhere(world, digest, earlier=()):
    """Materialise while the live environment is away."""
    away = world.prefix.with_name("away")
    world.prefix.rename(away)
    try:
        return world.materialise(digest, f"made{len(list(world.base.iterdir()))}", earlier)
    finally:
        away.rename(world.prefix)


def inode_of(view):
    return (view.mounts[0].source / PACK / "tool.py").stat().st_ino


def test_files_of_earlier_environments_are_linked(world):
    """Another environment that has a file of the same content and mode gives it; only the rest is copied."""
    expected = describe_environment(world.prefix)
    first = make_elsewhere(world, world.capture().digest)
    (world.prefix / PACK / "extra.py").write_text("x = 1\n")
    digest = world.capture().digest
    second = make_elsewhere(world, digest, [first.mounts[0].source.parent])
    assert (first.linked_files, second.copied_bytes) == (0, len("x = 1\n"))
    assert inode_of(second) == inode_of(first)
    assert describe_environment(second.mounts[0].source) == describe_environment(world.prefix)
    assert describe_environment(first.mounts[0].source) == expected


@pytest.mark.parametrize("harm", ["edit", "chmod", "replace by link", "remove", "spoil the list"])
def test_earlier_environments_are_not_believed(world, harm):
    """What was changed there is taken from the layers."""
    digest = world.capture().digest
    expected = describe_environment(world.prefix)
    earlier = make_elsewhere(world, digest).mounts[0].source
    tool = earlier / PACK / "tool.py"
    before = tool.stat()
    if harm == "edit":
        tool.write_bytes(tool.read_bytes().replace(b"2", b"3"))
        os.utime(tool, ns=(before.st_mtime_ns, before.st_mtime_ns))
    elif harm == "chmod":
        tool.chmod(0o600)
    elif harm == "spoil the list":
        (earlier.parent / "files.json.gz").write_bytes(b"garbage")
    else:
        tool.unlink()
    if harm == "replace by link":
        tool.symlink_to(world.prefix / PACK / "tool.py")
    second = make_elsewhere(world, digest, [earlier.parent])
    assert describe_environment(second.mounts[0].source) == expected


@pytest.mark.usefixtures("small_layers")
def test_unchanged_large_files_are_not_unpacked(world):
    """They come from the live tree, as a copy of their own; their layer is not needed."""
    large = world.home / "large.bin"
    large.write_bytes(os.urandom(5000))
    digest = world.capture(clock=an_hour_later).digest
    (layer,) = [one for one in restore.read_image(world.store, digest).layers if one.name == "base: large.bin"]
    (world.store.path / "blobs/sha256" / layer.digest[7:]).unlink()
    restored = world.restore(digest)
    assert describe_tree(restored) == describe_tree(world.home)
    assert (restored / "large.bin").stat().st_ino != large.stat().st_ino


@pytest.mark.usefixtures("small_layers")
@pytest.mark.parametrize("harm", ["edit", "replace", "remove", "link", "fifo"])
def test_changed_large_files_come_from_their_layer(world, harm):
    """Whatever lies there now, the restored file is the captured one."""
    large = world.home / "large.bin"
    content = os.urandom(5000)
    large.write_bytes(content)
    digest = world.capture(clock=an_hour_later).digest
    expected = describe_tree(world.home)
    if harm == "edit":
        with large.open("r+b") as stream:
            stream.write(b"EDIT")
    else:
        large.rename(world.base / "old.bin")
    if harm == "replace":
        large.write_bytes(os.urandom(5000))
    elif harm == "link":
        large.symlink_to(world.base / "old.bin")
    elif harm == "fifo":
        os.mkfifo(large)
    restored = describe_tree(world.restore(digest))
    assert {path: restored[path] for path in expected if path} == {p: expected[p] for p in expected if p}


@pytest.mark.usefixtures("small_layers")
@pytest.mark.parametrize("can", ["share", "copy", "neither", "half"])
def test_content_is_shared_copied_or_unpacked(world, monkeypatch, can):
    """Whatever the file system can: the result is the same."""
    (world.home / "large.bin").write_bytes(os.urandom(5000))
    digest = world.capture(clock=an_hour_later).digest
    asked = []

    def share(target, _request, source):
        asked.append("share")
        if can != "share":
            raise OSError(errno.EOPNOTSUPP, "not here")
        os.sendfile(target, source, 0, 5000)

    def copy(source, target, count):
        asked.append("copy")
        if can == "neither":
            raise OSError(errno.EXDEV, "not here")
        return os.sendfile(target, source, None, min(count, 3000)) if can == "copy" or asked.count("copy") == 1 else 0

    monkeypatch.setattr(reuse.fcntl, "ioctl", share)
    monkeypatch.setattr(os, "copy_file_range", copy)
    assert describe_tree(world.restore(digest)) == describe_tree(world.home)
    assert asked[0] == "share"
    assert ("copy" in asked) == (can != "share")
