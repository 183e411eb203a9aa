"""Why a job waits, as its user is told: the same that Kueue says, by class, and nobody's names."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .hub import WAITS, Session, readers_of, start_session
from .objects import QUEUE_LABEL, pod, pod_spec
from .queues import GPU, SLEEP, Kueue, Pool, batch_job
from .reach import Cluster, Namespace, Testbed, wait_for

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def pool(kueue: Kueue) -> Pool:
    return kueue.make_pool(slices=2)


@pytest.fixture
def pool_role(cluster: Cluster, pool: Pool) -> Iterator[None]:
    objects = readers_of(pool)
    for body in objects:
        cluster.create(body)
    yield
    for body in objects:
        cluster.delete(body["apiVersion"], body["kind"], body["metadata"]["name"])


@pytest.fixture
def session(
    testbed: Testbed, cluster: Cluster, pool: Pool, pool_role: None, make_namespace: Callable[..., Namespace]
) -> Session:
    """Alice's, whose server may read the pool's numbers."""
    namespace = make_namespace("alice", **{"pod-security.kubernetes.io__enforce": "restricted"})
    pool.admit(namespace)
    queues = {kind: [f"{pool.name}-{kind}"] for kind in ("interactive", "batch")}
    settings = {"pool_queues": queues, "usage_half_life_s": 120}
    return start_session(cluster, namespace, authority=testbed.authority, settings=settings)


def test_two_users_and_a_full_pool(session: Session, pool: Pool, make_namespace: Callable, shell_image: str):
    """Positions, order by fair share and the words match what Kueue says; a session that comes is counted as one."""
    bob = make_namespace("bob")
    pool.admit(bob)
    running = [session.submit_cells(f"running{number}", WAITS) for number in range(2)]
    for submission in running:
        session.wait_for(submission, "running")
    first = session.submit_cells("first", "1")
    said(session, first, 0, "It is next.", "Its 2 slots are in use: 2 by your batch jobs.")
    second = session.submit_cells("second", "1")
    said(session, second, 1, "1 submission of your own is ahead of it.")

    bob.create(batch_job("bobs", shell_image))  # he has used nothing: his turn comes before hers
    said(session, first, 1, "1 submission of other users is ahead of it.")
    seen = said(session, second, 2, "2 submissions are ahead of it: 1 of your own, 1 of other users.")
    assert (seen["position"]["in_local_queue"], bob.position("batch", "bobs")) == (1, 0)
    queue = queue_of(session)
    classes = ("slots", "mine", "others_batch", "interactive", "free", "interactive_waiting")
    assert [queue["pool"][name] for name in classes] == [2, 2, 0, 0, 0, 0]
    assert queue["pool"]["resource"] == GPU
    (profile,) = session.call("GET", "profiles")["profiles"]
    assert profile["available"] == 0
    share = queue["share"]
    assert share["used"] > 0
    assert share["summary"].endswith("1 submission of others goes before your next one."), share
    assert "every 2 minutes" in share["summary"]

    bob.create(pod("session", pod_spec(shell_image, SLEEP, resources={GPU: "1"}), labels={QUEUE_LABEL: "interactive"}))
    bob.wait_for_phase("session", "Running")
    wait_for(
        "the pool's numbers",
        lambda: queue_of(session)["pool"],
        until=lambda pool: (pool["mine"], pool["interactive"], pool["free"]) == (1, 1, 0),
    )
    shown = session.run("jupyter ai-batch queues")
    assert "0 of 2 slots free (1 yours, 0 batch of others, 1 interactive" in shown, shown
    assert "bob" not in shown + str(session.call("GET", "queues")) + str(session.get(first))


def said(session: Session, submission: str, place: int, *sentences: str) -> dict[str, Any]:
    """The Submission once its words and its position are these; its position is what Kueue tells the queue's user."""
    wait_for(
        f"Kueue has it at {place}",
        lambda: session.namespace.position("batch", f"ai-batch-{submission}"),
        until=lambda found: found == place,
    )

    def look() -> dict[str, Any]:
        queue_of(session)
        return session.get(submission)

    return wait_for(
        f"it is told: {sentences}",
        look,
        until=lambda seen: (
            (seen["position"] or {}).get("in_cluster_queue") == place
            and all(sentence in seen["explanation"]["summary"] for sentence in sentences)
        ),
    )


def queue_of(session: Session) -> dict[str, Any]:
    (queue,) = session.call("GET", "queues")["queues"]
    return queue
