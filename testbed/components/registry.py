"""The registry: TLS from the cluster's CA, tokens from the testbed's token service."""

from __future__ import annotations

import json

import urllib3

from ..binaries import REGISTRY as MODULE
from ..component import Cluster, Component
from ..places import HOST, REGISTRY, REGISTRY_NAME, TOKEN_PORT

ISSUER = "testbed"
SERVICE = REGISTRY_NAME
_UNAUTHORIZED = 401


class Registry(Component):
    name = "registry"
    modules = (MODULE,)

    def start(self, cluster: Cluster) -> None:
        data = cluster.directory(self)
        config = data / "config.json"
        content = {
            "version": "0.1",
            "log": {"level": "warn", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": f"{data}/data"}, "delete": {"enabled": True}},
            "http": {
                "addr": f"{HOST}:{REGISTRY.rpartition(':')[2]}",
                "tls": {"certificate": cluster.certificate("registry.crt"), "key": cluster.certificate("registry.key")},
            },
            "auth": {
                "token": {
                    "realm": f"https://{REGISTRY_NAME}:{TOKEN_PORT}/token",
                    "service": SERVICE,
                    "issuer": ISSUER,
                    "rootcertbundle": cluster.certificate("ca.crt"),
                }
            },
        }
        config.write_text(json.dumps(content))
        command = [cluster.program("registry"), "serve", str(config)]
        cluster.run(self.name, command, OTEL_TRACES_EXPORTER="none")

    def ready(self, cluster: Cluster) -> bool:
        with urllib3.PoolManager(ca_certs=cluster.certificate("ca.crt"), retries=False) as pool:
            return pool.request("GET", f"https://{REGISTRY}/v2/").status == _UNAUTHORIZED
