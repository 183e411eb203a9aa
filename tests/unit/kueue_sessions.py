"""Sessions' pods, settings and Submissions, for tests of what is made of them."""

import copy
import json
from datetime import datetime, timezone
from pathlib import Path

from jupyterlab_ai_batch.models import Profile, QueueEntry, RunSpec, Submission
from jupyterlab_ai_batch.queues.kueue.identity import parse_session
from jupyterlab_ai_batch.queues.kueue.manifest import build_job
from jupyterlab_ai_batch.queues.kueue.settings import DEFAULT_ENVIRONMENT, KueueProfile, KueueSettings
from jupyterlab_ai_batch.words import SubmissionState

GOLDEN = Path(__file__).parents[1] / "golden" / "kueue"
ID = "0123456789abcdef0123456789abcdef"
NOW = datetime(2026, 11, 22, 14, 0, tzinfo=timezone.utc)
REPOSITORY = "registry.example/user-alice"
IMAGE = f"{REPOSITORY}@sha256:{'a' * 64}"
BASE = f"registry.example/base/lab@sha256:{'b' * 64}"
PYTHON = "/opt/venv/bin/python"
PLANTED = "PLANTED"

CPU = KueueProfile(profile=Profile(name="cpu", title="2 processors", cpu_millicores=2000, memory_bytes=4 << 30))
MIG = KueueProfile(
    profile=Profile(
        name="mig",
        title="One slice",
        cpu_millicores=1500,
        memory_bytes=16 << 30,
        gpu_slots=1,
        default_max_duration_s=14400,
    ),
    gpu_resource="nvidia.com/mig-1g.5gb",
    scratch_bytes=50 << 30,
    grace_period_s=45,
    node_selector={"pool": "batch", "topology.kubernetes.io/zone": "*", "gpu.example/kind": "*"},
    tolerations=({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},),
    runtime_class="nvidia",
)


def hub_pod():
    """A single-user server's pod with all that a hub and a mesh put into it; what must not leave it says PLANTED."""
    return json.loads((GOLDEN / "hub-pod.json").read_text())


def small_pod(*, container=None, status=None, **spec):
    """A pod of one container, as little as the API server accepts."""
    digest = f"docker.io/library/lab@sha256:{'c' * 64}"
    main = {"name": "notebook", "image": "lab:1", **(container or {})}
    seen = {"name": main["name"], "imageID": digest, "state": {"running": {"startedAt": "2026-11-22T09:00:07Z"}}}
    return {
        "metadata": {"name": "jupyter-bob", "namespace": "user-bob", "uid": "11-22"},
        "spec": {"containers": [main], **spec},
        "status": {"containerStatuses": [{**seen, **(status or {})}]},
    }


def with_status(pod, **changes):
    """The pod with other fields in the notebook's status."""
    changed = copy.deepcopy(pod)
    changed["status"]["containerStatuses"][-1].update(changes)
    return changed


def make_settings(**changes):
    settings = {"namespace": "user-alice", "queues": ("batch",), "profiles": (CPU, MIG), "repository": REPOSITORY}
    return KueueSettings(**{**settings, **changes})


FULL_SETTINGS = make_settings(
    registry_secret="registry-alice",  # noqa: S106 - the name of one
    registry_ca_config_map="registry-ca",
    environment_allow=(*DEFAULT_ENVIRONMENT, "SITE_*"),
    shared_volumes=("users", "site", "token", "node", "kube-api-access", "missing"),
    service_account="batch",
)


def make_entry(*, profile="cpu", parameters=None, queue="batch", notebook="study/train.ipynb", **changes):
    given = parameters or {}
    submission = Submission(
        id=ID,
        state=SubmissionState.QUEUED,
        notebook_path=notebook,
        backend="kueue",
        target="kueue",
        profile=profile,
        queue=queue,
        created_at=NOW,
        observed_at=NOW,
        parameters=given,
        **{"title": "train", **changes},
    )
    run = RunSpec(
        submission_id=ID,
        attempt=1,
        work_root="/home/jovyan",
        notebook=notebook,
        kernel_name="python3",
        parameters=given,
        environment_prefixes=("/opt/venv", "/home/jovyan/.local"),
        resume=submission.resume,
    )
    return QueueEntry(submission=submission, snapshot_digest=f"sha256:{'a' * 64}", run=run)


def make_job(pod=None, entry=None, settings=None):
    session = parse_session(small_pod() if pod is None else pod)
    return build_job(entry or make_entry(), session, settings or make_settings(), image=IMAGE, python=PYTHON)


def pod_spec(job):
    return job["spec"]["template"]["spec"]


def environment(job):
    """(name, value or source) of the job's container, in order."""
    return [
        (entry["name"], entry.get("value", entry.get("valueFrom"))) for entry in pod_spec(job)["containers"][0]["env"]
    ]


def mounts(job):
    return {mount["mountPath"]: mount for mount in pod_spec(job)["containers"][0]["volumeMounts"]}
