from __future__ import annotations

import os
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from snapshot_world import World, describe_tree

from jupyterlab_ai_batch.errors import BlobMissingError
from jupyterlab_ai_batch.oci.layout import ImageLayout
from jupyterlab_ai_batch.oci.manifest import LayerRole
from jupyterlab_ai_batch.snapshot import environment_groups, layers, restore, work_layers


class CountingLayout(ImageLayout):
    """Counts the blobs that are committed."""

    committed = 0

    def count(self, writer):
        real = writer.commit

        def commit():
            self.committed += 1
            return real()

        writer.commit = commit
        return writer

    def write_blob(self):
        from contextlib import contextmanager

        @contextmanager
        def counted():
            with super(CountingLayout, self).write_blob() as writer:
                yield self.count(writer)

        return counted()


class ForgetfulLayout(ImageLayout):
    """Loses blobs between the question and the manifest, as a registry's garbage collection does."""

    def __init__(self, path, losses):
        super().__init__(path)
        self.losses = losses

    def put_manifest(self, manifest, *, tag, media_type):
        lost = self.losses.pop() if self.losses else ()
        for digest in [blob.name for blob in self._blobs.iterdir()]:
            if digest[0] in lost and f"sha256:{digest}".encode() in manifest:
                (self._blobs / digest).unlink()
        return super().put_manifest(manifest, tag=tag, media_type=media_type)


class StopError(Exception):
    pass


@pytest.fixture
def world(tmp_path, monkeypatch):
    """An environment of several layers, and a work tree of several parts; finished layers are noted at once."""
    monkeypatch.setattr(layers, "CHECKPOINT_S", 0.0)
    monkeypatch.setattr(work_layers, "PART_BYTES", 100_000)
    monkeypatch.setattr(environment_groups, "OWN_LAYER_BYTES", 100)
    world = World(tmp_path)
    for number in range(5):
        (world.home / f"part-{number}").write_bytes(os.urandom(90_000))
    return world


def stop_at(world: World, bytes_read: int) -> None:
    """Capture until so much was read, then end as a signal would."""

    def stop(progress) -> None:
        if progress.done_bytes >= bytes_read:
            raise StopError

    with pytest.raises(StopError):
        world.capture(progress=stop)


@pytest.mark.parametrize("bytes_read", [1, 150_000, 300_000, 440_000])
def test_nothing_is_left_of_a_capture_that_was_ended(world, monkeypatch, bytes_read):
    """What the progress callback raises ends a capture: no name, no temporary file, no thread."""
    monkeypatch.setattr("jupyterlab_ai_batch.snapshot.progress._INTERVAL_S", 0.0)
    before = threading.active_count()
    stop_at(world, bytes_read)
    assert dict(world.store.tags()) == {}
    assert list((world.data / "store/tmp").iterdir()) == []
    assert threading.active_count() == before


def test_finished_layers_are_not_written_again(world, monkeypatch):
    """A capture that goes on after one that was ended writes only what was missing; the Snapshot is the same."""
    monkeypatch.setattr("jupyterlab_ai_batch.snapshot.progress._INTERVAL_S", 0.0)
    other = World(world.base / "other")
    other.home, other.prefix, other.notebook = world.home, world.prefix, world.notebook
    other.store = CountingLayout(other.data / "store")
    whole = other.capture()
    stop_at(world, 400_000)
    world.store = CountingLayout(world.data / "store")
    summary = world.capture()
    assert summary.digest == whole.digest
    assert world.store.committed < other.store.committed - 2
    assert describe_tree(world.restore(summary.digest)) == describe_tree(world.home)


def test_going_on_sees_what_has_changed_meanwhile(world, monkeypatch):
    """What was finished is used again only where its files are still the same."""
    monkeypatch.setattr("jupyterlab_ai_batch.snapshot.progress._INTERVAL_S", 0.0)
    stop_at(world, 400_000)
    (world.home / "part-0").write_bytes(os.urandom(90_000))
    (world.home / "part-1").unlink()
    (world.prefix / "bin/tool").write_text("#!/bin/true\n")
    digest = world.capture().digest
    assert describe_tree(world.restore(digest)) == describe_tree(world.home)


_LOSSES = st.lists(st.text("0123456789abcdef", max_size=6), max_size=2)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_LOSSES, st.booleans())
def test_blobs_that_are_lost_on_the_way_are_written_again(tmp_path_factory, losses, changed):
    """Whatever the store loses before the manifest, the capture succeeds, and nothing that it names is missing."""
    world = World(tmp_path_factory.mktemp("world"))
    (world.home / "data").write_bytes(os.urandom(1000))
    world.capture(tag="before")
    world.store.delete_tag("before")
    if changed:
        (world.home / "data").write_bytes(os.urandom(100))
    world.store = ForgetfulLayout(world.data / "store", list(losses))
    digest = world.capture(tag="after").digest
    assert describe_tree(world.restore(digest)) == describe_tree(world.home)
    image = restore.read_image(world.store, digest)
    assert all(world.store.has_blob(layer.digest) for layer in image.layers)


def test_a_store_that_never_keeps_a_blob_is_an_error(tmp_path):
    """The capture does not try for ever."""
    world = World(tmp_path)
    world.store = ForgetfulLayout(world.data / "store", ["0123456789abcdef"] * 9)
    with pytest.raises(BlobMissingError):
        world.capture()
    assert len(world.store.losses) > 5


def test_many_large_files_share_few_layers(tmp_path, monkeypatch):
    """The number of work layers stays bounded, however many files are large; hard links stay links."""
    monkeypatch.setattr(work_layers, "LARGE_BYTES", 1000)
    monkeypatch.setattr(work_layers, "PART_BYTES", 2000)
    world = World(tmp_path)
    for number in range(40):
        (world.home / f"large-{number}").write_bytes(os.urandom(1000 + number))
        os.link(world.home / f"large-{number}", world.home / f"twin-{number}") if number % 3 == 0 else None
    summary = world.capture()
    work = restore.read_image(world.store, summary.digest).with_role(LayerRole.WORK)
    assert 8 < len(work) < 16
    assert describe_tree(world.restore(summary.digest)) == describe_tree(world.home)
