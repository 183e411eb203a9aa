"""What arrives with a request, parsed: bodies into records, query arguments into numbers and states.

Everything that does not parse is an ``InvalidSubmissionError`` naming the field.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, TypeVar

from tornado.httputil import HTTPServerRequest
from tornado.web import HTTPError

from .. import wire
from ..errors import InvalidSubmissionError
from ..words import SubmissionState

MAX_BODY_BYTES = 1024 * 1024
MAX_PAGE = 1000
MAX_LOG_BYTES = 1024 * 1024
_KEY = re.compile(r"[\x21-\x7e]{1,200}")

T = TypeVar("T")


def parse_body(record: type[T], request: HTTPServerRequest) -> T:
    """The JSON body as a ``record``; an empty body is an empty object.

    Raises:
        InvalidSubmissionError: not JSON, or a field of the wrong type.
        HTTPError: 413, larger than ``MAX_BODY_BYTES``.
    """
    if len(request.body) > MAX_BODY_BYTES:
        raise HTTPError(413, f"The request is larger than {MAX_BODY_BYTES} bytes.")
    try:
        return wire.from_json(record, _strict_json(request.body or b"{}"))
    except (ValueError, RecursionError) as exc:
        reason = str(exc) if isinstance(exc, wire.WireError) else "it is not JSON text in UTF-8"
        raise InvalidSubmissionError(
            f"The request cannot be read: {reason}.", hint="Correct it and send it again."
        ) from exc


def _strict_json(body: bytes) -> Any:
    """Parsed JSON, without what only Python's reader admits: NaN, infinities, halves of surrogate pairs."""
    value = json.loads(body)
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    return value


def parse_idempotency_key(request: HTTPServerRequest) -> str | None:
    """The Idempotency-Key header: up to 200 visible ASCII characters; None when absent."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and not _KEY.fullmatch(key):
        raise InvalidSubmissionError(
            "The Idempotency-Key is not 1 to 200 visible ASCII characters.", hint="Send a UUID, for example."
        )
    return key


def parse_count(name: str, text: str | None, *, default: int, maximum: int, minimum: int = 0) -> int:
    """A whole number from a query argument; ``default`` when absent."""
    number = parse_number(name, text, minimum=minimum)
    return default if number is None else min(number, maximum)


def parse_number(name: str, text: str | None, *, minimum: int = 0) -> int | None:
    """A whole number from a query argument; None when absent."""
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", text) or int(text) < minimum:
        raise InvalidSubmissionError(
            f"{name} is not a whole number from {minimum}.", details={"field": name, "value": text[:100]}
        )
    return int(text)


def parse_states(texts: Sequence[str]) -> tuple[SubmissionState, ...]:
    """States from repeated or comma-separated query arguments."""
    words = [word.strip() for text in texts for word in text.split(",") if word.strip()]
    known = {state.value for state in SubmissionState}
    unknown = [word for word in words if word not in known]
    if unknown:
        raise InvalidSubmissionError(
            f"There is no state {unknown[0][:40]!r}.",
            hint=f"Use one of {', '.join(state.value for state in SubmissionState)}.",
            details={"field": "state", "value": unknown[0][:100]},
        )
    return tuple(SubmissionState(word) for word in words)
