"""Which handler serves which path."""

from __future__ import annotations

from tornado.web import RequestHandler

from .base import PREFIX
from .logs import LogHandler, LogStreamHandler
from .notebooks import NotebookSavedHandler
from .outputs import CollectHandler, OutputFileHandler, OutputsHandler
from .queues import PreflightHandler, ProfilesHandler, QueuesHandler
from .snapshot import ParametersHandler, PlanHandler
from .submissions import CancelHandler, ManifestHandler, ResubmitHandler, SubmissionHandler, SubmissionsHandler

_ONE = rf"{PREFIX}/submissions/(?P<submission_id>[\w-]{{1,64}})"

HANDLERS: tuple[tuple[str, type[RequestHandler]], ...] = (
    (rf"{PREFIX}/submissions", SubmissionsHandler),
    (_ONE, SubmissionHandler),
    (rf"{_ONE}/cancel", CancelHandler),
    (rf"{_ONE}/resubmit", ResubmitHandler),
    (rf"{_ONE}/manifest", ManifestHandler),
    (rf"{_ONE}/logs", LogHandler),
    (rf"{_ONE}/logs/stream", LogStreamHandler),
    (rf"{_ONE}/outputs", OutputsHandler),
    (rf"{_ONE}/outputs/collect", CollectHandler),
    (rf"{_ONE}/outputs/files/(?P<path>.+)", OutputFileHandler),
    (rf"{PREFIX}/snapshot/plan", PlanHandler),
    (rf"{PREFIX}/parameters", ParametersHandler),
    (rf"{PREFIX}/queues", QueuesHandler),
    (rf"{PREFIX}/profiles", ProfilesHandler),
    (rf"{PREFIX}/preflight", PreflightHandler),
    (rf"{PREFIX}/notebooks/saved", NotebookSavedHandler),
)
