"""routes.outputs: the OutputSet, bringing it home, and downloads."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jupyterlab_ai_batch.models import OutputFile, OutputSet, Submission
from jupyterlab_ai_batch.oci.layout import ImageLayout
from jupyterlab_ai_batch.oci.outputset import store_output_set
from jupyterlab_ai_batch.queues.port import StoredOutputs
from jupyterlab_ai_batch.words import FileChange, SubmissionState
from tests.memory_backend import MemoryBackend
from tests.routes.conftest import Fetch, utc_now

Known = Callable[..., Submission]
CONTENTS = {
    "out/big.bin": bytes(range(256)) * 4096,
    "out/page.html": b"<script>alert(1)</script>",
    "out/z\u00e4h & sch\u00f6n.txt": "zäh".encode(),
    "out/not-utf8-\udcff.txt": b"x",
    "a.ipynb": b"{}",
}


def output_file(path: str, content: bytes) -> OutputFile:
    digest = hashlib.sha256(content).hexdigest()
    return OutputFile(path=path, change=FileChange.NEW, size_bytes=len(content), sha256=digest)


@pytest.fixture
def finished(known: Known, backend: MemoryBackend, tmp_path: Path) -> Submission:
    """A finished Submission with stored outputs."""
    submission = known(state=SubmissionState.FAILED)
    files = [output_file(path, content) for path, content in CONTENTS.items()]
    target = hashlib.sha256(b"page.html").hexdigest()
    files += [
        OutputFile(path="out/gone.txt", change=FileChange.DELETED, base_sha256="0" * 64),
        OutputFile(path="out/link", change=FileChange.NEW, sha256=target, size_bytes=9, link_target="page.html"),
    ]
    output_set = OutputSet(
        submission_id=submission.id,
        attempt=1,
        complete=True,
        stored_at=utc_now(),
        executed_notebook="a.ipynb",
        files=tuple(files),
    )
    stored, digest = store_output_set(
        ImageLayout(tmp_path / "outbox"), output_set, lambda file: io.BytesIO(CONTENTS[file.path])
    )
    assert stored == output_set
    backend.store_outputs(
        submission.id, StoredOutputs(output_set=stored, layout=tmp_path / "outbox", manifest_digest=digest)
    )
    return submission


async def test_outputs_are_listed(fetch: Fetch, finished: Submission) -> None:
    """The OutputSet names every file, also one whose name is not UTF-8."""
    answer = await fetch("submissions", finished.id, "outputs")
    assert answer.code == 200
    assert [file["path"] for file in answer.json["files"]] == [*CONTENTS, "out/gone.txt", "out/link"]


@pytest.mark.parametrize("path", ["out/big.bin", "out/page.html", "out/z\u00e4h & sch\u00f6n.txt", "a.ipynb"])
async def test_file_is_a_download(fetch: Fetch, finished: Submission, path: str) -> None:
    """A file comes byte for byte, as an attachment that no browser shows or sniffs."""
    answer = await fetch("submissions", finished.id, "outputs", "files", *path.split("/"))
    assert (answer.code, answer.body) == (200, CONTENTS[path])
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"] == "sandbox; default-src 'none'; frame-ancestors 'none'"
    assert answer.headers["Content-Disposition"].startswith("attachment; filename*=UTF-8''")


async def test_name_in_the_header_is_encoded(fetch: Fetch, finished: Submission) -> None:
    """Spaces, quotes and umlauts of a name never reach the header as they are."""
    answer = await fetch("submissions", finished.id, "outputs", "files", "out", "z\u00e4h & sch\u00f6n.txt")
    assert answer.headers["Content-Disposition"] == "attachment; filename*=UTF-8''z%C3%A4h%20%26%20sch%C3%B6n.txt"


async def test_name_that_is_not_utf8(
    finished: Submission, extension: Any, http_server_client: Any, jp_auth_header: Any, jp_base_url: str
) -> None:
    """A name that is not UTF-8 is asked for, and given, by its bytes."""
    url = f"{jp_base_url}ai-batch/v1/submissions/{finished.id}/outputs/files/out/not-utf8-%FF.txt"
    answer = await http_server_client.fetch(url, headers=jp_auth_header)
    assert answer.body == b"x"
    assert answer.headers["Content-Disposition"] == "attachment; filename*=UTF-8''not-utf8-%FF.txt"


NO_OUTPUTS = ("out/gone.txt", "out/link", "out", "no", "../ledger.db", "out/../a.ipynb", "/etc/passwd")


@pytest.mark.parametrize("path", NO_OUTPUTS)
async def test_what_is_no_output_is_404(fetch: Fetch, finished: Submission, path: str) -> None:
    """Only a path that the OutputSet names is served; the file system is never asked."""
    answer = await fetch("submissions", finished.id, "outputs", "files", path.replace("/", "%2F"))
    assert answer.code == 404


async def test_no_outputs_yet(fetch: Fetch, known: Known) -> None:
    """Before the first checkpoint there is nothing, and the answer says so."""
    answer = await fetch("submissions", known().id, "outputs")
    assert (answer.code, answer.error["code"]) == (404, "output_missing")


async def test_collect_while_running_is_409(fetch: Fetch, known: Known) -> None:
    """Files of a running job stay where they are."""
    answer = await fetch("submissions", known().id, "outputs", "collect", method="POST", body={"dry_run": True})
    assert (answer.code, answer.error["code"]) == (409, "submission_state")


async def test_collect_wants_booleans(fetch: Fetch, finished: Submission) -> None:
    """A dry run that is not a boolean is refused rather than carried out."""
    answer = await fetch("submissions", finished.id, "outputs", "collect", method="POST", body={"dry_run": "yes"})
    assert (answer.code, answer.error["code"]) == (400, "invalid_submission")
