"""A Submission as a Job that Kueue queues, and back. Pure.

Deterministic: the same Submission, session and settings give the same object, whoever makes it and whenever.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from ... import wire
from ...errors import ParametersInvalidError
from ...models import QueueEntry
from ..explanations import clip
from .export import export_yaml
from .identity import Session
from .job_pod import PodRequest, build_template
from .json_fields import field as at
from .naming import (
    ADDED_ANNOTATION,
    ENTRY_ANNOTATION,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    RESUME_ANNOTATION,
    SUBMISSION_LABEL,
    job_name,
)
from .settings import KueueSettings
from .workloads import QUEUE_LABEL

__all__ = [
    "ENTRY_ANNOTATION",
    "MANAGED_BY",
    "MANAGED_BY_LABEL",
    "SUBMISSION_LABEL",
    "build_job",
    "build_pod",
    "export_yaml",
    "job_name",
    "parse_entry",
]

MAX_ANNOTATIONS_BYTES = 256 * 1024  # the API server's limit on all of an object's annotations
_MAX_TITLE_CHARS = 200
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_ESCAPED = "<>&"  # kubectl writes six bytes for each


def build_job(
    entry: QueueEntry, session: Session, settings: KueueSettings, *, image: str, python: str
) -> dict[str, Any]:
    """The Job of a Submission, without a namespace.

    Args:
        image: The Snapshot: ``host/repository@sha256:…``.
        python: Absolute path, in the image, of the interpreter that has this package.

    Raises:
        InvalidSubmissionError: the id cannot be part of a name in the cluster.
        ProfileUnknownError
        ParametersInvalidError: too large for an object of the cluster.
        QueueError: the profile's definition is incomplete.
    """
    name = job_name(entry.submission.id)
    profile = settings.find_profile(entry.submission.profile)
    labels = {MANAGED_BY_LABEL: MANAGED_BY, SUBMISSION_LABEL: entry.submission.id}
    request = PodRequest(entry=entry, session=session, settings=settings, profile=profile, image=image, python=python)
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "labels": {**labels, QUEUE_LABEL: entry.submission.queue},
            "annotations": _build_annotations(entry),
        },
        "spec": _build_spec(build_template(request, labels=labels)),
    }
    _check_size(job)
    return copy.deepcopy(job)  # parts of it are the session's, which makes other Jobs too


def _build_annotations(entry: QueueEntry) -> dict[str, str]:
    snapshot = entry.submission.snapshot
    added = {ADDED_ANNOTATION: str(snapshot.bytes)} if snapshot is not None else {}
    resumed = {RESUME_ANNOTATION: "true"} if entry.run.resume else {}
    return {ENTRY_ANNOTATION: wire.dumps(entry), **added, **resumed}


def _build_spec(template: Mapping[str, Any]) -> dict[str, Any]:
    """One pod, which is not tried again when it fails; one that the cluster took away has not failed."""
    taken_away = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    return {
        "suspend": True,
        "backoffLimit": 0,
        "podFailurePolicy": {"rules": [taken_away]},
        "template": template,
    }


def build_pod(job: Mapping[str, Any]) -> dict[str, Any]:
    """The Job's pod alone, for the cluster to look at: Pod Security looks at pods only."""
    template = job["spec"]["template"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": job["metadata"]["name"], **template["metadata"]},
        "spec": template["spec"],
    }


def parse_entry(job: Mapping[str, Any]) -> QueueEntry | None:
    """The Submission that a Job in the cluster was made of; None where that is damaged, or it is no Job of ours."""
    metadata = at(job, "metadata")
    content = at(metadata, "annotations", ENTRY_ANNOTATION)
    if at(metadata, "labels", MANAGED_BY_LABEL) != MANAGED_BY or not isinstance(content, str):
        return None
    try:
        entry = wire.loads(QueueEntry, content)
    except (wire.WireError, OverflowError):  # the latter from a time at the very end of time
        return None
    submission = entry.submission
    names = {submission.id, entry.run.submission_id, at(metadata, "labels", SUBMISSION_LABEL)}
    if names != {submission.id} or not _is_inside(submission.notebook_path) or not _is_inside(entry.run.notebook):
        return None
    return replace(entry, submission=replace(submission, title=clip(submission.title, _MAX_TITLE_CHARS)))


def _is_inside(path: str) -> bool:
    parts = PurePosixPath(path)
    return bool(path) and "\0" not in path and not parts.is_absolute() and ".." not in parts.parts


def _check_size(job: Mapping[str, Any]) -> None:
    """``kubectl apply`` keeps the object once more in an annotation, and an export is made for it: both must fit."""
    plain = json.dumps(job, ensure_ascii=False, separators=(",", ":"))
    applied = len(plain.encode()) + 5 * sum(map(plain.count, _ESCAPED))
    annotations = {**job["metadata"]["annotations"], _LAST_APPLIED: ""}
    size = applied + sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items())
    if size > MAX_ANNOTATIONS_BYTES:
        raise ParametersInvalidError(
            f"This Submission is too large for an object of the cluster: {size >> 10} KiB of at most"
            f" {MAX_ANNOTATIONS_BYTES >> 10} KiB.",
            hint="Put large parameters into a file beside the notebook, and pass its name.",
            details={"bytes": size, "limit_bytes": MAX_ANNOTATIONS_BYTES},
        )
