"""kube-scheduler."""

from __future__ import annotations

import json

from ..binaries import KUBERNETES
from ..component import Cluster, Component, answers


class Scheduler(Component):
    name = "scheduler"
    after = ("apiserver",)
    modules = (KUBERNETES,)

    def start(self, cluster: Cluster) -> None:
        kubeconfig = cluster.certificate("scheduler.yaml")
        config = cluster.directory(self) / "config.json"
        content = {
            "apiVersion": "kubescheduler.config.k8s.io/v1",
            "kind": "KubeSchedulerConfiguration",
            "leaderElection": {"leaderElect": False},
            "clientConnection": {"kubeconfig": kubeconfig, "qps": 200, "burst": 400},
        }
        config.write_text(json.dumps(content))
        command = [
            cluster.program("kube-scheduler"),
            f"--config={config}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            "--bind-address=127.0.0.1",
        ]
        cluster.run(self.name, command)

    def ready(self, cluster: Cluster) -> bool:
        return answers("https://127.0.0.1:10259/healthz", verify=False)
