"""What a run stored, read without trusting it: the job can write anything into its outbox."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

from ...errors import SnapshotCorruptError, StorageError
from ...models import OutputsSummary
from ...oci.layout import ImageLayout
from ...oci.outputset import OUTPUTS_TAG, read_output_set
from ...oci.storage import storage_errors
from ...words import OutputsState
from ..port import StoredOutputs
from .paths import QueuePaths

MAX_INDEX_BYTES = 4 * 1024**2
MAX_FORMER = 5

_log = logging.getLogger("jupyterlab_ai_batch.worker")


def read_outbox(outbox: Path, *, submission_id: str, attempt: int) -> StoredOutputs | None:
    """The OutputSet under the tag ``outputs``; None when nothing was stored.

    Raises:
        SnapshotCorruptError: something in the outbox is not what a runner writes.
        StorageError: it cannot be read.
    """
    if not os.path.lexists(outbox / "index.json"):
        return None
    with storage_errors(outbox):
        _check_plain(outbox)
    layout = ImageLayout(outbox)
    tags = dict(layout.tags())
    if OUTPUTS_TAG not in tags:
        return None
    output_set, _ = read_output_set(layout, tags[OUTPUTS_TAG])
    if (output_set.submission_id, output_set.attempt) != (submission_id, attempt):
        raise _corrupt("it is of another submission")
    return StoredOutputs(output_set=output_set, layout=outbox, manifest_digest=tags[OUTPUTS_TAG])


def find_former(paths: QueuePaths, submission_id: str, *, before: int) -> list[Path]:
    """The outboxes that Attempts before this one have stored files in, newest first; unsound ones are passed over."""
    found = []
    for number in range(before - 1, 0, -1):
        outbox = paths.run(submission_id, number).outbox
        try:
            stored = read_outbox(outbox, submission_id=submission_id, attempt=number)
        except (SnapshotCorruptError, StorageError) as exc:
            _log.warning("%s: the outputs of attempt %s are left out: %s", submission_id, number, exc.message)
            continue
        if stored is not None and stored.output_set.files:
            found.append(outbox)
    return found[:MAX_FORMER]


def summarise(stored: StoredOutputs) -> OutputsSummary:
    files = stored.output_set.files
    state = OutputsState.AVAILABLE if stored.output_set.complete else OutputsState.PARTIAL
    return OutputsSummary(state=state, files=len(files), bytes=sum(file.size_bytes for file in files))


def _check_plain(outbox: Path) -> None:
    """Only directories and regular files: a link would lead out, a FIFO would never answer."""
    for directory in (outbox, outbox / "blobs", outbox / "blobs" / "sha256"):
        if not stat.S_ISDIR(directory.lstat().st_mode):
            raise _corrupt("it holds links")
        with os.scandir(directory) as entries:
            for entry in entries:
                if not entry.is_dir(follow_symlinks=False) and not entry.is_file(follow_symlinks=False):
                    raise _corrupt("it holds special files")
    if (outbox / "index.json").lstat().st_size > MAX_INDEX_BYTES:
        raise _corrupt("its index is too large")


def _corrupt(what: str) -> SnapshotCorruptError:
    return SnapshotCorruptError(f"The outputs of this submission cannot be read: {what}.", details={"reason": what})
