"""One run of the same notebook each: submitted in a session, its YAML applied, ``jupyter execute``, and a bare pod.

A run is a list of points in time (seconds of the epoch), in the order in which they happen. Those inside of the pod are
the first cell's own words.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import yaml

from cluster_watch import Chronicle
from tests.cluster import hub
from tests.cluster.hub import IMAGE, Session
from tests.cluster.objects import pod, pod_spec
from tests.cluster.reach import Namespace, unique, wait_for

# The same for a job and for `jupyter execute`.
PROFILE = {**hub.PROFILE, "cpu_millicores": 1000, "memory_bytes": 1024**3}
Points = dict[str, float]

NOTEBOOK = "study/probe.ipynb"
MARK = "points "
# Process 1 is what the container started: the runner, or a shell.
PROBE = f"""
import time; cell = time.time()
import json, os
def started(pid):
    with open(f"/proc/{{pid}}/stat") as stream:
        ticks = int(stream.read().rpartition(")")[2].split()[19])
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / os.sysconf("SC_CLK_TCK")
print({MARK!r} + json.dumps({{"container": started(1), "kernel": started(os.getpid()), "cell": cell}}))
"""
EXECUTE = "cp /in/probe.ipynb . && jupyter execute --inplace probe.ipynb >/dev/null 2>&1; cat probe.ipynb"


def submit(session: Session, chronicle: Chronicle, number: int) -> tuple[Points, str]:
    """A user changes the notebook, saves it and submits it; (points, the Submission's id)."""
    session.write_notebook(NOTEBOOK, PROBE, f"print({number})")
    sent = time.time()
    submission = session.submit(NOTEBOOK)
    answered = time.time()
    session.wait_for(submission, "succeeded")
    seen = session.get(submission)
    inside = points_in(session.call("GET", f"submissions/{submission}/logs")["text"])
    outside = chronicle.points(f"ai-batch-{submission}")
    captured = {name: epoch(seen["snapshot"][f"captured_{name}"]) for name in ("from", "until")}
    points = {"sent": sent, "answered": answered, "capturing": captured["from"], "captured": captured["until"]}
    return {**points, **outside, **inside}, submission


def apply(namespace: Namespace, chronicle: Chronicle, manifest: str) -> Points:
    """``kubectl apply`` of an exported Submission."""
    name = yaml.safe_load(manifest)["metadata"]["name"]
    applied = time.time()
    subprocess.run(
        ["kubectl", "apply", "-n", namespace.name, "-f", "-"], input=manifest.encode(), check=True, capture_output=True
    )
    answered = time.time()
    namespace.wait_for_job(name, succeeded=1)
    selector = f"batch.kubernetes.io/job-name={name}"
    (found,) = namespace.cluster.list("v1", "Pod", namespace=namespace.name, label_selector=selector)
    inside = points_in(namespace.log(found["metadata"]["name"]))
    points = {"applied": applied, "answered": answered, **chronicle.points(name), **inside}
    namespace.cluster.delete("batch/v1", "Job", name, namespace=namespace.name)
    return points


def _notebook(source: str) -> dict[str, object]:
    cell: dict[str, object] = {
        "cell_type": "code",
        "source": source,
        "metadata": {},
        "outputs": [],
        "execution_count": None,
    }
    return {"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": [cell]}


def execute(namespace: Namespace, secret: str) -> Points:
    """``jupyter execute`` in a pod of the users' image, with the resources of a job."""
    name = unique("execute")
    config = {"metadata": {"name": name}, "data": {"probe.ipynb": json.dumps(_notebook(PROBE))}}
    namespace.create({"apiVersion": "v1", "kind": "ConfigMap", **config})
    amounts = {"cpu": f"{PROFILE['cpu_millicores']}m", "memory": str(PROFILE["memory_bytes"])}
    spec = pod_spec(IMAGE, EXECUTE, imagePullSecrets=[{"name": secret}])
    spec["volumes"] = [{"name": "in", "configMap": {"name": name}}]
    spec["containers"][0] |= {
        "workingDir": "/tmp",  # noqa: S108 - the container's own
        "resources": {"requests": amounts, "limits": amounts},
        "volumeMounts": [{"name": "in", "mountPath": "/in"}],
    }
    return run_pod(namespace, name, spec, lambda log: points_in("".join(outputs_of(log))))


def bare(namespace: Namespace, image: str) -> Points:
    """A small pod, to its first output."""

    def first_line(_: str) -> Points:
        log = namespace.cluster.core.read_namespaced_pod_log(name, namespace.name, timestamps=True)
        return {"output": epoch(log.split()[0])}

    name = unique("bare")
    return run_pod(namespace, name, pod_spec(image, "echo started"), first_line)


def run_pod(namespace: Namespace, name: str, spec: Any, read: Callable[[str], Points]) -> Points:
    created = time.time()
    namespace.create(pod(name, spec))
    namespace.wait_for_phase(name, "Succeeded")
    log = wait_for("the pod's log", lambda: namespace.log(name))
    points = {"created": created, **read(log)}
    namespace.cluster.delete("v1", "Pod", name, namespace=namespace.name)
    return points


def points_in(log: str) -> Points:
    """What the first cell said."""
    line = next(line for line in log.splitlines() if line.startswith(MARK))
    found: Points = json.loads(line.removeprefix(MARK))
    return found


def outputs_of(notebook: str) -> list[str]:
    return ["".join(output["text"]) for cell in json.loads(notebook)["cells"] for output in cell.get("outputs", ())]


def epoch(text: str) -> float:
    """Seconds of a time in RFC 3339, of which Python takes six digits."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{fraction or 0}")
