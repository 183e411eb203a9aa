"""routes: submitting from a kernel, saving first, and what a notebook can be asked with."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from jupyterlab_ai_batch.app import SAVE_REQUEST_EVENT
from jupyterlab_ai_batch.errors import KernelUnknownError
from jupyterlab_ai_batch.routes.kernels import find_notebook
from jupyterlab_ai_batch.routes.saves import SaveRequests
from jupyterlab_ai_batch.routes.submissions import UNSAVED_NOTICE
from tests.routes.conftest import Fetch, sample

KERNEL = "0a1b2c3d-0000-0000-0000-000000000000"


class Sessions:
    """A session manager that knows what it is told."""

    def __init__(self, *sessions: dict[str, Any]) -> None:
        self._sessions = list(sessions)

    async def list_sessions(self) -> list[dict[str, Any]]:
        return self._sessions


def session(path: str, kernel_id: str = KERNEL, kind: str = "notebook") -> dict[str, Any]:
    return {"path": path, "type": kind, "kernel": {"id": kernel_id}}


@pytest.fixture
def session_of_notebook(jp_serverapp: Any, notebook: str) -> str:
    """The server knows KERNEL as the kernel of ``notebook``, opened through the collaboration drive."""
    jp_serverapp.web_app.settings["session_manager"] = Sessions(
        session("other.ipynb", "f" * 36), session("console", kind="console"), session(f"RTC:{notebook}")
    )
    return notebook


@pytest.mark.parametrize("path", ["a.ipynb", "sub dir/b.ipynb", "RTC:sub dir/b.ipynb"])
async def test_notebook_of_a_kernel(path: str) -> None:
    """The kernel's notebook is its session's, without the collaboration drive."""
    found = await find_notebook(Sessions(session("x", "other"), session(path)), KERNEL)
    assert found == path.removeprefix("RTC:")


NOT_ITS_NOTEBOOK: tuple[list[Any], ...] = (
    [],
    [session("a", "other")],
    [session("a", kind="console")],
    [{"path": "a", "type": "notebook", "kernel": None}],
)


@pytest.mark.parametrize("sessions", NOT_ITS_NOTEBOOK)
async def test_kernel_without_notebook(sessions: list[Any]) -> None:
    """A kernel that runs for no notebook is an error with a way out."""
    with pytest.raises(KernelUnknownError):
        await find_notebook(Sessions(*sessions), KERNEL)


async def test_submit_from_a_kernel_without_browser(fetch: Fetch, session_of_notebook: str) -> None:
    """When nobody listens, the copy on disk is submitted at once, and the answer says so."""
    answer = await fetch("submissions", method="POST", body={"kernel_id": KERNEL})
    assert (answer.code, answer.json["notebook_path"]) == (201, session_of_notebook)
    assert answer.json["notices"] == [UNSAVED_NOTICE]


Browser = Callable[[Any, str, dict[str, Any]], Awaitable[None]]


async def test_submit_from_a_kernel_with_browser(fetch: Fetch, session_of_notebook: str, jp_serverapp: Any) -> None:
    """A browser that saves and answers is waited for; nothing is left to say."""
    asked: list[str] = []

    async def browser(logger: Any, schema_id: str, data: dict[str, Any]) -> None:
        asked.append(data["notebook_path"])
        answer = await fetch("notebooks", "saved", method="POST", body={"request_id": data["request_id"]})
        assert answer.code == 204

    jp_serverapp.event_logger.add_listener(schema_id=SAVE_REQUEST_EVENT, listener=browser)
    answer = await fetch("submissions", method="POST", body={"kernel_id": KERNEL})
    await jp_serverapp.event_logger.gather_listeners()
    assert (answer.code, answer.json["notices"], asked) == (201, [], [session_of_notebook])


async def test_browser_that_does_not_answer(
    fetch: Fetch, session_of_notebook: str, jp_serverapp: Any, extension: Any
) -> None:
    """A listener that never answers costs the wait, not the Submission."""

    async def deaf(logger: Any, schema_id: str, data: dict[str, Any]) -> None:
        pass

    jp_serverapp.web_app.settings["ai_batch_saves"] = SaveRequests(extension._emit_save_request, wait_s=0.05)
    jp_serverapp.event_logger.add_listener(schema_id=SAVE_REQUEST_EVENT, listener=deaf)
    answer = await fetch("submissions", method="POST", body={"kernel_id": KERNEL})
    assert (answer.code, answer.json["notices"]) == (201, [UNSAVED_NOTICE])


async def test_save_requests_do_not_pile_up() -> None:
    """Asked for or not, answered or not: nothing is kept of a request that is over."""
    asked: list[str] = []
    saves = SaveRequests(lambda request_id, path: asked.append(request_id) is None, wait_s=0.01)
    assert [await saves.ask("a.ipynb"), await saves.ask("a.ipynb")] == [False, False]
    saves.answer(asked[0])
    assert saves._waiting == {}


async def test_two_browsers_may_answer(fetch: Fetch) -> None:
    """A second answer, or one to a request that is over, is taken note of and ignored."""
    answers = [await fetch("notebooks", "saved", method="POST", body={"request_id": "x"}) for _ in range(2)]
    assert [answer.code for answer in answers] == [204, 204]


async def test_saved_needs_a_request_id(fetch: Fetch) -> None:
    """An answer to nothing is refused."""
    answer = await fetch("notebooks", "saved", method="POST", body={})
    assert (answer.code, answer.error["code"]) == (400, "invalid_submission")


async def test_parameters_of_a_notebook(fetch: Fetch, notebook: str) -> None:
    """The tagged cell's names come with types, defaults and help."""
    answer = await fetch("parameters", params={"notebook_path": notebook})
    assert answer.json == {
        "kernel_name": "python3",
        "language": "python",
        "parameters": [
            {"name": "quick", "type": "bool", "default": True, "help": "20 s"},
            {"name": "epochs", "type": "int", "default": 3, "help": ""},
        ],
        "resume": False,
    }


@pytest.mark.parametrize(
    ("params", "status", "code"),
    [({}, 400, "bad_request"), ({"notebook_path": "no.ipynb"}, 404, "notebook_missing")],
)
async def test_parameters_of_nothing(fetch: Fetch, params: Any, status: int, code: str) -> None:
    """Without a notebook there are no parameters."""
    answer = await fetch("parameters", params=params)
    assert (answer.code, answer.error["code"]) == (status, code)


async def test_plan_is_answered(fetch: Fetch, session_of_notebook: str) -> None:
    """A plan is made for a path and for a kernel's notebook, without saving or submitting."""
    for body in ({"notebook_path": session_of_notebook}, {"kernel_id": KERNEL}):
        answer = await fetch("snapshot", "plan", method="POST", body=body)
        assert (answer.code, answer.json) == (200, sample("plan.json"))
    assert (await fetch("submissions")).json["submissions"] == []


async def test_queues_profiles_and_preflight(fetch: Fetch) -> None:
    """Where Submissions can go is read from the backend."""
    assert [queue["name"] for queue in (await fetch("queues")).json["queues"]] == ["local"]
    assert [profile["name"] for profile in (await fetch("profiles")).json["profiles"]] == ["default", "gpu"]
    assert (await fetch("preflight")).json["ok"] is True


async def test_first_start_is_in_the_background(extension: Any, jp_serverapp: Any) -> None:
    """Starting the server does not wait for the service, and starts it all the same."""
    await extension._start_jupyter_server_extension(jp_serverapp)
    assert extension._service is None
    await asyncio.wait_for(extension._first_start, 10)
    assert extension._service is not None


async def test_stop_lets_go_of_the_backend(fetch: Fetch, extension: Any, backend: Any) -> None:
    """Stopping the extension closes the backend; a second stop does no harm."""
    await fetch("queues")
    await extension.stop_extension()
    await extension.stop_extension()
    assert backend.is_closed
