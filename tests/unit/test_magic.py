"""magic: options, finding the server, the client and the handle, without a kernel."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

from jupyterlab_ai_batch import load_ipython_extension
from jupyterlab_ai_batch.errors import (
    BatchError,
    InvalidSubmissionError,
    NotebookMissingError,
    ServerError,
    ServerUnreachableError,
)
from jupyterlab_ai_batch.magic.client import BatchClient
from jupyterlab_ai_batch.magic.discover import Server, find_server, kernel_id_of
from jupyterlab_ai_batch.magic.display import as_html, as_text, plainly_raised
from jupyterlab_ai_batch.magic.handle import BatchHandle
from jupyterlab_ai_batch.magic.magics import INERT, submit
from jupyterlab_ai_batch.magic.options import parse_duration, parse_options, parse_parameters, parse_value
from jupyterlab_ai_batch.models import Explanation, Submission
from jupyterlab_ai_batch.wire import from_json, to_json
from jupyterlab_ai_batch.words import SubmissionState

TOKEN, OWN = "s3cret", "own"
WIRE = Path(__file__).parent.parent / "wire"
SUBMISSION = from_json(Submission, json.loads((WIRE / "submission.json").read_text(encoding="utf-8")))
HUB = {
    "JUPYTERHUB_SERVICE_URL": "http://0.0.0.0:8888/user/ada/",
    "JUPYTERHUB_SERVICE_PREFIX": "/user/ada/",
    "JUPYTERHUB_API_TOKEN": "hub-token",
}


# --- a server that answers what it is told ---------------------------------------------------------------------------


@dataclass
class Heard:
    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class Scripted:
    """``answers``: (status, JSON body, headers), the last one again and again."""

    url: str = ""
    answers: list[tuple[int, Any, dict[str, str]]] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)

    def say(self, *bodies: Any, status: int = 200) -> None:
        self.answers = [(status, body, {}) for body in bodies]


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    script = Scripted()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            script.heard.append(
                Heard(self.command, self.path, dict(self.headers), json.loads(content) if content else None)
            )
            status, body, headers = script.answers.pop(0) if len(script.answers) > 1 else script.answers[0]
            sent = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_POST = answer  # noqa: N815 -- names of the base class

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    script.url = f"http://127.0.0.1:{server.server_port}/user/ada/"
    yield script
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def client(scripted: Scripted) -> BatchClient:
    return BatchClient(Server(url=scripted.url, token=TOKEN), timeout_s=10)


# --- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90", 90),
        ("45s", 45),
        ("30m", 1800),
        ("2h", 7200),
        ("1h30m", 5400),
        ("1d", 86400),
        ("1.5h", 5400),
        ("1h 5m", 3900),
    ],
)
def test_durations(text: str, expected: int) -> None:
    """Durations are written as people write them."""
    assert parse_duration(text) == expected


@pytest.mark.parametrize("text", ["", "h", "2 hours", "-5m", "0", "2w", "1h-3m", "nan"])
def test_what_is_no_duration(text: str) -> None:
    """Anything else is refused, not guessed."""
    with pytest.raises(InvalidSubmissionError, match="not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("true", True),
        ("True", True),
        ("None", None),
        ("null", None),
        ("3", 3),
        ("0.5", 0.5),
        ("[1, 2]", [1, 2]),
        ("{'a': (1,)}", {"a": (1,)}),
        ('"3"', "3"),
        ("abc", "abc"),
        ("a b", "a b"),
        ("2026-11-20", "2026-11-20"),
        ("{1, 2}", "{1, 2}"),
        ("__import__('os')", "__import__('os')"),
        ("", ""),
    ],
)
def test_values(text: str, expected: Any) -> None:
    """JSON and Python literals are values, everything else is text, and nothing is evaluated."""
    assert parse_value(text) == expected


def test_parameters_are_name_and_value() -> None:
    """The first = separates; a value may hold more."""
    assert parse_parameters(["a=1", "b=x=y"]) == {"a": 1, "b": "x=y"}


@pytest.mark.parametrize(
    "line", ["--colour blue", "--profile", "--title 'open", "a.ipynb b.ipynb", "--max-duration", "--param"]
)
def test_bad_options(line: str) -> None:
    """A line that is not understood is our error with a hint; the kernel does not exit."""
    with pytest.raises(InvalidSubmissionError) as caught:
        parse_options(line)
    assert caught.value.hint == "%batch? lists the options."


# --- finding the server ----------------------------------------------------------------------------------------------


def describe_server(folder: Path, pid: int, **changes: Any) -> None:
    described = {"url": "http://localhost:8888/base/", "token": OWN, "root_dir": "/home/ada", "pid": pid, **changes}
    (folder / f"jpserver-{pid}.json").write_text(json.dumps(described))


def test_server_of_the_parent_pid(tmp_path: Path) -> None:
    """Among several servers, the one that started the kernel is taken."""
    describe_server(tmp_path, 11, token=TOKEN)
    describe_server(tmp_path, 12)
    found = find_server({"JPY_PARENT_PID": "12"}, tmp_path)
    assert found == Server(url="http://localhost:8888/base/", token=OWN, root_dir=Path("/home/ada"))


def test_hub_names_the_server(tmp_path: Path) -> None:
    """Where the runtime directory says nothing, the hub's variables do; the answer is on loopback."""
    found = find_server({**HUB, "JPY_PARENT_PID": "12"}, tmp_path)
    assert found == Server(url="http://127.0.0.1:8888/user/ada/", token=HUB["JUPYTERHUB_API_TOKEN"])


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"url": 3, "token": "t"}', '{"url": "file:///etc", "token": "t"}', "\0"]
)
def test_unusable_description(tmp_path: Path, content: str) -> None:
    """A file that does not describe a web server is as good as none."""
    (tmp_path / "jpserver-12.json").write_text(content)
    with pytest.raises(ServerUnreachableError):
        find_server({"JPY_PARENT_PID": "12"}, tmp_path)


@pytest.mark.parametrize("environ", [{}, {"JPY_PARENT_PID": "../../12"}, {"JUPYTERHUB_SERVICE_URL": "http://x/"}])
def test_no_server(tmp_path: Path, environ: dict[str, str]) -> None:
    """Without a server there is an error with a way out."""
    with pytest.raises(ServerUnreachableError) as caught:
        find_server(environ, tmp_path)
    assert "jupyter ai-batch submit" in str(caught.value.hint)


def test_token_is_not_shown() -> None:
    """A server's repr does not hold its token."""
    assert "s3cret" not in repr(Server(url="http://localhost/", token=TOKEN))


@pytest.mark.parametrize(
    ("file", "expected"),
    [("/run/kernel-0a1b.json", "0a1b"), ("/run/other.json", None), (None, None), ("", None)],
)
def test_kernel_id(file: str | None, expected: str | None) -> None:
    """The kernel's id stands in the name of its connection file."""
    assert kernel_id_of(file) == expected


# --- the client ------------------------------------------------------------------------------------------------------


def test_submit_sends_token_and_key(client: BatchClient, scripted: Scripted) -> None:
    """The token travels in a header, never in the URL; every submit has a key of its own."""
    scripted.say({**to_json(SUBMISSION), "notices": ["Mind this."]})
    assert client.submit({"kernel_id": "k"}) == (SUBMISSION, ("Mind this.",))
    client.submit({"kernel_id": "k"})
    first, second = scripted.heard
    assert (first.method, first.path, first.body) == ("POST", "/user/ada/ai-batch/v1/submissions", {"kernel_id": "k"})
    assert first.headers["Authorization"] == "token s3cret"
    assert first.headers["Idempotency-Key"] != second.headers["Idempotency-Key"]


def test_reading_is_polling(client: BatchClient, scripted: Scripted) -> None:
    """What only reads does not count as activity."""
    scripted.say(to_json(SUBMISSION))
    client.get("a/b")
    assert scripted.heard[0].path == "/user/ada/ai-batch/v1/submissions/a%2Fb?no_track_activity=1"


def test_error_comes_back_as_its_class(client: BatchClient, scripted: Scripted) -> None:
    """A coded error is raised as the class of its code, with its hint and details."""
    scripted.say(json.loads((WIRE / "error.json").read_text(encoding="utf-8")), status=404)
    with pytest.raises(NotebookMissingError) as caught:
        client.get("x")
    assert caught.value.hint == "Save the notebook, or check its name."
    assert caught.value.details == {"notebook_path": "digits/trian-digits.ipynb"}


def test_newer_code_is_kept(client: BatchClient, scripted: Scripted) -> None:
    """A code that this version does not know is shown as it came."""
    error = {"code": "moon_eclipsed", "hint": None, "details": {}, "retryable": False}
    scripted.say({"message": "No moon.", "error": error}, status=422)
    with pytest.raises(ServerError) as caught:
        client.get("x")
    assert (caught.value.code, caught.value.message) == ("moon_eclipsed", "No moon.")


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        {"message": "Not Found"},
        [],
        {"message": 1, "error": []},
        {"message": "m", "error": {"code": "c", "details": 3}},
    ],
)
@pytest.mark.parametrize("status", [200, 404, 500])
def test_answer_that_is_not_ours(client: BatchClient, scripted: Scripted, status: int, body: Any) -> None:
    """Anything else that answers is a clear error, too."""
    scripted.say(body, status=status)
    with pytest.raises(ServerError) as caught:
        client.get("x")
    assert caught.value.message


@pytest.mark.parametrize("status", [401, 403])
def test_refused_kernel(client: BatchClient, scripted: Scripted, status: int) -> None:
    """A server that does not let the kernel in is told apart from one that is not understood."""
    scripted.say({"message": "Forbidden"}, status=status)
    with pytest.raises(ServerError, match="does not let this kernel submit"):
        client.get("x")


def test_server_without_token(scripted: Scripted) -> None:
    """Without a token the request carries a matching XSRF pair, and no empty Authorization."""
    scripted.say(to_json(SUBMISSION))
    BatchClient(Server(url=scripted.url, token="")).submit({})
    headers = {name.lower(): value for name, value in scripted.heard[0].headers.items()}
    assert headers["cookie"] == f"_xsrf={headers['x-xsrftoken']}"
    assert "authorization" not in headers


def test_redirects_are_not_followed(client: BatchClient, scripted: Scripted) -> None:
    """The token goes nowhere else."""
    scripted.answers = [(302, {}, {"Location": f"{scripted.url}elsewhere"})]
    with pytest.raises(ServerError):
        client.get("x")
    assert len(scripted.heard) == 1


def test_proxies_are_not_used(client: BatchClient, scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the environment does not see the token."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    scripted.say(to_json(SUBMISSION))
    assert BatchClient(Server(url=scripted.url, token="")).get("x") == SUBMISSION


def test_silent_server_is_unreachable() -> None:
    """Nobody there is an error that may be retried, without the token in it."""
    with pytest.raises(ServerUnreachableError) as caught:
        BatchClient(Server(url="http://127.0.0.1:9/", token=TOKEN)).get("x")
    assert "s3cret" not in f"{caught.value.message}{caught.value.hint}{caught.value.details}"


# --- the handle ------------------------------------------------------------------------------------------------------


def in_state(state: SubmissionState, **changes: Any) -> Any:
    return to_json(replace(SUBMISSION, state=state, **changes))


def test_state_asks_until_it_is_over(client: BatchClient, scripted: Scripted) -> None:
    """The state is fresh while it can change, and costs nothing afterwards."""
    scripted.say(in_state(SubmissionState.SUCCEEDED))
    handle = BatchHandle(client, SUBMISSION)
    assert [handle.state, handle.state] == ["succeeded", "succeeded"]
    assert len(scripted.heard) == 1


def test_wait_backs_off_and_returns_the_state(client: BatchClient, scripted: Scripted) -> None:
    """Waiting asks ever more slowly and returns the last state."""
    scripted.say(*[in_state(SubmissionState.RUNNING)] * 12, in_state(SubmissionState.FAILED))
    pauses: list[float] = []
    assert BatchHandle(client, SUBMISSION, sleep=pauses.append).wait() == "failed"
    assert (len(pauses), pauses[0], pauses[-1]) == (12, 0.5, 5.0)
    assert pauses == sorted(pauses)


def test_wait_gives_up_in_time(client: BatchClient, scripted: Scripted) -> None:
    """After the timeout waiting ends, the batch job does not."""
    scripted.say(in_state(SubmissionState.RUNNING))
    with pytest.raises(TimeoutError, match="still running"):
        BatchHandle(client, SUBMISSION).wait(timeout=0)
    assert {heard.method for heard in scripted.heard} == {"GET"}


def test_cancel_returns_the_state(client: BatchClient, scripted: Scripted) -> None:
    """Cancelling asks once and tells what it came to."""
    scripted.say(in_state(SubmissionState.CANCELLING))
    assert BatchHandle(client, SUBMISSION).cancel() == "cancelling"
    assert (scripted.heard[0].method, scripted.heard[0].path) == (
        "POST",
        f"/user/ada/ai-batch/v1/submissions/{SUBMISSION.id}/cancel",
    )


def test_logs_are_read_to_the_end(client: BatchClient, scripted: Scripted) -> None:
    """The log comes whole, piece by piece."""
    chunks = [("ab", 0, 2), ("cd", 2, 4), ("", 4, 4)]
    scripted.say(
        *(
            {"attempt": 2, "text": text, "offset": offset, "next_offset": end, "complete": not text}
            for text, offset, end in chunks
        )
    )
    assert BatchHandle(client, SUBMISSION).logs(attempt=2) == "abcd"
    assert "offset=4" in scripted.heard[-1].path
    assert "attempt=2" in scripted.heard[-1].path


def test_outputs_are_a_record(client: BatchClient, scripted: Scripted) -> None:
    """Outputs come as the record that they are."""
    scripted.say(json.loads((WIRE / "outputs.json").read_text(encoding="utf-8")))
    assert BatchHandle(client, SUBMISSION).outputs().executed_notebook == "digits/train-digits.ipynb"


def test_showing_never_fails(scripted: Scripted) -> None:
    """A handle whose server is gone shows what was last known."""
    handle = BatchHandle(BatchClient(Server(url="http://127.0.0.1:9/", token="")), SUBMISSION)
    assert "running" in handle._repr_html_()


# --- how it looks ----------------------------------------------------------------------------------------------------


def test_text_says_what_matters() -> None:
    """Title, state, reason and what else there is to know, a line each and nothing twice."""
    assert as_text(SUBMISSION, ("Mind this.",)).splitlines() == [
        f"train-digits · running · {SUBMISSION.short_id}",
        "  Cell 4 of 9 is running.",
        "  Attempt 2.",
        "  Mind this.",
    ]


def test_html_is_escaped_and_themed() -> None:
    """Nothing of a user becomes markup, and the colours are the theme's."""
    evil = replace(
        SUBMISSION,
        title="<img src=x onerror=alert(1)>",
        explanation=Explanation(code="x", summary="<b>&</b>"),
        executed_notebook="<script>.ipynb",
    )
    html = as_html(evil, ("<i>",))
    assert all(tag not in html for tag in ("<img", "<b>", "<script", "<i>"))
    assert "var(--jp-ui-font-color1" in html


def test_error_is_one_line_and_a_hint() -> None:
    """IPython shows code, message and hint in place of a traceback."""
    with pytest.raises(BatchError) as caught, plainly_raised():
        raise NotebookMissingError("There is none.", hint="Save it.")
    assert caught.value._render_traceback_() == ["notebook_missing: There is none.", "Save it."]


# --- the magic itself ------------------------------------------------------------------------------------------------


@pytest.fixture
def kernel_of(scripted: Scripted, tmp_path: Path) -> Callable[[str], BatchHandle]:
    """Run a line of %batch in a kernel of the scripted server."""
    describe_server(tmp_path, 12, url=scripted.url, root_dir=str(tmp_path))

    def run(line: str) -> BatchHandle:
        return submit(
            line,
            environ={"JPY_PARENT_PID": "12"},
            connection_file=str(tmp_path / "kernel-0a1b.json"),
            folder=tmp_path / "sub",
        )

    return run


def test_options_become_the_request(kernel_of: Callable[[str], BatchHandle], scripted: Scripted) -> None:
    """Every option arrives in its field."""
    scripted.say(to_json(SUBMISSION))
    options = "--profile gpu --queue q --target t --title 'my run' --max-duration 2h --resume"
    kernel_of(f"{options} --param quick=true --param n=x")
    assert scripted.heard[0].body == {
        "profile": "gpu",
        "resume": True,
        "queue": "q",
        "target": "t",
        "title": "my run",
        "parameters": {"quick": True, "n": "x"},
        "max_duration_s": 7200,
        "kernel_id": "0a1b",
    }


@pytest.mark.parametrize(
    ("name", "expected"), [("b.ipynb", "sub/b.ipynb"), ("../c.ipynb", "c.ipynb"), ("/x/d.ipynb", "/x/d.ipynb")]
)
def test_other_notebook(kernel_of: Callable[[str], BatchHandle], scripted: Scripted, name: str, expected: str) -> None:
    """Another notebook is named from where the notebook stands, and asked for from the server's root."""
    scripted.say(to_json(SUBMISSION))
    kernel_of(name)
    assert scripted.heard[0].body["notebook_path"] == expected


def test_wait_option_waits(kernel_of: Callable[[str], BatchHandle], scripted: Scripted) -> None:
    """With --wait the handle comes back when it is over."""
    scripted.say(to_json(SUBMISSION), in_state(SubmissionState.SUCCEEDED))
    assert kernel_of("--wait").state == "succeeded"
    assert len(scripted.heard) == 2


def test_inert_in_a_batch_job(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Inside a batch job the magic says one line and submits nothing."""
    monkeypatch.setenv("AI_BATCH_JOB", "1")
    shell = InteractiveShell()
    load_ipython_extension(shell)
    assert shell.run_line_magic("batch", "--no-such-option") is None
    assert capsys.readouterr().out.strip() == INERT
