"""What the Kueue backend reads from a real registry: histories, OutputSets, logs."""

import hashlib
import io
from datetime import datetime, timedelta, timezone

import pytest

from jupyterlab_ai_batch.models import OutputFile, OutputSet
from jupyterlab_ai_batch.oci import outputset
from jupyterlab_ai_batch.oci.layout import ImageLayout
from jupyterlab_ai_batch.oci.outputset import outputs_tag, read_output_set, store_output_set
from jupyterlab_ai_batch.oci.port import MANIFEST_MEDIA_TYPE
from jupyterlab_ai_batch.oci.reference import parse_reference
from jupyterlab_ai_batch.oci.registry import connect
from jupyterlab_ai_batch.queues.kueue import history
from jupyterlab_ai_batch.queues.kueue.fetching import fetch_outputs, forget_outputs, outputs_here
from jupyterlab_ai_batch.queues.kueue.history import History, read_history
from jupyterlab_ai_batch.words import FileChange, OutputsState
from tests.registries import RegistryServer

T0 = datetime(2026, 11, 20, 10, tzinfo=timezone.utc)
LOG = b"hello\n"


@pytest.fixture
def repository(tmp_path):
    with (
        RegistryServer(tmp_path / "registry") as server,
        connect(parse_reference(f"{server.host}/users/alice")) as registry,
    ):
        yield registry


def push(repository, attempt, names=(), *, complete=False, submission_id="s1", tag=None, **fields):
    """An OutputSet whose files hold their own names."""
    files = tuple(
        OutputFile(
            path=name, change=FileChange.NEW, size_bytes=len(name), sha256=hashlib.sha256(name.encode()).hexdigest()
        )
        for name in names
    )
    output_set = OutputSet(
        submission_id=submission_id,
        attempt=attempt,
        complete=complete,
        stored_at=T0 + timedelta(minutes=attempt, milliseconds=250),
        executed_notebook="a.ipynb",
        files=files,
        **fields,
    )
    store_output_set(
        repository,
        output_set,
        lambda file: io.BytesIO(file.path.encode()),
        tag=tag or outputs_tag(submission_id, attempt),
        open_log_content=lambda: io.BytesIO(LOG),
    )


def test_history_has_every_attempt(repository):
    """Attempts in their order, of this Submission only; a claim alone is nothing to bring home."""
    log = {"log_sha256": hashlib.sha256(LOG).hexdigest(), "log_bytes": len(LOG)}
    push(repository, 1, ["a", "b"], pod_uid="pod-1", **log)
    push(repository, 2, pod_uid="pod-2")
    push(repository, 1, ["x"], submission_id="s1-1", complete=True)
    push(repository, 1, ["x"], submission_id="other", tag=outputs_tag("s1", 3))
    repository.put_manifest(
        repository.get_manifest(outputs_tag("s1", 2))[0], tag="latest", media_type=MANIFEST_MEDIA_TYPE
    )
    found = read_history(repository, "s1", known=History())
    assert [(1, "pod-1", True), (2, "pod-2", False)] == [
        (stored.attempt.number, stored.pod_uid, stored.has_files) for stored in found.stored
    ]
    newest = found.newest
    assert (1, OutputsState.PARTIAL, 2, 2, log["log_sha256"]) == (
        newest.attempt.number,
        newest.outputs.state,
        newest.outputs.files,
        newest.outputs.bytes,
        newest.log_sha256,
    )
    assert T0 + timedelta(minutes=1) == newest.attempt.started_at


def test_what_is_known_is_not_read_again(repository, monkeypatch):
    """Only the OutputSet that changed is read; when it began stays what was heard first."""
    push(repository, 1, ["a"])
    push(repository, 2)
    before = read_history(repository, "s1", known=History())
    push(repository, 2, ["c"], complete=True, skipped=(("d", "gone"),))
    read = []
    monkeypatch.setattr(
        history, "read_output_set", lambda store, digest: read.append(digest) or read_output_set(store, digest)
    )
    after = read_history(repository, "s1", known=before)
    assert (1, before.stored[0], before.stored[1].attempt.started_at, OutputsState.AVAILABLE) == (
        len(read),
        after.stored[0],
        after.stored[1].attempt.started_at,
        after.newest.outputs.state,
    )


@pytest.mark.parametrize("count", [0, 3, 20])
def test_outputs_come_here(repository, tmp_path, monkeypatch, count):
    """A whole OutputSet, of one manifest or of several, can be read when the registry is gone; and let go."""
    monkeypatch.setattr(outputset, "FILES_PER_MANIFEST", 6)
    push(repository, 1, [f"f{number}" for number in range(count)], complete=True)
    newest = read_history(repository, "s1", known=History()).newest
    layout = ImageLayout(tmp_path / "here")
    assert outputs_here(layout, "s1") is None
    fetch_outputs(repository, layout, "s1", newest.digest, is_final=False)
    assert outputs_here(layout, "s1") is None
    fetched = fetch_outputs(repository, layout, "s1", newest.digest, is_final=True)
    repository.close()
    stored = outputs_here(layout, "s1")
    assert fetched == stored
    assert (newest.digest, count) == (stored.manifest_digest, len(stored.output_set.files))
    for file in stored.output_set.files[:5]:
        assert file.path.encode() == layout.read_blob(f"sha256:{file.sha256}", limit_bytes=100)
    assert {"final-s1", "latest-s1"} == set(layout.tag_names())
    forget_outputs(layout, "s1")
    assert [] == list(layout.tag_names())
