"""A Job as YAML that ``kubectl apply`` takes as it is, in whatever namespace. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from .json_fields import field as at
from .json_fields import records
from .naming import ADDED_ANNOTATION, ENTRY_ANNOTATION, MANAGED_BY_LABEL, RESUME_ANNOTATION, SUBMISSION_LABEL
from .workloads import QUEUE_LABEL

_ONE_LINE = 1 << 30
_LABELS = (MANAGED_BY_LABEL, SUBMISSION_LABEL, QUEUE_LABEL)
_SPEC = ("suspend", "backoffLimit", "podFailurePolicy", "template")
_CLUSTERS_LABELS = re.compile(r"[^/]*(?:kubernetes|k8s)\.io/|controller-uid\Z|job-name\Z")
# What every reader of YAML takes for a text without quotes: Python's and Go's differ about numbers.
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./@-]*\Z")
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


def export_yaml(job: Mapping[str, Any]) -> str:
    """The Job in block style, fields in a fixed order, after comments that say what the namespace must have.

    One that comes from the cluster loses its namespace, ids, owners, status and what the cluster's programs wrote into
    its metadata.
    """
    lines = ["# kubectl apply -f THIS_FILE", *(f"# needs in the namespace: {line}" for line in _needs(job))]
    return "\n".join([*lines, dump_yaml(_strip(job))])


def _strip(job: Mapping[str, Any]) -> dict[str, Any]:
    metadata, spec = at(job, "metadata"), at(job, "spec")
    template = at(spec, "template")
    kept = {
        "name": at(metadata, "name"),
        "labels": _pick(at(metadata, "labels"), _LABELS),
        "annotations": _pick(at(metadata, "annotations"), (ENTRY_ANNOTATION, ADDED_ANNOTATION, RESUME_ANNOTATION)),
    }
    own = {
        key: value
        for key, value in (at(template, "metadata", "labels") or {}).items()
        if key in _LABELS or not _CLUSTERS_LABELS.match(key)
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": kept,
        "spec": {
            **_pick(spec, _SPEC),
            "suspend": True,
            "template": {"metadata": {"labels": own}, "spec": at(template, "spec")},
        },
    }


def _pick(value: Any, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value[name] for name in names if isinstance(value, Mapping) and name in value}


def _needs(job: Mapping[str, Any]) -> Iterator[str]:
    spec = at(job, "spec", "template", "spec")
    if queue := at(job, "metadata", "labels", QUEUE_LABEL):
        yield f"a LocalQueue {queue} of Kueue"
    pull = [entry.get("name") for entry in records(at(spec, "imagePullSecrets"))]
    mounted = [at(volume, "secret", "secretName") for volume in records(at(spec, "volumes"))]
    for name in dict.fromkeys(name for name in (*pull, *mounted) if name):
        use = "to pull the image and to store outputs" if name in mounted else "to pull the image"
        yield f"a Secret {name} of type kubernetes.io/dockerconfigjson, {use}"
    for volume in records(at(spec, "volumes")):
        if name := at(volume, "configMap", "name"):
            yield f"a ConfigMap {name}"
        if name := at(volume, "persistentVolumeClaim", "claimName"):
            yield f"a PersistentVolumeClaim {name}"
    if name := at(spec, "serviceAccountName"):
        yield f"a ServiceAccount {name}"


def dump_yaml(document: Mapping[str, Any]) -> str:
    """Block style; what any reader of YAML takes for a number or a word of its own is quoted."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Every text that could be taken for something else is quoted, on one line; nothing refers to anything."""

        def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
            return True

    def represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
        is_plain = _PLAIN.match(text) is not None and text.lower() not in _WORDS
        style = None if is_plain else "'" if text.isprintable() else '"'
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    Dumper.add_representer(str, represent_text)
    return yaml.dump(document, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=_ONE_LINE)
