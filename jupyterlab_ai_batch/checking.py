"""What must hold on this machine before the first Submission: Python, data directory, kernels."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import BatchError
from .models import PreflightCheck
from .oci.storage import ensure_private_directory

_OWN_POD = {"POD_NAME": "metadata.name", "POD_NAMESPACE": "metadata.namespace"}


def check_machine(data_dir: Path) -> Sequence[PreflightCheck]:
    """Each with what to do when it does not hold; creates the data directory."""
    return [_check_python(), _check_data_dir(data_dir), _check_kernels()]


def check_session(settings: Mapping[str, Any], *, environ: Mapping[str, str]) -> Sequence[PreflightCheck]:
    """Whether a server in a pod that an admin prepared for jobs in the cluster knows its own pod; elsewhere nothing.

    Args:
        settings: Trait values by name.
    """
    backend, is_in_pod = settings.get("backend"), "KUBERNETES_SERVICE_HOST" in environ
    if backend == "local" or (backend != "kueue" and not (is_in_pod and settings.get("repository"))):
        return []
    missing = [name for name in _OWN_POD if not environ.get(name)]
    if not missing:
        pod = f"The server is the pod {environ['POD_NAME']} in the namespace {environ['POD_NAMESPACE']}."
        return [PreflightCheck(name="own_pod", ok=True, summary=pod)]
    lines = [
        f'    "{name}": {{"name": "{name}", "valueFrom": {{"fieldRef": {{"fieldPath": "{path}"}}}}}},'
        for name, path in _OWN_POD.items()
        if name in missing
    ]
    return [
        PreflightCheck(
            name="own_pod",
            ok=False,
            summary=f"The server does not know its own pod: {' and '.join(missing)} missing in its environment.",
            resolution="Ask your admin to add the lines below to the hub's configuration; then restart your server.",
            fix="\n".join(["c.KubeSpawner.environment.update({", *lines, "})"]) + "\n",
        )
    ]


def refused_settings(error: BatchError) -> PreflightCheck:
    """The check that says why the configuration cannot be used."""
    setting = error.details.get("setting")
    fix = f"c.BatchExtensionApp.{setting} = VALUE  # as the admin guide describes it\n" if setting else ""
    return PreflightCheck(name="settings", ok=False, summary=error.message, resolution=error.hint or "", fix=fix)


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
