"""Where Submissions can go: queues, profiles, and whether anything is missing."""

from __future__ import annotations

from jupyter_server.auth.decorator import authorized
from tornado import web

from .base import BatchAPIHandler


class QueuesHandler(BatchAPIHandler):
    """The LocalQueues that this user may submit to."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        self.answer({"queues": await (await self.get_service()).queues()})


class ProfilesHandler(BatchAPIHandler):
    """The resource shapes that this user may ask for."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        notebook = self.get_argument("notebook", None)
        self.answer({"profiles": await (await self.get_service()).profiles(notebook)})


class PreflightHandler(BatchAPIHandler):
    """What must hold for a Submission to run."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        checks = await (await self.get_service()).preflight()
        self.answer({"ok": all(check.ok is not False for check in checks), "checks": checks})
