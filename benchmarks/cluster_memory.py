"""What the extension adds to a Jupyter server's memory: ``python benchmarks/cluster_memory.py --json FILE``, inside.

Two sessions in pods of the same image, with the extension and without. Both answer the same requests of JupyterLab; the
first also hands in, watches and lists Submissions. Memory is that of the server's process, as the kernel counts it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
import urllib.request
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cluster import make_namespace, versions
from machine import describe_machine
from tests.cluster.hub import (
    PORT,
    SESSION,
    SETTINGS,
    TOKEN,
    WAITS,
    Session,
    copy_login,
    prepare_namespace,
    session_pod,
    start_session,
)
from tests.cluster.queues import Kueue
from tests.cluster.reach import Cluster, Namespace, Testbed, testbed_directory, wait_for

LIMIT_BYTES = 60_000_000
SUBMISSIONS = 20
SETTLE_S = 20.0
WITHOUT = (
    "jupyter server extension disable jupyterlab_ai_batch >/dev/null 2>&1;"
    f" exec jupyter lab --ip=0.0.0.0 --port={PORT} --IdentityProvider.token={TOKEN}"
)
PAGES = ("lab", "api/contents", "api/sessions", "api/kernelspecs", "api/kernels", "lab/api/settings")


def start_bare(namespace: Namespace, cluster: Cluster, authority: str) -> Session:
    """The same session without the extension."""
    copy_login(cluster, namespace)
    prepare_namespace(namespace, settings=SETTINGS, authority=authority)
    body = session_pod(environ={})
    body["spec"]["containers"][0] |= {"command": ["sh", "-c", WITHOUT], "args": []}
    namespace.create(body)
    session = Session(namespace, namespace.wait_for_phase(SESSION, "Running")["status"]["podIP"])
    wait_for("the server answers", lambda: answers(session))
    return session


def answers(session: Session) -> bool:
    try:
        fetch(session, "api/status")
    except OSError:
        return False
    return True


def fetch(session: Session, path: str) -> bytes:
    request = urllib.request.Request(f"{session.url}/{path}", headers={"Authorization": f"token {TOKEN}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        content: bytes = answer.read()
    return content


def browse(session: Session) -> None:
    """What a page of JupyterLab asks for."""
    for path in PAGES:
        fetch(session, path)


def memory_of(session: Session) -> dict[str, int]:
    """Bytes of the server's process, which is the largest: resident, and its share of what several have."""
    said = session.run("for each in /proc/[0-9]*; do cat $each/smaps_rollup 2>/dev/null || true; done")
    processes = [parse_rollup(part) for part in said.split("[rollup]")[1:]]
    return max(processes, key=lambda found: found["rss"])


def parse_rollup(text: str) -> dict[str, int]:
    lines = [line.split() for line in text.splitlines() if line.endswith(" kB")]
    found = {name.rstrip(":"): int(size) * 1024 for name, size, _ in lines}
    return {name.lower(): found[name] for name in ("Rss", "Pss", "Private_Dirty")}


def use(session: Session) -> dict[str, Any]:
    """Hand in, and look at, ``SUBMISSIONS``; how long a page of the list takes."""
    for number in range(SUBMISSIONS):
        session.submit_cells(f"n{number}", WAITS)
    wait_for(
        "all are handed in",
        lambda: session.call("GET", "submissions?limit=50")["submissions"],
        until=lambda found: len(found) == SUBMISSIONS and all(one["state"] in ("queued", "running") for one in found),
        within_s=300,
    )
    taken_s = []
    for _ in range(50):
        begun = time.monotonic()
        session.call("GET", "submissions?limit=50")
        taken_s.append(time.monotonic() - begun)
        session.call("GET", "queues")
        time.sleep(0.2)
    return {"median_s": round(statistics.median(taken_s), 4), "max_s": round(max(taken_s), 4)}


def measure(cluster: Cluster, testbed: Testbed, kueue: Kueue) -> dict[str, Any]:
    wait_for("the image is in the registry", lambda: testbed.component("user-image")["state"] == "ready")
    namespaces = [make_namespace(cluster, prefix) for prefix in ("with", "without")]
    try:
        pool = kueue.make_pool(slices=1, fair=True)
        pool.admit(namespaces[0])
        ours = start_session(cluster, namespaces[0], authority=testbed.authority)
        bare = start_bare(namespaces[1], cluster, testbed.authority)
        for session in (ours, bare):
            browse(session)
        listed = use(ours)
        time.sleep(SETTLE_S)
        found = {"with": memory_of(ours), "without": memory_of(bare)}
    finally:
        for namespace in namespaces:
            cluster.delete("v1", "Namespace", namespace.name)
        kueue.clean_up()
    added = {name: found["with"][name] - found["without"][name] for name in found["with"]}
    return {"memory": {**found, "added": added, "limit_bytes": LIMIT_BYTES}, "submissions": SUBMISSIONS, "list": listed}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="where the figures go")
    arguments = parser.parse_args()
    directory = testbed_directory()
    if directory is None:
        print("This runs inside of the testbed: python -m testbed run …", file=sys.stderr)
        return 2
    load = round(os.getloadavg()[0], 2)
    cluster = Cluster()
    figures = {
        "measured_at": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "machine": describe_machine(),
        "versions": versions(cluster),
        "load_before": load,
        **measure(cluster, Testbed(directory), Kueue(cluster)),
    }
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
