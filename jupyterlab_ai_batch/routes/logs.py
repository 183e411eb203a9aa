"""Logs: a piece by byte offset, and a stream over a websocket."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from jupyter_core.utils import ensure_async
from jupyter_server.auth.decorator import authorized, ws_authenticated
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.base.websocket import WebSocketMixin
from tornado import web
from tornado.websocket import WebSocketHandler

from ..errors import BatchError
from ..wire import dumps
from .base import BatchAPIHandler, BatchHandlerMixin, error_body
from .request import MAX_LOG_BYTES, parse_count, parse_number

DEFAULT_LOG_BYTES = 64 * 1024
SHORTEST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 2.0
_CLOSE_NORMAL = 1000
_CLOSE_ERROR = 1011


class LogHandler(BatchAPIHandler):
    """A piece of an Attempt's log."""

    @web.authenticated
    @authorized
    async def get(self, submission_id: str) -> None:
        chunk = await (await self.get_service()).read_log(
            submission_id,
            attempt=parse_number("attempt", self.get_argument("attempt", None), minimum=1),
            offset=parse_number("offset", self.get_argument("offset", None)) or 0,
            limit_bytes=parse_count(
                "limit_bytes",
                self.get_argument("limit_bytes", None),
                default=DEFAULT_LOG_BYTES,
                minimum=1,
                maximum=MAX_LOG_BYTES,
            ),
        )
        self.answer(chunk)


class LogStreamHandler(BatchHandlerMixin, WebSocketMixin, WebSocketHandler, JupyterHandler):
    """Sends LogChunks from an offset on, and closes after the one that completes the log.

    Sending waits until the peer has taken what was sent before: a reader that stops reading stops the reading of the
    log, too. A failure is sent as an error body, followed by close code 1011.
    """

    _pump: asyncio.Task[None] | None = None
    _is_closed = False

    @ws_authenticated
    async def get(self, *args: Any, **kwargs: Any) -> None:
        allowed = await ensure_async(self.authorizer.is_authorized(self, self.current_user, "read", self.auth_resource))
        if not allowed:
            raise web.HTTPError(403, f"User is not authorized to read on resource: {self.auth_resource}.")
        self._attempt = parse_number("attempt", self.get_argument("attempt", None), minimum=1)
        self._offset = parse_number("offset", self.get_argument("offset", None)) or 0
        await (await self.get_service()).get(kwargs["submission_id"])  # unknown: an HTTP error, no websocket
        await super().get(*args, **kwargs)

    def open(self, *args: str, **kwargs: str) -> None:
        super().open(*args, **kwargs)
        self._pump = asyncio.ensure_future(self._send_log(kwargs["submission_id"]))
        self._pump.add_done_callback(self._end)

    def on_message(self, message: str | bytes) -> None:
        """Nothing is expected from the reader."""

    def on_close(self) -> None:
        self._is_closed = True
        if self._pump is not None:
            self._pump.cancel()
        pings: Any = self.ping_callback
        if pings is not None:
            pings.stop()

    async def _send_log(self, submission_id: str) -> None:
        service, offset, pause_s = await self.get_service(), self._offset, SHORTEST_PAUSE_S
        while True:
            chunk = await service.read_log(submission_id, attempt=self._attempt, offset=offset)
            if chunk.text or chunk.complete:
                await self.write_message(dumps(chunk))
                offset, pause_s = chunk.next_offset, SHORTEST_PAUSE_S
            if chunk.complete:
                return
            if not chunk.text:
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 1.5, LONGEST_PAUSE_S)

    def _end(self, pump: asyncio.Task[None]) -> None:
        if self._is_closed or pump.cancelled():
            return
        error = pump.exception()
        if error is None:
            self.close(_CLOSE_NORMAL, "complete")
            return
        if isinstance(error, BatchError):
            self.log_exception(type(error), error, None)
            self.write_message(json.dumps(error_body(error)))
        else:
            self.log.error("Log stream failed", exc_info=error)
        self.close(_CLOSE_ERROR, getattr(error, "code", "internal_error"))
