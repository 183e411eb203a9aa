"""HTTP client of the batch API on the standard library alone: it runs in the user's kernel."""

from __future__ import annotations

import http.client
import json
import uuid
from collections.abc import Mapping
from typing import Any, NoReturn, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode
from urllib.request import HTTPRedirectHandler, OpenerDirector, ProxyHandler, Request, build_opener

from ..errors import BatchError, ServerError, ServerUnreachableError
from ..models import LogChunk, OutputSet, Submission
from ..wire import WireError, loads
from .discover import Server

API = "ai-batch/v1/"
TIMEOUT_S = 30.0
MAX_ANSWER_BYTES = 64 * 1024 * 1024
_REFUSED = (401, 403)
# What a monitor asks must not keep an idle server alive.
_POLLING = {"no_track_activity": "1"}

T = TypeVar("T")


class _NoRedirects(HTTPRedirectHandler):
    """Following one would hand the token to wherever it points."""

    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        return None


class BatchClient:
    """Talks to one server; every method may raise any ``BatchError``."""

    def __init__(self, server: Server, *, timeout_s: float = TIMEOUT_S) -> None:
        self._server = server
        self._timeout_s = timeout_s
        # No proxy: the server is on this machine, and the token with it.
        self._opener: OpenerDirector = build_opener(ProxyHandler({}), _NoRedirects())

    def submit(self, request: Mapping[str, Any]) -> tuple[Submission, tuple[str, ...]]:
        """Submit once; returns the Submission and what the user should know about the request."""
        body = self._call("POST", "submissions", body=request, headers={"Idempotency-Key": uuid.uuid4().hex})
        notices = self._json(body).get("notices", [])
        return self._record(Submission, body), tuple(text for text in notices if isinstance(text, str))

    def get(self, submission_id: str) -> Submission:
        return self._record(Submission, self._call("GET", _one(submission_id), query=_POLLING))

    def cancel(self, submission_id: str) -> Submission:
        return self._record(Submission, self._call("POST", f"{_one(submission_id)}/cancel", body={}))

    def read_log(self, submission_id: str, *, attempt: int | None, offset: int) -> LogChunk:
        query = {**_POLLING, "offset": str(offset), **({} if attempt is None else {"attempt": str(attempt)})}
        return self._record(LogChunk, self._call("GET", f"{_one(submission_id)}/logs", query=query))

    def outputs(self, submission_id: str) -> OutputSet:
        return self._record(OutputSet, self._call("GET", f"{_one(submission_id)}/outputs", query=_POLLING))

    def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        url = f"{self._server.url}{API}{path}{'?' + urlencode(query) if query else ''}"
        content = None if body is None else json.dumps(body).encode()
        request = Request(url, data=content, method=method, headers={**self._headers(), **(headers or {})})  # noqa: S310 -- discover.py admits http(s) only
        try:
            with self._opener.open(request, timeout=self._timeout_s) as response:
                answer: bytes = response.read(MAX_ANSWER_BYTES)
                return answer
        except HTTPError as exc:
            with exc:
                if exc.code in _REFUSED:
                    raise _not_let_in() from None
                raise_error(exc.code, exc.read(MAX_ANSWER_BYTES))
        except (URLError, OSError, http.client.HTTPException) as exc:
            raise ServerUnreachableError(
                "The Jupyter server of this notebook does not answer.",
                hint="Submissions go on without it. Try again, or run `jupyter ai-batch list` in a terminal.",
                details={"reason": str(getattr(exc, "reason", exc))},
            ) from None

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if self._server.token:
            headers["Authorization"] = f"token {self._server.token}"
        else:  # a server without authentication still wants the pair that only its own pages can send
            pair = uuid.uuid4().hex
            headers |= {"Cookie": f"_xsrf={pair}", "X-XSRFToken": pair}
        return headers

    def _record(self, record: type[T], body: bytes) -> T:
        try:
            return loads(record, body)
        except WireError as exc:
            raise _not_understood(str(exc)) from exc

    def _json(self, body: bytes) -> dict[str, Any]:
        try:
            value = json.loads(body)
        except ValueError as exc:
            raise _not_understood("not JSON") from exc
        return value if isinstance(value, dict) else {}


def raise_error(status: int, body: bytes) -> NoReturn:
    """Raise the error that an answer carries, as the class that its code names.

    Raises:
        BatchError: that error; ServerError when the answer is not one of ours.
    """
    try:
        answer = json.loads(body)
        message, error = answer["message"], answer["error"]
        code, hint, details = error["code"], error.get("hint"), error.get("details")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _not_understood(f"HTTP status {status}") from None
    known = _classes_by_code().get(str(code), ServerError)
    raised = known(
        str(message),
        hint=hint if isinstance(hint, str) else None,
        details=details if isinstance(details, dict) else None,
    )
    if known is ServerError:
        raised.__dict__["code"] = str(code)  # a newer server's code: shown as it came
    raise raised


def _not_let_in() -> ServerError:
    return ServerError(
        "The Jupyter server does not let this kernel submit.",
        hint="A server with a password has no token for kernels. Use the Submit button, or `jupyter ai-batch submit`.",
    )


def _not_understood(reason: str) -> ServerError:
    return ServerError(
        "The Jupyter server's answer is not understood.",
        hint="Is jupyterlab-ai-batch enabled there, in the same version? See `jupyter server extension list`.",
        details={"reason": reason},
    )


def _classes_by_code() -> dict[str, type[BatchError]]:
    found: dict[str, type[BatchError]] = {}
    pending: list[type[BatchError]] = [BatchError]
    while pending:
        known = pending.pop()
        found[known.code] = known
        pending.extend(known.__subclasses__())
    return found


def _one(submission_id: str) -> str:
    return f"submissions/{quote(submission_id, safe='')}"
