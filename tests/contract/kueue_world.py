"""KueueBackend under the contract suite: a cluster in memory, controllers that play Kueue and the kubelet, a registry
that is an image layout, and the fake runner in real processes."""

import asyncio
import hashlib
import io
import itertools
import json
import os
import sys
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from queue_fakes import make_entry

from jupyterlab_ai_batch import wire
from jupyterlab_ai_batch.models import OutputSet, Profile, RunSpec
from jupyterlab_ai_batch.oci.layout import ImageLayout
from jupyterlab_ai_batch.oci.outputset import outputs_tag, parse_outputs_tag, read_output_set, store_output_set
from jupyterlab_ai_batch.queues.kueue.api import JOBS, LOCAL_QUEUES, PODS, WORKLOADS
from jupyterlab_ai_batch.queues.kueue.backend import KueueBackend
from jupyterlab_ai_batch.queues.kueue.cache import has_ended, is_owned_by
from jupyterlab_ai_batch.queues.kueue.naming import RUN_VARIABLE, SUBMISSION_LABEL, job_name
from jupyterlab_ai_batch.queues.kueue.pauses import Pauses
from jupyterlab_ai_batch.queues.kueue.preflight import Surroundings
from jupyterlab_ai_batch.queues.kueue.settings import KueueProfile, KueueSettings
from tests.memory_cluster import MemoryApi, MemoryCluster, stamp
from tests.session_pod import session_pod

_NUMBERS = itertools.count(1)
HERE = Path(__file__).parent
QUEUE = "batch"
OWN_POD = "jupyter-alice"
PREEMPTED = (
    "Preempted to accommodate a workload (UID: 5f0c, JobUID: 77aa) due to reclamation within the cohort;"
    " preemptor path: /gpu-pool/interactive; preemptee path: /gpu-pool/batch"
)
REGISTRY_SECRET = "registry"
SETTINGS = KueueSettings(
    namespace="user-alice",
    queues=(QUEUE,),
    profiles=(KueueProfile(profile=Profile(name="cpu", title="One core", cpu_millicores=1000, memory_bytes=2**30)),),
    repository="registry.example/user-alice",
    registry_secret=REGISTRY_SECRET,
)


class LayoutRepository(ImageLayout):
    """A layout that stands for the user's repository in a registry."""

    def close(self):
        pass


class KueueWorld:
    """See LocalWorld.

    Attributes:
        finding: What a probe of the registry finds amiss.
        pool: Plays Kueue, the Job controller and the kubelet while the story goes on.
    """

    restores = False  # the kubelet does
    honours_priority = False  # the pool's order is Kueue's own
    waiting_codes = frozenset({"waiting_for_quota", "waiting_in_queue"})

    def __init__(self, base):
        self.home = base / "home"
        self.gates = base / "gates"
        self.data_dir = base / "data"
        self.base = base
        for directory in (self.home, self.gates):
            directory.mkdir(parents=True)
        self.data_dir.mkdir(mode=0o700)
        self.cluster = MemoryCluster(SETTINGS.namespace)
        self.cluster.put(PODS, session_pod(OWN_POD, registry_secret=REGISTRY_SECRET))
        self.cluster.put(LOCAL_QUEUES, {"metadata": {"name": QUEUE}, "status": {"conditions": [condition("Active")]}})
        self.registry = base / "registry"
        self.pool = Pool(self.cluster, self.registry, base / "pods")
        self.finding = None
        self.settings = SETTINGS
        self._backends = []
        self.backend = self.connect()

    def connect(self, *, data_dir=None):
        """Another backend, as a second server has; on another home with ``data_dir``."""
        backend = KueueBackend(
            data_dir or self.data_dir,
            settings=self.settings,
            api=MemoryApi(self.cluster),
            open_repository=lambda: LayoutRepository(self.registry),
            pod=OWN_POD,
            python=sys.executable,
            now=lambda: datetime.now(timezone.utc),
            surroundings=Surroundings(probe_registry=lambda _image: self.finding, account="notebook"),
            make_pauses=lambda: Pauses(first_s=0.02, longest_s=0.1),
        )
        self._backends.append(backend)
        return backend

    def use_gpu(self, resource):
        """From now on by a backend whose only profile asks for one."""
        (kept,) = self.settings.profiles
        wanted = replace(kept, gpu_resource=resource, profile=replace(kept.profile, gpu_slots=1))
        self.settings = replace(self.settings, profiles=(wanted,))
        self.backend = self.connect()

    def entry(self, submission_id, code, **options):
        return make_entry(submission_id, code, work_root=self.home, **{"queue": QUEUE, **options})

    def gate(self, name):
        return self.gates / name

    async def evict(self, submission_id):
        """What Kueue does: the Job is suspended, its pod told to end, the Workload back in the queue."""
        job = self.cluster.find(JOBS, job_name(submission_id))
        workload = self.pool._workload(job)
        evicted = condition("Evicted", reason="Preempted", message=PREEMPTED)
        waits = [condition("QuotaReserved", status="False", reason="Pending"), evicted]
        self.cluster.change(WORKLOADS, workload["metadata"]["name"], status={"conditions": waits})
        self.cluster.change(JOBS, job["metadata"]["name"], spec={"suspend": True})
        for pod in self.cluster.all(PODS):
            if pod["metadata"]["name"].startswith(job["metadata"]["name"]):
                self.pool._remove_pod(pod)

    async def open(self):
        self.pool.start()

    async def close(self):
        for backend in self._backends:
            await backend.close()
        await self.pool.stop()


class Pool:
    """Slots for Jobs: admits them in their order, runs their pods as processes, removes what was deleted."""

    def __init__(self, cluster, registry, directory, *, slots=1):
        self.cluster = cluster
        self.registry = registry
        self.directory = directory
        self.slots = slots
        self._processes = {}
        self._tasks = set()
        self._loop = None
        self._is_stopping = False

    def start(self):
        self._loop = asyncio.create_task(self._run())

    async def stop(self):
        self._is_stopping = True
        self._loop.cancel()
        for process in self._processes.values():
            if process.returncode is None:
                process.kill()
        await asyncio.gather(self._loop, *self._tasks, return_exceptions=True)

    async def _run(self):
        tick = asyncio.Event()
        self.cluster._ticks.add(tick)
        try:
            while True:
                tick.clear()
                self._control()
                await tick.wait()
        finally:
            self.cluster._ticks.discard(tick)

    # --- Kueue ----------------------------------------------------------------------------------------------------

    def _control(self):
        jobs = self.cluster.all(JOBS)
        for job in jobs:
            if self._workload(job) is None and not job["metadata"].get("deletionTimestamp"):
                self.cluster.put(WORKLOADS, new_workload(job))
        self._remove_deleted(jobs)
        waiting = [job for job in self.cluster.all(JOBS) if self._waits(job)]
        free = self.slots - sum(1 for job in self.cluster.all(JOBS) if self._holds_slot(job))
        for job in waiting[:free]:
            self._admit(job)
        pending = [
            {
                "metadata": {"name": job["metadata"]["name"], "ownerReferences": [owner(job)]},
                "positionInLocalQueue": place,
                "positionInClusterQueue": place,
            }
            for place, job in enumerate(waiting[free:] if free > 0 else waiting)
        ]
        if pending != self.cluster.pending.get(QUEUE):
            self.cluster.pending[QUEUE] = pending

    def _workload(self, job):
        uid = job["metadata"]["uid"]
        return next((item for item in self.cluster.all(WORKLOADS) if is_owned_by(item, uid)), None)

    def _waits(self, job):
        """An evicted one waits again once its pod is gone."""
        if not job["spec"]["suspend"] or self._workload(job) is None:
            return False
        return not any(is_owned_by(pod, job["metadata"]["uid"]) for pod in self.cluster.all(PODS))

    def _holds_slot(self, job):
        return not job["spec"]["suspend"] and not has_ended(job)

    def _admit(self, job):
        workload = self._workload(job)
        before = [one for one in workload["status"]["conditions"] if one["type"] == "Evicted"]
        history = [condition("Evicted", status="False", message=f"Previously: {one['message']}") for one in before]
        admitted = [condition("QuotaReserved"), condition("Admitted"), *history]
        self.cluster.change(WORKLOADS, workload["metadata"]["name"], status={"conditions": admitted})
        job = self.cluster.change(JOBS, job["metadata"]["name"], spec={"suspend": False})
        pod = self.cluster.put(PODS, new_pod(job))
        self._tasks.add(asyncio.create_task(self._run_pod(job, pod)))

    def _remove_deleted(self, jobs):
        """What the garbage collector does: pods are told to end, and everything goes when they have."""
        uids = {job["metadata"]["uid"] for job in jobs}
        doomed = {job["metadata"]["uid"] for job in jobs if job["metadata"].get("deletionTimestamp")}
        for pod in self.cluster.all(PODS):
            uid = next((entry["uid"] for entry in pod["metadata"].get("ownerReferences", ())), None)
            if uid is not None and (uid in doomed or uid not in uids):
                self._remove_pod(pod)
        alive = {entry["uid"] for pod in self.cluster.all(PODS) for entry in pod["metadata"].get("ownerReferences", ())}
        for workload in self.cluster.all(WORKLOADS):
            uid = workload["metadata"]["ownerReferences"][0]["uid"]
            if (uid in doomed or uid not in uids) and uid not in alive:
                self.cluster.remove(WORKLOADS, workload["metadata"]["name"])
        for job in jobs:
            if job["metadata"]["uid"] in doomed - alive:
                self.cluster.remove(JOBS, job["metadata"]["name"])

    def _remove_pod(self, pod):
        name = pod["metadata"]["name"]
        process = self._processes.get(name)
        if process is None or process.returncode is not None:
            self.cluster.logs.pop(name, None)
            self.cluster.remove(PODS, name)
        elif "deletionTimestamp" not in pod["metadata"]:
            self.cluster.change(PODS, name, metadata={"deletionTimestamp": stamp()})
            process.terminate()

    # --- the kubelet ----------------------------------------------------------------------------------------------

    async def _run_pod(self, job, pod):
        name = pod["metadata"]["name"]
        run = PlayedRun(job, pod, self.registry, self.directory / name)
        process = await run.start()
        self._processes[name] = process
        if self._is_stopping:
            process.kill()
        workload = self._workload(job)
        if workload is not None:
            ready = [*workload["status"]["conditions"], condition("PodsReady", reason="Started")]
            self.cluster.change(WORKLOADS, workload["metadata"]["name"], status={"conditions": ready})
        self.cluster.change(PODS, name, status=pod_status("Running", running={"startedAt": stamp()}))
        held = b""
        while piece := await process.stdout.read(65536):
            *lines, held = (held + piece).split(b"\n")
            for line in lines:
                run.hear(line + b"\n")
                self.cluster.write_log(name, line + b"\n")
        if held:
            run.hear(held)
            self.cluster.write_log(name, held)
        status = await process.wait()
        run.push()
        self._end(job, name, status)

    def _end(self, job, name, status):
        self.cluster.write_log(name, b"", ended=True)
        phase = "Succeeded" if status == 0 else "Failed"
        ended = {"exitCode": status, "reason": "Completed" if status == 0 else "Error", "finishedAt": stamp()}
        pods = [pod for pod in self.cluster.all(PODS) if pod["metadata"]["name"] == name]
        if pods:
            self.cluster.change(PODS, name, status=pod_status(phase, terminated=ended))
        if not pods or "deletionTimestamp" in pods[0]["metadata"]:
            if pods:
                self._remove_pod(pods[0])
            return
        found = [item for item in self.cluster.all(JOBS) if item["metadata"]["uid"] == job["metadata"]["uid"]]
        if found and not found[0]["metadata"].get("deletionTimestamp"):
            kind = "Complete" if status == 0 else "Failed"
            self.cluster.change(JOBS, job["metadata"]["name"], status={"conditions": [condition(kind)]})
            workload = self._workload(job)
            finished = [*workload["status"]["conditions"], condition("Finished", reason=phase)]
            self.cluster.change(WORKLOADS, workload["metadata"]["name"], status={"conditions": finished})


class PlayedRun:
    """What the runner of a pod does: it runs code, and pushes OutputSets to the registry before it says so."""

    def __init__(self, job, pod, registry, directory):
        container = job["spec"]["template"]["spec"]["containers"][0]
        variables = {entry["name"]: entry.get("value", "") for entry in container["env"]}
        spec = wire.loads(RunSpec, variables[RUN_VARIABLE])
        self.submission_id = spec.submission_id
        self.pod_uid = pod["metadata"]["uid"]
        self.registry = ImageLayout(registry)
        parsed = [parse_outputs_tag(tag) for tag in self.registry.tag_names()]
        self.number = max((n for name, n in filter(None, parsed) if name == self.submission_id), default=0) + 1
        directory.mkdir(parents=True)
        self.outbox = directory / "outbox"
        self.spec = directory / "run.json"
        before = sorted(directory.parent.glob(f"{job['metadata']['name']}-*/outbox/index.json"), key=os.path.getmtime)
        former = tuple(str(index.parent) for index in reversed(before))
        work = directory / "work"  # each pod has its own
        work.mkdir()
        own = {"attempt": self.number, "work_root": str(work), "outbox": str(self.outbox), "former": former}
        self.spec.write_text(wire.dumps(replace(spec, **own)))
        self.log = b""
        claim = OutputSet(
            submission_id=self.submission_id,
            attempt=self.number,
            complete=False,
            stored_at=datetime.now(timezone.utc),
            executed_notebook=spec.notebook,
            pod_uid=self.pod_uid,
        )
        store_output_set(self.registry, claim, None, tag=outputs_tag(self.submission_id, self.number))

    async def start(self):
        return await asyncio.create_subprocess_exec(
            sys.executable,
            HERE / "fake_runner.py",
            self.spec,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )

    def hear(self, line):
        self.log += line
        mark = line.rfind(b"\x1e")
        if mark >= 0 and json.loads(line[mark + 1 :]).get("kind") == "stored":
            self.push()

    def push(self):
        """The latest OutputSet of the outbox, under this Attempt's tag."""
        outbox = ImageLayout(self.outbox)
        if "outputs" not in outbox.tag_names():
            return
        output_set, _ = read_output_set(outbox)
        stored = replace(
            output_set,
            attempt=self.number,
            pod_uid=self.pod_uid,
            log_sha256=hashlib.sha256(self.log).hexdigest(),
            log_bytes=len(self.log),
        )
        store_output_set(
            self.registry,
            stored,
            lambda file: outbox.open_blob(f"sha256:{file.sha256}"),
            tag=outputs_tag(self.submission_id, self.number),
            open_log_content=lambda: io.BytesIO(self.log),
        )


def condition(kind, *, status="True", reason="", message=""):
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": stamp()}


def owner(job):
    return {"apiVersion": "batch/v1", "kind": "Job", "name": job["metadata"]["name"], "uid": job["metadata"]["uid"]}


def new_workload(job):
    message = "couldn't assign flavors to pod set main: insufficient unused quota for cpu in flavor pool, 1 more needed"
    return {
        "metadata": {
            "name": f"job-{job['metadata']['name']}",
            "labels": {"kueue.x-k8s.io/job-uid": job["metadata"]["uid"]},
            "ownerReferences": [owner(job)],
        },
        "spec": {"active": True, "queueName": QUEUE},
        "status": {"conditions": [condition("QuotaReserved", status="False", reason="Pending", message=message)]},
    }


def new_pod(job):
    template = job["spec"]["template"]
    return {
        "metadata": {
            "name": f"{job['metadata']['name']}-{next(_NUMBERS)}",
            "labels": {SUBMISSION_LABEL: template["metadata"]["labels"][SUBMISSION_LABEL]},
            "ownerReferences": [owner(job)],
        },
        "spec": template["spec"],
        "status": {"phase": "Pending"},
    }


def pod_status(phase, **state):
    return {"phase": phase, "containerStatuses": [{"name": "notebook", "state": state}]}
