"""routes: who may call what, and how errors map."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import yaml
from tornado.httpclient import HTTPClientError

import jupyterlab_ai_batch
from jupyterlab_ai_batch import errors, models
from jupyterlab_ai_batch.app import BatchExtensionApp
from jupyterlab_ai_batch.errors import BatchError
from jupyterlab_ai_batch.parameters import Parameter
from jupyterlab_ai_batch.routes.base import AUTH_RESOURCE, HTTP_STATUS, error_body, http_status
from jupyterlab_ai_batch.routes.table import HANDLERS
from tests.routes.conftest import Fetch

API = yaml.safe_load((Path(jupyterlab_ai_batch.__file__).parent / "rest-api.yml").read_text(encoding="utf-8"))
VERBS = ("get", "post", "put", "patch", "delete", "head")
ACTIONS = {"get": "read", "post": "write"}

RECORDS = [
    *(
        known
        for name, known in vars(models).items()
        if name in API["components"]["schemas"] and dataclasses.is_dataclass(known)
    ),
    Parameter,
]

ROUTES = [(verb, path) for path, item in API["paths"].items() for verb in VERBS if verb in item]
ORDINARY = [(verb, path) for verb, path in ROUTES if not path.endswith("/stream")]


def served() -> Iterator[tuple[str, str]]:
    """Verb and path, as OpenAPI writes it, of everything that the extension serves."""
    for pattern, handler in HANDLERS:
        path = re.sub(r"\(\?P<(\w+)>.*?\)(?=/|$)", r"{\1}", pattern)
        for verb in VERBS:
            if any(verb in base.__dict__ for base in handler.__mro__ if base.__module__.startswith("jupyterlab_ai")):
                yield verb, path


def url(path: str) -> str:
    return path.replace("{submission_id}", "nobody").replace("{path}", "a/b.txt").removeprefix("/ai-batch/v1/")


def test_description_and_routes_agree() -> None:
    """Every route that is served is described, and the other way round."""
    assert sorted(served()) == sorted(ROUTES)


@pytest.mark.parametrize(("verb", "path"), ORDINARY)
async def test_unauthenticated_is_403(jp_fetch: Any, extension: BatchExtensionApp, verb: str, path: str) -> None:
    """Without a token no route answers anything but 403, in the shape of our errors."""
    with pytest.raises(HTTPClientError) as caught:
        await jp_fetch(
            "ai-batch",
            "v1",
            *url(path).split("/"),
            method=verb.upper(),
            body="{}" if verb == "post" else None,
            headers={"Authorization": "token wrong", "Cookie": "_xsrf=1", "X-XSRFToken": "1"},
            follow_redirects=False,
        )
    body = json.loads(caught.value.response.body)
    assert (caught.value.code, body["error"]["code"]) == (403, "forbidden")


async def test_unauthenticated_websocket_is_403(jp_ws_fetch: Any, extension: BatchExtensionApp) -> None:
    """The log stream asks who is there before it says whether the Submission exists."""
    with pytest.raises(HTTPClientError) as caught:
        await jp_ws_fetch(
            "ai-batch", "v1", "submissions", "nobody", "logs", "stream", headers={"Authorization": "token wrong"}
        )
    assert caught.value.code == 403


class Recorder:
    """An authorizer that writes down what it is asked, and refuses."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    async def is_authorized(self, handler: Any, user: Any, action: str, resource: str) -> bool:
        self.asked.append((action, resource))
        return False


@pytest.mark.parametrize(("verb", "path"), ORDINARY)
async def test_authorizer_decides(fetch: Fetch, jp_serverapp: Any, verb: str, path: str) -> None:
    """Every route asks the authorizer for its action on our resource, and a no is a 403 of our shape."""
    recorder = jp_serverapp.web_app.settings["authorizer"] = Recorder()
    answer = await fetch(*url(path).split("/"), method=verb.upper())
    assert (answer.code, answer.error["code"]) == (403, "forbidden")
    assert recorder.asked == [(ACTIONS[verb], AUTH_RESOURCE)]


async def test_authorizer_decides_about_the_stream(
    jp_ws_fetch: Any, jp_serverapp: Any, extension: BatchExtensionApp
) -> None:
    """The log stream asks for reading before anything else."""
    recorder = jp_serverapp.web_app.settings["authorizer"] = Recorder()
    with pytest.raises(HTTPClientError) as caught:
        await jp_ws_fetch("ai-batch", "v1", "submissions", "nobody", "logs", "stream")
    assert (caught.value.code, recorder.asked) == (403, [("read", AUTH_RESOURCE)])


async def test_foreign_origin_is_refused(jp_ws_fetch: Any, jp_fetch: Any, extension: BatchExtensionApp) -> None:
    """A page of another site can neither read the API nor open the stream with the user's cookie."""
    foreign = {"Origin": "https://elsewhere.example", "Authorization": ""}
    for ask, path in ((jp_ws_fetch, "submissions/nobody/logs/stream"), (jp_fetch, "queues")):
        with pytest.raises(HTTPClientError) as caught:
            await ask("ai-batch", "v1", *path.split("/"), headers=foreign)
        assert caught.value.code in (403, 404)


def subclasses(error: type[BatchError]) -> Iterator[type[BatchError]]:
    for known in error.__subclasses__():
        yield known
        yield from subclasses(known)


@pytest.mark.parametrize("error", list(subclasses(BatchError)), ids=lambda error: error.code)
def test_every_error_has_a_status(error: type[BatchError]) -> None:
    """No error of ours falls through to the plain 500 of the root, but those of the server itself."""
    status = http_status(error)
    assert (status is HTTPStatus.INTERNAL_SERVER_ERROR) == (error is errors.ServerError)
    assert status not in (401, 403, 424, 503)  # Jupyter's own meanings


@pytest.mark.parametrize(
    ("record", "name"), [(record, record.__name__) for record in RECORDS], ids=[record.__name__ for record in RECORDS]
)
def test_schemas_are_the_records(record: type, name: str) -> None:
    """A schema has exactly the fields of its record, and answers carry all of them."""
    schema = API["components"]["schemas"][name]
    names = [field.name for field in dataclasses.fields(record)]
    assert list(schema["properties"]) == names
    assert schema.get("required", names) == names


def test_codes_are_unique() -> None:
    """A code names one class."""
    codes = [error.code for error in subclasses(BatchError)]
    assert sorted(set(codes)) == sorted(codes)


def test_table_of_the_error_tree_is_true() -> None:
    """The tree drawn in errors.py states the statuses that the routes give."""
    drawn = re.findall(r"─ (\w+Error)\s+(\w+)(?:\s+(\d{3}))?", errors.__doc__ or "")
    stated = {name: int(status) for name, _, status in drawn if status}
    assert {name for name, _, _ in drawn} == {error.__name__ for error in subclasses(BatchError)}
    assert stated == {name: int(http_status(getattr(errors, name))) for name in stated}
    assert [(name, code) for name, code, _ in drawn] == [(name, getattr(errors, name).code) for name, _, _ in drawn]
    assert set(HTTP_STATUS) - {BatchError} == {getattr(errors, name) for name in stated if name != "ServerError"}


def test_error_body_is_json_whatever_the_details() -> None:
    """Details travel as JSON, also paths and times."""
    body = error_body(errors.FileUnreadableError("No.", details={"path": Path("/a/b")}))
    assert body["error"]["details"] == {"path": "/a/b"}
