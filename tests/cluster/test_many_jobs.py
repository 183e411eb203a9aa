"""A thousand Jobs of fifty users through Kueue, on nodes that KWOK plays."""

import asyncio
import time
from collections.abc import Callable

import pytest
from kubernetes.aio import client, config

from .objects import QUEUE_LABEL, job, pod_spec
from .queues import GPU, Kueue
from .reach import Cluster, Namespace, Testbed, wait_for

USERS = 50
JOBS_PER_USER = 20
SLOTS = 500
IN_FLIGHT = 16
RUNS_FOR = "5s"
WITHIN_S = 1200.0  # a quiet machine with two cores needs three minutes
FAKE = "kwok.x-k8s.io/node"


@pytest.fixture
def users(make_namespace: Callable) -> list[Namespace]:
    return [make_namespace("many", purpose="many-jobs") for _ in range(USERS)]


@pytest.mark.timeout(1300)
def test_a_thousand_jobs_finish(
    testbed: Testbed, cluster: Cluster, kueue: Kueue, users: list[Namespace], state_figure: Callable[[str], None]
):
    if testbed.fake_nodes * 28 < SLOTS:
        pytest.skip("needs 18 fake nodes or more: python -m testbed up --fake-nodes 20")
    toleration = {"key": FAKE, "value": "fake", "effect": "NoSchedule", "operator": "Equal"}
    pool = kueue.make_pool(slices=SLOTS, flavor={"nodeLabels": {"type": "kwok"}, "tolerations": [toleration]})
    for user in users:
        pool.admit(user)

    started = time.monotonic()
    asyncio.run(_create_all([user.name for user in users]))
    created = time.monotonic()

    def finished() -> int:
        jobs = cluster.list("batch/v1", "Job", label_selector="purpose=many-jobs")
        return sum(item["status"].get("succeeded", 0) for item in jobs)

    total = USERS * JOBS_PER_USER
    wait_for("every Job has succeeded", finished, until=lambda count: count == total, within_s=WITHIN_S, every_s=5)

    ended = time.monotonic()
    state_figure(
        f"{total} Jobs of {USERS} users, {SLOTS} slots: created in {created - started:.0f} s "
        f"({total / (created - started):.0f}/s), all finished after {ended - started:.0f} s "
        f"({total / (ended - started):.1f}/s)"
    )


async def _create_all(namespaces: list[str]) -> None:
    spec = pod_spec("fake", "true", resources={GPU: "1"})
    labels = {QUEUE_LABEL: "batch", "purpose": "many-jobs"}
    annotations = {"pod-complete.stage.kwok.x-k8s.io/delay": RUNS_FOR}
    configuration = client.Configuration()
    await config.load_kube_config(client_configuration=configuration)
    async with client.ApiClient(configuration) as api:
        batch = client.BatchV1Api(api)
        slots = asyncio.Semaphore(IN_FLIGHT)

        async def create(namespace: str, number: int) -> None:
            async with slots:
                body = job(f"job-{number}", spec, labels=labels, annotations=annotations)
                await batch.create_namespaced_job(namespace, body)

        await asyncio.gather(*(create(name, number) for number in range(JOBS_PER_USER) for name in namespaces))
