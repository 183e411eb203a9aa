"""The capture of one Submission, in a process of its own: how it is started, watched and ended, and what it does.

``captures/<id>/`` of the data directory holds ``request.json`` (the work order), ``capture.lock`` (locked from before
the child starts until it has ended, by a descriptor that it inherits), ``progress.json`` and ``entry.json`` (atomically
replaced; the second appears once the Snapshot is complete) and ``capture.log``. So whoever looks can tell a living
capture from a dead one, and finish one that died after its Snapshot was complete.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from .capture_models import BaseReference, CaptureProgress, CaptureRequest, EnvironmentDescription, SnapshotSummary
from .errors import BatchError, QueueError, SnapshotError
from .explain import explain_capture_failed, explain_captured
from .ledger import Ledger
from .models import QueueEntry, RunSpec, Submission, SubmissionRequest
from .oci.storage import ensure_private_directory, replace_file, storage_errors
from .queues.port import QueueBackend
from .wire import WireError, dumps, loads
from .words import SubmissionState

PROGRESS_INTERVAL_S = 0.2
HAND_OVER_TRIES = 6
CAPTURES_AT_ONCE = 2
TURN_POLL_S = 0.1
TERM_GRACE_S = 5.0
KILL_GRACE_S = 2.0
_MAX_FILE_BYTES = 8 * 1024**2

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureOrder:
    """All that a capture (or a plan) needs to know.

    Attributes:
        exclude: Ignore patterns of the admin and of this Submission.
        never: Directories that are never captured.
        base: The image to put the Snapshot on; None for one that brings everything itself.
        composition: What the composition root needs to build the same backend again; opaque here.
    """

    submission_id: str
    data_dir: Path
    root_dir: Path
    notebook: Path
    kernel_name: str
    request: SubmissionRequest
    limit_bytes: int
    exclude: tuple[str, ...] = ()
    never: tuple[Path, ...] = ()
    checkpoint_interval_s: float = 30.0
    base: BaseReference | None = None
    composition: Mapping[str, Any] = field(default_factory=dict)

    def capture_request(self, environment: EnvironmentDescription) -> CaptureRequest:
        return CaptureRequest(
            root_dir=self.root_dir,
            notebook=self.notebook,
            environment=environment,
            capture_from=self.request.capture_from,
            exclude=self.exclude,
            never=(self.data_dir, *self.never),
            limit_bytes=self.limit_bytes,
        )


# --- the side that starts and watches -----------------------------------------------------------------------------


class CaptureDirectory:
    """``captures/<id>/``, as seen by servers and commands."""

    def __init__(self, data_dir: Path, submission_id: str) -> None:
        self.path = data_dir / "captures" / submission_id
        self.lock = self.path / "capture.lock"
        self.submission_id = submission_id

    def prepare(self, order: CaptureOrder) -> int:
        """Write the order and take the lock; returns the descriptor that holds it, to be handed to ``start``."""
        ensure_private_directory(self.path.parent)
        ensure_private_directory(self.path)
        with storage_errors(self.path):
            replace_file(self.path / "request.json", dumps(order).encode())
            fd = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(fd, fcntl.LOCK_EX)
        return fd

    def start(self, command: Sequence[str], data_dir: Path, lock_fd: int) -> None:
        """Start the detached child; it holds the lock from its first moment on."""
        log = os.open(self.path / "capture.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            arguments = [*command, "carry", self.submission_id, "--data-dir", str(data_dir), "--lock-fd", str(lock_fd)]
            child = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=data_dir,
                start_new_session=True,
                pass_fds=(lock_fd,),
            )
        finally:
            os.close(log)
        threading.Thread(target=child.wait, daemon=True, name="capture-wait").start()

    def is_alive(self) -> bool:
        """Whether a child (or whoever is about to start it) holds the lock."""
        try:
            fd = os.open(self.lock, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(fd)
        return False

    def progress(self) -> CaptureProgress | None:
        return read_record(CaptureProgress, self.path / "progress.json")

    def entry(self) -> QueueEntry | None:
        """The entry of a complete capture, to be handed to the backend; None while there is none."""
        return read_record(QueueEntry, self.path / "entry.json")

    def stop(self) -> None:
        """End the child and wait until it has ended; blocks up to 7 s."""
        for number, grace_s in ((signal.SIGTERM, TERM_GRACE_S), (signal.SIGKILL, KILL_GRACE_S)):
            deadline, is_told = time.monotonic() + grace_s, False
            while self.is_alive() and time.monotonic() < deadline:
                is_told = is_told or self._tell(number)  # a child that has only just started is not known at once
                time.sleep(0.02)

    def _tell(self, number: signal.Signals) -> bool:
        """Send a signal to the child; False as long as it has not said who it is."""
        with suppress(OSError, ValueError):
            pid = int(self.lock.read_text(encoding="ascii"))
            if _is_carrier(pid, self.submission_id):
                os.kill(pid, number)
                return True
        return False

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


def _is_carrier(pid: int, submission_id: str) -> bool:
    """Guard against a number that was given to another process; where /proc is missing, the lock alone vouches."""
    if pid <= 1:
        return False
    command = Path(f"/proc/{pid}/cmdline")
    return submission_id.encode() in command.read_bytes() if command.exists() else not Path("/proc/self").exists()


def read_record(record: type[T], path: Path) -> T | None:
    """The record in a file of ours; None when it is missing or not such a record."""
    try:
        with path.open("rb") as stream:
            return loads(record, stream.read(_MAX_FILE_BYTES))
    except (OSError, WireError):
        return None


# --- the child ----------------------------------------------------------------------------------------------------


Capture = Callable[[CaptureOrder, Callable[[CaptureProgress], None]], tuple[EnvironmentDescription, SnapshotSummary]]


def read_order(data_dir: Path, submission_id: str) -> CaptureOrder:
    """The work order of a capture.

    Raises:
        SnapshotError: there is none that can be read.
    """
    order = read_record(CaptureOrder, data_dir / "captures" / submission_id / "request.json")
    if order is None:
        raise SnapshotError(f"There is no order to capture '{submission_id[:64]}'.")
    return order


def hold_lock(data_dir: Path, submission_id: str, fd: int) -> None:
    """Keep the inherited lock to this process alone, and say who holds it."""
    lock = data_dir / "captures" / submission_id / "capture.lock"
    if os.fstat(fd).st_ino != lock.stat().st_ino:
        raise SnapshotError("The capture was started without its lock.")
    os.set_inheritable(fd, False)
    os.ftruncate(fd, 0)
    os.pwrite(fd, str(os.getpid()).encode(), 0)


@contextmanager
def turn(data_dir: Path) -> Iterator[None]:
    """Wait until fewer than ``CAPTURES_AT_ONCE`` captures of this user read files; freed by a death, too."""
    fds = []
    try:
        for number in range(CAPTURES_AT_ONCE):
            path = data_dir / "captures" / f"turn-{number}.lock"
            fds.append(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        while not any(map(_try_lock, fds)):
            time.sleep(TURN_POLL_S)
        yield
    finally:
        for fd in fds:
            os.close(fd)


@contextmanager
def try_alone(lock: Path) -> Iterator[bool]:
    """Whether nobody else is in this block now; freed by a death, too."""
    fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield _try_lock(fd)
    finally:
        os.close(fd)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def carry(
    order: CaptureOrder,
    *,
    capture: Capture,
    ledger: Ledger,
    backend: QueueBackend,
    clock: Callable[[], datetime],
) -> bool:
    """Capture, hand to the backend, say so in the ledger; True when it is queued.

    Whatever fails is written to the ledger as the reason; a death at any point leaves what ``CaptureDirectory`` tells.
    """
    directory = CaptureDirectory(order.data_dir, order.submission_id)
    try:
        environment, summary = capture(order, _ProgressFile(directory.path / "progress.json"))
        entry = build_entry(ledger.get(order.submission_id), order, environment, summary)
        with storage_errors(directory.path):
            replace_file(directory.path / "entry.json", dumps(entry).encode())
        asyncio.run(_hand_over_patiently(entry, backend))
    except QueueError as exc:
        if exc.retryable:
            return False  # entry.json stays: the server hands it over when the backend answers again
        return _fail(order, exc, ledger=ledger, clock=clock)
    except BatchError as exc:
        return _fail(order, exc, ledger=ledger, clock=clock)
    except Exception as exc:  # noqa: BLE001 - whatever it is, the user is told and the ledger says it
        traceback.print_exc()
        error = SnapshotError(
            f"The capture met an error that it does not know ({type(exc).__name__}).",
            hint=f"The details are in {directory.path / 'capture.log'}.",
        )
        return _fail(order, error, ledger=ledger, clock=clock)
    settle(entry, ledger=ledger, clock=clock)
    directory.remove()
    return True


async def _hand_over_patiently(entry: QueueEntry, backend: QueueBackend) -> None:
    try:
        for number in range(HAND_OVER_TRIES):
            try:
                await backend.submit(entry)
            except QueueError as exc:  # noqa: PERF203
                if not exc.retryable or number == HAND_OVER_TRIES - 1:
                    raise
                await asyncio.sleep(2.0**number / 4)
            else:
                return
    finally:
        await backend.close()


def build_entry(
    submission: Submission, order: CaptureOrder, environment: EnvironmentDescription, summary: SnapshotSummary
) -> QueueEntry:
    """What the backend gets: enough to run it, and to list it when the ledger is lost."""
    run = RunSpec(
        submission_id=submission.id,
        attempt=1,
        work_root=summary.work_root,
        notebook=_relative_notebook(order.notebook, Path(summary.work_root)),
        kernel_name=environment.kernel_name,
        parameters=submission.parameters,
        environment_prefixes=tuple(str(prefix) for prefix in environment.prefixes),
        checkpoint_interval_s=order.checkpoint_interval_s,
        resume=submission.resume,
    )
    queued = replace(submission, state=SubmissionState.QUEUED, snapshot=summary, capture=None, explanation=None)
    return QueueEntry(submission=queued, snapshot_digest=summary.digest, run=run)


def _relative_notebook(notebook: Path, work_root: Path) -> str:
    if not notebook.is_relative_to(work_root):
        notebook = notebook.parent.resolve() / notebook.name
    if not notebook.is_relative_to(work_root):
        raise SnapshotError(
            "The notebook lies outside the captured directory.",
            hint="Submit it with the notebook's folder as the place to capture from.",
            details={"notebook": str(notebook), "work_root": str(work_root)},
        )
    return notebook.relative_to(work_root).as_posix()


def settle(entry: QueueEntry, *, ledger: Ledger, clock: Callable[[], datetime]) -> Submission:
    """Write that the backend has it, unless something else was decided meanwhile (a cancel)."""

    def queued(submission: Submission) -> Submission:
        if submission.state is not SubmissionState.CAPTURING:
            return replace(submission, snapshot=entry.submission.snapshot)
        now = clock()
        return replace(
            submission,
            state=SubmissionState.QUEUED,
            observed_at=now,
            snapshot=entry.submission.snapshot,
            capture=None,
            explanation=explain_captured(since=now),
        )

    return ledger.update(entry.submission.id, queued, durable=True)


def _fail(order: CaptureOrder, error: BatchError, *, ledger: Ledger, clock: Callable[[], datetime]) -> bool:
    sys.stderr.write(f"{error.code}: {error.message} {error.details}\n")
    fail_capture(order.submission_id, error, ledger=ledger, clock=clock)
    return False


def fail_capture(submission_id: str, error: BatchError, *, ledger: Ledger, clock: Callable[[], datetime]) -> Submission:
    """Write that nothing was queued, and why."""

    def failed(submission: Submission) -> Submission:
        if submission.state is not SubmissionState.CAPTURING:
            return submission
        now = clock()
        explanation = explain_capture_failed(error, since=now)
        return replace(submission, state=SubmissionState.FAILED, observed_at=now, capture=None, explanation=explanation)

    return ledger.update(submission_id, failed, durable=True)


class _ProgressFile:
    """Replaces ``progress.json`` at most 5 times a second; losing one is nothing, a torn one is impossible."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written_at = 0.0

    def __call__(self, progress: CaptureProgress) -> None:
        now = time.monotonic()
        if now - self._written_at < PROGRESS_INTERVAL_S:
            return
        self._written_at = now
        new = self._path.with_suffix(".new")
        with suppress(OSError):
            new.write_text(dumps(progress), encoding="utf-8")
            new.replace(self._path)
