"""ClusterApi on the official client's ``kubernetes.aio``: its connections and credentials, not its model classes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ...errors import QueueError
from . import api_errors
from .api import PODS, REVIEWS, VISIBILITY, Change, ChangeKind, Json, Listing, Resource
from .api_answers import (
    as_object,
    check_answer,
    hang_up,
    map_client_errors,
    notice_dead_peer,
    parse_change,
    parse_object,
    read_body,
)
from .api_connection import Connection, ConnectionSettings
from .api_errors import Request
from .pauses import asked_pause
from .waiting import split_lines

if TYPE_CHECKING:
    from aiohttp import ClientResponse
    from kubernetes.aio.client import ApiClient

PAGE_ITEMS = 100  # parsing more at once would hold up the event loop
MAX_ANSWER_BYTES = 32 * 1024**2
MAX_CHANGE_BYTES = 16 * 1024**2
WATCH_S = (240, 300)
WATCH_SILENCE_S = 150.0  # a bookmark comes every minute
LOG_SILENCE_S = 900.0
LOG_PIECE_BYTES = 64 * 1024
BUSY_TRIES = 3
LIST_TRIES = 3
LONGEST_BUSY_S = 10.0
_ACCESS_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_UNANSWERED = frozenset({HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """One HTTP request.

    Attributes:
        silence_s: Longest wait for the next piece of a stream; None: it is no stream, the whole answer has a limit.
    """

    request: Request
    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Json | None = None
    silence_s: float | None = None


class KubernetesApi:
    """Implements ``api.ClusterApi``. For one event loop at a time."""

    def __init__(self, settings: ConnectionSettings, *, sleep: Callable[[float], Any] = asyncio.sleep) -> None:
        """Do no I/O; the connection is made by the first request."""
        self._settings = settings
        self._connection = Connection(settings)
        self._sleep = sleep

    @property
    def namespace(self) -> str:
        return self._settings.namespace

    async def get(self, resource: Resource, name: str) -> Json | None:
        call = _Call(request=self._request("get", resource), method="GET", path=self._path(resource, name))
        return await self._ask(call, absent=(HTTPStatus.NOT_FOUND,))

    async def create(self, resource: Resource, body: Json, *, dry_run: bool = False) -> Json | None:
        query = {"dryRun": "All"} if dry_run else {}
        request = self._request("create", resource)
        call = _Call(request=request, method="POST", path=self._path(resource), query=query, body=body)
        return await self._ask(call, absent=(HTTPStatus.CONFLICT,))

    async def delete(self, resource: Resource, name: str, *, uid: str, foreground: bool = False) -> bool:
        policy = "Foreground" if foreground else "Background"
        body = {"propagationPolicy": policy, "preconditions": {"uid": uid}}
        request = self._request("delete", resource)
        call = _Call(request=request, method="DELETE", path=self._path(resource, name), body=body)
        return await self._ask(call, absent=(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT)) is not None

    async def list(self, resource: Resource, *, labels: str = "") -> Listing:
        for _ in range(LIST_TRIES):
            listing = await self._list_pages(resource, {"limit": str(PAGE_ITEMS), **_selector(labels)})
            if listing is not None:
                return listing
        raise api_errors.nonsense(self._request("list", resource))

    async def _list_pages(self, resource: Resource, query: Mapping[str, str]) -> Listing | None:
        """None: the pages stopped belonging together on the way."""
        items: list[Json] = []
        request = self._request("list", resource)
        while True:
            call = _Call(request=request, method="GET", path=self._path(resource), query=query)
            page = await self._ask(call, absent=(HTTPStatus.GONE,))
            if page is None:
                return None
            found, metadata = page.get("items"), as_object(page.get("metadata"))
            items += [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
            if not metadata.get("continue"):
                return Listing(items=items, version=str(metadata.get("resourceVersion", "")))
            query = {**query, "continue": str(metadata["continue"])}

    async def watch(self, resource: Resource, *, version: str, labels: str = "") -> AsyncGenerator[Change, None]:
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(random.randint(*WATCH_S)),  # noqa: S311 - only so that not all end at once
            **_selector(labels),
        }
        call = _Call(
            request=self._request("watch", resource),
            method="GET",
            path=self._path(resource),
            query=query,
            silence_s=WATCH_SILENCE_S,
        )
        async with self._open(call) as response:
            if response.status == HTTPStatus.GONE:
                yield Change(kind=ChangeKind.EXPIRED)
                return
            await check_answer(response, call.request)
            yield Change(kind=ChangeKind.OPENED)
            async for line in split_lines(response.content.iter_any(), longest=MAX_CHANGE_BYTES):
                change = parse_change(line, call.request)
                yield change
                if change.kind is ChangeKind.EXPIRED:
                    return

    async def pending_workloads(self, queue: str) -> Sequence[Json] | None:
        request = self._request("get", VISIBILITY, "pendingworkloads")
        path = f"{self._path(VISIBILITY, queue)}/pendingworkloads"
        answer = await self._ask(_Call(request=request, method="GET", path=path), absent=tuple(_UNANSWERED))
        if answer is None:
            return None
        items = answer.get("items")
        return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []

    async def stream_log(self, pod: str, *, since: str = "", follow: bool = True) -> AsyncGenerator[bytes, None]:
        query = {
            "timestamps": "true",
            **({"follow": "true"} if follow else {}),
            **({"sinceTime": since} if since else {}),
        }
        request, path = self._request("get", PODS, "log"), f"{self._path(PODS, pod)}/log"
        call = _Call(request=request, method="GET", path=path, query=query, silence_s=LOG_SILENCE_S)
        async with self._open(call) as response:
            if response.status in (HTTPStatus.NOT_FOUND, HTTPStatus.BAD_REQUEST):  # gone, or not started
                return
            await check_answer(response, request)
            yield b""
            async for chunk in response.content.iter_chunked(LOG_PIECE_BYTES):
                yield chunk

    async def may(self, verb: str, resource: Resource, *, subresource: str = "") -> bool:
        attributes = {
            "namespace": self.namespace if resource.is_namespaced else "",
            "verb": verb,
            "group": resource.group,
            "resource": resource.plural,
            "subresource": subresource,
        }
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        request = self._request(verb, resource, subresource)
        answer = await self._ask(_Call(request=request, method="POST", path=_ACCESS_REVIEWS, body=body))
        return as_object(as_object(answer).get("status")).get("allowed") is True

    async def serves(self, resource: Resource) -> bool:
        call = _Call(request=self._request("get", resource), method="GET", path=f"/apis/{resource.version}")
        answer = await self._ask(call, absent=(HTTPStatus.NOT_FOUND,))
        served = as_object(answer).get("resources")
        names = [as_object(one).get("name") for one in served] if isinstance(served, list) else []
        return resource.plural in names

    async def identify(self) -> str:
        body = {"apiVersion": REVIEWS.version, "kind": "SelfSubjectReview"}
        path = f"/apis/{REVIEWS.version}/{REVIEWS.plural}"
        call = _Call(request=self._request("create", REVIEWS), method="POST", path=path, body=body)
        answer = as_object(await self._ask(call))
        name = as_object(as_object(answer.get("status")).get("userInfo")).get("username")
        return name if isinstance(name, str) else ""

    async def close(self) -> None:
        await self._connection.close()

    # --------------------------------------------------------------------------------------------------------------

    def _request(self, verb: str, resource: Resource, subresource: str = "") -> Request:
        return Request(verb=verb, resource=resource, namespace=self.namespace, subresource=subresource)

    def _path(self, resource: Resource, name: str = "") -> str:
        root = "apis" if resource.group else "api"
        place = f"namespaces/{self.namespace}/" if resource.is_namespaced else ""
        path = f"/{root}/{resource.version}/{place}{resource.plural}"
        return f"{path}/{quote(name, safe='')}" if name else path

    async def _ask(self, call: _Call, *, absent: Sequence[int] = ()) -> Json | None:
        """The answer's object; None for a status in ``absent``."""
        for tries in range(1, BUSY_TRIES + 1):
            try:
                return await self._ask_once(call, absent)
            except QueueError as exc:
                pause_s = asked_pause(exc)
                if not 0 < pause_s <= LONGEST_BUSY_S or tries == BUSY_TRIES:
                    raise
            await self._sleep(pause_s)
        raise AssertionError  # the last try returns or raises

    async def _ask_once(self, call: _Call, absent: Sequence[int]) -> Json | None:
        async with self._open(call) as response:
            if response.status in absent:
                return None
            await check_answer(response, call.request)
            answer = parse_object(await read_body(response, MAX_ANSWER_BYTES))
        if answer is None:
            raise api_errors.nonsense(call.request)
        return answer

    @asynccontextmanager
    async def _open(self, call: _Call) -> AsyncIterator[ClientResponse]:
        client = await self._connection.client()
        with map_client_errors(call.request):
            response = await self._send(client, call)
            if response.status == HTTPStatus.UNAUTHORIZED:  # a token that was replaced since it was read
                hang_up(response)
                await self._connection.renew(client)
                response = await self._send(await self._connection.client(), call)
            try:
                if call.silence_s is not None:
                    notice_dead_peer(response)
                yield response
            finally:
                hang_up(response)

    async def _send(self, client: ApiClient, call: _Call) -> ClientResponse:
        from aiohttp import ClientTimeout

        method, url, headers, body, _ = await client.param_serialize(
            call.method,
            call.path,
            query_params=list(call.query.items()),
            header_params={"Accept": "application/json, */*"},
            body=call.body,
            auth_settings=["BearerToken"],
        )
        settings = self._settings
        total_s = settings.request_timeout_s if call.silence_s is None else None
        timeout = ClientTimeout(total=total_s, sock_connect=settings.connect_timeout_s, sock_read=call.silence_s)
        answer = await client.call_api(method, url, headers, body, _request_timeout=timeout)
        response: ClientResponse = answer.response
        return response


def _selector(labels: str) -> dict[str, str]:
    return {"labelSelector": labels} if labels else {}
