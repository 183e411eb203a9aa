"""routes.submissions: submit, list, read, cancel and repeat over HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jupyterlab_ai_batch.errors import QueueTimeoutError, QueueUnreachableError
from jupyterlab_ai_batch.models import Submission
from jupyterlab_ai_batch.routes.request import MAX_BODY_BYTES
from jupyterlab_ai_batch.words import SubmissionState
from tests.memory_backend import MemoryBackend
from tests.routes.conftest import Fetch

Known = Callable[..., Submission]


async def test_submit_answers_201_with_location(fetch: Fetch, notebook: str, jp_base_url: str) -> None:
    """A new Submission is capturing, and Location names it below the base URL."""
    answer = await fetch("submissions", method="POST", body={"notebook_path": notebook, "parameters": {"epochs": 5}})
    assert (answer.code, answer.json["state"], answer.json["notices"]) == (201, "capturing", [])
    assert answer.json["parameters"] == {"epochs": 5}
    assert answer.headers["Location"] == f"{jp_base_url}ai-batch/v1/submissions/{answer.json['id']}"


async def test_replay_answers_200_with_the_same(fetch: Fetch, notebook: str) -> None:
    """The same Idempotency-Key and body make no second Submission."""
    asked = {"method": "POST", "body": {"notebook_path": notebook}, "headers": {"Idempotency-Key": "abc-1"}}
    first, second = await fetch("submissions", **asked), await fetch("submissions", **asked)
    assert (first.code, second.code, second.json["id"]) == (201, 200, first.json["id"])
    assert second.headers["Location"] == first.headers["Location"]
    assert len((await fetch("submissions")).json["submissions"]) == 1


async def test_reused_key_with_another_body_is_409(fetch: Fetch, notebook: str) -> None:
    """The same key with another body is a conflict."""
    key = {"Idempotency-Key": "abc-1"}
    await fetch("submissions", method="POST", body={"notebook_path": notebook}, headers=key)
    answer = await fetch("submissions", method="POST", body={"notebook_path": notebook, "title": "b"}, headers=key)
    assert (answer.code, answer.error["code"]) == (409, "idempotency_conflict")


@pytest.mark.parametrize("key", ["", "a b", "é", "k" * 201])
async def test_odd_keys_are_refused(fetch: Fetch, notebook: str, key: str) -> None:
    """An Idempotency-Key that is not plain ASCII of a sane length is refused."""
    answer = await fetch(
        "submissions", method="POST", body={"notebook_path": notebook}, headers={"Idempotency-Key": key}
    )
    assert (answer.code, answer.error["code"]) == (400, "invalid_submission")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ("{", 400, "invalid_submission"),
        ("[]", 400, "invalid_submission"),
        ("", 400, "invalid_submission"),
        (b"\xff", 400, "invalid_submission"),
        ("[" * 100_000, 400, "invalid_submission"),
        ('{"parameters": {"epochs": NaN}}', 400, "invalid_submission"),
        ('{"title": "\\ud800"}', 400, "invalid_submission"),
        ({"notebook_path": 7}, 400, "invalid_submission"),
        ({"notebook_path": "missing.ipynb"}, 404, "notebook_missing"),
        ({"notebook_path": "../outside.ipynb"}, 400, "invalid_submission"),
        ({"notebook_path": "digits/train.ipynb", "profile": "moon"}, 400, "profile_unknown"),
        ({"notebook_path": "digits/train.ipynb", "queue": "moon"}, 400, "queue_unknown"),
        ({"notebook_path": "digits/train.ipynb", "parameters": {"epochs": "many"}}, 400, "parameters_invalid"),
        ({"kernel_id": "00000000-0000-0000-0000-000000000000"}, 400, "kernel_unknown"),
    ],
)
async def test_bad_requests_say_why(fetch: Fetch, notebook: str, body: Any, status: int, code: str) -> None:
    """Bad input is a coded error, and nothing is submitted."""
    answer = await fetch("submissions", method="POST", body=body)
    assert (answer.code, answer.error["code"]) == (status, code)
    assert (await fetch("submissions")).json["submissions"] == []


async def test_wrong_type_names_the_field(fetch: Fetch, notebook: str) -> None:
    """A field of the wrong type is named in the message."""
    answer = await fetch("submissions", method="POST", body={"notebook_path": notebook, "max_duration_s": "2h"})
    assert "SubmissionRequest.max_duration_s: expected int" in answer.json["message"]


async def test_large_body_is_413(fetch: Fetch, notebook: str) -> None:
    """A body of more than 1 MiB is refused."""
    body = {"notebook_path": notebook, "title": "x" * MAX_BODY_BYTES}
    answer = await fetch("submissions", method="POST", body=body)
    assert (answer.code, answer.error["code"]) == (413, "body_too_large")


async def test_unknown_fields_are_ignored(fetch: Fetch, notebook: str) -> None:
    """A newer client's fields do not disturb."""
    answer = await fetch("submissions", method="POST", body={"notebook_path": notebook, "colour": "blue"})
    assert answer.code == 201


async def test_page_is_newest_first_and_continues(fetch: Fetch, known: Known) -> None:
    """Pages follow each other by cursor, newest first, without gaps."""
    ids = [known(id=f"s{number}", state=SubmissionState.SUCCEEDED).id for number in range(5)]
    seen, cursor = [], None
    while cursor is not None or not seen:
        params = {"limit": "2", **({"cursor": cursor} if cursor else {})}
        page = (await fetch("submissions", params=params)).json
        seen += [submission["id"] for submission in page["submissions"]]
        cursor = page["next_cursor"]
    assert seen == list(reversed(ids))


async def test_list_filters(fetch: Fetch, known: Known) -> None:
    """State (repeated or comma-separated) and notebook narrow the list."""
    known(id="a", state=SubmissionState.SUCCEEDED, notebook_path="one.ipynb")
    known(id="b", state=SubmissionState.FAILED, notebook_path="two.ipynb")
    known(id="c", state=SubmissionState.CANCELLED, notebook_path="two.ipynb")

    async def ids(params: Any) -> list[str]:
        return [submission["id"] for submission in (await fetch("submissions", params=params)).json["submissions"]]

    assert await ids({"state": "failed"}) == ["b"]
    assert await ids([("state", "failed,cancelled"), ("state", "succeeded")]) == ["c", "b", "a"]
    assert await ids({"notebook": "two.ipynb"}) == ["c", "b"]
    assert await ids({"notebook": "two.ipynb", "state": "cancelled"}) == ["c"]


@pytest.mark.parametrize(
    "params", [{"state": "lost"}, {"limit": "0"}, {"limit": "-1"}, {"limit": "ten"}, {"cursor": "?"}]
)
async def test_bad_queries_are_400(fetch: Fetch, params: Any) -> None:
    """A query argument that makes no sense is a coded 400."""
    answer = await fetch("submissions", params=params)
    assert (answer.code, answer.error["code"]) == (400, "invalid_submission")


async def test_unchanged_list_is_304(fetch: Fetch, known: Known) -> None:
    """A poll that names the ETag it has gets no body when nothing changed."""
    known(state=SubmissionState.SUCCEEDED)
    first = await fetch("submissions")
    again = await fetch("submissions", headers={"If-None-Match": first.headers["Etag"]})
    assert (first.code, again.code, again.body) == (200, 304, b"")


async def test_get_is_the_record(fetch: Fetch, known: Known) -> None:
    """One Submission is read with every field of the record."""
    submission = known(state=SubmissionState.SUCCEEDED)
    answer = await fetch("submissions", submission.id)
    assert (answer.code, answer.json["title"], answer.json["parameters"]) == (
        200,
        submission.title,
        dict(submission.parameters),
    )


async def test_unknown_id_is_404(fetch: Fetch) -> None:
    """An id that nobody knows is a coded 404 for every verb on it."""
    one = ("submissions", "nobody")
    answers = [
        await fetch(*one),
        await fetch(*one, "cancel", method="POST"),
        await fetch(*one, "resubmit", method="POST"),
        await fetch(*one, "manifest"),
        await fetch(*one, "logs"),
        await fetch(*one, "outputs"),
        await fetch(*one, "outputs", "collect", method="POST"),
        await fetch(*one, "outputs", "files", "a.txt"),
    ]
    assert [(answer.code, answer.error["code"]) for answer in answers] == [(404, "submission_not_found")] * len(answers)


async def test_cancel_a_capture(fetch: Fetch, notebook: str) -> None:
    """Cancelling while capturing ends it as cancelled."""
    submitted = await fetch("submissions", method="POST", body={"notebook_path": notebook})
    answer = await fetch("submissions", submitted.json["id"], "cancel", method="POST")
    assert (answer.code, answer.json["state"]) == (200, "cancelled")


async def test_cancel_what_has_run_is_409(fetch: Fetch, known: Known) -> None:
    """There is nothing to cancel once it has run."""
    answer = await fetch("submissions", known(state=SubmissionState.SUCCEEDED).id, "cancel", method="POST")
    assert (answer.code, answer.error["code"]) == (409, "submission_state")


async def test_resubmit_makes_a_new_one(fetch: Fetch, notebook: str) -> None:
    """Repeating answers 201 with another id, the same notebook and parameters."""
    body = {"notebook_path": notebook, "parameters": {"epochs": 7}}
    first = (await fetch("submissions", method="POST", body=body)).json
    answer = await fetch("submissions", first["id"], "resubmit", method="POST")
    assert answer.code == 201
    assert answer.json["id"] != first["id"]
    assert (answer.json["notebook_path"], answer.json["parameters"]) == (notebook, {"epochs": 7})
    assert answer.headers["Location"].endswith(answer.json["id"])


async def test_manifest_of_a_local_submission_is_409(fetch: Fetch, known: Known) -> None:
    """A queue without a cluster has no manifest, and says so."""
    answer = await fetch("submissions", known(state=SubmissionState.SUCCEEDED).id, "manifest")
    assert (answer.code, answer.error["code"]) == (409, "submission_state")
    assert answer.error["hint"]


async def test_manifest_is_yaml(fetch: Fetch, known: Known, backend: MemoryBackend) -> None:
    """As it is, in the words of the cluster."""
    backend.yaml = "kind: Job\n"
    answer = await fetch("submissions", known(state=SubmissionState.RUNNING).id, "manifest")
    assert (answer.code, answer.body) == (200, b"kind: Job\n")
    assert answer.headers["Content-Type"] == "application/yaml; charset=UTF-8"


@pytest.mark.parametrize(
    ("error", "status"), [(QueueUnreachableError("No answer."), 502), (QueueTimeoutError("No answer in time."), 504)]
)
async def test_silent_queue_is_502_or_504(
    fetch: Fetch, notebook: str, backend: MemoryBackend, error: Exception, status: int
) -> None:
    """A queue that does not answer is a gateway error that may be retried, never 401, 403 or 503."""
    backend.failure = error
    answer = await fetch("submissions", method="POST", body={"notebook_path": notebook})
    assert (answer.code, answer.error["retryable"]) == (status, True)


async def test_unexpected_error_shows_nothing(fetch: Fetch, notebook: str, backend: MemoryBackend) -> None:
    """An error that nobody foresaw is a 500 without its text or a traceback."""
    backend.failure = RuntimeError("the secret is swordfish")
    answer = await fetch("queues")
    assert (answer.code, answer.error["code"], answer.reason) == (500, "internal_error", "Internal Server Error")
    assert b"swordfish" not in answer.body
    assert b"Traceback" not in answer.body


async def test_reason_is_the_standard_one(fetch: Fetch) -> None:
    """The HTTP status line never carries text of a user."""
    assert (await fetch("submissions", "nobody")).reason == "Not Found"


async def test_polling_is_no_activity(fetch: Fetch, jp_serverapp: Any) -> None:
    """A poll with no_track_activity leaves the server's activity as it was; another request does not."""
    settings = jp_serverapp.web_app.settings
    await fetch("submissions")
    before = settings["api_last_activity"]
    await fetch("submissions", params={"no_track_activity": "1"})
    assert settings["api_last_activity"] == before
    await fetch("submissions")
    assert settings["api_last_activity"] > before


async def test_page_of_100_is_quick(fetch: Fetch, known: Known, jp_serverapp: Any) -> None:
    """A page of 100 among more takes the server at most 10 ms, the best of several on a busy machine."""
    for number in range(300):
        known(id=f"s{number}", state=SubmissionState.SUCCEEDED)
    times: list[float] = []
    jp_serverapp.web_app.settings["log_function"] = lambda handler: times.append(handler.request.request_time())
    for _ in range(12):
        answer = await fetch("submissions", params={"limit": "100"})
    assert len(answer.json["submissions"]) == 100
    assert min(times) <= 0.010


async def test_events_tell_about_changes(fetch: Fetch, notebook: str, jp_serverapp: Any, extension: Any) -> None:
    """Every change of a Submission is announced with its id and state."""
    import asyncio

    announced: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def listen(logger: Any, schema_id: str, data: dict[str, Any]) -> None:
        await announced.put(data)

    logger = jp_serverapp.event_logger
    logger.add_listener(schema_id="https://events.jupyter.org/jupyterlab_ai_batch/submission/v1", listener=listen)
    submitted = (await fetch("submissions", method="POST", body={"notebook_path": notebook})).json
    told = await asyncio.wait_for(announced.get(), 10)
    await logger.gather_listeners()
    assert (told["submission_id"], told["state"]) == (submitted["id"], "capturing")


async def test_service_that_cannot_start_is_a_coded_error(fetch: Fetch, extension: Any, tmp_path: Path) -> None:
    """A data directory that cannot be used is a coded error at every request, until it is mended."""
    from jupyterlab_ai_batch.compose import build_config, build_service

    place = tmp_path / "elsewhere"
    place.write_text("a file where the directory should be")
    extension.build_service = lambda on_change: build_service(
        build_config({}, root_dir=tmp_path, data_dir=place, environ={}), environ={}, on_change=on_change
    )
    refused = [await fetch("submissions") for _ in range(2)]
    assert [(answer.code, answer.error["code"]) for answer in refused] == [(507, "storage_failed")] * 2
    place.unlink()
    assert (await fetch("submissions")).code == 200


def test_samples_are_what_is_served() -> None:
    """The sample of an error has the status table's code."""
    from jupyterlab_ai_batch.errors import NotebookMissingError

    sample = json.loads((Path(__file__).parent.parent / "wire" / "error.json").read_text())
    assert sample["error"]["code"] == NotebookMissingError.code
