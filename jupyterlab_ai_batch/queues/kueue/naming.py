"""What our objects in the cluster are called, and where things lie in a job's container. Pure."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from ...errors import InvalidSubmissionError
from ...oci.work_index import WORK_INDEX_PATH

MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGED_BY = "jupyterlab-ai-batch"
SUBMISSION_LABEL = "jupyterlab-ai-batch/submission"
ENTRY_ANNOTATION = "jupyterlab-ai-batch/entry"
ADDED_ANNOTATION = "jupyterlab-ai-batch/added-bytes"  # what the Snapshot has beyond its base image, uncompressed
RESUME_ANNOTATION = "jupyterlab-ai-batch/resume"  # "true": each pod goes on with the files that the last one saved

CONTAINER = "notebook"
RUN_VARIABLE = "AI_BATCH_RUN"
POD_UID_VARIABLE = "AI_BATCH_POD_UID"

OWN_VOLUMES = "ai-batch-"
OWN_ROOT = "/var/run/ai-batch"
SCRATCH = f"{OWN_ROOT}/scratch"
OUTBOX = f"{SCRATCH}/outbox"
RUNTIME_DIR = f"{SCRATCH}/runtime"
REGISTRY_DIR = f"{OWN_ROOT}/registry"
REGISTRY_AUTH = f"{REGISTRY_DIR}/config.json"
CA_DIR = f"{OWN_ROOT}/ca"
REGISTRY_CA = f"{CA_DIR}/ca.crt"
BASE_INDEX = f"/{WORK_INDEX_PATH}"
INDEX_DIR = str(PurePosixPath(BASE_INDEX).parent)

_JOB_PREFIX = "ai-batch-"
_MAX_LABEL_CHARS = 63  # a Job's name becomes a label of its pods
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\Z")


def job_name(submission_id: str) -> str:
    """The name of a Submission's Job: one, so that making it twice is refused by the cluster.

    Raises:
        InvalidSubmissionError: the id cannot be part of a name in the cluster.
    """
    name = f"{_JOB_PREFIX}{submission_id}"
    if len(name) > _MAX_LABEL_CHARS or _NAME.match(submission_id) is None:
        raise InvalidSubmissionError(
            "This Submission's id cannot be part of the name of a Job.",
            hint="Ids have small letters, digits and single hyphens between them, at most 54.",
            details={"submission_id": submission_id[:100]},
        )
    return name
