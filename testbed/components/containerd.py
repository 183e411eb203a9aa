"""containerd with runc, on cgroup version 1 or 2, with no capability that a container might lack."""

from __future__ import annotations

import json
from pathlib import Path

from ..binaries import CONTAINERD
from ..component import Cluster, Component
from ..places import BIN, INSIDE, REGISTRY
from .cni import CONFIGURATION
from .images import PAUSE_IMAGE

SOCKET = INSIDE / "containerd/containerd.sock"
_CONFIG = """\
version = 3
root = '{data}/root'
state = '{data}/state'
disabled_plugins = ['io.containerd.nri.v1.nri', 'io.containerd.internal.v1.tracing']
[grpc]
address = '{socket}'
[ttrpc]
address = '{socket}.ttrpc'
[plugins.'io.containerd.internal.v1.opt']
path = '{data}/opt'
[plugins.'io.containerd.cri.v1.images']
snapshotter = 'overlayfs'
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = '{registry}/{pause}'
[plugins.'io.containerd.cri.v1.images'.registry]
config_path = '{data}/certs.d'
[plugins.'io.containerd.cri.v1.runtime']
disable_apparmor = true
# Without CAP_SYS_RESOURCE runc may not lower a score, and dies of it.
restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
BinaryName = '{runc}'
SystemdCgroup = false
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ['{bin}']
conf_dir = '{cni}'
"""


class Containerd(Component):
    name = "containerd"
    after = ("cni",)
    modules = (CONTAINERD,)

    def start(self, cluster: Cluster) -> None:
        data = cluster.directory(self)
        config = data / "config.toml"
        config.write_text(
            _CONFIG.format(
                data=data,
                socket=SOCKET,
                registry=REGISTRY,
                pause=PAUSE_IMAGE,
                runc=cluster.program("runc"),
                bin=BIN,
                cni=CONFIGURATION,
            )
        )
        _trust_registry(data / "certs.d", cluster.certificate("ca.crt"))
        cluster.run(self.name, [cluster.program("containerd"), f"--config={config}", "--log-level=warn"])

    def ready(self, cluster: Cluster) -> bool:
        return SOCKET.is_socket()


def _trust_registry(directory: Path, ca: str) -> None:
    place = directory / REGISTRY
    place.mkdir(parents=True, exist_ok=True)
    (place / "hosts.toml").write_text(f"server = 'https://{REGISTRY}'\nca = {json.dumps(ca)}\n")
