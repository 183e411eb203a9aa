"""Inside a cluster: delete what users and tests made, ``python -m testbed.reset``."""

from __future__ import annotations

import shutil

from .component import Cluster
from .instance import inside

_KEPT_NAMESPACES = {"default", "kube-node-lease", "kube-public", "kube-system", "kueue-system"}
_QUEUES = ("clusterqueues", "cohorts", "resourceflavors", "workloadpriorityclasses")
_POLICIES = ("validatingadmissionpolicybindings", "validatingadmissionpolicies")


def main() -> None:
    instance = inside()
    cluster = Cluster(instance, instance.read_settings())
    namespaces = [item["metadata"]["name"] for item in cluster.get("/api/v1/namespaces")["items"]]
    others = [name for name in namespaces if name not in _KEPT_NAMESPACES]
    for kind in _QUEUES:
        cluster.kubectl("delete", f"{kind}.kueue.x-k8s.io", "--all", "--wait=false")
    for kind in _POLICIES:
        cluster.kubectl("delete", kind, "--all")
    cluster.kubectl("delete", "jobs,pods", "--namespace=default", "--all")
    if others:
        cluster.kubectl("delete", "namespace", *others, "--timeout=60s")
    for kind in _QUEUES:
        cluster.kubectl("wait", "--for=delete", f"{kind}.kueue.x-k8s.io", "--all", "--timeout=60s")
    repositories = instance.directory / "registry/data/docker/registry/v2/repositories"
    for name in ("users", "environments"):
        shutil.rmtree(repositories / name, ignore_errors=True)


if __name__ == "__main__":
    main()
