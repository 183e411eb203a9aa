"""What must hold on this machine before the first Submission: Python, data directory, kernels."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from .errors import BatchError
from .models import PreflightCheck
from .oci.storage import ensure_private_directory


def check_machine(data_dir: Path) -> Sequence[PreflightCheck]:
    """Each with what to do when it does not hold; creates the data directory."""
    return [_check_python(), _check_data_dir(data_dir), _check_kernels()]


def _check_python() -> PreflightCheck:
    version = ".".join(map(str, sys.version_info[:3]))
    return PreflightCheck(name="python", ok=True, summary=f"{version} at {sys.executable}")


def _check_data_dir(data_dir: Path) -> PreflightCheck:
    try:
        ensure_private_directory(data_dir)
    except BatchError as exc:
        return PreflightCheck(name="data_directory", ok=False, summary=exc.message, resolution=exc.hint or "")
    writable = os.access(data_dir, os.W_OK | os.X_OK)
    return PreflightCheck(
        name="data_directory",
        ok=writable,
        summary=f"{data_dir} is {'yours alone' if writable else 'not writable'}",
        resolution="" if writable else "Make it writable for you, or configure another data directory.",
    )


def _check_kernels() -> PreflightCheck:
    from jupyter_client.kernelspec import KernelSpecManager

    names = sorted(KernelSpecManager().find_kernel_specs())
    return PreflightCheck(
        name="kernels",
        ok=bool(names),
        summary=f"installed: {', '.join(names)}" if names else "no kernel is installed",
        resolution="Install ipykernel.",
    )
