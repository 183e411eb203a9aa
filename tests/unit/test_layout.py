from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jupyterlab_ai_batch.errors import SnapshotCorruptError, StorageFullError, StoragePermissionError
from jupyterlab_ai_batch.oci.layout import ImageLayout
from jupyterlab_ai_batch.oci.port import MANIFEST_MEDIA_TYPE


@pytest.fixture
def layout(tmp_path):
    return ImageLayout(tmp_path / "store")


def manifest_of(*digests: str) -> bytes:
    config, *layers = ({"mediaType": "x", "digest": digest, "size": 1} for digest in digests)
    return json.dumps({"schemaVersion": 2, "config": config, "layers": layers}).encode()


def tag(layout: ImageLayout, name: str, *digests: str) -> str:
    return layout.put_manifest(manifest_of(*digests), tag=name, media_type=MANIFEST_MEDIA_TYPE)


def test_a_blob_comes_back_as_it_was_written(layout):
    """Content, digest and size agree."""
    with layout.write_blob() as writer:
        writer.write(b"hello ")
        writer.write(memoryview(b"world"))
        digest, size = writer.commit()
    assert (layout.open_blob(digest).read(), size, layout.has_blob(digest)) == (b"hello world", 11, True)


def test_what_is_not_committed_leaves_nothing(layout):
    """A writer that is left without commit, or by an exception, discards its file."""

    def fail() -> None:
        with layout.write_blob() as writer:
            writer.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list((layout.path / "tmp").iterdir()) == []
    assert list((layout.path / "blobs/sha256").iterdir()) == []


def test_a_damaged_blob_is_noticed_at_its_end(layout):
    """A flipped byte gives snapshot_corrupt, also for small reads."""
    digest, _ = layout.put_blob(b"content")
    (layout.path / "blobs/sha256" / digest[7:]).write_bytes(b"contenT")
    with pytest.raises(SnapshotCorruptError), layout.open_blob(digest) as stream:
        stream.read()
    with pytest.raises(SnapshotCorruptError):
        layout.read_blob(digest, limit_bytes=100)


def test_a_blob_larger_than_the_limit_is_refused(layout):
    """Small records are capped."""
    digest, _ = layout.put_blob(bytes(1000))
    with pytest.raises(SnapshotCorruptError):
        layout.read_blob(digest, limit_bytes=999)


@pytest.mark.parametrize("digest", ["sha256:" + "0" * 64, "../../etc/passwd", "sha256:../x", ""])
def test_missing_and_malformed_digests_are_refused(layout, digest):
    """Neither is a path into the file system."""
    layout.put_blob(b"x")
    with pytest.raises(SnapshotCorruptError):
        layout.open_blob(digest)


def test_tags_are_replaced_listed_and_deleted(layout):
    """A tag names its latest manifest until it is deleted; deleting twice is fine."""
    blob, _ = layout.put_blob(b"x")
    other, _ = layout.put_blob(b"y")
    tag(layout, "a", blob)
    second = tag(layout, "a", blob, other)
    assert dict(layout.tags()) == {"a": second}
    assert layout.get_manifest("a") == (manifest_of(blob, other), second)
    layout.delete_tag("a")
    layout.delete_tag("a")
    assert dict(layout.tags()) == {}


def test_a_manifest_needs_its_blobs(layout):
    """A manifest that mentions a missing blob is not tagged."""
    with pytest.raises(SnapshotCorruptError):
        tag(layout, "a", "sha256:" + "0" * 64)
    assert dict(layout.tags()) == {}


def test_garbage_is_what_no_tag_reaches(layout):
    """Collecting keeps tagged manifests with all they mention, and young blobs."""
    blob, _ = layout.put_blob(b"kept")
    digest = tag(layout, "a", blob)
    junk, _ = layout.put_blob(b"junk")
    assert layout.collect_garbage() == 0
    assert layout.collect_garbage(grace_s=-10) == 4
    assert (layout.has_blob(junk), layout.has_blob(blob), layout.has_blob(digest)) == (False, True, True)


def test_asking_for_a_blob_keeps_it(layout):
    """A capture that reuses an old blob is safe from a collection at the same time."""
    blob, _ = layout.put_blob(b"old")
    os.utime(layout.path / "blobs/sha256" / blob[7:], (0, 0))
    assert layout.has_blob(blob)
    layout.collect_garbage()
    assert layout.has_blob(blob)


def test_what_a_killed_writer_left_is_swept(layout):
    """The temporary file of a dead process goes; that of a living one stays."""
    script = "import sys, os\nfrom pathlib import Path\nfrom jupyterlab_ai_batch.oci.layout import ImageLayout\n"
    script += (
        "with ImageLayout(Path(sys.argv[1])).write_blob() as w:\n    w.write(b'x' * 10**6)\n    os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, str(layout.path)], check=False)
    assert len(list((layout.path / "tmp").iterdir())) == 1
    with layout.write_blob() as writer:
        writer.write(b"alive")
        ImageLayout(layout.path).put_blob(b"other")
        assert len(list((layout.path / "tmp").iterdir())) == 1
        digest, _ = writer.commit()
    assert layout.has_blob(digest)


def _tag_many(path: Path, start: int) -> None:
    layout = ImageLayout(path)
    blob, _ = layout.put_blob(b"shared")
    for number in range(start, start + 20):
        tag(layout, f"t{number}", blob)


def test_two_processes_lose_no_tag(layout):
    """The index is changed under a lock."""
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_tag_many, args=(layout.path, start)) for start in (0, 20)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert len(dict(layout.tags())) == 40


def test_directories_and_files_are_private(layout):
    """0700 and 0600, also where the directory was open before."""
    layout.path.mkdir(mode=0o755)
    layout.put_blob(b"x")
    for path in [layout.path, *layout.path.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0


def test_a_store_of_somebody_else_is_refused(layout, monkeypatch):
    """Neither read nor written."""
    layout.put_blob(b"x")
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    for use in (lambda: ImageLayout(layout.path).put_blob(b"y"), lambda: list(layout.tags())):
        with pytest.raises(StoragePermissionError):
            use()


def test_a_full_disk_is_said_so(layout, monkeypatch):
    """ENOSPC becomes storage_full and nothing stays."""
    layout.put_blob(b"x")

    def full(_fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageFullError):
        layout.put_blob(b"y")
    assert list((layout.path / "tmp").iterdir()) == []


def test_a_damaged_index_is_an_error_not_an_empty_store(layout):
    """Tags are never silently forgotten."""
    layout.put_blob(b"x")
    (layout.path / "index.json").write_text("{")
    with pytest.raises(SnapshotCorruptError):
        list(layout.tags())
