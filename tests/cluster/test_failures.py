"""What goes wrong in the pool, and how it is told: each failure with its own explanation and what to do."""

from collections.abc import Callable

import pytest

from .hub import PROFILE, WAITS, Session, Start, refused
from .reach import wait_for

pytestmark = pytest.mark.timeout(400)

TWO_SLICES = {**PROFILE, "name": "two", "title": "Two slices", "gpu_slots": 2}
SMALL = {**PROFILE, "name": "small", "title": "Small", "scratch_bytes": 20 * 1024**2}
TOO_MUCH = "x = []\nwhile True: x.append(bytearray(b'x') * 2**24)"
FILLS = "open('/var/run/ai-batch/scratch/big', 'wb').write(bytes(200 * 2**20))\nimport time; time.sleep(120)"


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
    session = start(slices=5, profiles=[PROFILE, SMALL])
    failing = session.submit_cells("cell", "open('before.txt', 'w').write('x')", "1 / 0")
    memory = session.submit_cells("memory", TOO_MUCH)
    disk = session.submit_cells("disk", FILLS, profile="small")
    late = session.submit_cells("late", "open('before.txt', 'w').write('x')", WAITS, max_duration_s=25)

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
    session = start(profiles=[PROFILE, TWO_SLICES], queues=["batch", "missing"])
    for queue in ("missing", "nowhere"):  # one that the admin names and the cluster has not; one that nobody names
        error = refused(lambda queue=queue: session.submit_cells(queue, "1", queue=queue))
        assert error["code"] == "queue_unknown"

    large = session.submit_cells("large", "1", profile="two")
    explained(session, large, "exceeds_quota", "blocked")

    running = session.submit_cells("wait", WAITS)
    session.wait_for(running, "running")
    queued = session.submit_cells("image", "1")
    gone = session.submit_cells("gone", "1")
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
