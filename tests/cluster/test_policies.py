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
from .snapshots import NOTEBOOK, push_notebook

pytestmark = pytest.mark.timeout(300)

Json = dict[str, Any]
IMAGE_ID = f"registry.testbed:5000/base/user@sha256:{'0' * 64}"
BOBS_IMAGE = f"registry.testbed:5000/users/bob@sha256:{'1' * 64}"
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


def _pod(job: Json) -> Json:
    return job["spec"]["template"]["spec"]


def _container(job: Json) -> Json:
    return _pod(job)["containers"][0]


def _label(job: Json, name: str, value: str) -> None:
    job["metadata"]["labels"][name] = value


def _annotate_pod(job: Json, name: str, value: str) -> None:
    job["spec"]["template"]["metadata"].setdefault("annotations", {})[name] = value


def _mount(job: Json, **source: Any) -> None:
    _pod(job)["volumes"].append({"name": "more", **source})


def _secret_variable(job: Json) -> None:
    reference = {"secretKeyRef": {"name": SECRET, "key": ".dockerconfigjson"}}
    _container(job)["env"].append({"name": "LOGIN", "valueFrom": reference})


def _token_volume(job: Json) -> None:
    _mount(job, projected={"sources": [{"serviceAccountToken": {"path": "token"}}]})


def _unqueued_init_container(job: Json) -> None:
    first = {**copy.deepcopy(_container(job)), "name": "first", "image": BOBS_IMAGE}
    _pod(job)["initContainers"] = [first]


JOBS: dict[str, tuple[str, Callable[[Json], Any]]] = {
    # to jump the queue
    "in the queue of sessions": ("queue", lambda job: _label(job, QUEUE_LABEL, "interactive")),
    "in another queue": ("queue", lambda job: _label(job, QUEUE_LABEL, "vip")),
    "in no queue": ("queue", lambda job: job["metadata"]["labels"].pop(QUEUE_LABEL)),
    "in no queue and running": (
        "queue",
        lambda job: (job["metadata"]["labels"].pop(QUEUE_LABEL), job["spec"].update(suspend=False)),
    ),
    "with a priority of Kueue": ("queue", lambda job: _label(job, "kueue.x-k8s.io/priority-class", "high")),
    "with a Workload of its own": ("queue", lambda job: _label(job, "kueue.x-k8s.io/prebuilt-workload-name", "mine")),
    "as an elastic job": (
        "(queue|placement)",  # Kueue gives it a gate before the policies see it
        lambda job: job["metadata"]["annotations"].update({"kueue.x-k8s.io/elastic-job": "true"}),
    ),
    "with pods in another queue": (
        "queue",
        lambda job: job["spec"]["template"]["metadata"]["labels"].update({QUEUE_LABEL: "interactive"}),
    ),
    "run by another controller": ("owner", lambda job: job["spec"].update(managedBy="example.org/mine")),
    "that cannot be deleted": ("owner", lambda job: job["metadata"].update(finalizers=["example.org/never"])),
    "with a priority class": ("placement", lambda job: _pod(job).update(priorityClassName="system-node-critical")),
    "on a node of its choice": ("placement", lambda job: _pod(job).update(nodeName="node1")),
    "with another scheduler": ("placement", lambda job: _pod(job).update(schedulerName="mine")),
    "with a gate of its own": ("placement", lambda job: _pod(job).update(schedulingGates=[{"name": "a.org/mine"}])),
    "that tolerates every taint": ("placement", lambda job: _pod(job).update(tolerations=[{"operator": "Exists"}])),
    "that keeps its slot when evicted": (
        "placement",
        lambda job: _pod(job).update(terminationGracePeriodSeconds=86400),
    ),
    "that claims devices past the queue": (
        "placement",
        lambda job: _pod(job).update(resourceClaims=[{"name": "gpu", "resourceClaimName": "gpu"}]),
    ),
    "that sees every GPU": (
        "placement",
        lambda job: _container(job)["env"].append({"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}),
    ),
    "with options of a site's batch system": (
        "placement",
        lambda job: _annotate_pod(job, "slurm-job.vk.io/flags", "--qos=high"),
    ),
    "with a second network": ("placement", lambda job: _annotate_pod(job, "k8s.v1.cni.cncf.io/networks", "host")),
    # to be more than a user
    "privileged": ("isolation", lambda job: _container(job).update(securityContext={"privileged": True})),
    "with a capability": (
        "isolation",
        lambda job: _container(job)["securityContext"].update(capabilities={"add": ["SYS_ADMIN"]}),
    ),
    "that may gain rights": (
        "isolation",
        lambda job: _container(job)["securityContext"].update(allowPrivilegeEscalation=True),
    ),
    "as root": ("isolation", lambda job: _pod(job)["securityContext"].update(runAsUser=0)),
    "in the node's network": ("isolation", lambda job: _pod(job).update(hostNetwork=True)),
    "among the node's processes": ("isolation", lambda job: _pod(job).update(hostPID=True)),
    "with a port of the node": (
        "isolation",
        lambda job: _container(job).update(ports=[{"containerPort": 80, "hostPort": 80}]),
    ),
    "with the node's files": ("volumes", lambda job: _mount(job, hostPath={"path": "/"})),
    "as the session's account": ("account", lambda job: _pod(job).update(serviceAccountName="notebook")),
    "with a token": ("account", lambda job: _pod(job).update(automountServiceAccountToken=True)),
    "with a token that it asks for": ("volumes", _token_volume),
    # to reach what is somebody else's
    "with another Secret": ("volumes", lambda job: _mount(job, secret={"secretName": "hub"})),
    "with another login to pull": ("volumes", lambda job: _pod(job)["imagePullSecrets"].append({"name": "hub"})),
    "with a Secret in its environment": ("volumes", _secret_variable),
    "with a Secret as its environment": (
        "volumes",
        lambda job: _container(job).update(envFrom=[{"secretRef": {"name": "hub"}}]),
    ),
    "with another volume claim": (
        "volumes",
        lambda job: _mount(job, persistentVolumeClaim={"claimName": "claim-bob"}),
    ),
    "with a network file system": ("volumes", lambda job: _mount(job, nfs={"server": "10.0.0.1", "path": "/home"})),
    "with bob's image": ("images", lambda job: _container(job).update(image=BOBS_IMAGE)),
    "with bob's image before its own": ("images", _unqueued_init_container),
    "with an image by a tag": ("images", lambda job: _container(job).update(image=f"{REPOSITORY}:latest")),
}


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

BATCH, CORE = "/apis/batch/v1/namespaces", "/api/v1/namespaces"
QUEUES, RBAC = "/apis/kueue.x-k8s.io/v1beta2", "/apis/rbac.authorization.k8s.io/v1"
VISIBLE = "/apis/visibility.kueue.x-k8s.io/v1beta2"
SUBMISSION = "ai-batch-of-bob"

BOBS: dict[str, tuple[str, str]] = {
    "list his Submissions": ("GET", f"{BATCH}/BOB/jobs"),
    "read one of them": ("GET", f"{BATCH}/BOB/jobs/{SUBMISSION}"),
    "cancel it": ("DELETE", f"{BATCH}/BOB/jobs/{SUBMISSION}"),
    "submit as he": ("POST", f"{BATCH}/BOB/jobs"),
    "see his pods": ("GET", f"{CORE}/BOB/pods"),
    "read their log": ("GET", f"{CORE}/BOB/pods/jupyter-bob/log"),
    "be in his session": ("POST", f"{CORE}/BOB/pods/jupyter-bob/exec?command=id&stdout=true"),
    "reach its port": ("GET", f"{CORE}/BOB/pods/jupyter-bob/proxy/"),
    "read his login": ("GET", f"{CORE}/BOB/secrets/{SECRET}"),
    "have a token of his": ("POST", f"{CORE}/BOB/serviceaccounts/notebook/token"),
    "see his queue": ("GET", f"{QUEUES}/namespaces/BOB/localqueues/batch"),
    "see what waits there": ("GET", f"{VISIBLE}/namespaces/BOB/localqueues/batch/pendingworkloads"),
    "see his Workloads": ("GET", f"{QUEUES}/namespaces/BOB/workloads"),
    "see his events": ("GET", f"{CORE}/BOB/events"),
    "see who waits in the pool": ("GET", f"{VISIBLE}/clusterqueues/batch/pendingworkloads"),
    "see everybody's Submissions": ("GET", "/apis/batch/v1/jobs"),
    "see everybody's Workloads": ("GET", f"{QUEUES}/workloads"),
    "see who there is": ("GET", CORE),
}


@pytest.mark.parametrize("way", BOBS)
def test_alice_cannot(alice: User, bob: User, way: str):
    """Bob's is out of reach, whether it exists or not."""
    method, path = BOBS[way]
    body = {} if method == "POST" else None

    with pytest.raises(ForbiddenError):
        alice.api.request(method, path.replace("BOB", bob.namespace.name), body)


OWN: dict[str, tuple[str, str, Json | None]] = {
    "read the login of jobs": ("GET", f"{CORE}/ALICE/secrets/{SECRET}", None),
    "start a Job past its queue": ("PATCH", f"{BATCH}/ALICE/jobs/any", {"spec": {"suspend": False}}),
    "raise a Workload's priority": ("PATCH", f"{QUEUES}/namespaces/ALICE/workloads/any", {"spec": {"priority": 9}}),
    "admit a Workload": ("PATCH", f"{QUEUES}/namespaces/ALICE/workloads/any/status", {"status": {}}),
    "make a Workload": ("POST", f"{QUEUES}/namespaces/ALICE/workloads", {}),
    "raise the own weight": (
        "PATCH",
        f"{QUEUES}/namespaces/ALICE/localqueues/batch",
        {"spec": {"fairSharing": {"weight": "100"}}},
    ),
    "make a queue": ("POST", f"{QUEUES}/namespaces/ALICE/localqueues", {}),
    "raise the pool's quota": ("PATCH", f"{QUEUES}/clusterqueues/batch", {"spec": {}}),
    "lift the quota": ("DELETE", f"{CORE}/ALICE/resourcequotas/ai-batch", None),
    "lift the limits": ("DELETE", f"{CORE}/ALICE/limitranges/ai-batch", None),
    "open the network": (
        "DELETE",
        "/apis/networking.k8s.io/v1/namespaces/ALICE/networkpolicies/default-deny",
        None,
    ),
    "take the policies' label away": (
        "PATCH",
        f"{CORE}/ALICE",
        {"metadata": {"labels": {"jupyterlab-ai-batch/user": None}}},
    ),
    "name another repository": (
        "PATCH",
        f"{CORE}/ALICE",
        {"metadata": {"annotations": {"jupyterlab-ai-batch/repository": "registry.testbed:5000/users/bob"}}},
    ),
    "have more rights": ("PATCH", f"{RBAC}/namespaces/ALICE/roles/ai-batch", {"rules": []}),
    "give rights away": ("POST", f"{RBAC}/namespaces/ALICE/rolebindings", {}),
    "have a token for longer": ("POST", f"{CORE}/ALICE/serviceaccounts/notebook/token", {}),
    "make an account": ("POST", f"{CORE}/ALICE/serviceaccounts", {}),
    "be in a job's pod": ("POST", f"{CORE}/ALICE/pods/any/exec?command=id&stdout=true", {}),
    "add a container to a pod": ("PATCH", f"{CORE}/ALICE/pods/any/ephemeralcontainers", {"spec": {}}),
    "change a pod's labels": ("PATCH", f"{CORE}/ALICE/pods/any", {"metadata": {"labels": {"a": "b"}}}),
    "bind a pod to a node": ("POST", f"{CORE}/ALICE/pods/any/binding", {}),
    "make pods by a Deployment": ("POST", "/apis/apps/v1/namespaces/ALICE/deployments", {}),
    "make Jobs by a CronJob": ("POST", f"{BATCH}/ALICE/cronjobs", {}),
    "make a volume of the node": ("POST", "/api/v1/persistentvolumes", {}),
    "use a node's kubelet": ("GET", "/api/v1/nodes/node1/proxy/pods", None),
    "remove a policy": (
        "DELETE",
        "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/ai-batch-queue",
        None,
    ),
}


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
