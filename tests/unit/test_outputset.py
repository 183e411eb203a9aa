"""OutputSets in a store: what is written can be read, and nothing hostile can."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest

from jupyterlab_ai_batch import wire
from jupyterlab_ai_batch.errors import SnapshotCorruptError
from jupyterlab_ai_batch.models import OutputFile, OutputSet
from jupyterlab_ai_batch.oci import outputset
from jupyterlab_ai_batch.oci.layout import ImageLayout
from jupyterlab_ai_batch.oci.outputset import CHANGED_MEANWHILE, read_output_set, store_output_set
from jupyterlab_ai_batch.words import FileChange

AT = datetime(2026, 11, 22, 12, 30, 0, 123000, tzinfo=timezone.utc)


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def new_file(path: str, content: bytes) -> OutputFile:
    return OutputFile(path=path, change=FileChange.NEW, size_bytes=len(content), sha256=sha(content))


def output_set(*files: OutputFile, **options: Any) -> OutputSet:
    fields = {"executed_notebook": "n.ipynb", "complete": True, **options}
    return OutputSet(submission_id="1a2b", attempt=2, stored_at=AT, files=files, **fields)


@pytest.fixture
def store(tmp_path):
    return ImageLayout(tmp_path / "outbox")


class Contents:
    """Opens files from a mapping and remembers which."""

    def __init__(self, **contents: bytes) -> None:
        self.contents = contents
        self.opened: list[str] = []

    def __call__(self, file: OutputFile) -> io.BytesIO:
        self.opened.append(file.path)
        if file.path not in self.contents:
            raise FileNotFoundError(2, "No such file or directory")
        return io.BytesIO(self.contents[file.path])


def test_round_trip(store):
    """Files, deletions, links, odd names and reasons come back as they were."""
    stored = output_set(
        new_file("a", b"A"),
        new_file("caf\udce9\n", b"A"),
        OutputFile(path="gone", change=FileChange.DELETED, base_sha256=sha(b"g")),
        OutputFile(path="l", change=FileChange.CHANGED, sha256=sha(b"../x"), base_sha256=sha(b"y"), link_target="../x"),
        skipped=(("sock", "it is not a file"),),
    )
    contents = Contents(**{"a": b"A", "caf\udce9\n": b"A"})
    kept, digest = store_output_set(store, stored, contents)
    found, blobs = read_output_set(store)
    assert kept == stored
    assert found == stored
    assert blobs == {"a": f"sha256:{sha(b'A')}", "caf\udce9\n": f"sha256:{sha(b'A')}"}
    assert read_output_set(store, digest) == (found, blobs)
    assert contents.opened == ["a"]


def test_unchanged_blob_is_not_stored_again(store):
    """The next checkpoint reads only what is new."""
    store_output_set(store, output_set(new_file("a", b"A"), complete=False), Contents(a=b"A"))
    contents = Contents(a=b"A", b=b"B")
    store_output_set(store, output_set(new_file("a", b"A"), new_file("b", b"B")), contents)
    assert contents.opened == ["b"]
    assert read_output_set(store)[0].complete is True


@pytest.mark.parametrize("content", [b"other", b"longer than it was", b""])
def test_file_that_changed_meanwhile_is_skipped(store, content):
    """A file whose bytes are not those of its digest is left out, with the reason."""
    kept, _ = store_output_set(
        store, output_set(new_file("a", b"first"), new_file("b", b"B")), Contents(a=content, b=b"B")
    )
    assert [file.path for file in kept.files] == ["b"]
    assert kept.skipped == (("a", CHANGED_MEANWHILE),)
    assert read_output_set(store)[0] == kept


def test_file_that_is_gone_is_skipped(store):
    """A file that cannot be opened is left out, with the system's words."""
    kept, _ = store_output_set(store, output_set(new_file("a", b"A")), Contents())
    assert kept.skipped == (("a", "No such file or directory"),)


def test_store_that_fails_keeps_the_earlier_set(store):
    """The name moves only when everything is there."""
    store_output_set(store, output_set(new_file("a", b"A")), Contents(a=b"A"))

    def explode(_: OutputFile) -> io.BytesIO:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store_output_set(store, output_set(new_file("b", b"B")), explode)
    assert [file.path for file in read_output_set(store)[0].files] == ["a"]


def test_many_files_are_spread_over_several_manifests(store, monkeypatch):
    """More files than fit into one manifest stay readable and are kept by garbage collection."""
    monkeypatch.setattr(outputset, "FILES_PER_MANIFEST", 3)
    files = [new_file(f"f{i}", str(i).encode()) for i in range(10)]
    store_output_set(store, output_set(*files), Contents(**{f"f{i}": str(i).encode() for i in range(10)}))
    store.collect_garbage(grace_s=-60)
    found, blobs = read_output_set(store)
    assert len(found.files) == 10
    assert all(store.read_blob(digest, limit_bytes=10) for digest in blobs.values())


def test_nothing_stored_yet(store):
    """An empty store has no OutputSet, and says so."""
    with pytest.raises(SnapshotCorruptError):
        read_output_set(store)


HOSTILE: dict[str, dict[str, Any]] = {
    "absolute": {"path": "/etc/passwd"},
    "parent": {"path": "../x"},
    "inner parent": {"path": "a/../../x"},
    "empty name": {"path": "a//b"},
    "dot": {"path": "./a"},
    "no path": {"path": ""},
    "nul": {"path": "a\0"},
    "long name": {"path": "x" * 256},
    "long path": {"path": "a/" * 2500 + "b"},
    "half a surrogate pair": {"path": "\ud800"},
    "no digest": {"sha256": "zz"},
    "digest as path": {"sha256": "../" * 21 + "a"},
    "negative size": {"size_bytes": -1},
    "time out of range": {"mtime_ns": 1 << 70},
    "mode out of range": {"mode": 0o100644},
    "link to nowhere": {"link_target": ""},
    "link with nul": {"link_target": "a\0b"},
    "link with another digest": {"link_target": "elsewhere"},
    "base is no digest": {"base_sha256": "x"},
}


@pytest.mark.parametrize("fields", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_file_is_refused(store, fields):
    """What a job could write to escape, or to break the reader, is not an OutputSet."""
    put_raw(store, output_set(replace(new_file("a", b"A"), **fields)))
    with pytest.raises(SnapshotCorruptError):
        read_output_set(store)


def test_path_twice_is_refused(store):
    """Two contents for one path cannot be merged."""
    put_raw(store, output_set(new_file("a", b"A"), new_file("a", b"A")))
    with pytest.raises(SnapshotCorruptError):
        read_output_set(store)


def test_executed_notebook_must_be_a_plain_path(store):
    """The notebook's name is checked like every other."""
    put_raw(store, output_set(executed_notebook="../../n.ipynb"))
    with pytest.raises(SnapshotCorruptError):
        read_output_set(store)


@pytest.mark.parametrize("config", [b"", b"[]", b"{}", b"[" * 100_000, b'{"files": 1}', b"\xff\xfe"])
def test_config_that_is_not_an_output_set(store, config):
    """Garbage instead of JSON is a clear error."""
    put_config(store, config, [])
    with pytest.raises(SnapshotCorruptError):
        read_output_set(store)


@pytest.mark.parametrize(
    "manifest", [b"", b"[]", b'{"layers": 5}', b'{"config": null, "layers": []}', b'{"config": {}, "layers": [1]}']
)
def test_manifest_that_is_not_one(tmp_path, manifest):
    """A damaged manifest is a clear error, whatever store it comes from."""

    class Raw(ImageLayout):
        def get_manifest(self, reference: str) -> tuple[bytes, str]:
            return manifest, reference

    with pytest.raises(SnapshotCorruptError):
        read_output_set(Raw(tmp_path))


def test_file_without_content_is_refused(store):
    """A file whose blob the manifest does not name cannot come home."""
    put_config(store, wire.dumps(output_set(new_file("a", b"A"))).encode(), [])
    with pytest.raises(SnapshotCorruptError, match="no content"):
        read_output_set(store)


def test_another_artifact_is_refused(store):
    """A Snapshot is not an OutputSet."""
    put_config(store, wire.dumps(output_set()).encode(), [], artifact_type="application/x")
    with pytest.raises(SnapshotCorruptError, match="another kind"):
        read_output_set(store)


def put_raw(store: ImageLayout, stored: OutputSet) -> None:
    """Store without the checks of store_output_set."""
    digest, size = store.put_blob(b"A")
    put_config(store, json.dumps(wire.to_json(stored)).encode(), [{"digest": digest, "size": size}])


def put_config(
    store: ImageLayout, config: bytes, layers: list[dict[str, Any]], *, artifact_type: str = outputset.ARTIFACT_TYPE
) -> None:
    digest, size = store.put_blob(config)
    manifest = {
        "schemaVersion": 2,
        "artifactType": artifact_type,
        "config": {"mediaType": outputset.CONFIG_MEDIA_TYPE, "digest": digest, "size": size},
        "layers": layers,
    }
    encoded = json.dumps(manifest).encode()
    store.put_manifest(encoded, tag="outputs", media_type=outputset.MANIFEST_MEDIA_TYPE)
