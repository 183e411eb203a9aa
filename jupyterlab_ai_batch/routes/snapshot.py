"""Before submitting: what would be captured, and what the notebook can be asked with."""

from __future__ import annotations

from dataclasses import replace

from jupyter_server.auth.decorator import authorized
from tornado import web

from ..models import SubmissionRequest
from .base import BatchAPIHandler
from .kernels import find_notebook
from .request import parse_body


class PlanHandler(BatchAPIHandler):
    """What a Submission would capture; nothing is written."""

    @web.authenticated
    @authorized
    async def post(self) -> None:
        request = parse_body(SubmissionRequest, self.request)
        if request.kernel_id is not None:
            path = request.notebook_path or await find_notebook(self.session_manager, request.kernel_id)
            request = replace(request, notebook_path=path, kernel_id=None)
        self.answer(await (await self.get_service()).plan(request))


class ParametersHandler(BatchAPIHandler):
    """The parameters that a notebook's tagged cell defines."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        self.answer(await (await self.get_service()).describe_parameters(self.get_argument("notebook_path")))
