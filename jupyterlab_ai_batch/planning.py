"""The plan of a Snapshot, made in a process of its own so that no server ever waits for a walk over files."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from .capture_models import SnapshotPlan
from .capturing import CaptureOrder
from .errors import BatchError, SnapshotError
from .wire import WireError, dumps, from_json, loads, to_json

MAX_ANSWER_BYTES = 64 * 1024**2

_log = logging.getLogger(__name__)


async def plan_in_child(order: CaptureOrder, *, command: Sequence[str], timeout_s: float) -> SnapshotPlan:
    """Run ``… plan`` with the order on stdin; killed when it takes longer than ``timeout_s`` or nobody waits any more.

    Raises:
        SnapshotError and its kinds, KernelUnknownError, StorageError: as the child says.
    """
    child = await asyncio.create_subprocess_exec(
        *command,
        "plan",
        "--data-dir",
        str(order.data_dir),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=order.data_dir,
    )
    try:
        answer, errors = await asyncio.wait_for(child.communicate(dumps(order).encode()), timeout_s)
    except (asyncio.TimeoutError, TimeoutError) as exc:
        raise SnapshotError(
            f"Looking at your files took longer than {timeout_s:.0f} s.",
            hint="You can submit all the same: the capture takes the time that it needs.",
        ) from exc
    finally:
        if child.returncode is None:
            with suppress(ProcessLookupError):
                child.kill()
            await child.wait()
    if child.returncode != 0:
        _log.warning("planning ended with %s: %s", child.returncode, errors[-2000:].decode(errors="replace"))
    return _parse_answer(answer)


def answer_plan(order_text: bytes, plan: Callable[[CaptureOrder], SnapshotPlan]) -> str:
    """What the child prints: ``{"plan": …}`` or ``{"error": …}``."""
    try:
        answer: dict[str, Any] = {"plan": to_json(plan(loads(CaptureOrder, order_text)))}
    except BatchError as exc:
        answer = {
            "error": {"code": exc.code, "message": exc.message, "hint": exc.hint, "details": to_json(exc.details)}
        }
    except WireError as exc:
        answer = {"error": {"code": SnapshotError.code, "message": f"The order cannot be read: {exc}."}}
    return json.dumps(answer)


def _parse_answer(answer: bytes) -> SnapshotPlan:
    try:
        parsed = json.loads(answer) if len(answer) <= MAX_ANSWER_BYTES else None
        if isinstance(parsed, dict) and isinstance(parsed.get("error"), dict):
            raise error_from_json(parsed["error"])
        return from_json(SnapshotPlan, parsed["plan"] if isinstance(parsed, dict) else None)
    except (ValueError, KeyError) as exc:  # WireError is a ValueError
        raise SnapshotError("Looking at your files ended without an answer.", hint="Try again.") from exc


def error_from_json(error: dict[str, Any]) -> BatchError:
    """The error that another process of ours wrote down; an unknown code becomes a SnapshotError."""
    kinds = {kind.code: kind for kind in _kinds(BatchError)}
    kind = kinds.get(str(error.get("code")), SnapshotError)
    details = error.get("details")
    hint = error.get("hint")
    return kind(
        str(error.get("message")),
        hint=hint if isinstance(hint, str) else None,
        details=details if isinstance(details, dict) else None,
    )


def _kinds(root: type[BatchError]) -> list[type[BatchError]]:
    return [root, *(kind for child in root.__subclasses__() for kind in _kinds(child))]
