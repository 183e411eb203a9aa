from __future__ import annotations

import os

import pytest
from snapshot_world import World, describe_tree, now

from jupyterlab_ai_batch.errors import StorageFullError
from jupyterlab_ai_batch.oci.manifest import LayerRole
from jupyterlab_ai_batch.snapshot import restore, work_layers
from jupyterlab_ai_batch.snapshot.captured import base_tag
from jupyterlab_ai_batch.snapshot.compaction import compact
from jupyterlab_ai_batch.snapshot.index import SignatureIndex


@pytest.fixture
def world(tmp_path):
    """A home with a base, and as many deltas as are still good."""
    world = World(tmp_path)
    (world.home / "ballast").write_bytes(os.urandom(500_000))
    for number in range(work_layers.GOOD_DELTAS + 1):
        (world.home / "note").write_text(str(number))
        world.capture()
    return world


def tidy_up(world: World) -> bool:
    with SignatureIndex(world.data / "index.db") as index:
        return compact(world.request(), str(world.home), store=world.store, index=index, clock=now)


def work_layers_of(world: World, digest: str) -> list[str]:
    return [layer.name for layer in restore.read_image(world.store, digest).with_role(LayerRole.WORK)]


def next_capture(world: World) -> list[str]:
    """The names of the next Snapshot's work layers; the Snapshot itself is checked."""
    summary = world.capture(tag="next")
    assert describe_tree(world.restore(summary.digest, f"restored-{summary.digest[-8:]}")) == describe_tree(world.home)
    return work_layers_of(world, summary.digest)


def test_few_deltas_are_left_alone(world):
    """Eight deltas are no reason to read everything again."""
    assert tidy_up(world) is False


def test_many_deltas_become_a_base_for_the_next_capture(world):
    """The ninth delta is shipped as one; afterwards there is a new base, and the next delta is the first again."""
    (world.home / "note").write_text("ninth")
    assert next_capture(world)[-1] == "delta"
    assert tidy_up(world) is True
    (world.home / "note").write_text("first")
    assert next_capture(world) == ["base", "delta"]
    assert tidy_up(world) is False


def test_deltas_that_hide_much_become_a_base(tmp_path):
    """More than 30 % of the base that is no longer there is not carried along for ever."""
    world = World(tmp_path)
    for name in "abcd":
        (world.home / name).write_bytes(os.urandom(100_000))
    world.capture()
    for name in "ab":
        (world.home / name).write_bytes(os.urandom(100_000))
    assert next_capture(world) == ["base", "delta"]
    assert tidy_up(world) is True
    assert next_capture(world) == ["base"]


def test_the_base_survives_garbage_collection(world):
    """Nobody submits for a day: the base is still there."""
    (world.home / "note").write_text("ninth")
    world.capture()
    tidy_up(world)
    world.store.collect_garbage(grace_s=-10)
    assert base_tag(str(world.home)) in dict(world.store.tags())
    assert next_capture(world) == ["base"]


def test_what_ends_it_leaves_the_deltas_as_they_were(world, monkeypatch):
    """A full disk in the middle: the next capture ships a delta on the old ones."""
    (world.home / "note").write_text("ninth")
    before = next_capture(world)
    real = os.fsync

    def fail(fd: int) -> None:
        if os.fstat(fd).st_size > 100_000:
            raise OSError(28, "No space left on device")
        real(fd)

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageFullError):
        tidy_up(world)
    monkeypatch.setattr(os, "fsync", real)
    (world.home / "note").write_text("tenth")
    assert next_capture(world) == [*before, "delta"]


def test_large_files_are_not_written_again(tmp_path, monkeypatch):
    """A large file's layer is used by the next base, too."""
    monkeypatch.setattr(work_layers, "LARGE_BYTES", 50_000)
    world = World(tmp_path)
    (world.home / "large").write_bytes(os.urandom(100_000))
    (world.home / "small").write_bytes(os.urandom(20_000))
    first = restore.read_image(world.store, world.capture().digest)
    (world.home / "small").write_bytes(os.urandom(45_000))
    (world.home / "more").write_bytes(os.urandom(60_000))
    second = world.capture()
    assert work_layers_of(world, second.digest) == ["base: large", "base", "delta: more", "delta"]
    assert tidy_up(world) is True
    third = restore.read_image(world.store, world.capture().digest)
    digests = {layer.name: layer.digest for image in (first, third) for layer in image.with_role(LayerRole.WORK)}
    assert first.with_role(LayerRole.WORK)[0].digest == digests["base: large"]
    assert next_capture(world) == ["base: large", "delta: more", "base"]
