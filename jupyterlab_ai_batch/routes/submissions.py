"""Submissions: ask for them, list them, read, cancel and repeat one."""

from __future__ import annotations

import json
from dataclasses import replace
from http import HTTPStatus

from jupyter_server.auth.decorator import authorized
from tornado import web

from ..models import SubmissionRequest
from ..wire import to_json
from .base import BatchAPIHandler
from .kernels import find_notebook
from .request import MAX_PAGE, parse_body, parse_count, parse_idempotency_key, parse_states

UNSAVED_NOTICE = (
    "No browser confirmed that it saved the notebook: the copy on disk is submitted, without edits that are not saved."
)
DEFAULT_PAGE = 100


class SubmissionsHandler(BatchAPIHandler):
    """The list, and the place to add to it."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        states = parse_states(self.get_arguments("state"))
        limit = parse_count(
            "limit", self.get_argument("limit", None), default=DEFAULT_PAGE, minimum=1, maximum=MAX_PAGE
        )
        page = await (await self.get_service()).list(
            states=states,
            notebook=self.get_argument("notebook", None),
            limit=limit,
            cursor=self.get_argument("cursor", None),
        )
        # The page is JSON text already: a page of 100 is not parsed and encoded again for every poll.
        self.finish(f'{{"submissions":{page.json},"next_cursor":{json.dumps(page.next_cursor)}}}')

    @web.authenticated
    @authorized
    async def post(self) -> None:
        request = parse_body(SubmissionRequest, self.request)
        key = parse_idempotency_key(self.request)
        service = await self.get_service()
        request, notices = await self._resolve_kernel(request)
        submission, created = await service.submit(request, idempotency_key=key)
        self.set_location(submission.id)
        self.answer({**to_json(submission), "notices": notices}, HTTPStatus.CREATED if created else HTTPStatus.OK)

    async def _resolve_kernel(self, request: SubmissionRequest) -> tuple[SubmissionRequest, list[str]]:
        """The request with the kernel's notebook in it, saved if a browser has it open; and what to tell the user."""
        if request.kernel_id is None:
            return request, []
        path = request.notebook_path or await find_notebook(self.session_manager, request.kernel_id)
        saved = await self.saves.ask(path)
        return replace(request, notebook_path=path, kernel_id=None), [] if saved else [UNSAVED_NOTICE]


class SubmissionHandler(BatchAPIHandler):
    """One Submission."""

    @web.authenticated
    @authorized
    async def get(self, submission_id: str) -> None:
        self.answer(await (await self.get_service()).get(submission_id))


class CancelHandler(BatchAPIHandler):
    """Asks for the end of a Submission; answers before it has ended."""

    @web.authenticated
    @authorized
    async def post(self, submission_id: str) -> None:
        self.answer(await (await self.get_service()).cancel(submission_id))


class ResubmitHandler(BatchAPIHandler):
    """Makes a new Submission of the same request."""

    @web.authenticated
    @authorized
    async def post(self, submission_id: str) -> None:
        submission = await (await self.get_service()).resubmit(submission_id)
        self.set_location(submission.id)
        self.answer(submission, HTTPStatus.CREATED)


class ManifestHandler(BatchAPIHandler):
    """The Kubernetes YAML of a Submission."""

    @web.authenticated
    @authorized
    async def get(self, submission_id: str) -> None:
        manifest = await (await self.get_service()).manifest(submission_id)
        self.finish(manifest, set_content_type="application/yaml; charset=UTF-8")
