"""Many users of one cluster: ``python benchmarks/cluster_users.py --json FILE``, inside of a testbed with fake nodes.

(a) what an open tab costs the API server while nothing of its user waits or runs
(b) what a Submission costs, and how many can be handed in in a second
(c) what everybody costs while everything waits or runs, with all tabs looked at, and with none

Each user has a namespace, the docs' Role and its real token, a LocalQueue, and a service as the product composes it,
with a Snapshot that is there already. Requests are counted where the backend makes them; a watch is one. The API
server's own count of all requests, by everybody in the cluster, is beside it. Pods are played by KWOK and have no logs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cluster import versions
from cluster_tenants import Tenant, everybody, prepare
from machine import describe_machine
from tests.cluster.queues import Kueue
from tests.cluster.reach import Cluster, testbed_directory

USERS, EACH, SLOTS = 200, 20, 500
LOOK_S, UNSEEN_S = 60.0, 60.0
LEAD_S = 25.0  # for what one phase has begun to end before the next is counted
TAB_IDLE_S, TAB_ACTIVE_S = 180.0, 5.0  # as in src/manager.ts
OPENING_S = 20.0  # in which all tabs are opened; then each looks once in TAB_IDLE_S
IDLE_LIMIT = 0.02
IN_FLIGHT = 16


class Meter:
    """Requests in a while: ours by kind, and all that the API server counts."""

    def __init__(self, cluster: Cluster, tenants: Sequence[Tenant]) -> None:
        self._cluster = cluster
        self._tenants = tenants

    async def over(self, work: Awaitable[object]) -> dict[str, Any]:
        """Per second, while ``work`` is done."""
        ours, everything, started = self._ours(), await self._everything(), time.monotonic()
        await work
        seconds = time.monotonic() - started
        made = self._ours() - ours
        total = await self._everything() - everything
        return {
            "seconds": round(seconds, 1),
            "ours": sum(made.values()),
            "by_kind": {kind: count for kind, count in sorted(made.items()) if count},
            "ours_per_s": round(sum(made.values()) / seconds, 2),
            "api_server_per_s": round(total / seconds, 1),
        }

    def _ours(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for tenant in self._tenants:
            found.update(tenant.requests)
        return found

    async def _everything(self) -> float:
        text = await asyncio.to_thread(self._cluster.request, "GET", "/metrics")
        lines = (line for line in text.splitlines() if line.startswith("apiserver_request_total{"))
        return sum(float(line.rpartition(" ")[2]) for line in lines)


async def look(tenant: Tenant, *, every_s: float, until: float, listed_s: list[float]) -> None:
    """A tab: the queues and the list, now and then."""
    while True:
        begun = time.monotonic()
        await tenant.service.queues()
        await tenant.service.list(limit=50)
        listed_s.append(time.monotonic() - begun)
        if time.monotonic() + every_s > until:
            break
        await asyncio.sleep(every_s)
    await asyncio.sleep(max(0.0, until - time.monotonic()))


async def all_look(tenants: Sequence[Tenant], *, every_s: float, during_s: float, spread_s: float) -> list[float]:
    """Everybody's tab, begun one after the other over ``spread_s``."""
    until, listed_s = time.monotonic() + during_s, list[float]()

    async def begin(number: int, tenant: Tenant) -> None:
        await asyncio.sleep(spread_s * number / len(tenants))
        await look(tenant, every_s=every_s, until=until, listed_s=listed_s)

    await asyncio.gather(*(begin(number, tenant) for number, tenant in enumerate(tenants)))
    return listed_s


async def submit_all(tenants: Sequence[Tenant], each: int) -> list[float]:
    """Every Submission; seconds that each took."""
    turns, taken_s = asyncio.Semaphore(IN_FLIGHT), list[float]()

    async def submit(tenant: Tenant, number: int) -> None:
        async with turns:
            begun = time.monotonic()
            await tenant.submit(number)
            taken_s.append(time.monotonic() - begun)

    await asyncio.gather(*(submit(tenant, number) for number in range(each) for tenant in tenants))
    return taken_s


async def measure(cluster: Cluster, tenants: Sequence[Tenant], each: int) -> dict[str, Any]:
    meter = Meter(cluster, tenants)
    await everybody(tenants, lambda tenant: tenant.service.start())
    tabs = asyncio.create_task(
        all_look(tenants, every_s=TAB_IDLE_S, during_s=OPENING_S + TAB_IDLE_S, spread_s=OPENING_S * 0.9)
    )
    await asyncio.sleep(OPENING_S)
    idle = await meter.over(asyncio.sleep(TAB_IDLE_S))
    await tabs
    print(f"  idle: {idle}", flush=True)
    taken_s: list[float] = []
    submitting = await meter.over(keep(submit_all(tenants, each), taken_s.extend))
    print(f"  submitting: {submitting}", flush=True)
    await asyncio.sleep(LEAD_S)
    listed_s: list[float] = []
    looking = all_look(tenants, every_s=TAB_ACTIVE_S, during_s=LOOK_S, spread_s=TAB_ACTIVE_S)
    looked_at = await meter.over(keep(looking, listed_s.extend))
    print(f"  looked at: {looked_at}", flush=True)
    await asyncio.sleep(LEAD_S)
    unseen = await meter.over(asyncio.sleep(UNSEEN_S))
    print(f"  unseen: {unseen}", flush=True)
    states = await count_states(tenants)
    await everybody(tenants, lambda tenant: tenant.service.stop())
    per_tab = idle["ours"] / idle["seconds"] / len(tenants)
    return {
        "users": len(tenants),
        "submissions": len(tenants) * each,
        "states": states,
        "idle": {**idle, "per_tab_per_s": round(per_tab, 4), "limit": IDLE_LIMIT},
        "submitting": {**submitting, "each_s": spread(taken_s)},
        "looked_at": {**looked_at, "list_s": spread(listed_s)},
        "unseen": unseen,
    }


async def keep(work: Awaitable[list[float]], take: Callable[[list[float]], object]) -> None:
    take(await work)


async def count_states(tenants: Sequence[Tenant]) -> dict[str, int]:
    pages = [json.loads((await tenant.service.list(limit=100)).json) for tenant in tenants]
    return dict(Counter(item["state"] for page in pages for item in page))


def spread(samples: Sequence[float]) -> dict[str, float]:
    ordered = sorted(samples)
    p95 = ordered[min(len(ordered) - 1, round(0.95 * len(ordered)))]
    return {"median_s": round(statistics.median(ordered), 4), "p95_s": round(p95, 4), "max_s": round(ordered[-1], 4)}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="where the figures go")
    parser.add_argument("--users", type=int, default=USERS)
    parser.add_argument("--each", type=int, default=EACH, help="Submissions of each user")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    directory = testbed_directory()
    if directory is None:
        print("This runs inside of the testbed: python -m testbed run --fake-nodes 20 …", file=sys.stderr)
        return 2
    load = round(os.getloadavg()[0], 2)
    cluster = Cluster()
    kueue = Kueue(cluster)
    with tempfile.TemporaryDirectory() as place:
        tenants = prepare(cluster, kueue, Path(place), users=arguments.users, slices=SLOTS)
        print(f"  {len(tenants)} users are there", flush=True)
        measured = asyncio.run(measure(cluster, tenants, arguments.each))
    figures = {
        "measured_at": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "machine": describe_machine(),
        "versions": versions(cluster),
        "load_before": load,
        **measured,
    }
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
