"""What the API server's refusals mean to a user. Pure.

A refusal comes as a ``Status`` object, or as whatever a proxy in between says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from ...errors import (
    AdmissionRefusedError,
    BatchError,
    QueueError,
    QueueForbiddenError,
    QueueTimeoutError,
    QueueUnreachableError,
)
from ..explanations import clip
from .api import Resource

MAX_MESSAGE_CHARS = 1000
_NO_RIGHT = re.compile(r'User "[^"]*" cannot \w+ (?:resource|path) ')  # RBAC's words; admission has other ones
_ASK_AGAIN = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.INTERNAL_SERVER_ERROR,  # also a webhook that does not answer
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
    }
)
_REFUSED_BY_RULE = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN, HTTPStatus.UNPROCESSABLE_ENTITY})


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was asked for: the words of Roles.

    Attributes:
        verb: ``get``, ``list``, ``watch``, ``create`` or ``delete``.
    """

    verb: str
    resource: Resource
    namespace: str
    subresource: str = ""

    @property
    def target(self) -> str:
        return f"{self.resource}/{self.subresource}" if self.subresource else str(self.resource)

    @property
    def facts(self) -> dict[str, Any]:
        return {"verb": self.verb, "resource": self.target, "namespace": self.namespace}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An answer that is not the one asked for.

    Attributes:
        message: The cluster's own, on one line.
        retry_after_s: When the cluster wants to be asked again.
    """

    status: int
    message: str = ""
    retry_after_s: float | None = None


def parse_refusal(status: int, body: bytes, headers: Mapping[str, str]) -> Refusal:
    """From an HTTP answer, whoever gave it."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    found = said if isinstance(said, dict) else {}
    details = found.get("details")
    asked = details.get("retryAfterSeconds") if isinstance(details, dict) else None
    return Refusal(
        status=status,
        message=clip(found.get("message"), MAX_MESSAGE_CHARS),
        retry_after_s=_seconds(headers.get("Retry-After")) or _seconds(asked),
    )


def translate(refusal: Refusal, request: Request) -> BatchError:
    """The error that a refusal is."""
    status, message = refusal.status, refusal.message
    if status == HTTPStatus.FORBIDDEN and (request.verb != "create" or _NO_RIGHT.search(message)):
        return _forbidden(request, message)
    if status == HTTPStatus.UNAUTHORIZED:
        return QueueForbiddenError(
            "The cluster does not accept the credentials of your server.",
            hint="Restart your server; ask your admin when that does not help.",
            details=request.facts,
        )
    if request.verb == "create" and status in _REFUSED_BY_RULE:
        return AdmissionRefusedError(
            f"The cluster refuses the job: {message or f'HTTP status {status}'}",
            hint="Show this to your admin: a rule of the cluster and the settings of batch jobs contradict each other.",
            details=request.facts,
        )
    details = {**request.facts, "status": status}
    if refusal.retry_after_s is not None:
        details["retry_after_s"] = refusal.retry_after_s
    if status == HTTPStatus.GATEWAY_TIMEOUT:
        return timed_out(request, details)
    said = message or f"HTTP status {status}"
    # A namespace, or a webhook's view of it, that is only just being made answers a creation with 404.
    if status in _ASK_AGAIN or (request.verb == "create" and status == HTTPStatus.NOT_FOUND):
        return QueueUnreachableError(f"The cluster cannot answer now: {said}", details=details)
    return QueueError(f"The cluster refused to {request.verb} {request.target}: {said}", details=details)


def timed_out(request: Request, details: Mapping[str, Any] | None = None) -> QueueTimeoutError:
    return QueueTimeoutError("The cluster did not answer in time.", details=details or request.facts)


def unreachable(request: Request, why: str) -> QueueUnreachableError:
    return QueueUnreachableError(
        f"The cluster cannot be reached: {clip(why, MAX_MESSAGE_CHARS) or 'no connection'}", details=request.facts
    )


def nonsense(request: Request) -> QueueUnreachableError:
    """A proxy's page, or an answer that broke off: the next one may be whole."""
    return QueueUnreachableError("The cluster's answer makes no sense.", details=request.facts)


def _forbidden(request: Request, message: str) -> QueueForbiddenError:
    return QueueForbiddenError(
        f"Your server's account may not {request.verb} {request.target} in the namespace {request.namespace}.",
        hint=f"Ask your admin for a Role there that allows {request.verb} on {request.target}.",
        details={**request.facts, "message": message},
    )


def _seconds(value: Any) -> float | None:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        return None
    return seconds if 0 <= seconds < float("inf") else None
