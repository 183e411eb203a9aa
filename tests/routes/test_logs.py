"""routes.logs: pieces by offset, and the stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tornado.httpclient import HTTPClientError

from jupyterlab_ai_batch.errors import QueueUnreachableError
from jupyterlab_ai_batch.models import Submission
from jupyterlab_ai_batch.words import SubmissionState
from tests.memory_backend import MemoryBackend
from tests.routes.conftest import Fetch, sample

Known = Callable[..., Submission]
TEXT = sample("log.json")["text"] * 3


async def read_all(socket: Any) -> list[Any]:
    """Every message until the server closes."""
    messages = []
    while (text := await asyncio.wait_for(socket.read_message(), 10)) is not None:
        messages.append(json.loads(text))
    return messages


@pytest.fixture
def stream(jp_ws_fetch: Any, extension: Any) -> Iterator[Callable[..., Any]]:
    """Open the log stream of a Submission."""
    opened: list[Any] = []

    async def connect(submission_id: str, **params: Any) -> Any:
        socket = await jp_ws_fetch("ai-batch", "v1", "submissions", submission_id, "logs", "stream", params=params)
        opened.append(socket)
        return socket

    yield connect
    for socket in opened:
        socket.close()


async def test_read_from_offset(fetch: Fetch, known: Known, backend: MemoryBackend) -> None:
    """A piece starts at the byte asked for, and says where to go on."""
    submission = known(state=SubmissionState.SUCCEEDED)
    backend.write_log(submission.id, b"0123456789", attempt=2)
    params = {"offset": "4", "limit_bytes": "3"}
    assert (await fetch("submissions", submission.id, "logs", params=params)).json == {
        "attempt": 2,
        "text": "456",
        "offset": 4,
        "next_offset": 7,
        "complete": False,
    }


async def test_read_an_attempt(fetch: Fetch, known: Known, backend: MemoryBackend) -> None:
    """An earlier Attempt's log is read by its number; a number that is none is a 404."""
    submission = known(state=SubmissionState.SUCCEEDED)
    backend.write_log(submission.id, b"first", attempt=1)
    backend.write_log(submission.id, b"second", attempt=2)
    assert (await fetch("submissions", submission.id, "logs", params={"attempt": "1"})).json["text"] == "first"
    assert (await fetch("submissions", submission.id, "logs", params={"attempt": "7"})).code == 404


@pytest.mark.parametrize("params", [{"offset": "-1"}, {"offset": "x"}, {"attempt": "0"}, {"limit_bytes": "0"}])
async def test_bad_queries_are_400(fetch: Fetch, known: Known, params: Any) -> None:
    """Numbers that make no sense are a coded 400."""
    answer = await fetch("submissions", known(state=SubmissionState.SUCCEEDED).id, "logs", params=params)
    assert (answer.code, answer.error["code"]) == (400, "invalid_submission")


async def test_stream_sends_all_and_closes(stream: Any, known: Known, backend: MemoryBackend) -> None:
    """A complete log arrives whole, the last chunk says so, and the socket closes normally."""
    submission = known(state=SubmissionState.SUCCEEDED)
    backend.write_log(submission.id, TEXT.encode())
    socket = await stream(submission.id)
    messages = await read_all(socket)
    assert "".join(message["text"] for message in messages) == TEXT
    assert [message["complete"] for message in messages][-1] is True
    assert (socket.close_code, socket.close_reason) == (1000, "complete")


async def test_stream_resumes_by_offset(stream: Any, known: Known, backend: MemoryBackend) -> None:
    """Connecting again with next_offset continues without a gap or a repetition."""
    submission = known(state=SubmissionState.SUCCEEDED)
    backend.write_log(submission.id, TEXT.encode())
    messages = await read_all(await stream(submission.id, offset=25))
    assert messages[0]["offset"] == 25
    assert "".join(message["text"] for message in messages) == TEXT.encode()[25:].decode()


async def test_stream_follows_a_growing_log(stream: Any, known: Known, backend: MemoryBackend) -> None:
    """What the job writes later arrives later, on the same socket."""
    submission = known()
    backend.write_log(submission.id, b"one\n", attempt=2, complete=False)
    socket = await stream(submission.id)
    assert json.loads(await asyncio.wait_for(socket.read_message(), 10))["text"] == "one\n"
    backend.write_log(submission.id, b"one\ntwo\n", attempt=2, complete=True)
    assert [message["text"] for message in await read_all(socket)] == ["two\n"]


async def test_stream_of_an_unknown_id_is_404(stream: Any) -> None:
    """An id that nobody knows is refused before there is a websocket."""
    with pytest.raises(HTTPClientError) as caught:
        await stream("nobody")
    assert (caught.value.code, json.loads(caught.value.response.body)["error"]["code"]) == (404, "submission_not_found")


async def test_stream_tells_why_it_ends(stream: Any, known: Known, backend: MemoryBackend) -> None:
    """A failure on the way is one message of the error shape, then close code 1011."""
    submission = known()
    backend.write_log(submission.id, b"one\n", attempt=2, complete=False)
    socket = await stream(submission.id)
    await asyncio.wait_for(socket.read_message(), 10)
    backend.failure = QueueUnreachableError("No answer.")
    (message,) = await read_all(socket)
    assert (message["error"]["code"], socket.close_code) == ("queue_unreachable", 1011)


async def test_stream_stops_reading_when_the_reader_leaves(stream: Any, known: Known, backend: MemoryBackend) -> None:
    """Once the browser is gone, nobody reads the log any more."""
    submission = known()
    backend.write_log(submission.id, b"one\n", attempt=2, complete=False)
    socket = await stream(submission.id)
    await asyncio.wait_for(socket.read_message(), 10)
    socket.close()
    await asyncio.wait_for(no_pump_left(), 10)


async def no_pump_left() -> None:
    while any("_send_log" in repr(task.get_coro()) for task in asyncio.all_tasks()):
        await asyncio.sleep(0.01)


async def test_stream_is_no_activity(stream: Any, known: Known, backend: MemoryBackend, jp_serverapp: Any) -> None:
    """Watching a log does not keep an idle server alive."""
    submission = known(state=SubmissionState.SUCCEEDED)
    backend.write_log(submission.id, b"one\n")
    before = jp_serverapp.web_app.settings.get("api_last_activity")
    await read_all(await stream(submission.id))
    assert jp_serverapp.web_app.settings.get("api_last_activity") == before
