"""What ``preflight`` says of a cluster and a registry in which something is missing, and what mends it."""

import json
from datetime import datetime, timedelta, timezone

import pytest
import yaml
from kueue_world import OWN_POD, QUEUE, REGISTRY_SECRET, condition, pod_status

from jupyterlab_ai_batch.errors import QueueError, QueueForbiddenError, QueueUnreachableError, RegistryError
from jupyterlab_ai_batch.oci.probe import Finding, Step
from jupyterlab_ai_batch.oci.trust import Origin
from jupyterlab_ai_batch.queues.kueue.api import EVENTS, JOBS, LOCAL_QUEUES, PODS, VISIBILITY
from jupyterlab_ai_batch.queues.kueue.naming import MANAGED_BY, MANAGED_BY_LABEL
from tests.memory_cluster import stamp

WORLDS = ["kueue"]
REGISTRY = Origin.of("https://registry.example:5000")


async def ask(world):
    """The checks by name."""
    return {check.name: check for check in await world.backend.preflight()}


def test_nothing_is_missing(world, play):
    """Everything holds, and nothing is to be mended."""

    async def story():
        found = await ask(world)
        assert {(True, "")} == {(check.ok, check.fix) for check in found.values()}
        assert {"api", "rights", "kueue", "positions", f"queue {QUEUE}", "registry", "pod"} <= set(found)

    play(story)


@pytest.mark.parametrize(
    ("forbidden", "name", "ok", "rules"),
    [
        (
            {("watch", "jobs.batch"), ("delete", "jobs.batch"), ("get", "pods/log")},
            "rights",
            False,
            [
                {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["watch", "delete"]},
                {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
            ],
        ),
        (
            {("get", "localqueues.visibility.kueue.x-k8s.io/pendingworkloads")},
            "helpful_rights",
            None,
            [
                {
                    "apiGroups": ["visibility.kueue.x-k8s.io"],
                    "resources": ["localqueues/pendingworkloads"],
                    "verbs": ["get"],
                }
            ],
        ),
    ],
)
def test_rights_that_are_missing(world, play, forbidden, name, ok, rules):
    """Exactly these, in a Role and RoleBinding of their own for the account that asks."""
    world.cluster.forbidden = forbidden

    async def story():
        check = (await ask(world))[name]
        assert ok is check.ok
        role, binding = yaml.safe_load_all(check.fix)
        assert rules == role["rules"]
        assert role["metadata"] == binding["metadata"]
        assert "ai-batch" != role["metadata"]["name"]
        assert [{"kind": "ServiceAccount", "namespace": "user-alice", "name": "notebook"}] == binding["subjects"]

    play(story)


def test_a_queue_that_is_gone(world, play):
    """The LocalQueue as it was when it was last seen here; by its own name where nobody ever saw it."""

    async def story():
        world.cluster.change(LOCAL_QUEUES, QUEUE, spec={"clusterQueue": "shared-pool"})
        await ask(world)
        world.cluster.remove(LOCAL_QUEUES, QUEUE)
        for data_dir, pool in ((None, "shared-pool"), (world.base / "elsewhere", QUEUE)):
            checks = await world.connect(data_dir=data_dir).preflight()
            (check,) = [check for check in checks if check.name == f"queue {QUEUE}"]
            made = yaml.safe_load(check.fix)
            assert (False, "LocalQueue", QUEUE) == (check.ok, made["kind"], made["metadata"]["name"])
            assert {"clusterQueue": pool} == made["spec"]

    play(story)


@pytest.mark.parametrize(
    ("queue", "fix"),
    [
        ({"spec": {"clusterQueue": "pool", "stopPolicy": "Hold"}}, "kubectl patch localqueue.kueue.x-k8s.io batch "),
        (
            {"spec": {"clusterQueue": "pool"}, "status": {"conditions": [condition("Active", status="False")]}},
            "kubectl patch clusterqueue.kueue.x-k8s.io pool ",
        ),
        (
            {
                "spec": {"clusterQueue": "pool"},
                "status": {"conditions": [condition("Active", status="False", reason="ClusterQueueDoesNotExist")]},
            },
            "kind: ClusterQueue\nmetadata:\n  name: pool\n",
        ),
    ],
)
def test_a_queue_that_takes_nothing(world, play, queue, fix):
    """What stands in the way is what is changed: the LocalQueue, or its ClusterQueue."""
    world.cluster.change(LOCAL_QUEUES, QUEUE, **queue)

    async def story():
        check = (await ask(world))[f"queue {QUEUE}"]
        assert check.ok is False
        assert fix in check.fix

    play(story)


def test_kueue_that_is_not_there(world, play):
    """Without its API, or only without the one that tells positions."""

    async def story():
        world.cluster.absent = {VISIBILITY}
        check = (await ask(world))["positions"]
        assert (None, "APIService") == (check.ok, yaml.safe_load(check.fix)["kind"])
        world.cluster.absent = {LOCAL_QUEUES}
        check = (await ask(world))["kueue"]
        assert check.ok is False
        assert "kubectl apply --server-side" in check.fix

    play(story)


@pytest.mark.parametrize(
    ("error", "fix"),
    [
        (QueueUnreachableError("connection refused"), "kind: NetworkPolicy"),
        (QueueForbiddenError("not accepted"), "kind: ServiceAccount\nmetadata:\n  name: notebook\n"),
        (QueueError("no token", details={"path": "/x/token"}), "automount_service_account_token = True"),
    ],
)
def test_a_cluster_that_does_not_answer(world, play, error, fix):
    """It is said once, with what opens the way; the registry is looked at all the same, and nothing is raised."""
    world.cluster.failure = error

    async def story():
        found = await ask(world)
        assert ["backend", "api", "registry"] == list(found)
        assert (False, True) == (found["api"].ok, found["registry"].ok)
        assert error.message in found["api"].summary
        assert fix in found["api"].fix

    play(story)


@pytest.mark.parametrize(
    ("step", "fix"),
    [
        (Step.NO_RESOLVER, "port: 53"),
        (Step.NAME, "c.BatchExtensionApp.repository ="),
        (Step.NO_LOGIN, "kubectl create secret docker-registry registry --namespace=user-alice"),
        (Step.SILENCE, "port: 5000"),
        (Step.REFUSED, "cidr: '192.0.2.7/32'"),
        (Step.CERTIFICATE, "--from-file=ca.crt=AUTHORITY.pem"),
        (Step.LOGIN, "--docker-server=registry.example:5000 --docker-username=USER --docker-password=PASSWORD"),
        (Step.ACCESS, "for the repository user-alice:"),
        (Step.OTHER, "ask the admin of registry.example:5000"),
    ],
)
def test_a_registry_that_does_not_serve(world, play, step, fix):
    """Each step on the way to it has its own words and its own remedy."""
    error = RegistryError("No.")
    world.finding = Finding(step=step, origin=REGISTRY, addresses=("192.0.2.7",), error=error)

    async def story():
        found = await ask(world)
        for name in ("registry", "base_image"):
            assert found[name].ok is False
            assert found[name].summary
            assert found[name].resolution
        assert fix in found["registry"].fix

    play(story)


def test_a_pod_that_is_refused(world, play):
    """The rule is named, and what changes it."""
    world.cluster.refuse = lambda resource, _body: (
        (
            'error looking up service account user-alice/jobs: serviceaccount "jobs" not found'
            if resource == PODS
            else ""
        )
        or None
    )

    async def story():
        check = (await ask(world))["pod"]
        assert (False, "ServiceAccount") == (check.ok, yaml.safe_load(check.fix)["kind"])
        assert [] == world.cluster.all(JOBS)

    play(story)


@pytest.mark.parametrize(
    ("seconds_ago", "message", "ok"),
    [
        (10, f'MountVolume.SetUp failed for volume "x" : secret "{REGISTRY_SECRET}" not found', False),
        (10, f"Unable to retrieve some image pull secrets (other, {REGISTRY_SECRET}); attempting to pull", False),
        (10, 'MountVolume.SetUp failed for volume "x" : secret "other" not found', True),
        (600, f'MountVolume.SetUp failed for volume "x" : secret "{REGISTRY_SECRET}" not found', True),
    ],
)
def test_a_secret_that_pods_do_not_find(world, play, seconds_ago, message, ok):
    """Nobody here may read Secrets: what the kubelet said of pods tells, as long as it says so."""
    world.cluster.put(EVENTS, event(message, seconds_ago=seconds_ago))

    async def story():
        check = (await ask(world))["registry_secret"]
        assert ok is check.ok
        assert ok or "--docker-password=PASSWORD" in check.fix

    play(story)


def test_a_secret_that_a_later_pod_found(world, play):
    """A job that got on since then had it."""
    world.cluster.put(EVENTS, event(f"Unable to retrieve some image pull secrets ({REGISTRY_SECRET});", seconds_ago=60))
    labels = {MANAGED_BY_LABEL: MANAGED_BY}
    spec = {"imagePullSecrets": [{"name": REGISTRY_SECRET}]}
    running = pod_status("Running", running={"startedAt": stamp()})
    world.cluster.put(PODS, {"metadata": {"name": "job-1", "labels": labels}, "spec": spec, "status": running})

    async def story():
        assert (await ask(world))["registry_secret"].ok is True
        world.cluster.remove(PODS, "job-1")
        assert (await ask(world))["registry_secret"].ok is False

    play(story)


def test_a_resource_that_the_pool_does_not_have(world, play):
    """A profile whose GPU no flavor of the queue gives."""
    usage = [{"name": "any", "resources": [{"name": "cpu", "total": "0"}]}]
    world.cluster.change(LOCAL_QUEUES, QUEUE, spec={"clusterQueue": "pool"}, status={"flavorsReservation": usage})
    world.use_gpu("nvidia.com/gpu")

    async def story():
        check = (await ask(world))[f"queue {QUEUE}"]
        assert check.ok is False
        assert "gives no nvidia.com/gpu" in check.summary
        (line,) = [line for line in check.fix.splitlines() if line.startswith("kubectl patch")]
        patch = json.loads(line.partition("--patch='")[2].rstrip("'"))
        assert ["nvidia.com/gpu"] == patch[0]["value"]["coveredResources"]

    play(story)


def test_a_pod_that_may_not_be_tried(world, play):
    """Without the right to it nobody knows; that is what is said, once more with the rights."""
    world.cluster.forbidden = {("create", "pods")}

    async def story():
        found = await ask(world)
        assert (None, None) == (found["pod"].ok, found["helpful_rights"].ok)
        assert "verbs:\n  - create\n" in found["helpful_rights"].fix

    play(story)


def test_a_pod_that_is_gone(world, play):
    """The server's own pod cannot be read: that is said, and nothing is raised."""
    world.cluster.remove(PODS, OWN_POD)

    async def story():
        found = await ask(world)
        assert (False, None) == (found["pod"].ok, found["registry_secret"].ok)

    play(story)


def event(message, *, seconds_ago):
    at = datetime.now(timezone.utc) - timedelta(seconds=seconds_ago)
    return {
        "metadata": {"name": "event-1"},
        "involvedObject": {"kind": "Pod", "name": OWN_POD},
        "type": "Warning",
        "reason": "FailedMount",
        "message": message,
        "lastTimestamp": stamp(at),
    }
