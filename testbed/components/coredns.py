"""CoreDNS on the node, behind the Service that pods are told of."""

from __future__ import annotations

from ..binaries import COREDNS
from ..component import Cluster, Component, answers, manifest
from ..places import DNS_SERVICE, HOST, REGISTRY_NAME

_CONFIG = """\
.:53 {{
    bind {host}
    errors
    ready {host}:8181
    hosts {{
        {host} {registry}
        fallthrough
    }}
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        kubeconfig {kubeconfig}
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 1
    }}
}}
"""


class CoreDns(Component):
    name = "coredns"
    after = ("apiserver",)
    modules = (COREDNS,)

    def start(self, cluster: Cluster) -> None:
        config = cluster.directory(self) / "Corefile"
        config.write_text(
            _CONFIG.format(host=HOST, registry=REGISTRY_NAME, kubeconfig=cluster.certificate("admin.yaml"))
        )
        cluster.run(self.name, [cluster.program("coredns"), f"-conf={config}"])
        cluster.apply(manifest("dns.yaml", service=DNS_SERVICE, host=HOST))

    def ready(self, cluster: Cluster) -> bool:
        return answers(f"http://{HOST}:8181/ready")
