"""kube-apiserver, with the authorization, admission and aggregation of a real cluster."""

from __future__ import annotations

from ..binaries import KUBERNETES
from ..component import Cluster, Component
from ..places import HOST, SERVICE_CIDR
from .etcd import URL


class ApiServer(Component):
    name = "apiserver"
    after = ("etcd",)
    modules = (KUBERNETES,)

    def start(self, cluster: Cluster) -> None:
        file = cluster.certificate
        command = [
            cluster.program("kube-apiserver"),
            f"--etcd-servers={URL}",
            f"--bind-address={HOST}",
            f"--advertise-address={HOST}",
            "--secure-port=6443",
            f"--service-cluster-ip-range={SERVICE_CIDR}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            "--enable-aggregator-routing=true",
            "--kubelet-preferred-address-types=InternalIP",
            f"--client-ca-file={file('ca.crt')}",
            f"--tls-cert-file={file('apiserver.crt')}",
            f"--tls-private-key-file={file('apiserver.key')}",
            f"--kubelet-certificate-authority={file('ca.crt')}",
            f"--kubelet-client-certificate={file('apiserver-kubelet-client.crt')}",
            f"--kubelet-client-key={file('apiserver-kubelet-client.key')}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-signing-key-file={file('service-accounts.key')}",
            f"--service-account-key-file={file('service-accounts.pub')}",
            f"--requestheader-client-ca-file={file('front-proxy-ca.crt')}",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-username-headers=X-Remote-User",
            f"--proxy-client-cert-file={file('front-proxy-client.crt')}",
            f"--proxy-client-key-file={file('front-proxy-client.key')}",
        ]
        cluster.run(self.name, command)

    def ready(self, cluster: Cluster) -> bool:
        # The status decides: before RBAC is there, the body of a refusal already says "ok" for most checks.
        return cluster.get("/readyz") is not None
