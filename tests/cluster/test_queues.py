"""Kueue on the shared pool: who waits where, who goes first, who has to go."""

import time
from collections.abc import Callable

import pytest

from .objects import QUEUE_LABEL, pod, pod_spec
from .queues import GPU, SLEEP, Kueue, Pool, batch_job, condition, find_condition
from .reach import Namespace, wait_for


@pytest.fixture
def users(make_namespace: Callable) -> tuple[Namespace, Namespace]:
    return make_namespace("alice"), make_namespace("bob")


def _fill(pool: Pool, user: Namespace, image: str, *, slices: int) -> None:
    """Jobs of a user that hold every slice."""
    for number in range(slices):
        user.create(batch_job(f"running-{number}", image))
    for number in range(slices):
        user.wait_for_job(f"running-{number}", active=1)


def test_a_queued_job_is_admitted_runs_and_finishes(kueue: Kueue, namespace: Namespace, shell_image: str):
    kueue.make_pool(slices=1).admit(namespace)

    namespace.create(batch_job("short", shell_image, "echo done"))
    namespace.wait_for_job("short", succeeded=1)

    workload = wait_for(
        "the Workload is finished",
        lambda: (found := namespace.workload_of("short")) and condition(found, "Finished") and found,
    )
    assert find_condition(workload, "Finished")["reason"] == "Succeeded"


def _wait_for_another_second() -> None:
    """Kueue tells earlier from later by whole seconds."""
    now = int(time.time())
    wait_for("the next second", lambda: int(time.time()), until=lambda second: second > now)


@pytest.mark.parametrize(("fair", "order"), [(False, ["alice", "bob"]), (True, ["bob", "alice"])])
def test_order_of_two_waiting_jobs(kueue: Kueue, users, shell_image: str, fair: bool, order: list[str]):
    """Alice holds the pool and asks again before bob asks. By time she is next; by fair share he is."""
    alice, bob = users
    pool = kueue.make_pool(slices=2, fair=fair)
    for user in users:
        pool.admit(user)
    _fill(pool, alice, shell_image, slices=2)
    alice.create(batch_job("waits", shell_image))
    wait_for("alice's third job waits", lambda: alice.position("batch", "waits"), until=lambda place: place is not None)
    _wait_for_another_second()
    bob.create(batch_job("waits", shell_image))

    expected = {name: position for position, name in enumerate(order)}

    def positions() -> dict[str, int | None]:
        return {"alice": alice.position("batch", "waits"), "bob": bob.position("batch", "waits")}

    wait_for(f"the order is {order}", positions, until=lambda now: now == expected)

    alice.cluster.delete("batch/v1", "Job", "running-0", namespace=alice.name)
    first, second = (alice, bob) if order[0] == "alice" else (bob, alice)
    first.wait_for_job("waits", active=1)
    assert second.position("batch", "waits") == 0


def test_session_takes_its_slice_back_from_batch(kueue: Kueue, users, shell_image: str):
    """Bob's session starts although alice's jobs hold every slice: one of them goes back to the queue."""
    alice, bob = users
    pool = kueue.make_pool(slices=2)
    for user in users:
        pool.admit(user)
    _fill(pool, alice, shell_image, slices=2)

    session = pod_spec(shell_image, SLEEP, resources={GPU: "1"})
    bob.create(pod("session", session, labels={QUEUE_LABEL: "interactive"}))
    bob.wait_for_phase("session", "Running")

    def evicted() -> list[dict]:
        workloads = [alice.workload_of(f"running-{number}") for number in range(2)]
        return [one for one in workloads if one and condition(one, "Evicted") == "True"]

    (workload,) = wait_for("one of alice's Workloads is evicted", evicted)
    assert find_condition(workload, "Evicted")["reason"] == "Preempted"
    assert find_condition(workload, "Preempted")["reason"] == "InCohortReclamation"
    assert "Preempted to accommodate a workload" in find_condition(workload, "Evicted")["message"]
    name = workload["metadata"]["ownerReferences"][0]["name"]
    suspended = wait_for(
        "its Job is suspended", lambda: (found := alice.job(name)) and found["spec"]["suspend"] and found
    )
    assert not suspended["status"].get("active")
    assert wait_for("it waits again", lambda: alice.position("batch", name) == 0)

    bob.cluster.delete("v1", "Pod", "session", namespace=bob.name)
    alice.wait_for_job(name, active=1)


def test_job_without_quota_for_it_stays_in_the_queue(kueue: Kueue, namespace: Namespace, shell_image: str):
    kueue.make_pool(slices=1).admit(namespace)

    namespace.create(batch_job("too-large", shell_image, slices=2))

    workload = wait_for(
        "Kueue says why",
        lambda: (found := namespace.workload_of("too-large")) and find_condition(found, "QuotaReserved") and found,
    )
    assert condition(workload, "QuotaReserved") == "False"
    assert GPU in find_condition(workload, "QuotaReserved")["message"]
    assert namespace.job("too-large")["spec"]["suspend"] is True
