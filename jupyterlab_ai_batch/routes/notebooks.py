"""The browser's answer to a save request."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

from jupyter_server.auth.decorator import authorized
from tornado import web

from .base import BatchAPIHandler
from .request import parse_body


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedNotice:
    """The ``request_id`` of the save_request event that was followed."""

    request_id: str


class NotebookSavedHandler(BatchAPIHandler):
    """A browser has saved the notebook that it was asked to save."""

    @web.authenticated
    @authorized
    async def post(self) -> None:
        self.saves.answer(parse_body(SavedNotice, self.request).request_id)
        self.set_status(HTTPStatus.NO_CONTENT)
        self.finish()
