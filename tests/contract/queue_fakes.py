"""Snapshots as plain directories, and Submissions that carry code for the fake runner."""

import gzip
import json
import shutil
import time
from datetime import datetime, timezone
from pathlib import Path

from jupyterlab_ai_batch.capture_models import EnvironmentMount, EnvironmentView
from jupyterlab_ai_batch.errors import SnapshotCorruptError, StorageFullError
from jupyterlab_ai_batch.models import QueueEntry, RunSpec, Submission
from jupyterlab_ai_batch.words import SubmissionState

DIGEST = "sha256:" + "a" * 64
CORRUPT = "sha256:" + "c" * 64
FULL = "sha256:" + "f" * 64
SLOW = "sha256:" + "5" * 64


class DirectoryRestorer:
    """A Restorer: ``work/`` is the work tree; ``mounts.json`` maps paths to directories of the environment."""

    def __init__(self, root):
        self._root = root

    def restore_work(self, digest, target):
        if digest == CORRUPT:
            raise SnapshotCorruptError("A stored blob is damaged.", hint="Submit it again.")
        if digest == FULL:
            raise StorageFullError("There is no space left for the batch store.")
        if digest == SLOW:
            deadline = time.monotonic() + 60
            while not (self._root / "go").exists() and time.monotonic() < deadline:
                time.sleep(0.02)
        shutil.copytree(self._root / "work", target, symlinks=True, dirs_exist_ok=True)

    def environment_digest(self, digest):
        return digest

    def materialise_environment(self, digest, target, *, earlier=()):
        mounts = []
        listed = json.loads((self._root / "mounts.json").read_text())
        for number, (path, source) in enumerate(listed.items()):
            if not (target / str(number)).exists():
                shutil.copytree(source, target / str(number), symlinks=True)
            mounts.append(EnvironmentMount(source=target / str(number), path=Path(path)))
        return EnvironmentView(mounts=tuple(mounts))

    def read_base_index(self, digest):
        return gzip.compress(b"")


def make_entry(
    submission_id,
    code,
    *,
    work_root,
    profile="cpu",
    queue="local",
    priority=0,
    max_duration_s=None,
    digest=DIGEST,
    prefixes=(),
    created_at=None,
    resume=False,
):
    now = created_at or datetime.now(timezone.utc)
    submission = Submission(
        id=submission_id,
        state=SubmissionState.QUEUED,
        title="t",
        notebook_path="a.ipynb",
        backend="local",
        target="local",
        profile=profile,
        queue=queue,
        created_at=now,
        observed_at=now,
        priority=priority,
        parameters={},
        max_duration_s=max_duration_s,
        resume=resume,
    )
    run = RunSpec(
        submission_id=submission_id,
        attempt=1,
        work_root=str(work_root),
        notebook="a.ipynb",
        kernel_name="python3",
        parameters={"code": code},
        environment_prefixes=tuple(prefixes),
        resume=resume,
    )
    return QueueEntry(submission=submission, snapshot_digest=digest, run=run)
