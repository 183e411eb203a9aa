"""Where things are: addresses inside a cluster, and directories outside.

Every cluster has network, mount, PID and UTS namespaces of its own, so all clusters use the same addresses, ports and
inner paths.
"""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULES = ROOT / "testbed/modules"
MANIFESTS = ROOT / "testbed/manifests"

INSIDE = Path("/run/testbed")  # the instance's directory as its own processes see it: short, sockets have 108 bytes
BIN = INSIDE / "bin"

# Reachable from pods, unlike 127/8, and legal in an EndpointSlice.
HOST = "10.99.0.1"
NODE = "node1"
POD_CIDR = "10.244.0.0/24"
SERVICE_CIDR = "10.96.0.0/16"
API_SERVICE = "10.96.0.1"
DNS_SERVICE = "10.96.0.10"
API = f"https://{HOST}:6443"
REGISTRY_NAME = "registry.testbed"
REGISTRY = f"{REGISTRY_NAME}:5000"
TOKEN_PORT = 5001


def cache_directory() -> Path:
    """Programs and images, shared by every checkout and every cluster."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "jupyterlab-ai-batch/testbed"


def state_directory() -> Path:
    """One directory per cluster."""
    return Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "jupyterlab-ai-batch/testbed"
