"""MIG slices on the node, where no GPU is: the scheduler counts them like real ones, no device is mounted."""

from __future__ import annotations

import json
from typing import Any

from ..component import Cluster, Component
from ..places import NODE

RESOURCE = "nvidia.com/mig-1g.5gb"


class Mig(Component):
    name = "mig"
    after = ("kubelet",)
    tended = True

    def start(self, cluster: Cluster) -> None:
        """Also again after the kubelet has registered anew, which forgets it."""
        _set_capacity(cluster, cluster.settings.mig_slices)

    def ready(self, cluster: Cluster) -> bool:
        node: dict[str, Any] = cluster.get(f"/api/v1/nodes/{NODE}") or {}
        offered = node.get("status", {}).get("allocatable", {}).get(RESOURCE)
        return bool(offered == str(cluster.settings.mig_slices))

    def stop(self, cluster: Cluster) -> None:
        _set_capacity(cluster, 0)


def _set_capacity(cluster: Cluster, slices: int) -> None:
    path = f"/status/capacity/{RESOURCE.replace('/', '~1')}"
    patch = json.dumps([{"op": "add", "path": path, "value": str(slices)}])
    cluster.kubectl("patch", "node", NODE, "--subresource=status", "--type=json", f"--patch={patch}")
