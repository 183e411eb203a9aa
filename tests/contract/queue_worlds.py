"""Every QueueBackend under the contract suite as a world: a backend and the means to disturb it."""

import asyncio
import json
import os
import signal
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

from queue_fakes import make_entry

from jupyterlab_ai_batch.queues.local.backend import LocalQueueBackend
from jupyterlab_ai_batch.queues.local.lock import worker_pid
from jupyterlab_ai_batch.queues.local.paths import QueuePaths
from jupyterlab_ai_batch.queues.local.processes import list_processes
from jupyterlab_ai_batch.queues.local.settings import WorkerSettings

HERE = Path(__file__).parent
WAIT_S = 40.0


class LocalWorld:
    """LocalQueueBackend with the real worker, the fake runner, and a home of its own.

    Attributes:
        restores: Whether the backend itself restores Snapshots, and so meets damaged ones.
        honours_priority: Whether a Submission's priority orders the queue.
        waiting_codes: What explains a wait for others.
    """

    restores = True
    honours_priority = True
    waiting_codes = frozenset({"waiting_for_slot"})

    def __init__(self, base):
        self.home = base / "home"
        self.snapshots = base / "snapshots"
        self.data_dir = base / "data"
        self.gates = base / "gates"
        self.paths = QueuePaths(self.data_dir)
        self.pids = set()
        self._backends = []
        for directory in (self.home, self.snapshots / "work", self.gates):
            directory.mkdir(parents=True)
        (self.snapshots / "mounts.json").write_text("{}")
        self.backend = self.connect()

    def connect(self, *, slots=1, gpus=(), profiles=(), runner=HERE / "fake_runner.py", **settings):
        """Another backend on the same data directory, as a second server has."""
        self.data_dir.mkdir(mode=0o700, exist_ok=True)
        command = [sys.executable, HERE / "fake_worker.py", self.data_dir, self.snapshots, runner]
        backend = LocalQueueBackend(
            self.data_dir,
            profiles=profiles,
            slots=slots,
            worker_command=[str(part) for part in [*command, *gpus]],
            clock=lambda: datetime.now(timezone.utc),
            settings=WorkerSettings(**{"stop_grace_s": 3.0, "idle_exit_s": 30.0, **settings}),
            gpus=lambda: gpus,
        )
        self._backends.append(backend)
        return backend

    def mount(self, path, source):
        (self.snapshots / "mounts.json").write_text(json.dumps({str(path): str(source)}))

    def entry(self, submission_id, code, **options):
        return make_entry(submission_id, code, work_root=self.home, **options)

    def gate(self, name):
        return self.gates / name

    def worker_pid(self):
        return worker_pid(self.paths.worker_lock)

    async def evict(self, _submission_id):
        """Its worker is told to end."""
        os.kill(pid := self.worker_pid(), signal.SIGTERM)
        await worker_gone(self, pid)

    async def open(self):
        pass

    async def close(self):
        for backend in self._backends:
            await backend.close()

        async def processes():
            found = processes_mentioning(str(self.data_dir))
            for pid in found:
                os.kill(pid, signal.SIGKILL)
            return found

        await eventually(processes, lambda found: not found)


async def eventually(read, holds, wait_s=WAIT_S):
    """The first value of ``await read()`` for which ``holds``; fails with the last one after ``wait_s``."""
    deadline = time.monotonic() + wait_s
    while True:
        value = await read()
        if holds(value):
            return value
        assert time.monotonic() < deadline, value
        await asyncio.sleep(0.05)


async def reach(backend, submission_id, *states):
    """The Observation once its state is one of ``states`` (terminal ones when none are given)."""

    async def read():
        return (await backend.observe([submission_id]))[submission_id]

    names = [state.value for state in states]
    return await eventually(read, lambda seen: seen.state.value in names if names else seen.state.is_terminal)


def processes_mentioning(text):
    """Pids of the processes whose command line holds ``text``."""
    found = []
    for pid in list_processes():
        try:
            if text.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
        except OSError:
            continue
    return found


async def in_cell(backend, submission_id):
    """The Observation once the job has told progress."""

    async def read():
        return (await backend.observe([submission_id]))[submission_id]

    return await eventually(read, lambda seen: seen.progress is not None)


async def worker_gone(world, pid):
    """Return when the worker ``pid`` holds the lock no more."""

    async def read():
        return world.worker_pid()

    await eventually(read, lambda now: now != pid)
