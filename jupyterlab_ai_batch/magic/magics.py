"""The ``%batch`` magic itself."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from IPython.core.magic import Magics, line_magic, magics_class

from .client import BatchClient
from .discover import Server, find_server, kernel_id_of
from .display import plainly_raised
from .handle import BatchHandle
from .options import parse_duration, parse_options, parse_parameters

INERT = "%batch does nothing here: this notebook is already running as a batch job."


@magics_class
class BatchMagics(Magics):
    """Magics that submit batch jobs."""

    @line_magic
    def batch(self, line: str) -> BatchHandle | None:
        """Submit this notebook as a batch job.

        %batch [NOTEBOOK] [--profile NAME] [--queue NAME] [--target NAME] [--title TEXT] [--max-duration 2h]
               [--param NAME=VALUE ...] [--resume | --no-resume] [--wait]

        The notebook is saved first where a browser has it open, and runs with the files and the environment of this
        moment. NOTEBOOK, by default the one that this kernel runs, is another one to submit in its place. Values of
        parameters are JSON or Python literals, everything else is text. With --resume, a job that was interrupted
        goes on with the files that were saved last. With --wait, the cell ends when the batch job does.

        Returns a handle: .state, .wait(timeout=None), .cancel(), .logs(), .outputs().
        """
        if os.environ.get("AI_BATCH_JOB"):
            print(INERT)  # noqa: T201 -- the magic's output
            return None
        with plainly_raised():
            return submit(line, environ=os.environ, connection_file=self._connection_file(), folder=Path.cwd())

    def _connection_file(self) -> str | None:
        kernel: Any = self.shell.config.get("IPKernelApp", {}) if self.shell else {}
        found = kernel.get("connection_file")
        return found if isinstance(found, str) else None


def submit(line: str, *, environ: Mapping[str, str], connection_file: str | None, folder: Path) -> BatchHandle:
    """Submit as the options in ``line`` say, from the kernel with that connection file.

    Raises:
        BatchError: nothing was submitted, or with ``--wait`` the server went away.
    """
    options = parse_options(line)
    request = {
        "profile": options.profile,
        "queue": options.queue,
        "target": options.target,
        "title": options.title,
        "parameters": parse_parameters(options.param),
        "max_duration_s": parse_duration(options.max_duration) if options.max_duration else None,
        "resume": options.resume,
        "kernel_id": kernel_id_of(connection_file),
    }
    server = find_server(environ, Path(connection_file).parent if connection_file else None)
    if options.notebook:
        request["notebook_path"] = _api_path(options.notebook, server, folder)
    client = BatchClient(server)
    submission, notices = client.submit(request)
    handle = BatchHandle(client, submission, notices=notices)
    if options.wait:
        handle.wait()
    return handle


def _api_path(notebook: str, server: Server, folder: Path) -> str:
    """A notebook named as in the file system, as seen from the server's root; as it is when it lies outside."""
    path = (folder / notebook).resolve()
    if server.root_dir is None or not path.is_relative_to(server.root_dir.resolve()):
        return notebook
    return path.relative_to(server.root_dir.resolve()).as_posix()
