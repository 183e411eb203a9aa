"""The part of docs/performance.md on jobs in a cluster."""

from __future__ import annotations

from typing import Any

from tables import machine_words, table, verdict

CLICK_STEPS = {
    "answered": "the request is answered",
    "capturing": "the capture has begun: a process of its own, at work",
    "captured": "the snapshot is complete in the registry",
    "job": "the Job exists: the queue was looked at and the pod tried before",
    "workload": "Kueue has made its Workload",
}
START_STEPS = {
    "unsuspended": "Kueue starts the Job",
    "pod": "the pod exists",
    "scheduled": "it has its node",
    "container": "its container runs: volumes, network, image",
    "kernel": "the runner has started the kernel",
    "cell": "the first cell runs: the kernel has started, the notebook is read",
}
EXECUTE_STEPS = {
    "container": "its container runs",
    "kernel": "`jupyter execute` has started the kernel",
    "cell": "the first cell runs",
}


def cluster_part(figures: dict[str, Any]) -> str:
    return "\n\n".join(
        [
            "## Jobs on a cluster",
            conditions(figures),
            click_section(figures["click"]),
            start_section(figures["start"]),
        ]
    )


CHANGES = {
    "admitted": "admitted",
    "running": "its pod runs",
    "evicted": "evicted",
    "finished": "finished",
}


def insight_part(figures: dict[str, Any]) -> str:
    whole, age = figures["changes"], figures["position_age"]
    rows = [[words, *tail(figures["by_change"][name])] for name, words in CHANGES.items()]
    rows += [["all", *tail(whole)], ["age of a position that somebody looks at", *tail(age)]]
    return "\n\n".join(
        [
            "## How soon a change shows",
            (
                "Measured by `make bench-cluster` (`benchmarks/cluster_insight.py`): from when a watch of the cluster "
                "shows a Workload or pod in a state to when the REST API of the session's server does, which is read "
                "20 times a second. Each job is admitted, evicted by an interactive pod, admitted again, and ends."
            ),
            f"{machine_words(figures)} Load average before: {figures['load_before']:.1f}.",
            table(["what", "count", "median", "95 %", "slowest"], rows),
            (
                f"Targets: 95 % of changes within {whole['limit_s']:.0f} s:"
                f" {verdict(met=whole['p95_s'] <= whole['limit_s'])}; positions at most {age['limit_s']:.0f} s old:"
                f" {verdict(met=age['max_s'] <= age['limit_s'])}."
            ),
        ]
    )


def users_part(figures: dict[str, Any]) -> str:
    idle, looked_at, submitting, unseen = (figures[name] for name in ("idle", "looked_at", "submitting", "unseen"))
    users, submissions = figures["users"], figures["submissions"]
    per_submission = submitting["ours"] / submissions
    rows = [
        [words, f"{found['seconds']:.0f} s", *per_second(found, users)]
        for words, found in (
            ("a tab of everybody is open, nothing of theirs waits or runs", idle),
            ("everybody hands in", submitting),
            ("everything waits or runs, every tab is looked at", looked_at),
            ("the same, nobody looks", unseen),
        )
    ]
    states = ", ".join(f"{count} {state}" for state, count in sorted(figures["states"].items()))
    return "\n\n".join(
        [
            "## Many users",
            (
                "Measured by `make bench-users` (`benchmarks/cluster_users.py`) on the [testbed](testbed.md): "
                f"{users} users with {submissions} submissions, each user with a namespace, the docs' Role and its "
                "token, a LocalQueue, and a service of this package; pods are played by KWOK, and their logs are left "
                "out. Requests are counted where they are made, a watch as one."
            ),
            f"{machine_words(figures)} Load average before: {figures['load_before']:.1f}.",
            table(["while", "for", "requests per second", "of each user", "API server in all"], rows),
            (
                f"An idle tab costs {idle['per_tab_per_s']:.4f} requests per second; target at most"
                f" {idle['limit']:.2f}: {verdict(met=idle['per_tab_per_s'] <= idle['limit'])}. Handing in takes"
                f" {per_submission:.1f} requests and {submitting['each_s']['median_s']:.2f} s in the median"
                f" ({submitting['each_s']['p95_s']:.2f} s for 95 %) with 16 at a time. In the end: {states}. Queues and"
                " a page of the list:"
                f" {looked_at['list_s']['median_s'] * 1000:.0f} ms in the median,"
                f" {looked_at['list_s']['p95_s'] * 1000:.0f} ms for 95 %, all users in one process, which is then busy."
            ),
            (
                "Positions are asked for until 40 s after the last look: of the last line's requests"
                f" {unseen['by_kind'].get('get pendingworkloads', 0)} of {unseen['ours']} are that, the others watches"
                " that are opened anew."
            ),
        ]
    )


def per_second(found: dict[str, Any], users: int) -> list[str]:
    return [f"{found['ours_per_s']:.2f}", f"{found['ours_per_s'] / users:.4f}", f"{found['api_server_per_s']:.0f}"]


def memory_part(figures: dict[str, Any]) -> str:
    memory = figures["memory"]
    kinds = {"rss": "resident", "pss": "proportional share", "private_dirty": "private, written"}
    rows = [
        [words, *(f"{memory[side][kind] / 1e6:.1f} MB" for side in ("with", "without", "added"))]
        for kind, words in kinds.items()
    ]
    return "\n\n".join(
        [
            "## Memory",
            (
                "Measured by `make bench-users` (`benchmarks/cluster_memory.py`): the process of a Jupyter server in a "
                f"pod, with the extension while it watches {figures['submissions']} submissions on the cluster and "
                "lists them, and without it."
            ),
            f"{machine_words(figures)} Load average before: {figures['load_before']:.1f}.",
            table(["memory", "with", "without", "added"], rows),
            (
                f"Target: at most {memory['limit_bytes'] / 1e6:.0f} MB added:"
                f" {verdict(met=memory['added']['rss'] <= memory['limit_bytes'])}. A page of the list takes"
                f" {figures['list']['median_s'] * 1000:.0f} ms in the median,"
                f" {figures['list']['max_s'] * 1000:.0f} ms at most."
            ),
        ]
    )


def tail(found: dict[str, Any]) -> list[str]:
    return [str(found["count"]), *(f"{found[name]:.2f} s" for name in ("median_s", "p95_s", "max_s"))]


def conditions(figures: dict[str, Any]) -> str:
    count, millicores = figures["click"]["ours"]["count"], figures["start"]["cpu_millicores"]
    return (
        "Measured by `make bench-cluster` (`benchmarks/cluster.py`) on the [testbed](testbed.md): Kubernetes, Kueue "
        "and a registry with TLS and tokens, on one machine. A session in a pod of the users' image submits a notebook "
        f"that was edited since, while its environment was not; {count} rounds in which all take turns, after one that "
        f"does not count. Pods that run the notebook have {millicores / 1000:g} CPU. Objects of the cluster count from "
        "when a watch shows them; the first cell says itself when it began.\n\n"
        f"{machine_words(figures)} Load average before: {figures['load_before']:.1f}."
    )


def click_section(figures: dict[str, Any]) -> str:
    ours, limit = figures["ours"], figures["limit_s"]
    return (
        "### From the click to the Workload\n\n"
        f"{step_table(ours, CLICK_STEPS)}\n\n"
        f"Target: at most {limit:.1f} s in the median: {verdict(met=ours['median_s'] <= limit)}."
    )


def start_section(figures: dict[str, Any]) -> str:
    ours, limit = figures["ours"], figures["limit_s"]
    sides = {
        "submitted in the session, from admission": ours,
        "`kubectl apply` of its exported YAML, from admission": figures["apply"],
        "the same, from the command": figures["applied"],
        "`jupyter execute` in a pod of the same image, from the pod's creation": figures["execute"],
        "a bare pod's first output, from its creation": figures["bare"],
    }
    rows = [[words, *spread(found)] for words, found in sides.items()]
    return (
        "### From admission to the first cell\n\n"
        f"{table(['what', 'median', 'fastest', 'slowest'], rows)}\n\n"
        f"Target: at most {limit:.1f} s in the median where a bare pod takes 1 s: "
        f"{verdict(met=ours['median_s'] <= limit)}. A submitted job has a new image each time, of which the node lacks "
        "what was edited; the YAML's image is there already, when it is applied.\n\n"
        f"Where ours goes:\n\n{step_table(ours, START_STEPS)}\n\n"
        f"And `jupyter execute`:\n\n{step_table(figures['execute'], EXECUTE_STEPS)}"
    )


def step_table(figures: dict[str, Any], words: dict[str, str]) -> str:
    """Medians of the steps do not quite add up to the median of all."""
    rows = [[text, *spread(figures["steps"][name])] for name, text in words.items()]
    return table(["until", "median", "fastest", "slowest"], [*rows, ["**all**", *spread(figures)]])


def spread(figures: dict[str, Any]) -> list[str]:
    return [f"{figures[name]:.2f} s" for name in ("median_s", "min_s", "max_s")]
