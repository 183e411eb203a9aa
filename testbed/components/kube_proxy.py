"""kube-proxy: cluster addresses by iptables rules of the cluster's own network namespace."""

from __future__ import annotations

import json

from ..binaries import KUBERNETES
from ..component import Cluster, Component, answers
from ..places import NODE, POD_CIDR

_HEALTH = "127.0.0.1:10256"


class KubeProxy(Component):
    name = "kube-proxy"
    after = ("apiserver",)
    modules = (KUBERNETES,)

    def start(self, cluster: Cluster) -> None:
        config = cluster.directory(self) / "config.json"
        content = {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "clientConnection": {"kubeconfig": cluster.certificate("kube-proxy.yaml")},
            "hostnameOverride": NODE,
            "mode": "iptables",
            "clusterCIDR": POD_CIDR,
            "healthzBindAddress": _HEALTH,
            "metricsBindAddress": "127.0.0.1:10249",
            # The machine's connection tracking is not ours to tune.
            "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        }
        config.write_text(json.dumps(content))
        cluster.run(self.name, [cluster.program("kube-proxy"), f"--config={config}"])

    def ready(self, cluster: Cluster) -> bool:
        return answers(f"http://{_HEALTH}/livez")
