"""Stands in for the runner: executes the Submission's parameter ``code`` and speaks the runner's protocol."""

import hashlib
import os  # noqa: F401 - for the code
import signal
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

from jupyterlab_ai_batch import wire
from jupyterlab_ai_batch.models import OutputFile, OutputSet, Progress, RunnerEvent, RunSpec
from jupyterlab_ai_batch.oci.layout import ImageLayout
from jupyterlab_ai_batch.oci.outputset import OUTPUTS_TAG, store_output_set
from jupyterlab_ai_batch.runner.resuming import Former, resume
from jupyterlab_ai_batch.words import FileChange

spec = wire.loads(RunSpec, Path(sys.argv[1]).read_bytes())
root = Path(spec.work_root)


def emit(kind, **fields):
    sys.stdout.write(wire.format_event(RunnerEvent(kind=kind, at=datetime.now(timezone.utc), **fields)))
    sys.stdout.flush()


def progress(cell, of):
    emit("progress", progress=Progress(cell=cell, of=of))


def say(text):
    sys.stdout.write(text)
    sys.stdout.flush()


def store(complete, **contents):
    files = []
    for name, text in contents.items():
        (root / name).write_text(text)
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        files.append(OutputFile(path=name, change=FileChange.NEW, size_bytes=len(text), sha256=sha256))
    output_set = OutputSet(
        submission_id=spec.submission_id,
        attempt=spec.attempt,
        complete=complete,
        stored_at=datetime.now(timezone.utc),
        executed_notebook=spec.notebook,
        files=tuple(files),
    )
    store_output_set(ImageLayout(Path(spec.outbox)), output_set, lambda file: (root / file.path).open("rb"))
    emit("stored")


def fail(**error):
    emit("failed", error=error)
    sys.exit(1)


def wait_for(path):
    """Until ``path`` exists; SIGTERM stores what there is and ends with 75."""
    while not Path(path).exists():
        time.sleep(0.02)


def on_term(_number, _frame):
    store(False, partial="so far")
    sys.exit(75)


signal.signal(signal.SIGTERM, on_term)
if spec.resume:
    former = [Former(ImageLayout(Path(path)), OUTPUTS_TAG) for path in spec.former]
    resume(former, spec, left_out=[spec.notebook], say=lambda line: say(f"{line}\n"))
exec(spec.parameters["code"], globals())  # noqa: S102 - that is what it is for
