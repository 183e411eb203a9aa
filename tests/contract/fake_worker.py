"""A worker process for tests: the real Worker, snapshots that are plain directories, a fake runner unless ``-``."""

import logging
import sys
from pathlib import Path

from queue_fakes import DirectoryRestorer

from jupyterlab_ai_batch.queues.local.prepare import RUNNER
from jupyterlab_ai_batch.queues.local.worker import Worker

logging.basicConfig(level=logging.INFO)
data_dir, snapshots, runner = (Path(argument) for argument in sys.argv[1:4])
worker = Worker(
    data_dir,
    DirectoryRestorer(snapshots),
    gpus=lambda: tuple(sys.argv[4:]),
    runner=RUNNER if str(runner) == "-" else [sys.executable, str(runner)],
)
worker.install_signal_handlers()
sys.exit(worker.run())
