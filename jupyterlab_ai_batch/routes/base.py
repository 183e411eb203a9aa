"""What every handler shares: who may call, how errors look on the wire, and where the service is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from jupyter_server.base.handlers import APIHandler
from jupyter_server.extension.handler import ExtensionHandlerMixin
from jupyter_server.utils import url_path_join
from tornado.web import HTTPError

from .. import errors
from ..errors import BatchError
from ..wire import to_json

if TYPE_CHECKING:
    from ..service import SubmissionService
    from .saves import SaveRequests

AUTH_RESOURCE = "ai-batch"
PREFIX = "/ai-batch/v1"

# The most specific class of an error that stands here decides.
HTTP_STATUS: Mapping[type[BatchError], HTTPStatus] = {
    BatchError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.InvalidSubmissionError: HTTPStatus.BAD_REQUEST,
    errors.NotebookMissingError: HTTPStatus.NOT_FOUND,
    errors.SubmissionNotFoundError: HTTPStatus.NOT_FOUND,
    errors.SubmissionStateError: HTTPStatus.CONFLICT,
    errors.SnapshotError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.SnapshotTooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.RegistryError: HTTPStatus.BAD_GATEWAY,
    errors.StorageError: HTTPStatus.INSUFFICIENT_STORAGE,
    errors.QueueError: HTTPStatus.BAD_GATEWAY,
    errors.QueueTimeoutError: HTTPStatus.GATEWAY_TIMEOUT,
    errors.OutputError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.OutputMissingError: HTTPStatus.NOT_FOUND,
    errors.OutputConflictError: HTTPStatus.CONFLICT,
    errors.ServerUnreachableError: HTTPStatus.BAD_GATEWAY,
}

# Codes of the errors that are Jupyter's or tornado's own.
SERVER_CODES: Mapping[int, str] = {
    400: "bad_request",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
}

ExcInfo = tuple[type[BaseException], BaseException, TracebackType]


def http_status(error: type[BatchError]) -> HTTPStatus:
    """The status of an error class: that of its nearest ancestor in ``HTTP_STATUS``."""
    return next(HTTP_STATUS[ancestor] for ancestor in error.__mro__ if ancestor in HTTP_STATUS)


def error_body(error: BatchError) -> dict[str, Any]:
    """An error as it travels: ``message`` at the top, where Jupyter's own clients look for it."""
    return {
        "message": error.message,
        "error": {
            "code": error.code,
            "hint": error.hint,
            "details": to_json(error.details),
            "retryable": error.retryable,
        },
    }


def server_error_body(status_code: int, error: BaseException | None) -> dict[str, Any]:
    """The same shape for what is not ours: never a traceback, and no text of an unexpected exception."""
    ours = status_code >= HTTPStatus.INTERNAL_SERVER_ERROR
    code = SERVER_CODES.get(status_code, "internal_error" if ours else "bad_request")
    message = error.log_message if isinstance(error, HTTPError) and not ours else None
    hint = "The server's log has the details." if ours else None
    return {
        "message": message or HTTPStatus(status_code).phrase,
        "error": {"code": code, "hint": hint, "details": {}, "retryable": False},
    }


class BatchHandlerMixin(ExtensionHandlerMixin):
    """Error mapping and access to the service, for REST handlers and websockets alike."""

    auth_resource = AUTH_RESOURCE

    async def get_service(self) -> SubmissionService:
        """The running service; the first call starts it.

        Raises:
            StorageError: the data directory cannot be used; the next call tries again.
        """
        return cast("SubmissionService", await self.settings["ai_batch_service"]())

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        exc_info: ExcInfo | None = kwargs.get("exc_info")
        error = exc_info[1] if exc_info else None
        handler = cast("APIHandler", self)
        if isinstance(error, BatchError):
            handler.set_status(http_status(type(error)))
            body = error_body(error)
        else:
            handler.set_status(status_code)  # the standard reason: HTTPError.reason may hold anything
            body = server_error_body(status_code, error)
        handler.set_header("Content-Type", "application/json")
        handler.finish(json.dumps(body))

    def log_exception(
        self,
        typ: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if isinstance(value, BatchError):
            self.log.warning("%s: %s", value.code, value.message)
            return
        super().log_exception(typ, value, tb)  # type: ignore[misc]


class BatchAPIHandler(BatchHandlerMixin, APIHandler):
    """Base of the REST handlers: parse, ask the service, answer."""

    @property
    def saves(self) -> SaveRequests:
        return cast("SaveRequests", self.settings["ai_batch_saves"])

    def answer(self, value: Any, status: HTTPStatus = HTTPStatus.OK) -> None:
        """Finish with a record, or anything that holds records, as JSON.

        ASCII: a file name that is not UTF-8 has no other form that travels.
        """
        self.set_status(status)
        self.finish(json.dumps(to_json(value), separators=(",", ":"), allow_nan=False))

    def set_location(self, submission_id: str) -> None:
        self.set_header("Location", url_path_join(self.base_url, PREFIX, "submissions", submission_id))
