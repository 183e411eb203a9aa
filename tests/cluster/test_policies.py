"""What alice cannot do with ``deploy/`` in force, by the token of her own account; and that her notebooks still run.

RBAC keeps her in her namespace and from changing anything there, the policies decide what her Jobs may be, the
registry's login opens her repository alone.
"""

import copy
import json
import re
import secrets
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import pytest
import yaml
from kubernetes.dynamic.exceptions import ForbiddenError, UnprocessibleEntityError

from jupyterlab_ai_batch.errors import RegistryDeniedError, StorageError
from jupyterlab_ai_batch.models import Profile, QueueEntry, RunSpec, Submission
from jupyterlab_ai_batch.queues.kueue.identity import parse_session
from jupyterlab_ai_batch.queues.kueue.manifest import build_job, build_pod, export_yaml
from jupyterlab_ai_batch.queues.kueue.settings import KueueProfile, KueueSettings
from jupyterlab_ai_batch.words import SubmissionState
from testbed.user_image import HOME

from .deployment import Deployment, account, deployed
from .hub import AUTHORITIES, REPOSITORY, SECRET, session_pod
from .objects import QUEUE_LABEL
from .queues import GPU
from .reach import Cluster, Namespace, Testbed, unique, wait_for
from .refused_calls import BOBS, OWN
from .refused_jobs import JOBS
from .snapshots import NOTEBOOK, push_notebook

pytestmark = pytest.mark.timeout(300)

Json = dict[str, Any]
IMAGE_ID = f"registry.testbed:5000/base/user@sha256:{'0' * 64}"
SETTINGS = KueueSettings(
    namespace="",
    queues=("batch",),
    profiles=(
        KueueProfile(
            profile=Profile(name="slice", title="", cpu_millicores=100, memory_bytes=512 * 1024**2, gpu_slots=1),
            gpu_resource=GPU,
            scratch_bytes=1024**3,
        ),
    ),
    repository=REPOSITORY,
    registry_secret=SECRET,
    registry_ca_config_map=AUTHORITIES,
)


@dataclass(frozen=True)
class User:
    """A user's namespace, and the cluster as the user's server sees it."""

    namespace: Namespace
    api: Cluster

    def create(self, body: Json, **options: Any) -> Json:
        return self.api.create(body, namespace=self.namespace.name, **options)


@pytest.fixture(scope="module")
def deployment(cluster: Cluster, testbed: Testbed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    wait_for("the image is in the registry", lambda: testbed.component("user-image")["state"] == "ready")
    with deployed(tmp_path_factory.mktemp("admin") / "deploy", cluster, testbed) as made:
        yield made


def _make_user(deployment: Deployment, name: str) -> Iterator[User]:
    namespace = deployment.add_user(name, unique(f"jupyter-{name}"))
    api = account(namespace)
    yield User(namespace, api)
    api.close()
    deployment.cluster.delete("v1", "Namespace", namespace.name)


@pytest.fixture(scope="module")
def alice(deployment: Deployment) -> Iterator[User]:
    yield from _make_user(deployment, "alice")


@pytest.fixture(scope="module")
def bob(deployment: Deployment) -> Iterator[User]:
    yield from _make_user(deployment, "bob")


@pytest.fixture(scope="module")
def product_job(alice: User, registry: Callable) -> Json:
    """The Job of a Submission of alice, as her server makes it."""
    digest = push_notebook(registry, ["open('result.txt', 'w').write('42')"])
    now, submission_id = datetime.now(timezone.utc), secrets.token_hex(16)
    submission = Submission(
        id=submission_id,
        state=SubmissionState.QUEUED,
        title="a",
        notebook_path=NOTEBOOK,
        backend="kueue",
        target="kueue",
        profile="slice",
        queue="batch",
        created_at=now,
        observed_at=now,
    )
    run = RunSpec(submission_id=submission_id, attempt=1, work_root=HOME, notebook=NOTEBOOK, kernel_name="python3")
    entry = QueueEntry(submission=submission, snapshot_digest=digest, run=run)
    pod = alice.namespace.create(session_pod(environ={}), dry_run="All")
    runs = {"name": "notebook", "imageID": IMAGE_ID, "state": {"running": {"startedAt": "2026-11-22T09:00:07Z"}}}
    session = parse_session({**pod, "status": {"containerStatuses": [runs]}})
    return build_job(entry, session, SETTINGS, image=f"{REPOSITORY}@{digest}", python="/opt/venv/bin/python")


@pytest.fixture(scope="module")
def queued_job(alice: User, product_job: Json) -> Json:
    """It in the cluster, made by alice's account."""
    wait_for("the account's rights", lambda: _may_create_jobs(alice))
    return alice.create(product_job)


# --- what the policies let through --------------------------------------------------------------------------------


def test_the_products_job_runs(alice: User, queued_job: Json):
    """The Job itself, and the pod that the cluster makes of it."""
    alice.namespace.wait_for_job(queued_job["metadata"]["name"], succeeded=1)


def test_the_trial_of_its_pod_is_taken(alice: User, product_job: Json):
    """So preflight goes on asking whether the cluster would take a job."""
    assert alice.create(build_pod(product_job), dry_run="All")["metadata"]["namespace"] == alice.namespace.name


def test_an_exported_job_is_taken(alice: User, product_job: Json):
    exported = yaml.safe_load(export_yaml(product_job))
    exported["metadata"]["name"] = "exported"

    assert alice.create(exported, dry_run="All")["metadata"]["name"] == "exported"


def test_the_hub_starts_sessions(alice: User):
    """Whoever is not an account of the namespace makes pods as before."""
    alice.namespace.create(session_pod(environ={}), dry_run="All")


# --- Jobs that are refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", JOBS)
def test_no_job(alice: User, product_job: Json, way: str):
    """Such a Job is refused by the policy for it, at once; none is made."""
    policy, change = JOBS[way]
    job = copy.deepcopy(product_job)
    job["metadata"]["name"] = "refused"
    change(job)

    said = _wait_for_refusal(lambda: alice.create(job, dry_run="All"), f"ai-batch-{policy}")

    assert "A job" in said, said


def test_no_job_of_another_job(alice: User, product_job: Json, queued_job: Json):
    """Kueue lets a Job run that belongs to one that it manages, in a queue or not."""
    owner = {"apiVersion": "batch/v1", "kind": "Job", "controller": True}
    job = copy.deepcopy(product_job)
    metadata = queued_job["metadata"]
    job["metadata"]["name"] = "refused"
    job["metadata"]["ownerReferences"] = [{**owner, "name": metadata["name"], "uid": metadata["uid"]}]

    _wait_for_refusal(lambda: alice.create(job, dry_run="All"), "ai-batch-owner")


def test_no_pod(alice: User, product_job: Json):
    """A pod would not queue: the right to create one is for trials."""
    body = build_pod(product_job)
    del body["metadata"]["name"]
    body["metadata"]["generateName"] = "direct-"

    _wait_for_refusal(lambda: alice.create(body), "ai-batch-pods")


def test_no_pod_in_the_queue_of_sessions(alice: User, product_job: Json):
    body = build_pod(product_job)
    body["metadata"] = {"generateName": "session-", "labels": {QUEUE_LABEL: "interactive"}}

    _wait_for_refusal(lambda: alice.create(body), "ai-batch-pods")


# --- calls that are refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", BOBS)
def test_alice_cannot(alice: User, bob: User, way: str):
    """Bob's is out of reach, whether it exists or not."""
    method, path = BOBS[way]
    body = {} if method == "POST" else None

    with pytest.raises(ForbiddenError):
        alice.api.request(method, path.replace("BOB", bob.namespace.name), body)


@pytest.mark.parametrize("way", OWN)
def test_alice_cannot_in_her_own_namespace(alice: User, way: str):
    """She makes Jobs and removes them; all else there is the admin's."""
    method, path, body = OWN[way]

    with pytest.raises(ForbiddenError):
        alice.api.request(method, path.replace("ALICE", alice.namespace.name), body)


def test_alice_cannot_act_as_bob(alice: User, bob: User):
    """Impersonation is a right, too, which she has not."""
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
    asked = {"verb": "impersonate", "resource": "serviceaccounts", "namespace": bob.namespace.name, "name": "notebook"}

    answer = alice.api.create({**review, "spec": {"resourceAttributes": asked}})

    assert answer["status"]["allowed"] is False


# --- the registry -------------------------------------------------------------------------------------------------


def test_alice_cannot_read_bobs_repository(registry: Callable):
    with registry("users/bob", user="bob") as repository:
        digest, _ = repository.put_blob(b"bob's files")
        repository.flush()

    with registry("users/bob", user="alice") as repository, pytest.raises(StorageError):
        repository.read_blob(digest, limit_bytes=100)


def test_alice_cannot_list_bobs_snapshots(registry: Callable):
    with registry("users/bob", user="alice") as repository, pytest.raises(RegistryDeniedError):
        list(repository.tags())


def test_alice_cannot_write_into_bobs_repository(registry: Callable):
    with registry("users/bob", user="alice") as repository:
        repository.put_blob(b"alice's files")
        with pytest.raises(RegistryDeniedError):
            repository.flush()


def test_the_login_of_alices_namespace_is_hers(alice: User):
    """The Secret that her jobs mount names her, and nobody else."""
    command = [
        "kubectl",
        "get",
        "secret",
        SECRET,
        "-n",
        alice.namespace.name,
        "-o",
        r"jsonpath={.data.\.dockerconfigjson}",
    ]
    encoded = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
    login = json.loads(subprocess.run(["base64", "-d"], input=encoded, capture_output=True, check=True).stdout)

    assert [entry["username"] for entry in login["auths"].values()] == ["alice"]


def _may_create_jobs(user: User) -> bool:
    asked = {"verb": "create", "group": "batch", "resource": "jobs", "namespace": user.namespace.name}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
    return user.api.create({**review, "spec": {"resourceAttributes": asked}})["status"]["allowed"]


def _wait_for_refusal(call: Callable[[], Any], policy: str) -> str:
    """What a policy says to a call; it comes into force a moment after it is made."""

    def ask() -> str | None:
        try:
            call()
        except UnprocessibleEntityError as error:
            return str(error.body)
        return None

    said = wait_for(f"{policy} refuses", ask)
    assert re.search(policy, said), said
    return said
