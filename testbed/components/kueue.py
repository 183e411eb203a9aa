"""Kueue as its own manifests install it and ``deploy/`` configures it; the image, and fair share's pace, are ours."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
from pathlib import Path
from typing import Any

import yaml

from ..binaries import KUBERNETES, KUEUE, built, source_directory
from ..component import Cluster, Component, has_condition
from ..images import TAG, ImageFile, program_image
from ..instance import Settings
from ..places import REGISTRY, ROOT, cache_directory
from .images import with_images

IMAGE = f"base/kueue:{TAG}"
_DEPLOYMENT = "/apis/apps/v1/namespaces/kueue-system/deployments/kueue-controller-manager"
_VISIBILITY = "/apis/apiregistration.k8s.io/v1/apiservices/v1beta2.visibility.kueue.x-k8s.io"
_CONFIGURATION = ROOT / "deploy/kueue/configuration.yaml"
# Usage counts for minutes instead of days: what one test used is forgotten by the next, and a test can watch it.
_PACE = {"usageHalfLifeTime": "2m", "usageSamplingInterval": "5s"}


class Kueue(Component):
    name = "kueue"
    after = ("apiserver", "images")
    modules = (KUEUE, KUBERNETES)

    def build(self, settings: Settings) -> Settings:
        manager = ImageFile(path="manager", source=built(KUEUE) / "kueue")
        image = program_image("kueue", [manager], command=["/manager"])
        return dataclasses.replace(with_images(settings, {IMAGE: image}), kueue_manifests=str(_rendered()))

    def start(self, cluster: Cluster) -> None:
        cluster.apply(Path(cluster.settings.kueue_manifests).read_text())

    def ready(self, cluster: Cluster) -> bool:
        return has_condition(cluster.get(_DEPLOYMENT), "Available") and has_condition(
            cluster.get(_VISIBILITY), "Available"
        )

    def stop(self, cluster: Cluster) -> None:
        cluster.kubectl("scale", "--namespace=kueue-system", "deployment/kueue-controller-manager", "--replicas=0")


def _configuration() -> dict[str, Any]:
    """What admins are told to configure, at the pace of tests."""
    config: dict[str, Any] = yaml.safe_load(_CONFIGURATION.read_text())
    return {**config, "admissionFairSharing": {**config["admissionFairSharing"], **_PACE}}


def _rendered() -> Path:
    """Kueue's default kustomization with our image and configuration, in the cache."""
    key = hashlib.sha256(f"{KUEUE.key} {REGISTRY}/{IMAGE} {_configuration()}".encode()).hexdigest()[:16]
    target = cache_directory() / "manifests" / f"kueue-{key}.yaml"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        kubectl = built(KUBERNETES) / "kubectl"
        source = source_directory(KUEUE) / "config/default"
        text = subprocess.run([kubectl, "kustomize", source], capture_output=True, text=True, check=True).stdout
        objects = [_adapted(one) for one in yaml.load_all(text, Loader=yaml.CSafeLoader)]
        partial = target.with_suffix(".partial")
        partial.write_text(yaml.dump_all(objects, Dumper=yaml.CSafeDumper))
        partial.replace(target)
    return target


def _adapted(resource: dict[str, Any]) -> dict[str, Any]:
    if resource["kind"] == "Deployment":
        spec = resource["spec"]["template"]["spec"]
        for container in spec["containers"]:
            container["image"] = f"{REGISTRY}/{IMAGE}"
            container["imagePullPolicy"] = "IfNotPresent"
    elif resource["kind"] == "ConfigMap" and "controller_manager_config.yaml" in resource["data"]:
        config = yaml.safe_load(resource["data"]["controller_manager_config.yaml"])
        config.update(_configuration())
        resource["data"]["controller_manager_config.yaml"] = yaml.safe_dump(config)
    return resource
