"""Stands in for the capture child: does what the title of the Submission says.

``complete``: leaves a finished capture behind, not handed over. ``wait``: says how far it is and waits for the file
``go`` in the data directory. ``die``: ends at once. ``fail``: meets a file that keeps changing.
"""

import sys
import time
from datetime import datetime, timezone
from pathlib import Path

from jupyterlab_ai_batch.capture_models import CaptureProgress, EnvironmentDescription, SnapshotSummary
from jupyterlab_ai_batch.capturing import CaptureDirectory, build_entry, carry, hold_lock, read_order
from jupyterlab_ai_batch.errors import FileUnstableError
from jupyterlab_ai_batch.ledger import Ledger
from jupyterlab_ai_batch.oci.storage import replace_file
from jupyterlab_ai_batch.wire import dumps

NOW = datetime.now(timezone.utc)


def main(_, submission_id, __, data_dir, ___, lock_fd):
    data_dir = Path(data_dir)
    hold_lock(data_dir, submission_id, int(lock_fd))
    order = read_order(data_dir, submission_id)
    ledger = Ledger(data_dir / "ledger.db", clock=lambda: NOW)
    directory = CaptureDirectory(data_dir, submission_id)
    title = order.request.title
    if title == "fail":
        carry(order, capture=unstable, ledger=ledger, backend=None, clock=lambda: NOW)
    if title == "wait":
        progress = CaptureProgress(phase="work", done_bytes=62, total_bytes=100, new_bytes=41)
        replace_file(directory.path / "progress.json", dumps(progress).encode())
        while not (data_dir / "go").exists():
            time.sleep(0.02)
    if title in ("wait", "complete"):
        summary = SnapshotSummary(
            digest="sha256:" + "0" * 64,
            captured_from=NOW,
            captured_until=NOW,
            bytes=1,
            new_bytes=1,
            work_root=str(order.root_dir),
        )
        environment = EnvironmentDescription(kernel_name=order.kernel_name, executable=None, prefix=None)
        entry = build_entry(ledger.get(submission_id), order, environment, summary)
        replace_file(directory.path / "entry.json", dumps(entry).encode())


def unstable(order, progress):
    raise FileUnstableError("data.csv kept changing while it was read.", hint="Wait until it is written.")


main(*sys.argv[1:])
