"""What goes wrong in the pool, and how it is told: each failure with its own explanation and what to do."""

from collections.abc import Callable

import pytest

from .hub import PROFILE, Session
from .reach import wait_for
from .test_session import Start, refused, start, waiting_notebook

__all__ = ["start"]

pytestmark = pytest.mark.timeout(400)

TWO_SLICES = {**PROFILE, "name": "two", "title": "Two slices", "gpu_slots": 2}
SMALL = {**PROFILE, "name": "small", "title": "Small", "scratch_bytes": 20 * 1024**2}
TOO_MUCH = "x = []\nwhile True: x.append(bytearray(b'x') * 2**24)"
FILLS = "open('/var/run/ai-batch/scratch/big', 'wb').write(bytes(200 * 2**20))\nimport time; time.sleep(120)"
WAITS = "import time\nprint('begun', flush=True)\nwhile True: time.sleep(0.1)"


def submit(session: Session, name: str, *cells: str, **options: object) -> str:
    session.write_notebook(f"{name}/{name}.ipynb", *cells)
    return session.submit(f"{name}/{name}.ipynb", capture_from="folder", **options)


def explained(session: Session, submission: str, code: str | set[str], *states: str) -> dict:
    """The Submission once it is explained by ``code`` (or one of them), in one of the states."""
    codes = {code} if isinstance(code, str) else code
    seen = wait_for(
        f"{code}",
        lambda: session.get(submission),
        until=lambda seen: (
            (seen["explanation"] or {}).get("code") in codes and seen["state"] in (states or ("failed",))
        ),
        within_s=150,
    )
    assert seen["explanation"]["summary"], seen
    return seen


def test_what_a_job_does_wrong_is_explained(start: Start):
    """A failing cell, memory, disk, time: they end as failed, and what there was is at home."""
    session = start(slices=5, profiles=[SMALL])
    failing = submit(session, "cell", "open('before.txt', 'w').write('x')", "1 / 0")
    memory = submit(session, "memory", TOO_MUCH)
    disk = submit(session, "disk", FILLS, profile="small")
    late = submit(session, "late", "open('before.txt', 'w').write('x')", WAITS, max_duration_s=25)

    seen = explained(session, failing, "cell_failed")
    assert "ZeroDivisionError" in seen["explanation"]["summary"]
    assert session.read("cell/before.txt") == "x"
    assert "ZeroDivisionError" in session.read(seen["executed_notebook"])
    seen = explained(session, memory, "out_of_memory")
    assert "512" in seen["explanation"]["summary"], seen["explanation"]
    seen = explained(session, disk, "disk_quota")
    assert "20" in seen["explanation"]["summary"], seen["explanation"]
    seen = explained(session, late, "time_limit")
    wait_for("the files are home", lambda: session.has("late/before.txt"))
    assert all(session.get(one)["explanation"]["resolution"] for one in (failing, memory, disk, late))


def test_what_cannot_run_is_explained(start: Start, registry: Callable):
    """Too much for the pool, no such queue, an image that is gone; each can be cancelled."""
    session = start(profiles=[TWO_SLICES], queues=["batch", "missing"])
    for queue in ("missing", "nowhere"):  # one that the admin names and the cluster has not; one that nobody names
        error = refused(lambda queue=queue: submit(session, queue, "1", queue=queue))
        assert error["code"] == "queue_unknown"

    large = submit(session, "large", "1", profile="two")
    explained(session, large, "exceeds_quota", "blocked")

    running = session.submit(waiting_notebook(session))
    session.wait_for(running, "running")
    queued = submit(session, "image", "1")
    gone = submit(session, "gone", "1")
    digest = session.wait_for(gone, "queued")["snapshot"]["digest"]
    # Kueue may not try one that is like another which did not fit.
    explained(session, queued, {"waiting_for_quota", "waiting_in_queue"}, "queued")
    wait_for("a position", lambda: session.get(queued)["position"])
    with registry("users/alice", user="alice") as repository:
        assert repository._manifests.delete(digest)  # by digest: what its tag names is gone
    for one in (queued, large):
        session.call("POST", f"submissions/{one}/cancel")
        explained(session, one, "cancelled_by_user", "cancelled")
    session.call("POST", f"submissions/{running}/cancel")
    explained(session, running, "cancelled_by_user", "cancelled")
    explained(session, gone, "image_pull_failed", "starting")
    session.call("POST", f"submissions/{gone}/cancel")
    explained(session, gone, "cancelled_by_user", "cancelled")
    assert session.namespace.cluster.list("batch/v1", "Job", namespace=session.namespace.name) == []
