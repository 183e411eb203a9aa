"""From a kernel to its server and to itself: which server to talk to, and as which kernel.

Every server leaves ``jpserver-<pid>.json`` (readable by its user only) beside the connection files of its kernels, and
tells them its pid; under JupyterHub the hub's variables name the server as well.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import ServerUnreachableError

_MAX_FILE_BYTES = 64 * 1024
_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where the kernel's server answers.

    Attributes:
        url: With the base URL, ending in ``/``.
        token: Goes into a header, never into a URL, never into a repr.
        root_dir: The server's root directory; None when not known.
    """

    url: str
    token: str = field(repr=False)
    root_dir: Path | None = None


def find_server(environ: Mapping[str, str], runtime_dir: Path | None) -> Server:
    """The server that started this kernel.

    Raises:
        ServerUnreachableError: neither the runtime directory nor the environment names one.
    """
    found = _from_runtime_dir(environ.get("JPY_PARENT_PID", ""), runtime_dir) or _from_hub(environ)
    if found is None:
        raise ServerUnreachableError(
            "This kernel was not started by a Jupyter server that %batch can find.",
            hint="Use %batch in a notebook of JupyterLab, or run `jupyter ai-batch submit` in a terminal.",
        )
    return found


def kernel_id_of(connection_file: str | None) -> str | None:
    """The id in the name of a kernel's connection file, ``kernel-<id>.json``."""
    stem = Path(connection_file).stem if connection_file else ""
    return stem.removeprefix("kernel-") if stem.startswith("kernel-") else None


def _from_runtime_dir(server_pid: str, runtime_dir: Path | None) -> Server | None:
    if runtime_dir is None or not server_pid.isdecimal():
        return None
    described = _read_json(runtime_dir / f"jpserver-{server_pid}.json")
    url, token, root_dir = (described.get(name) for name in ("url", "token", "root_dir"))
    if not isinstance(url, str) or not isinstance(token, str) or urlsplit(url).scheme not in ("http", "https"):
        return None
    return Server(
        url=_ending_in_slash(url), token=token, root_dir=Path(root_dir) if isinstance(root_dir, str) else None
    )


def _from_hub(environ: Mapping[str, str]) -> Server | None:
    bound, token = urlsplit(environ.get("JUPYTERHUB_SERVICE_URL", "")), environ.get("JUPYTERHUB_API_TOKEN", "")
    if bound.scheme not in ("http", "https") or bound.port is None or not token:
        return None
    # The service URL is what the server binds, often all interfaces; it answers on loopback, too.
    prefix = environ.get("JUPYTERHUB_SERVICE_PREFIX", bound.path or "/")
    return Server(url=_ending_in_slash(f"{bound.scheme}://{_LOOPBACK}:{bound.port}{prefix}"), token=token)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            value = json.loads(stream.read(_MAX_FILE_BYTES))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _ending_in_slash(url: str) -> str:
    return url if url.endswith("/") else f"{url}/"
