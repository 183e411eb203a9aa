"""A real server with the extension in it, over the real service and a queue backend in memory."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import nbformat
import pytest
from openapi_core import OpenAPI
from openapi_core.testing import MockRequest, MockResponse
from pytest_jupyter.jupyter_server import *  # noqa: F403 -- fixtures and hooks for this directory only
from tornado.httpclient import HTTPClientError, HTTPResponse

import jupyterlab_ai_batch
from jupyterlab_ai_batch.app import BatchExtensionApp
from jupyterlab_ai_batch.ledger import Ledger
from jupyterlab_ai_batch.models import Observation, QueueEntry, RunSpec, Submission
from jupyterlab_ai_batch.oci.layout import ImageLayout
from jupyterlab_ai_batch.service import ServiceConfig, SubmissionService
from jupyterlab_ai_batch.wire import from_json
from jupyterlab_ai_batch.words import SubmissionState
from tests.memory_backend import MemoryBackend

WIRE = Path(__file__).parent.parent / "wire"
AUTH_RESOURCE = "ai-batch"


def sample(name: str) -> Any:
    return json.loads((WIRE / name).read_text(encoding="utf-8"))


def utc_now() -> datetime:
    return datetime.now(timezone.utc)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A response, whatever its status."""

    code: int
    headers: Any
    body: bytes
    reason: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        return self.json["error"]


Fetch = Callable[..., Awaitable[Answer]]

API = OpenAPI.from_file_path(str(Path(jupyterlab_ai_batch.__file__).parent / "rest-api.yml"))


def check_contract(method: str, parts: tuple[str, ...], answer: Answer) -> None:
    """Hold an answer to rest-api.yml: its status, its content type, every field of its body."""
    path = "/".join(parts)
    if "outputs/files/" in path:  # a path parameter of OpenAPI holds no slashes
        path = path[: path.index("outputs/files/")] + "outputs/files/one"
    request = MockRequest("http://localhost", method.lower(), f"/ai-batch/v1/{path}")
    response = MockResponse(
        data=answer.body,
        status_code=answer.code,
        headers=dict(answer.headers),
        content_type=answer.headers.get("Content-Type", "").partition(";")[0],
    )
    if answer.body:
        API.validate_response(request, response)


@pytest.fixture
def jp_server_config() -> dict[str, Any]:
    return {"ServerApp": {"jpserver_extensions": {"jupyterlab_ai_batch": True}, "allow_unauthenticated_access": False}}


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend(clock=utc_now)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    path = tmp_path / "ai-batch"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def ledger(data_dir: Path) -> Iterator[Ledger]:
    """A second opening of the ledger, as another process of the user has it."""
    opened = Ledger(data_dir / "ledger.db", clock=utc_now)
    yield opened
    opened.close()


@pytest.fixture
def extension(
    jp_serverapp: Any, jp_root_dir: Path, backend: MemoryBackend, data_dir: Path, ledger: Ledger, jp_asyncio_loop: Any
) -> Iterator[BatchExtensionApp]:
    """The extension of the running server, its service over the memory backend."""
    app: BatchExtensionApp = jp_serverapp.extension_manager.extension_points["jupyterlab_ai_batch"].app
    config = ServiceConfig(
        root_dir=Path(jp_root_dir),
        data_dir=data_dir,
        child_command=(sys.executable, str(Path(__file__).parent / "waiting_child.py")),
    )

    def build(on_change: Callable[[Submission], None]) -> SubmissionService:
        return SubmissionService(
            backend=backend,
            ledger=Ledger(data_dir / "ledger.db", clock=utc_now),
            open_store=lambda: nullcontext(ImageLayout(data_dir / "store")),
            open_layout=ImageLayout,
            config=config,
            clock=utc_now,
            on_change=on_change,
        )

    app.build_service = build
    yield app
    jp_asyncio_loop.run_until_complete(_end_captures(app, ledger))


async def _end_captures(app: BatchExtensionApp, ledger: Ledger) -> None:
    for submission in ledger.active():
        if submission.state is SubmissionState.CAPTURING:
            await (await app.get_service()).cancel(submission.id)
    await app.stop_extension()


@pytest.fixture
def fetch(jp_fetch: Any, extension: BatchExtensionApp) -> Fetch:
    """Ask below ai-batch/v1; errors are answers, too."""

    async def ask(
        *parts: str, method: str = "GET", body: Any = None, params: Any = None, headers: Any = None
    ) -> Answer:
        content = body if body is None or isinstance(body, (str, bytes)) else json.dumps(body)
        if content is None and method == "POST":
            content = ""
        try:
            response: HTTPResponse = await jp_fetch(
                "ai-batch", "v1", *parts, method=method, body=content, params=params or {}, headers=headers or {}
            )
        except HTTPClientError as exc:
            response = exc.response
        answer = Answer(code=response.code, headers=response.headers, body=response.body, reason=response.reason)
        check_contract(method, parts, answer)
        return answer

    return ask


@pytest.fixture
def notebook(jp_root_dir: Path) -> str:
    """API path of a notebook with parameters."""
    cells = [
        nbformat.v4.new_code_cell("quick = True  # 20 s\nepochs = 3", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("print(epochs)"),
    ]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    (Path(jp_root_dir) / "digits").mkdir()
    nbformat.write(
        nbformat.v4.new_notebook(cells=cells, metadata=metadata), Path(jp_root_dir) / "digits" / "train.ipynb"
    )
    return "digits/train.ipynb"


@pytest.fixture
def known(ledger: Ledger, backend: MemoryBackend) -> Callable[..., Submission]:
    """Make the ledger and the backend know a Submission like the sample, with changes."""

    def make(**changes: Any) -> Submission:
        submission = replace(from_json(Submission, sample("submission.json")), observed_at=utc_now(), **changes)
        run = RunSpec(submission_id=submission.id, attempt=1, work_root="/w", notebook="a.ipynb", kernel_name="python3")
        seen = Observation(
            submission_id=submission.id,
            state=submission.state,
            observed_at=submission.observed_at,
            explanation=submission.explanation,
            progress=submission.progress,
            attempts=submission.attempts,
            outputs=submission.outputs,
        )
        backend.put(QueueEntry(submission=submission, snapshot_digest="sha256:00", run=run), seen)
        ledger.create(submission)
        return submission

    return make
