"""The pod network: a bridge in the cluster's network namespace. Not a process, only its configuration."""

from __future__ import annotations

import json

from ..binaries import CNI
from ..component import Cluster, Component
from ..places import INSIDE, POD_CIDR

CONFIGURATION = INSIDE / "cni"


class Cni(Component):
    name = "cni"
    modules = (CNI,)

    def start(self, cluster: Cluster) -> None:
        bridge = {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "ipMasq": True,
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": POD_CIDR}]],
                "routes": [{"dst": "0.0.0.0/0"}],
                "dataDir": f"{cluster.directory(self)}/addresses",
            },
        }
        plugins = [bridge, {"type": "portmap", "capabilities": {"portMappings": True}}]
        content = {"cniVersion": "1.0.0", "name": "testbed", "plugins": plugins}
        (CONFIGURATION / "10-testbed.conflist").write_text(json.dumps(content))

    def ready(self, cluster: Cluster) -> bool:
        return True
