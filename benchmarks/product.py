"""Our side of the measurements: a server with the extension, its REST interface, a filled ledger."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from jupyterlab_ai_batch.ledger import Ledger
from jupyterlab_ai_batch.models import Attempt, Explanation, OutputsSummary, Progress, Submission
from jupyterlab_ai_batch.queues.local.lock import worker_is_alive, worker_pid
from jupyterlab_ai_batch.words import OutputsState, SubmissionState
from servers import JupyterServer, MeasurementError, wait_until

VENV = Path(sys.prefix)
EXTENSIONS = {"jupyterlab_ai_batch": True, "loop_probe": True}
TERMINAL = {"succeeded", "failed", "cancelled"}
API = "/ai-batch/v1"
LIST_PATH = f"{API}/submissions?limit=100"
SEEDED_AT = datetime(2026, 1, 1, tzinfo=timezone.utc)


def data_directory(home: Path) -> Path:
    """Where the extension keeps its data in a server whose home is ``home``."""
    return home / "data" / "ai-batch"


def start(home: Path, root: Path) -> JupyterServer:
    """Start a server with the extension of this interpreter's environment, and the loop probe."""
    here = Path(__file__).resolve().parent
    return JupyterServer(VENV, home, root, EXTENSIONS, PYTHONPATH=f"{here}:{here.parent}")


def end_worker(home: Path) -> None:
    """End the detached worker of ``home``, which outlives its server on purpose, and wait until it is gone."""
    lock = data_directory(home) / "queue" / "worker.lock"
    if (pid := worker_pid(lock)) is not None:
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not worker_is_alive(lock), deadline_s=60, what="the end of the worker")


def submit(server: JupyterServer, notebook: str) -> tuple[float, str]:
    """Submit; (seconds until the answer, id)."""
    seconds, answer = server.timed("POST", f"{API}/submissions", {"notebook_path": notebook})
    return seconds, answer["id"]


def read(server: JupyterServer, identity: str) -> dict[str, Any]:
    submission: dict[str, Any] = server.call("GET", f"{API}/submissions/{identity}?no_track_activity=1")
    return submission


def wait_for(
    server: JupyterServer, identity: str, states: set[str], *, deadline_s: float, poll_s: float = 0.1
) -> dict[str, Any]:
    """Poll until the Submission is in one of ``states``."""

    def reached() -> dict[str, Any] | None:
        submission = read(server, identity)
        return submission if submission["state"] in states else None

    found: dict[str, Any] = wait_until(reached, deadline_s=deadline_s, every_s=poll_s, what=f"Submission {states}")
    return found


def run_to_end(server: JupyterServer, notebook: str, *, poll_s: float) -> dict[str, Any]:
    """Submit, and wait until the results are at home.

    Raises:
        MeasurementError: it did not succeed.
    """
    _, identity = submit(server, notebook)
    submission = wait_for(server, identity, TERMINAL, deadline_s=300, poll_s=poll_s)
    if submission["state"] != "succeeded":
        raise MeasurementError(f"Submission {submission['state']}: {submission['explanation']}")
    return submission


def phases(submission: dict[str, Any]) -> dict[str, float]:
    """Seconds that a finished Submission spent in each phase, by its own times."""
    snapshot, attempt = submission["snapshot"], submission["attempts"][-1]
    marks = {
        "submitted": submission["created_at"],
        "captured": snapshot["captured_until"],
        "admitted": attempt["admitted_at"],
        "started": attempt["started_at"],
        "ended": attempt["ended_at"],
        "home": submission["observed_at"],
    }
    times = {name: datetime.fromisoformat(mark.replace("Z", "+00:00")) for name, mark in marks.items()}
    return {later: (times[later] - times[earlier]).total_seconds() for earlier, later in itertools.pairwise(times)}


def cancel(server: JupyterServer, identity: str) -> None:
    """Cancel, and wait until it has ended."""
    if read(server, identity)["state"] not in TERMINAL:
        server.call("POST", f"{API}/submissions/{identity}/cancel", {})
        wait_for(server, identity, TERMINAL, deadline_s=120)


def _seeded(number: int) -> Submission:
    at = SEEDED_AT + timedelta(seconds=number)
    ended = at + timedelta(minutes=4)
    return Submission(
        id=f"{number:08x}-0000-4000-8000-000000000000",
        state=SubmissionState.SUCCEEDED,
        title=f"train-digits {number}",
        notebook_path=f"studies/week-{number % 50}/train-digits.ipynb",
        backend="local",
        target="local",
        profile="default",
        queue="default",
        created_at=at,
        observed_at=ended,
        parameters={"quick": True, "epochs": 20},
        explanation=Explanation(code="succeeded", summary="Succeeded in 4 minutes. 3 files came home.", since=ended),
        progress=Progress(cell=12, of=12, cell_started_at=ended),
        attempts=(Attempt(number=1, admitted_at=at, started_at=at, ended_at=ended, ended_by="succeeded"),),
        outputs=OutputsSummary(state=OutputsState.COLLECTED, files=3, bytes=421_000),
        executed_notebook=f"studies/week-{number % 50}/train-digits.batch-{number:08x}.ipynb",
    )


def seed(home: Path, count: int) -> None:
    """Fill the ledger of ``home`` with ``count`` finished Submissions through its public interface."""
    folder = data_directory(home)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    ledger = Ledger(folder / "ledger.db", clock=lambda: SEEDED_AT)
    for number in range(count):
        ledger.create(_seeded(number))
    ledger.close()
