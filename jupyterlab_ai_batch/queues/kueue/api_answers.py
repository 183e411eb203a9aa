"""What comes back over HTTP: read within limits, parsed without trust, and the client's failures as ours."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from . import api_errors
from .api import Change, ChangeKind
from .api_errors import Request, parse_refusal, translate
from .waiting import LineTooLongError

if TYPE_CHECKING:
    from aiohttp import ClientResponse

MAX_REFUSAL_BYTES = 64 * 1024
_KINDS = {
    "ADDED": ChangeKind.PRESENT,
    "MODIFIED": ChangeKind.PRESENT,
    "DELETED": ChangeKind.GONE,
    "BOOKMARK": ChangeKind.BOOKMARK,
}


@contextmanager
def map_client_errors(request: Request) -> Iterator[None]:
    """Translate what the client, its HTTP library and the network raise; nothing else is caught.

    Raises:
        QueueTimeoutError, QueueUnreachableError
    """
    import aiohttp
    from kubernetes.aio.client import ApiException

    try:
        yield
    except asyncio.TimeoutError as exc:
        raise api_errors.timed_out(request) from exc
    except LineTooLongError as exc:
        raise api_errors.nonsense(request) from exc
    except ApiException as exc:
        raise api_errors.unreachable(request, str(exc.reason)) from exc
    except (aiohttp.ClientError, OSError) as exc:
        raise api_errors.unreachable(request, str(exc) or type(exc).__name__) from exc


async def check_answer(response: ClientResponse, request: Request) -> None:
    if response.status < HTTPStatus.MULTIPLE_CHOICES:
        return
    body = await read_body(response, MAX_REFUSAL_BYTES)
    raise translate(parse_refusal(response.status, body, response.headers), request)


async def read_body(response: ClientResponse, limit_bytes: int) -> bytes:
    """The body; what exceeds the limit is cut off."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > limit_bytes:
            break
    return bytes(body[:limit_bytes])


def parse_change(line: bytes, request: Request) -> Change:
    said = parse_object(line) or {}
    item, word = said.get("object"), said.get("type")
    if not isinstance(item, dict):
        raise api_errors.nonsense(request)
    if word == "ERROR":
        code = item.get("code")
        if code == HTTPStatus.GONE:
            return Change(kind=ChangeKind.EXPIRED)
        status = code if isinstance(code, int) else int(HTTPStatus.INTERNAL_SERVER_ERROR)
        raise translate(parse_refusal(status, json.dumps(item).encode(), {}), request)
    kind = _KINDS.get(word) if isinstance(word, str) else None
    if kind is None:
        raise api_errors.nonsense(request)
    return Change(kind=kind, item=item)


def parse_object(content: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def as_object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def hang_up(response: ClientResponse) -> None:
    """Let go of an answer. One that is left in its middle ends at once: its good-bye by TLS could outlive the loop."""
    connection = response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()
    response.close()


def notice_dead_peer(response: ClientResponse) -> None:
    """A stream may be silent for minutes: let the kernel ask whether the other side still lives (within 30 s)."""
    connection = response.connection
    channel = connection.transport.get_extra_info("socket") if connection and connection.transport else None
    if channel is None:
        return
    with suppress(OSError, AttributeError):  # not every platform has all of them
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15)
        channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
        channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
