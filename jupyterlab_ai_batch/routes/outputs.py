"""Outputs: what an Attempt produced, bringing it home, and single files."""

from __future__ import annotations

import asyncio
import os
from contextlib import closing
from dataclasses import dataclass
from typing import BinaryIO
from urllib.parse import quote

from jupyter_server.auth.decorator import authorized
from tornado import web

from .base import BatchAPIHandler
from .request import parse_body

CHUNK_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectRequest:
    """How to bring outputs home; ``replace_notebook`` None keeps what the Submission asked for."""

    dry_run: bool = False
    replace_notebook: bool | None = None


class OutputsHandler(BatchAPIHandler):
    """The OutputSet of the latest Attempt."""

    @web.authenticated
    @authorized
    async def get(self, submission_id: str) -> None:
        self.answer(await (await self.get_service()).outputs(submission_id))


class CollectHandler(BatchAPIHandler):
    """Merges the outputs into the home."""

    @web.authenticated
    @authorized
    async def post(self, submission_id: str) -> None:
        how = parse_body(CollectRequest, self.request)
        report = await (await self.get_service()).collect(
            submission_id, dry_run=how.dry_run, replace_notebook=how.replace_notebook
        )
        self.answer(report)


class OutputFileHandler(BatchAPIHandler):
    """The bytes of one output, only ever as a download: a job's file is never shown as a page of this server."""

    @property
    def content_security_policy(self) -> str:
        return "sandbox; default-src 'none'; frame-ancestors 'none'"

    def decode_argument(self, value: bytes, name: str | None = None) -> str:
        """A path may hold bytes that are not UTF-8, as it may on disk."""
        return os.fsdecode(value) if name == "path" else super().decode_argument(value, name)

    @web.authenticated
    @authorized
    async def get(self, submission_id: str, path: str) -> None:
        output, content = await (await self.get_service()).output_file(submission_id, path)
        name = quote(os.fsencode(output.path.rpartition("/")[2]), safe="")
        self.set_header("Content-Type", "application/octet-stream")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Content-Disposition", f"attachment; filename*=UTF-8''{name}")
        self.set_header("Content-Length", str(output.size_bytes))
        with closing(content):
            await self._send(content)
        self.finish(set_content_type="application/octet-stream")

    async def _send(self, content: BinaryIO) -> None:
        while chunk := await asyncio.to_thread(content.read, CHUNK_BYTES):
            self.write(chunk)
            await self.flush()
