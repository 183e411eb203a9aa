"""The environment variables of a job: the worker's own, without secrets and without the server's. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..withheld import is_withheld

_DROPPED = frozenset({"VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONHOME", "JUPYTER_RUNTIME_DIR", "CUDA_VISIBLE_DEVICES"})


def build_environment(
    inherited: Mapping[str, str],
    *,
    environment_prefixes: Sequence[str],
    runtime_dir: Path,
    gpus: Sequence[str] | None,
) -> dict[str, str]:
    """Variables for the runner and, through it, for the kernel.

    ``inherited`` is the worker's environment: that of the process that started the worker. The ``bin`` of the kernel's
    environment comes first in ``PATH``. ``gpus`` are the GPU slots assigned: none hides all GPUs, None (the machine has
    no GPU) changes nothing.
    """
    environment = {name: value for name, value in inherited.items() if name not in _DROPPED and not is_withheld(name)}
    bins = [str(Path(prefix) / "bin") for prefix in environment_prefixes if (Path(prefix) / "bin").is_dir()]
    rest = [part for part in environment.get("PATH", "/usr/bin:/bin").split(":") if part not in bins]
    environment["PATH"] = ":".join([*bins, *rest])
    environment["AI_BATCH_JOB"] = "1"
    environment["JUPYTER_RUNTIME_DIR"] = str(runtime_dir)
    if gpus is not None:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    elif "CUDA_VISIBLE_DEVICES" in inherited:
        environment["CUDA_VISIBLE_DEVICES"] = inherited["CUDA_VISIBLE_DEVICES"]
    return environment
