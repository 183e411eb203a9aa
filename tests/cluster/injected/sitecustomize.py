"""Runs in every process of a session that a test arms: at the Nth step of ours, everything of ours is killed.

A step is the return of a call that leaves the process: to the API server, to the registry, to the disk. The processes
count together, in ``passed``; ``limit`` says at which step they end. Nothing is armed without that file.
"""

import os
import pathlib
import signal
import sys

PLACE = "/tmp/injected"
STEPS = {
    "jupyterlab_ai_batch.oci.storage": ["replace_file"],
    "jupyterlab_ai_batch.oci.transport.Transport": ["request"],
    "jupyterlab_ai_batch.queues.kueue.api_client.KubernetesApi": ["get", "create", "delete", "list"],
    "jupyterlab_ai_batch.ledger.Ledger": ["create", "update"],
    "jupyterlab_ai_batch.capturing.CaptureDirectory": ["prepare", "start", "remove"],
}


def step(name):
    """Count, and die where that was asked for."""
    try:
        limit = int(pathlib.Path(PLACE, "limit").read_text())
    except (OSError, ValueError):
        return
    fd = os.open(f"{PLACE}/passed", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, f"{name}\n".encode())
    passed = os.pread(fd, 1 << 20, 0).count(b"\n")
    os.close(fd)
    if passed >= limit:
        os.kill(-1, signal.SIGKILL)  # everything of this user but the container's first process, and this one
        os.kill(os.getpid(), signal.SIGKILL)


def wrap(owner, name):
    inner = getattr(owner, name)
    label = f"{owner.__name__.rpartition('.')[2]}.{name}"

    def outer(*args, **options):
        try:
            return inner(*args, **options)
        finally:
            step(label)

    async def outer_async(*args, **options):
        try:
            return await inner(*args, **options)
        finally:
            step(label)

    setattr(owner, name, outer_async if is_coroutine(inner) else outer)


def is_coroutine(function):
    return bool(function.__code__.co_flags & 0x80)


def arm():
    import importlib

    for place, names in STEPS.items():
        module, _, kind = place.rpartition(".") if place.rpartition(".")[2][0].isupper() else (place, "", "")
        owner = importlib.import_module(module)
        owner = getattr(owner, kind) if kind else owner
        for name in names:
            wrap(owner, name)


if any("jupyter" in word for word in sys.orig_argv) and pathlib.Path(PLACE).is_dir():
    arm()
