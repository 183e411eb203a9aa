"""The API server's store. It never syncs: a test cluster does not outlive its machine."""

from __future__ import annotations

from ..binaries import ETCD
from ..component import Cluster, Component, answers

URL = "http://127.0.0.1:2379"


class Etcd(Component):
    name = "etcd"
    modules = (ETCD,)

    def start(self, cluster: Cluster) -> None:
        peer = "http://127.0.0.1:2380"
        command = [
            cluster.program("server"),
            "--name=testbed",
            f"--data-dir={cluster.directory(self)}/data",
            f"--listen-client-urls={URL}",
            f"--advertise-client-urls={URL}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=testbed={peer}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]
        cluster.run(self.name, command)

    def ready(self, cluster: Cluster) -> bool:
        return answers(f"{URL}/health")
