"""KueueBackend on a real cluster: notebooks in pods of the users' image, queued by Kueue, results in the registry."""

import asyncio
import json
import os
import subprocess
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

import pytest

from jupyterlab_ai_batch.errors import (
    AdmissionRefusedError,
    QueueUnknownError,
)
from jupyterlab_ai_batch.models import Observation, Profile, QueueEntry, RunSpec, Submission
from jupyterlab_ai_batch.queues.kueue.api_client import KubernetesApi
from jupyterlab_ai_batch.queues.kueue.api_connection import ConnectionSettings
from jupyterlab_ai_batch.queues.kueue.backend import KueueBackend
from jupyterlab_ai_batch.queues.kueue.naming import job_name
from jupyterlab_ai_batch.queues.kueue.preflight import Surroundings
from jupyterlab_ai_batch.queues.kueue.settings import KueueProfile, KueueSettings
from jupyterlab_ai_batch.words import OutputsState, SubmissionState
from testbed.user_image import HOME

from .hub import AUTHORITIES, IMAGE, REPOSITORY, SECRET, copy_login
from .objects import pod, pod_spec
from .queues import GPU
from .reach import Cluster, Namespace, Testbed, wait_for
from .snapshots import NOTEBOOK, push_notebook

Seen = TypeVar("Seen")

pytestmark = pytest.mark.timeout(400)

IMAGE_ID = f"registry.testbed:5000/base/user@sha256:{'0' * 64}"
PYTHON = "/opt/venv/bin/python"
SESSION = "session"
WITHIN_S = 120.0
ENDS = "open('result.txt', 'w').write('42'); print('hello')"
WAITS = "import time, pathlib\nwhile not pathlib.Path('/tmp/go').exists(): time.sleep(0.1)"


@dataclass(frozen=True)
class User:
    """A namespace in which a session runs, and what its server knows."""

    namespace: Namespace
    settings: KueueSettings
    registry: Callable[..., Any]
    directory: Path

    @asynccontextmanager
    async def backend(
        self, name: str = "data", *, session: str = SESSION, **settings: Any
    ) -> AsyncIterator[KueueBackend]:
        """A server's; on a disk of its own by ``name``."""
        directory = self.directory / name
        directory.mkdir(mode=0o700, exist_ok=True)
        kubeconfig = Path(os.environ["KUBECONFIG"].split(os.pathsep)[0])
        backend = KueueBackend(
            directory,
            settings=replace(self.settings, **settings),
            api=KubernetesApi(ConnectionSettings(namespace=self.namespace.name, kubeconfig=kubeconfig)),
            open_repository=lambda: self.registry("users/alice", user="alice"),
            pod=session,
            python=PYTHON,
            surroundings=Surroundings(probe_registry=lambda _image: None),
            now=lambda: datetime.now(timezone.utc),
        )
        try:
            yield backend
        finally:
            await backend.close()

    def entry(self, *cells: str, queue: str = "batch", profile: str = "slice") -> QueueEntry:
        """A notebook, captured."""
        digest = push_notebook(self.registry, cells)
        now, submission_id = datetime.now(timezone.utc), uuid.uuid4().hex
        submission = Submission(
            id=submission_id,
            state=SubmissionState.QUEUED,
            title="a",
            notebook_path=NOTEBOOK,
            backend="kueue",
            target="kueue",
            profile=profile,
            queue=queue,
            created_at=now,
            observed_at=now,
        )
        run = RunSpec(submission_id=submission_id, attempt=1, work_root=HOME, notebook=NOTEBOOK, kernel_name="python3")
        return QueueEntry(submission=submission, snapshot_digest=digest, run=run)

    def label(self, cluster: Cluster, level: str) -> None:
        """The Pod Security level that pods are held to from now on."""
        labels = {"pod-security.kubernetes.io/enforce": level}
        cluster.patch("v1", "Namespace", self.namespace.name, {"metadata": {"labels": labels}})

    def jobs(self) -> int:
        return len(self.namespace.cluster.list("batch/v1", "Job", namespace=self.namespace.name))


@pytest.fixture
def user(
    testbed: Testbed,
    cluster: Cluster,
    registry: Callable,
    make_user: Callable[..., Namespace],
    tmp_path: Path,
) -> User:
    """One whose pool has a single slice."""
    namespace = make_user()
    copy_login(cluster, namespace)
    body = {"metadata": {"name": AUTHORITIES}, "data": {"ca.crt": testbed.authority}}
    namespace.create({"apiVersion": "v1", "kind": "ConfigMap", **body})
    namespace.create(pod(SESSION, pod_spec(IMAGE, "sleep 3600")))
    namespace.wait_for_phase(SESSION, "Running")
    shape = Profile(name="slice", title="One slice", cpu_millicores=100, memory_bytes=512 * 1024**2, gpu_slots=1)
    settings = KueueSettings(
        namespace=namespace.name,
        queues=("batch", "missing"),
        profiles=(KueueProfile(profile=shape, gpu_resource=GPU, scratch_bytes=1024**3, grace_period_s=15),),
        repository=REPOSITORY,
        registry_secret=SECRET,
        registry_ca_config_map=AUTHORITIES,
    )
    return User(namespace, settings, registry, tmp_path)


def run(story: Awaitable[None]) -> None:
    asyncio.run(asyncio.wait_for(story, 360))


async def until(what: str, ask: Callable[[], Awaitable[Seen]], holds: Callable[[Seen], object]) -> Seen:
    deadline = asyncio.get_running_loop().time() + WITHIN_S
    while True:
        answer = await ask()
        if holds(answer):
            return answer
        assert asyncio.get_running_loop().time() < deadline, f"not in time: {what}; {answer}"
        await asyncio.sleep(0.1)


async def observe(backend: KueueBackend, submission_id: str) -> Observation | None:
    return (await backend.observe([submission_id])).get(submission_id)


async def reach(backend: KueueBackend, submission_id: str, *states: SubmissionState) -> Observation:
    """The Observation in one of these states; in a terminal one when none is given."""

    def holds(seen: Observation | None) -> bool:
        return seen is not None and (seen.state in states if states else seen.state.is_terminal)

    return await until(f"{submission_id} is {states}", lambda: observe(backend, submission_id), holds)


async def in_cell(backend: KueueBackend, submission_id: str) -> Observation:
    return await until("a cell runs", lambda: observe(backend, submission_id), lambda seen: seen and seen.progress)


def test_a_notebook_runs_and_comes_home(user: User):
    """From the hand-over to the Job's removal: progress, log, files, one Attempt."""

    async def story() -> None:
        async with user.backend() as backend:
            entry = user.entry("import time; time.sleep(2)", ENDS)
            name = entry.submission.id
            await backend.submit(entry)
            await reach(backend, name, SubmissionState.STARTING, SubmissionState.RUNNING)
            await in_cell(backend, name)
            seen = await reach(backend, name)
            assert (SubmissionState.SUCCEEDED, 2, 2) == (seen.state, seen.progress.cell, seen.progress.of)
            assert [(1, "succeeded")] == [(attempt.number, attempt.ended_by) for attempt in seen.attempts]
            assert OutputsState.AVAILABLE is seen.outputs.state
            stored = await backend.latest_outputs(name)
            assert {NOTEBOOK, "result.txt"} <= {file.path for file in stored.output_set.files}
            log = await backend.read_log(name, attempt=1, offset=0, limit_bytes=100_000)
            assert ("hello" in log.text, log.complete) == (True, True)
            await backend.release(name)
            wait_for("the Job is gone", lambda: user.jobs() == 0)
            assert "hello" in (await backend.read_log(name, attempt=1, offset=0, limit_bytes=100_000)).text

    run(story())


def test_a_failing_cell_is_explained(user: User):
    async def story() -> None:
        async with user.backend() as backend:
            entry = user.entry("1 / 0")
            await backend.submit(entry)
            seen = await reach(backend, entry.submission.id)
            assert (SubmissionState.FAILED, "cell_failed") == (seen.state, seen.explanation.code)
            assert "ZeroDivisionError" in seen.explanation.summary

    run(story())


def test_cancel_while_queued_and_while_running(user: User):
    """The one that runs saves what it has; the one that waits has its position, and ends without an Attempt."""

    async def story() -> None:
        async with user.backend() as backend:
            running, queued = user.entry("open('partial.txt', 'w').write('x')", WAITS), user.entry(ENDS)
            await backend.submit(running)
            await until("the 2nd cell", lambda: observe(backend, running.submission.id), in_second_cell)
            await backend.submit(queued)
            await until(
                "a position", lambda: observe(backend, queued.submission.id), lambda seen: seen and seen.position
            )
            await backend.cancel(queued.submission.id)
            seen = await reach(backend, queued.submission.id)
            assert (SubmissionState.CANCELLED, "cancelled_by_user", ()) == (
                seen.state,
                seen.explanation.code,
                seen.attempts,
            )
            await backend.cancel(running.submission.id)
            seen = await reach(backend, running.submission.id)
            assert (SubmissionState.CANCELLED, "cancelled") == (seen.state, seen.attempts[-1].ended_by)
            stored = await backend.latest_outputs(running.submission.id)
            assert "partial.txt" in {file.path for file in stored.output_set.files}
            assert user.jobs() == 0

    run(story())


def in_second_cell(seen: Observation | None) -> bool:
    return seen is not None and seen.progress is not None and seen.progress.cell == 2


def test_cancel_while_starting(user: User):
    """A pod whose image is missing has begun to start and will not; it can be cancelled."""

    async def story() -> None:
        async with user.backend() as backend:
            entry = user.entry(ENDS)
            entry = QueueEntry(submission=entry.submission, snapshot_digest=f"sha256:{'0' * 64}", run=entry.run)
            await backend.submit(entry)
            await reach(backend, entry.submission.id, SubmissionState.STARTING)
            await backend.cancel(entry.submission.id)
            seen = await reach(backend, entry.submission.id)
            assert (SubmissionState.CANCELLED, "cancelled_by_user") == (seen.state, seen.explanation.code)

    run(story())


def test_handed_in_twice_is_one_job(user: User):
    """Two servers hand in the same Submission at the same time, several times: there is one Job."""

    async def story() -> None:
        entry = user.entry(ENDS)
        async with AsyncExitStack() as stack:
            backends = [await stack.enter_async_context(user.backend(f"server-{number}")) for number in range(2)]
            await asyncio.gather(*(backend.submit(entry) for backend in backends for _ in range(3)))
            assert user.jobs() == 1
            for backend in backends:
                assert SubmissionState.SUCCEEDED is (await reach(backend, entry.submission.id)).state

    run(story())


def test_a_lost_disk_is_filled_again_from_the_cluster(user: User):
    """Entries come back whole from the Jobs, and a server with an empty disk follows what runs."""

    async def story() -> None:
        entries = [user.entry(ENDS), user.entry(ENDS)]
        async with user.backend() as first:
            for entry in entries:
                await first.submit(entry)
        async with user.backend("elsewhere") as second:
            listed = await second.list_entries()
            assert [entry.submission.id for entry in entries] == [entry.submission.id for entry in listed]
            assert [entry.run for entry in entries] == [entry.run for entry in listed]
            for entry in entries:
                assert SubmissionState.SUCCEEDED is (await reach(second, entry.submission.id)).state

    run(story())


def test_somebody_deletes_the_job(user: User):
    """It ends, and not by the user's wish; the end stays what it was."""

    async def story() -> None:
        async with user.backend() as backend:
            entry = user.entry(WAITS)
            name = entry.submission.id
            await backend.submit(entry)
            await in_cell(backend, name)
            user.namespace.cluster.delete("batch/v1", "Job", job_name(name), namespace=user.namespace.name)
            seen = await reach(backend, name)
            assert (SubmissionState.CANCELLED, "deleted_elsewhere") == (seen.state, seen.explanation.code)

    run(story())


def test_what_cannot_run_is_refused(user: User, cluster: Cluster):
    """A queue that is not there, and a pod that Pod Security would refuse: there is no Job."""

    async def story() -> None:
        async with user.backend() as backend:
            with pytest.raises(QueueUnknownError):
                await backend.submit(user.entry(ENDS, queue="missing"))
            quota = {"hard": {"pods": "1"}}
            body = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "full"}, "spec": quota}
            user.namespace.create(body)
            wait_for("the quota counts", lambda: quota_is_counted(cluster, user.namespace.name))
            with pytest.raises(AdmissionRefusedError, match="exceeded quota"):
                await backend.submit(user.entry(ENDS))
            assert user.jobs() == 0

    run(story())


def test_pod_security_refuses_at_submit(user: User, cluster: Cluster):
    """A session from before the namespace was closed has a volume that jobs may no longer have: there is no Job."""
    name = user.namespace.name
    user.label(cluster, "privileged")
    volumes = [{"name": "data", "nfs": {"server": "storage.example", "path": "/data"}}]
    body = pod("older", pod_spec(IMAGE, "sleep 3600", volumes=volumes, schedulerName="nobody"))
    body["spec"]["containers"][0]["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    user.namespace.create(body)
    running = {"name": "main", "ready": True, "restartCount": 0, "image": IMAGE, "imageID": IMAGE_ID}
    status = {"containerStatuses": [{**running, "state": {"running": {"startedAt": "2026-11-20T10:00:00Z"}}}]}
    patch = ["--subresource=status", "--type=merge", "-p", json.dumps({"status": status})]
    subprocess.run(["kubectl", "patch", "pod", "older", "-n", name, *patch], check=True, capture_output=True)
    user.label(cluster, "restricted")

    async def story() -> None:
        async with user.backend(session="older", shared_volumes=("data",)) as backend:
            with pytest.raises(AdmissionRefusedError, match="PodSecurity") as refused:
                await backend.submit(user.entry(ENDS))
            assert "nfs" in str(refused.value)
            assert user.jobs() == 0

    run(story())


def quota_is_counted(cluster: Cluster, namespace: str) -> bool:
    found = cluster.get("v1", "ResourceQuota", "full", namespace=namespace) or {}
    return bool(found.get("status", {}).get("used"))


def test_preflight_finds_nothing_amiss(user: User):
    async def story() -> None:
        async with user.backend() as backend:
            checks = {check.name: check for check in await backend.preflight()}
            assert checks.pop("queue missing").ok is False
            assert {None} == {checks.pop(name).ok for name in ("registry_secret", "registry_authorities")}
            assert dict.fromkeys(checks, True) == {name: check.ok for name, check in checks.items()}, checks
            (reading,) = await backend.list_queues()
            assert ("batch", None, 0) == (reading.name, reading.slots, reading.waiting)

    run(story())
