"""KWOK: nodes and pods that exist only in the API server, for tests with more of both than a machine has."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from ..binaries import KWOK, source_directory
from ..component import Cluster, Component, has_condition
from ..instance import Settings
from ..places import cache_directory
from .mig import RESOURCE

ANNOTATION = "kwok.x-k8s.io/node"
_SLICES_PER_NODE = 28
# The parallelism of leases is 0 by default in this form, and then it exits.
_CONFIG = """\
apiVersion: config.kwok.x-k8s.io/v1alpha1
kind: KwokConfiguration
options:
  podPlayStageParallelism: 8
  nodePlayStageParallelism: 4
  nodeLeaseParallelism: 4
"""
_STAGES = ("node/fast/node-initialize.yaml", "node/heartbeat-with-lease/*-lease.yaml", "pod/general/pod-*.yaml")


class Kwok(Component):
    name = "kwok"
    after = ("apiserver",)
    modules = (KWOK,)

    def build(self, settings: Settings) -> Settings:
        return dataclasses.replace(settings, kwok_config=str(_rendered()))

    def start(self, cluster: Cluster) -> None:
        command = [
            cluster.program("kwok"),
            f"--config={cluster.settings.kwok_config}",
            f"--kubeconfig={cluster.certificate('admin.yaml')}",
            f"--manage-nodes-with-annotation-selector={ANNOTATION}=fake",
            "--node-lease-duration-seconds=200",
            "--server-address=127.0.0.1:10247",
            "--cidr=10.245.0.0/16",
        ]
        cluster.run(self.name, command)
        nodes = [_node(number) for number in range(cluster.settings.fake_nodes)]
        cluster.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": nodes}))

    def ready(self, cluster: Cluster) -> bool:
        nodes = (cluster.get("/api/v1/nodes?labelSelector=type%3Dkwok") or {})["items"]
        return len(nodes) == cluster.settings.fake_nodes and all(has_condition(node, "Ready") for node in nodes)


def _node(number: int) -> dict[str, Any]:
    capacity = {"cpu": "32", "memory": "256Gi", "pods": "110", RESOURCE: str(_SLICES_PER_NODE)}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": f"fake-{number}",
            "annotations": {ANNOTATION: "fake"},
            "labels": {"type": "kwok", "kubernetes.io/hostname": f"fake-{number}", "kubernetes.io/os": "linux"},
        },
        "spec": {"taints": [{"key": ANNOTATION, "value": "fake", "effect": "NoSchedule"}]},
        "status": {"capacity": capacity, "allocatable": capacity},
    }


def _rendered() -> Path:
    target = cache_directory() / "manifests" / f"kwok-{KWOK.key}.yaml"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        source = source_directory(KWOK) / "kustomize/stage"
        stages = [path for pattern in _STAGES for path in sorted(source.glob(pattern))]
        partial = target.with_suffix(".partial")
        partial.write_text("---\n".join([_CONFIG, *(path.read_text() for path in stages)]))
        partial.replace(target)
    return target
