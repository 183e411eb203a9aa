"""OutputSets in a store: what is written can be read, and nothing hostile can."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyterlab_ai_batch import wire
from jupyterlab_ai_batch.errors import SnapshotCorruptError
from jupyterlab_ai_batch.models import OutputFile, OutputSet
from jupyterlab_ai_batch.oci import outputset
from jupyterlab_ai_batch.oci.layout import ImageLayout
from jupyterlab_ai_batch.oci.mentions import mentioned
from jupyterlab_ai_batch.oci.outputset import (
    CHANGED_MEANWHILE,
    open_log,
    outputs_tag,
    parse_outputs_tag,
    read_output_set,
    store_output_set,
)
from jupyterlab_ai_batch.oci.reference import is_tag
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


class InMemory(ImageLayout):
    """Blobs without waiting for a disk."""

    def __init__(self, path):
        super().__init__(path)
        self.contents = {}

    def has_blob(self, digest):
        return digest in self.contents

    def put_blob(self, content):
        digest = f"sha256:{sha(content)}"
        self.contents[digest] = content
        return digest, len(content)

    @contextlib.contextmanager
    def write_blob(self):
        yield _Writer(self)

    def read_blob(self, digest, *, limit_bytes):
        return self.contents[digest]

    def put_manifest(self, manifest, *, tag, media_type):
        assert all(found.digest in self.contents for found in mentioned(manifest))
        self.contents[tag] = manifest
        return self.put_blob(manifest)[0]

    def get_manifest(self, reference):
        return self.contents[reference], reference


class _Writer(io.BytesIO):
    def __init__(self, store):
        super().__init__()
        self.store = store

    def commit(self):
        return self.store.put_blob(self.getvalue())


def test_as_many_files_as_a_manifest_takes(tmp_path):
    """Several thousand, each with its own content, and the log: no manifest names more than stores take."""
    store = InMemory(tmp_path)
    count = 2 * outputset.FILES_PER_MANIFEST
    stored = with_log(output_set(*(new_file(f"f{i}", b"%d" % i) for i in range(count))), b"log")
    store_output_set(store, stored, lambda file: io.BytesIO(file.path[1:].encode()), open_log_content=log_of(b"log"))
    assert read_output_set(store)[0] == stored


def test_an_output_set_without_files(store):
    """Its manifest still has a layer, which some registries insist on."""
    store_output_set(store, output_set(complete=False), Contents())
    assert read_output_set(store) == (output_set(complete=False), {})
    assert len(json.loads(store.get_manifest("outputs")[0])["layers"]) == 1


def with_log(stored: OutputSet, log: bytes) -> OutputSet:
    return replace(stored, log_sha256=sha(log), log_bytes=len(log))


def log_of(log: bytes) -> Any:
    return lambda: io.BytesIO(log)


def test_log_round_trip(store):
    """The log comes back; it is kept by garbage collection, and is no file."""
    stored = with_log(output_set(new_file("a", b"A")), b"one\ntwo\n")
    kept, _ = store_output_set(store, stored, Contents(a=b"A"), open_log_content=log_of(b"one\ntwo\n"))
    store.collect_garbage(grace_s=-60)
    found, blobs = read_output_set(store)
    assert found == kept == stored
    assert list(blobs) == ["a"]
    with open_log(store, found) as log:
        assert log.read() == b"one\ntwo\n"


def test_no_log(store):
    """Where none was kept, there is nothing in it."""
    store_output_set(store, output_set(), Contents())
    with open_log(store, read_output_set(store)[0]) as log:
        assert log.read() == b""


def test_a_log_with_the_bytes_of_a_file(store):
    """Is one blob with it."""
    stored = with_log(output_set(new_file("a", b"A")), b"A")
    store_output_set(store, stored, Contents(a=b"A"), open_log_content=log_of(b"never read"))
    with open_log(store, read_output_set(store)[0]) as log:
        assert log.read() == b"A"


@pytest.mark.parametrize("content", [b"other", b"", None])
def test_a_log_that_cannot_be_stored_is_left_out(store, content):
    """Somebody wrote into it, or took it away: the files come home all the same."""

    def open_content() -> io.BytesIO:
        if content is None:
            raise FileNotFoundError
        return io.BytesIO(content)

    stored = with_log(output_set(new_file("a", b"A")), b"the log")
    kept, _ = store_output_set(store, stored, Contents(a=b"A"), open_log_content=open_content)
    assert (kept.log_sha256, kept.log_bytes, kept.files) == ("", 0, stored.files)
    assert read_output_set(store)[0] == kept


def test_a_log_that_is_gone_is_told(store):
    """Opening it says so."""
    with pytest.raises(SnapshotCorruptError):
        open_log(store, with_log(output_set(), b"the log"))


@pytest.mark.parametrize(
    "fields",
    [
        {"log_sha256": "../../x", "log_bytes": 1},
        {"log_sha256": sha(b"A"), "log_bytes": -1},
        {"log_sha256": sha(b"A"), "log_bytes": 1 << 40},
        {"log_sha256": sha(b"a blob that the manifest does not name"), "log_bytes": 1},
    ],
)
def test_hostile_log_is_refused(store, fields):
    """What a job could write to show another blob as its log."""
    put_raw(store, replace(output_set(), **fields))
    with pytest.raises(SnapshotCorruptError):
        read_output_set(store)


@pytest.mark.parametrize("fields", [{"log_sha256": 5}, {"log_bytes": "5"}, {"pod_uid": None}])
def test_fields_of_another_type_are_refused(store, fields):
    """As every field of a record."""
    put_config(store, json.dumps({**wire.to_json(output_set()), **fields}).encode(), [])
    with pytest.raises(SnapshotCorruptError):
        read_output_set(store)


def test_an_older_output_set_can_be_read(store):
    """Without the fields that came later."""
    old = wire.to_json(output_set())
    for name in ("pod_uid", "log_sha256", "log_bytes"):
        del old[name]
    put_config(store, json.dumps(old).encode(), [])
    assert read_output_set(store)[0] == output_set()


def test_what_is_raised_before_naming_leaves_the_tag(store):
    """Everything is there then, and the earlier OutputSet stays."""
    store_output_set(store, output_set(new_file("a", b"A")), Contents(a=b"A"))

    def refuse() -> None:
        assert store.has_blob(f"sha256:{sha(b'B')}")
        raise KeyError

    with pytest.raises(KeyError):
        store_output_set(store, output_set(new_file("b", b"B")), Contents(b=b"B"), before_naming=refuse)
    assert [file.path for file in read_output_set(store)[0].files] == ["a"]


@given(st.from_regex(r"[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,63}", fullmatch=True), st.integers(1, 10**9 - 1))
def test_a_tag_says_whose_attempt_it_is(submission_id, attempt):
    """There and back; registries take it."""
    tag = outputs_tag(submission_id, attempt)
    assert parse_outputs_tag(tag) == (submission_id, attempt)
    assert is_tag(tag)


@pytest.mark.parametrize(
    "tag",
    ["outputs", "outputs-", "outputs-1a2b", "outputs-1a2b-", "outputs-1a2b-0", "outputs-1a2b-01", "outputs--1", "",
     "outputs-1a2b-1\n", "outputs-1a2b-\u0661", "snapshot-1a2b-1", "xoutputs-1a2b-1", "outputs-1a2b-1.part2",
     "outputs-1a2b-" + "9" * 30],
)  # fmt: skip
def test_other_tags_are_none(tag):
    """Whatever else users and programs keep in a repository."""
    assert parse_outputs_tag(tag) is None


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
