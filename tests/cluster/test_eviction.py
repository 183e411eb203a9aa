"""Sessions take their slices back, again and again: batch jobs lose nothing, repeat nothing, and say what happens.

``AI_BATCH_EVICTIONS=20`` makes it twenty evictions of five jobs (``make test-evictions``).
"""

import json
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from .hub import Session, Start
from .objects import QUEUE_LABEL, pod, pod_spec
from .queues import GPU, SLEEP
from .reach import wait_for

EVICTIONS = int(os.environ.get("AI_BATCH_EVICTIONS", "4"))
JOBS = min(5, max(1, EVICTIONS // 2))
ROUNDS = EVICTIONS // JOBS
LAST_EPOCHS = 3  # of the Attempt that is left in peace
COLLEAGUE = "colleague"

# As the user guide has it: the last epoch's number is written when all of it is on disk.
TRAINING = """
import json, os, pathlib, time
state = pathlib.Path("state.json")
starts, done = json.loads(state.read_text()) if state.exists() else (0, 0)
starts, first = starts + 1, done
while starts <= {rounds} or done < first + {last}:
    time.sleep(0.4)
    done += 1
    pathlib.Path(f"epoch-{{done}}.txt").write_text("x" * done)
    pathlib.Path("state.part").write_text(json.dumps([starts, done]))
    os.replace("state.part", "state.json")
    print("epoch", done, flush=True)
"""

pytestmark = pytest.mark.timeout(300 + 120 * ROUNDS)


def test_interrupted_jobs_go_on(start: Start, shell_image: str, state_figure: Callable[[str], None]):
    """Every epoch runs once, every file is in the store when its job is interrupted, and at home in the end."""
    session = start(slices=JOBS)
    jobs = [submit(session, number) for number in range(JOBS)]
    waits: list[float] = []
    for attempt in range(1, ROUNDS + 1):
        for job in jobs:
            wait_for("an epoch", partial(epochs, session, job, attempt), within_s=180)
        came_at = time.monotonic()
        session.namespace.create(colleague(shell_image))
        session.namespace.wait_for_phase(COLLEAGUE, "Running")
        waits.append(time.monotonic() - came_at)
        for job in jobs:
            check_interrupted(session, job, attempt)
        check_partial_results(session, jobs[0])
        session.namespace.cluster.delete("v1", "Pod", COLLEAGUE, namespace=session.namespace.name)
    lost = [check_end(session, job, number) for number, job in enumerate(jobs)]
    state_figure(
        f"{JOBS * ROUNDS} evictions of {JOBS} jobs: the session had its slices {max(waits):.1f} s later at most;"
        f" run time lost per eviction: {max(map(max, lost)):.1f} s at most"
    )


def submit(session: Session, number: int) -> str:
    """The first job asks for it, the others' notebooks do."""
    path = f"job-{number}/train.ipynb"
    session.write_notebook(path, TRAINING.format(rounds=ROUNDS, last=LAST_EPOCHS))
    if number == 0:
        return session.submit(path, resume=True)
    notebook = json.loads(session.read(path))
    notebook["metadata"]["ai_batch"] = {"resume": True}
    session.write(path, json.dumps(notebook))
    return session.submit(path)


def colleague(image: str) -> dict[str, Any]:
    """An interactive pod that wants every slice."""
    return pod(COLLEAGUE, pod_spec(image, SLEEP, resources={GPU: str(JOBS)}), labels={QUEUE_LABEL: "interactive"})


def log_of(session: Session, submission: str, attempt: int) -> dict[str, Any]:
    """Empty before the Attempt has begun."""
    seen = session.get(submission)["attempts"]
    if not any(one["number"] == attempt and one["started_at"] for one in seen):
        return {"text": "", "complete": False}
    return session.call("GET", f"submissions/{submission}/logs?attempt={attempt}&limit=1000000")


def epochs(session: Session, submission: str, attempt: int) -> list[int]:
    """The epochs that an Attempt has finished."""
    lines = log_of(session, submission, attempt)["text"].splitlines()
    return [int(line.split()[1]) for line in lines if line.startswith("epoch ")]


def check_interrupted(session: Session, submission: str, attempt: int) -> None:
    """It waits again, says why, and all that it had written is in the store."""
    seen = wait_for(
        "it waits again",
        lambda: session.get(submission),
        until=lambda seen: seen["state"] == "queued" and len(seen["attempts"]) == attempt and seen["outputs"],
    )
    ended = seen["attempts"][-1]
    assert (ended["ended_by"], ended["ended_because"]) == ("Preempted", "to make room for an interactive session"), seen
    assert "to make room for an interactive session" in seen["explanation"]["summary"], seen
    assert seen["explanation"]["code"] == ("requeued" if attempt < 3 else "interrupted_often"), seen
    log = wait_for("the whole log", lambda: log_of(session, submission, attempt), until=lambda log: log["complete"])[
        "text"
    ]
    assert "ai-batch: stopping; results so far are being saved" in log
    assert "ai-batch: saved the notebook and " in log, log
    assert ("ai-batch: continues with " in log) == (attempt > 1), log
    said = max(epochs(session, submission, attempt))
    wait_for("all of it is in the store", lambda: stored_epochs(session, submission), until=lambda done: done >= said)


def stored_epochs(session: Session, submission: str) -> int:
    """How many the newest OutputSet has, by its files; each is there, and whole."""
    outputs = session.call("GET", f"submissions/{submission}/outputs")
    assert not outputs["complete"]
    paths = {file["path"].rpartition("/")[2]: file for file in outputs["files"]}
    assert "train.ipynb" in paths
    (state,) = [file["path"] for file in outputs["files"] if file["path"].endswith("/state.json")]
    done = json.loads(session.call("GET", f"submissions/{submission}/outputs/files/{state}"))[1]
    assert [paths[f"epoch-{number}.txt"]["size_bytes"] for number in range(1, done + 1)] == list(range(1, done + 1))
    return done


def check_partial_results(session: Session, submission: str) -> None:
    """While it waits: what it has so far, copied by the command, with the notebook as far as it came."""
    session.run(f"rm -rf partial && jupyter ai-batch outputs {submission} --to partial")
    assert session.has("partial/job-0/epoch-1.txt")
    (executed,) = session.run("ls partial/job-0/*.ipynb").split()
    assert "epoch " in session.read(executed)
    assert not session.has("job-0/epoch-1.txt")


def check_end(session: Session, submission: str, number: int) -> list[float]:
    """The run time that each Attempt lost."""
    seen = session.wait_for(submission, within_s=180)
    ends = [(one["number"], one["ended_by"]) for one in seen["attempts"]]
    expected = [*((attempt, "Preempted") for attempt in range(1, ROUNDS + 1)), (ROUNDS + 1, "succeeded")]
    assert (seen["state"], ends) == ("succeeded", expected), seen
    finished = [epoch for attempt, _ in ends for epoch in epochs(session, submission, attempt)]
    starts, done = json.loads(session.read(f"job-{number}/state.json"))
    assert (starts, finished) == (ROUNDS + 1, sorted(set(finished))), finished
    assert set(finished) <= set(range(1, done + 1))
    listed = session.run(f"cd job-{number} && ls epoch-*.txt").split()
    assert sorted(listed) == sorted(f"epoch-{epoch}.txt" for epoch in range(1, done + 1))
    evicted = seen["attempts"][:-1]
    assert all(one["ended_because"] == "to make room for an interactive session" for one in evicted), seen
    assert all(one["ended_at"] and one["saved_at"] for one in evicted), seen
    return [one["time_lost_s"] for one in evicted]
