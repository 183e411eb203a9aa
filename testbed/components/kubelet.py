"""kubelet: the one real node. Its directories, sockets, ports and cgroups are the cluster's own."""

from __future__ import annotations

import json

from ..binaries import KUBERNETES
from ..component import Cluster, Component, has_condition
from ..places import DNS_SERVICE, HOST, INSIDE, NODE
from .containerd import SOCKET


class Kubelet(Component):
    name = "kubelet"
    after = ("apiserver", "containerd")
    modules = (KUBERNETES,)

    def start(self, cluster: Cluster) -> None:
        data = cluster.directory(self)
        config = data / "config.json"
        content = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": HOST,
            "containerRuntimeEndpoint": f"unix://{SOCKET}",
            "podLogsDir": f"{data}/pods-logs",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": cluster.instance.cgroup,
            "failCgroupV1": False,
            "failSwapOn": False,
            "oomScoreAdj": 0,
            "maxOpenFiles": 20000,
            "maxPods": 200,
            "enforceNodeAllocatable": ["pods"],
            "clusterDNS": [DNS_SERVICE],
            "clusterDomain": "cluster.local",
            "resolvConf": str(INSIDE / "resolv.conf"),
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": cluster.certificate("ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": cluster.certificate("kubelet-serving.crt"),
            "tlsPrivateKeyFile": cluster.certificate("kubelet-serving.key"),
            "evictionHard": {"memory.available": "1%", "nodefs.available": "1%", "imagefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "serializeImagePulls": False,
            "nodeStatusUpdateFrequency": "5s",
            "shutdownGracePeriod": "0s",
        }
        config.write_text(json.dumps(content))
        command = [
            cluster.program("kubelet"),
            f"--config={config}",
            f"--kubeconfig={cluster.certificate('kubelet.yaml')}",
            f"--root-dir={data}/root",
            f"--cert-dir={data}/pki",
            f"--hostname-override={NODE}",
            f"--node-ip={HOST}",
        ]
        cluster.run(self.name, command)

    def ready(self, cluster: Cluster) -> bool:
        return has_condition(cluster.get(f"/api/v1/nodes/{NODE}"), "Ready")
