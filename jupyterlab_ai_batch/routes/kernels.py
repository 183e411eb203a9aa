"""Which notebook a kernel belongs to, by the server's own sessions: right even after a rename."""

from __future__ import annotations

from typing import Any

from jupyter_core.utils import ensure_async

from ..errors import KernelUnknownError

# Prefix of the drive that jupyter-collaboration serves its documents from; the rest is the usual API path.
_COLLABORATION_DRIVE = "RTC:"


async def find_notebook(session_manager: Any, kernel_id: str) -> str:
    """API path of the notebook that the kernel runs for.

    Raises:
        KernelUnknownError: no notebook session of this server has that kernel.
    """
    sessions: list[dict[str, Any]] = await ensure_async(session_manager.list_sessions())
    for session in sessions:
        if session["type"] == "notebook" and (session.get("kernel") or {}).get("id") == kernel_id:
            return str(session["path"]).removeprefix(_COLLABORATION_DRIVE)
    raise KernelUnknownError(
        "This kernel does not belong to a notebook of this server.",
        hint="Name the notebook: notebook_path in the request, or the notebook's path after %batch.",
        details={"kernel_id": kernel_id},
    )
