"""The commands of the command line: each a coroutine that builds the service, does one thing and prints it."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import presenting
from .checking import check_machine, check_session, refused_settings
from .cli import EXIT_FAILED, EXIT_OK, parse_assignments
from .compose import BatchConfig, build_config, build_service
from .configuring import choose_data_dir, read_traits
from .errors import BatchError, InvalidSubmissionError
from .locating import choose_notebook, choose_root
from .models import LogChunk, PreflightCheck, Submission, SubmissionRequest
from .parameters import parse_values
from .presenting_plan import format_plan
from .service import SubmissionService
from .wire import to_json
from .words import CaptureFrom, SubmissionState

PATIENCE_S = 10.0
WATCH_S = 1.0
LOG_CHUNK_BYTES = 256 * 1024
LOG_POLL_S = 0.5


# --- submitting ---------------------------------------------------------------------------------------------------


async def run_submit(options: argparse.Namespace) -> int:
    notebook = Path.cwd() / options.notebook
    root_dir = choose_root(notebook, options.root)
    meter = ProgressLine(quiet=options.json)
    async with open_service(options, root_dir=root_dir, meter=meter) as service:
        path = notebook.relative_to(root_dir).as_posix()
        request = await _request(service, options, path)
        submission, _ = await service.submit(request)
        return await _finish(service, submission, options, meter)


async def run_resubmit(options: argparse.Namespace) -> int:
    meter = ProgressLine(quiet=options.json)
    async with open_service(options, meter=meter) as service:
        submission = await service.resubmit(await service.find(options.id))
        return await _finish(service, submission, options, meter)


async def _request(service: SubmissionService, options: argparse.Namespace, path: str) -> SubmissionRequest:
    texts = parse_assignments(options.param)
    parameters: Mapping[str, Any] = {}
    if texts:
        parameters = parse_values(texts, (await service.describe_parameters(path)).parameters)
    return SubmissionRequest(
        notebook_path=path,
        profile=options.profile,
        queue=options.queue,
        parameters=parameters,
        title=options.title,
        max_duration_s=options.max_duration,
        target=options.target,
        priority=options.priority,
        capture_from=CaptureFrom(options.capture_from),
        replace_notebook=options.replace_notebook,
        exclude=tuple(options.exclude),
        resume=options.resume,
    )


async def _finish(
    service: SubmissionService, submission: Submission, options: argparse.Namespace, meter: ProgressLine
) -> int:
    """Wait for the capture, or with ``--wait`` for the end; then print the Submission."""
    options.come_back = (
        f"It goes on without you. Look at it with: jupyter ai-batch show {submission.short_id}"
        f" (end it with: jupyter ai-batch cancel {submission.short_id})"
    )
    patience = _Patience()
    while True:
        submission = await service.get(submission.id)
        meter.show(submission)
        if submission.state.is_terminal or (not options.wait and submission.state is not SubmissionState.CAPTURING):
            break
        patience.check(service.trouble)
        await meter.changed(submission.id)
    meter.clear()
    _print(to_json(submission) if options.json else presenting.format_submission(submission))
    accepted = submission.state is SubmissionState.SUCCEEDED if options.wait else _is_on_its_way(submission)
    return EXIT_OK if accepted else EXIT_FAILED


class _Patience:
    """Gives up waiting when the ledger cannot be written for long: nobody would ever hear of the end."""

    def __init__(self) -> None:
        self._since: float | None = None

    def check(self, trouble: BatchError | None) -> None:
        """Raise ``trouble`` once it has lasted."""
        if trouble is None:
            self._since = None
        elif self._since is None:
            self._since = time.monotonic()
        elif time.monotonic() - self._since > PATIENCE_S:
            raise trouble


def _is_on_its_way(submission: Submission) -> bool:
    return submission.state not in (SubmissionState.FAILED, SubmissionState.CANCELLED)


class ProgressLine:
    """One line on stderr that follows a Submission: rewritten on a terminal, one line per state elsewhere."""

    def __init__(self, *, quiet: bool) -> None:
        self._tty = sys.stderr.isatty()
        self._quiet = quiet and not self._tty
        self._last = ""
        self._waiting: dict[str, asyncio.Event] = {}

    def tell(self, submission: Submission) -> None:
        """The service's ``on_change``."""
        if submission.id in self._waiting:
            self._waiting[submission.id].set()

    async def changed(self, submission_id: str) -> None:
        """Return when it has changed, or after a second."""
        event = self._waiting.setdefault(submission_id, asyncio.Event())
        try:
            await asyncio.wait_for(event.wait(), WATCH_S)
        except (asyncio.TimeoutError, TimeoutError):
            return
        event.clear()

    def show(self, submission: Submission) -> None:
        text = (
            presenting.format_progress(submission) if self._tty else f"{submission.short_id}: {submission.state.value}"
        )
        if self._quiet or text == self._last:
            return
        self._last = text
        sys.stderr.write(f"\r\x1b[2K{text[: _columns()]}" if self._tty else f"{text}\n")
        sys.stderr.flush()

    def clear(self) -> None:
        if self._tty and self._last:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()


def _columns() -> int:
    import shutil

    return max(shutil.get_terminal_size().columns - 1, 20)


# --- looking ------------------------------------------------------------------------------------------------------


async def run_list(options: argparse.Namespace) -> int:
    states = tuple(SubmissionState(state) for state in options.state)
    async with open_service(options, watching=options.watch) as service:
        last = ""
        while True:
            page = await service.list(
                states=states, notebook=options.notebook, limit=options.limit, cursor=options.cursor
            )
            value = {"submissions": json.loads(page.json), "next_cursor": page.next_cursor}
            text = json.dumps(value) if options.json else presenting.format_page(value["submissions"])
            if text != last:
                sys.stdout.write("\x1b[2J\x1b[H" if options.watch and sys.stdout.isatty() and not options.json else "")
                _print(text)
                last = text
            if not options.watch:
                return EXIT_OK
            await asyncio.sleep(WATCH_S)


async def run_show(options: argparse.Namespace) -> int:
    async with open_service(options) as service:
        submission = await service.get(await service.find(options.id))
        _print(to_json(submission) if options.json else presenting.format_submission(submission))
    return EXIT_OK


async def run_logs(options: argparse.Namespace) -> int:
    if options.json and options.follow:
        raise InvalidSubmissionError("--json prints one value, so it does not go with -f.")
    async with open_service(options) as service:
        submission_id = await service.find(options.id)
        chunk = LogChunk(attempt=options.attempt or 1, text="", offset=0, next_offset=0, complete=False)
        text = ""
        async for chunk in _log_chunks(service, submission_id, attempt=options.attempt, follow=options.follow):
            if options.json:
                text += chunk.text
            else:
                sys.stdout.write(chunk.text)
                sys.stdout.flush()
        if options.json:
            _print(to_json(replace(chunk, text=text, offset=0)))
    return EXIT_OK


async def _log_chunks(
    service: SubmissionService, submission_id: str, *, attempt: int | None, follow: bool
) -> AsyncIterator[LogChunk]:
    """What there is; with ``follow`` also what comes, over to the next run when one is evicted, until it has ended."""
    offset, current = 0, attempt
    while True:
        chunk = await service.read_log(submission_id, attempt=current, offset=offset, limit_bytes=LOG_CHUNK_BYTES)
        yield chunk
        if chunk.next_offset > offset:
            offset = chunk.next_offset
        elif not follow or (chunk.complete and attempt is not None):
            return
        elif chunk.complete:
            submission = await service.get(submission_id)
            if submission.state.is_terminal or submission.state is SubmissionState.COLLECTING:
                return
            if len(submission.attempts) > chunk.attempt:
                offset, current = 0, chunk.attempt + 1
            await asyncio.sleep(LOG_POLL_S)
        else:
            await asyncio.sleep(LOG_POLL_S)


async def run_queues(options: argparse.Namespace) -> int:
    async with open_service(options) as service:
        queues = await service.queues()
    _print({"queues": to_json(queues)} if options.json else presenting.format_queues(queues))
    return EXIT_OK


async def run_export(options: argparse.Namespace) -> int:
    async with open_service(options) as service:
        manifest = await service.manifest(await service.find(options.id))
    _print({"manifest": manifest} if options.json else manifest)
    return EXIT_OK


async def run_profiles(options: argparse.Namespace) -> int:
    root_dir, path = None, None
    if options.notebook:
        notebook = Path.cwd() / options.notebook
        root_dir = choose_root(notebook, None)
        path = notebook.relative_to(root_dir).as_posix()
    async with open_service(options, root_dir=root_dir) as service:
        profiles = await service.profiles(path)
    _print({"profiles": to_json(profiles)} if options.json else presenting.format_profiles(profiles))
    return EXIT_OK


async def run_doctor(options: argparse.Namespace) -> int:
    traits = await asyncio.to_thread(read_traits)
    data_dir = choose_data_dir(options.data_dir, traits.get("data_dir"))
    checks = [*await asyncio.to_thread(check_machine, data_dir)]
    is_usable = all(check.ok is not False for check in checks)
    checks += check_session(traits, environ=os.environ)
    try:
        config = await asyncio.to_thread(read_config, options, root_dir=Path.cwd(), is_prepared=True)
    except BatchError as exc:
        checks += [refused_settings(exc)] if is_usable and all(check.ok is not False for check in checks) else []
    else:
        # The ledger of what the cluster has is not needed, and a cluster that is silent could not fill it.
        checks += await _ask_backend(config) if is_usable else []
    ok = all(check.ok is not False for check in checks)
    _print({"ok": ok, "checks": to_json(checks)} if options.json else presenting.format_checks(checks))
    return EXIT_OK if ok else EXIT_FAILED


async def _ask_backend(config: BatchConfig) -> Sequence[PreflightCheck]:
    service = build_service(config, environ=os.environ)
    try:
        return await service.preflight()
    finally:
        await service.stop()


# --- acting -------------------------------------------------------------------------------------------------------


async def run_cancel(options: argparse.Namespace) -> int:
    async with open_service(options) as service:
        submission_id = await service.find(options.id)
        await service.cancel(submission_id)
        submission = await service.get(submission_id)
        _print(to_json(submission) if options.json else presenting.format_progress(submission))
    return EXIT_OK


async def run_outputs(options: argparse.Namespace) -> int:
    async with open_service(options) as service:
        submission_id = await service.find(options.id)
        if options.to is not None:
            report = await service.fetch(submission_id, Path.cwd() / options.to, dry_run=options.dry_run)
        else:
            await service.get(submission_id)
            replace_notebook = True if options.replace_notebook else None
            report = await service.collect(submission_id, dry_run=options.dry_run, replace_notebook=replace_notebook)
    _print(to_json(report) if options.json else presenting.format_merge(report))
    return EXIT_OK


async def run_snapshot(options: argparse.Namespace) -> int:
    notebook = choose_notebook(Path.cwd() / options.path)
    root_dir = choose_root(notebook, options.root)
    request = SubmissionRequest(
        notebook_path=notebook.relative_to(root_dir).as_posix(),
        capture_from=CaptureFrom(options.capture_from),
        exclude=tuple(options.exclude),
    )
    async with open_service(options, root_dir=root_dir) as service:
        if options.dry_run:
            plan = await service.plan(request)
            columns = shutil.get_terminal_size().columns
            _print(to_json(plan) if options.json else format_plan(plan, columns=columns))
            return EXIT_OK
        from .compose import capture_order

        order = await service.capture_order(request)
        _, summary = await asyncio.to_thread(capture_order, order, lambda _: None, environ=os.environ)
    _print(to_json(summary) if options.json else presenting.format_snapshot(summary))
    return EXIT_OK


# --- the service --------------------------------------------------------------------------------------------------


@asynccontextmanager
async def open_service(
    options: argparse.Namespace,
    *,
    root_dir: Path | None = None,
    config: BatchConfig | None = None,
    meter: ProgressLine | None = None,
    watching: bool | None = None,
) -> AsyncIterator[SubmissionService]:
    """A service that watches (and brings files home) only where the command waits for something."""
    if config is None:
        config = await asyncio.to_thread(read_config, options, root_dir=root_dir or Path.cwd())
    service = build_service(config, environ=os.environ, on_change=meter.tell if meter else lambda _: None)
    try:
        if watching or (watching is None and meter is not None):
            await service.start()
        else:
            await service.rebuild()
        yield service
    finally:
        await service.stop()


def read_config(options: argparse.Namespace, *, root_dir: Path, is_prepared: bool = False) -> BatchConfig:
    """The admin's settings, with what the command line says over them."""
    traits = read_traits()
    data_dir = choose_data_dir(options.data_dir, traits.get("data_dir"))
    return build_config(traits, root_dir=root_dir, data_dir=data_dir, environ=os.environ, is_prepared=is_prepared)


def _print(value: Any) -> None:
    text = value if isinstance(value, str) else json.dumps(value)
    sys.stdout.write(text if text.endswith("\n") else f"{text}\n")
    sys.stdout.flush()
