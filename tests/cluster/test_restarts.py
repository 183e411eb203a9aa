"""What jobs live on goes away and comes back: said while it lasts, right afterwards, and nothing is lost."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from .hub import Session, Start
from .reach import Cluster, Testbed, wait_for

pytestmark = pytest.mark.timeout(700)

# Says a number twice a second, so that a log can be held against what it should be.
COUNTS = "import time\nfor number in range({count}):\n    print('tick', number, flush=True)\n    time.sleep(0.5)"
CONTROLLER = "kueue-controller-manager"
# Kueue ends when it cannot hold its lease, and the kubelet starts what ends again and again later each time.
RECOVERED_WITHIN_S = 330.0


@pytest.fixture
def session(start: Start) -> Session:
    return start()


def wait_for_cell(session: Session, submission: str, cell: int) -> None:
    wait_for(f"cell {cell} runs", lambda: (session.get(submission)["progress"] or {}).get("cell") == cell)


def log(session: Session, submission: str) -> str:
    return session.call("GET", f"submissions/{submission}/logs?limit=1000000")["text"]


def ticks(session: Session, submission: str) -> list[int]:
    return [int(line.split()[1]) for line in log(session, submission).splitlines() if line.startswith("tick ")]


@contextmanager
def stopped(testbed: Testbed, component: str) -> Iterator[None]:
    testbed.stop(component)
    try:
        yield
    finally:
        testbed.start(component)


def test_the_api_server(session: Session, testbed: Testbed):
    """Stale for that time, with the reason and since when; then the log has every line once."""
    submission = session.submit_cells("a", COUNTS.format(count=60), "open('result.txt', 'w').write('42')")
    wait_for("it says something", lambda: len(ticks(session, submission)) > 3)
    with stopped(testbed, "apiserver"):
        stale = wait_for("it is stale", lambda: session.get(submission), until=lambda seen: seen["stale"])
        assert (stale["state"], stale["explanation"]["code"]) == ("running", "backend_unreachable")
        assert stale["explanation"]["since"]
        known = len(ticks(session, submission))
        assert known > 3
    wait_for("it is right again", lambda: not session.get(submission)["stale"])
    wait_for("the log goes on", lambda: len(ticks(session, submission)) > known)
    seen = session.wait_for(submission, within_s=RECOVERED_WITHIN_S)
    assert (seen["state"], len(seen["attempts"])) == ("succeeded", 1), seen
    assert ticks(session, submission) == list(range(60))
    assert session.read("a/result.txt") == "42"


def test_kueue(session: Session, cluster: Cluster):
    """What runs goes on, and says that its end cannot be recorded; what waits gets its turn afterwards."""
    running = session.submit_cells("a", COUNTS.format(count=30))
    session.wait_for(running, "running")
    waiting = session.submit_cells("b", "open('result.txt', 'w').write('42')")
    wait_for("a position", lambda: session.get(waiting)["position"])
    scale(cluster, 0)
    try:
        ended = wait_for(
            "its end is not recorded",
            lambda: session.get(running),
            until=lambda seen: (seen["explanation"] or {}).get("code") == "end_unrecorded",
        )
        assert (ended["state"], ended["stale"]) == ("running", False)
        assert session.get(waiting)["state"] == "queued"
        late = session.submit_cells("c", "open('result.txt', 'w').write('43')")
        found = wait_for(
            "what is handed in now waits, or is refused with a reason",
            lambda: session.get(late),
            until=lambda seen: seen["state"] in ("queued", "failed") or seen["stale"],
        )
        assert found["explanation"]["summary"], found
    finally:
        scale(cluster, 1)
    assert session.wait_for(running, within_s=RECOVERED_WITHIN_S)["state"] == "succeeded"
    assert ticks(session, running) == list(range(30))
    assert session.wait_for(waiting, within_s=RECOVERED_WITHIN_S)["state"] == "succeeded"
    assert session.read("b/result.txt") == "42"
    if found["state"] != "failed":
        assert session.wait_for(late)["state"] == "succeeded"


def scale(cluster: Cluster, replicas: int) -> None:
    """Kueue's controller, and wait for what that means."""
    body = {"spec": {"replicas": replicas}}
    cluster.patch("apps/v1", "Deployment", CONTROLLER, body, namespace="kueue-system")

    def ready() -> bool:
        found = cluster.get("apps/v1", "Deployment", CONTROLLER, namespace="kueue-system") or {}
        return int(found["status"].get("readyReplicas") or 0) == replicas

    wait_for(f"Kueue has {replicas} ready", ready, within_s=120)
    if not replicas:
        labels = "control-plane=controller-manager"
        wait_for(
            "its pod is gone",
            lambda: not cluster.list("v1", "Pod", namespace="kueue-system", label_selector=labels),
        )


def test_the_registry(session: Session, testbed: Testbed, registry: Callable):
    """A run outlives it and stores its results when it is back; what is submitted then fails and leaves nothing."""
    submission = session.submit_cells(
        "a", "open('early.txt', 'w').write('x')", COUNTS.format(count=24), "open('late.txt', 'w').write('y')"
    )
    wait_for_cell(session, submission, 2)
    with stopped(testbed, "registry"):
        refused = session.submit_cells("b", "1")
        seen = session.wait_for(refused, "failed")
        assert seen["explanation"]["code"] == "registry_unreachable", seen
        assert seen["explanation"]["resolution"], seen
        wait_for("the last line", lambda: ticks(session, submission)[-1:] == [23], within_s=60)
        wait_for("its results wait", lambda: "not be stored yet, trying again" in log(session, submission))
        assert session.get(submission)["state"] == "running"
    seen = session.wait_for(submission)
    assert (seen["state"], seen["outputs"]["state"]) == ("succeeded", "collected"), seen
    assert [session.read(f"a/{name}.txt") for name in ("early", "late")] == ["x", "y"]
    assert ticks(session, submission) == list(range(24))
    jobs = session.namespace.cluster.list("batch/v1", "Job", namespace=session.namespace.name)
    assert not [job for job in jobs if refused in str(job)]
    with registry("users/alice", user="alice") as repository:
        assert f"snapshot-{refused}" not in repository.tag_names()
    assert session.wait_for(session.call("POST", f"submissions/{refused}/resubmit")["id"])["state"] == "succeeded"
