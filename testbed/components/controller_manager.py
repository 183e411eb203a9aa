"""kube-controller-manager, without the controllers that the node addresses and autoscaling need."""

from __future__ import annotations

from ..binaries import KUBERNETES
from ..component import Cluster, Component, answers


class ControllerManager(Component):
    name = "controller-manager"
    after = ("apiserver",)
    modules = (KUBERNETES,)

    def start(self, cluster: Cluster) -> None:
        file = cluster.certificate
        kubeconfig = file("controller-manager.yaml")
        command = [
            cluster.program("kube-controller-manager"),
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            "--bind-address=127.0.0.1",
            "--leader-elect=false",
            "--use-service-account-credentials",
            "--allocate-node-cidrs=false",
            "--controllers=*,-node-ipam-controller,-horizontal-pod-autoscaler-controller",
            f"--root-ca-file={file('ca.crt')}",
            f"--service-account-private-key-file={file('service-accounts.key')}",
            f"--cluster-signing-cert-file={file('ca.crt')}",
            f"--cluster-signing-key-file={file('ca.key')}",
            # A thousand Jobs should wait for Kueue, not for this client's rate limit.
            "--kube-api-qps=200",
            "--kube-api-burst=400",
            "--concurrent-job-syncs=20",
        ]
        cluster.run(self.name, command)

    def ready(self, cluster: Cluster) -> bool:
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        return answers("https://127.0.0.1:10257/healthz", verify=False) and cluster.get(account) is not None
