"""Asking the browser to save a notebook before it is submitted from its kernel."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Callable

# Emits a save_request event; True when somebody listens.
EmitSaveRequest = Callable[[str, str], bool]


class SaveRequests:
    """Save requests that wait for an answer.

    Args:
        emit: Called with (request id, notebook path).
        wait_s: How long an answer is waited for, seconds.
    """

    def __init__(self, emit: EmitSaveRequest, *, wait_s: float) -> None:
        self._emit = emit
        self._wait_s = wait_s
        self._waiting: dict[str, asyncio.Event] = {}

    async def ask(self, notebook_path: str) -> bool:
        """Ask whoever has the notebook open to save it; True when somebody did within ``wait_s``.

        Returns at once when nobody listens to events.
        """
        request_id, saved = uuid.uuid4().hex, asyncio.Event()
        self._waiting[request_id] = saved
        try:
            if self._emit(request_id, notebook_path):
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(saved.wait(), self._wait_s)
            return saved.is_set()
        finally:
            del self._waiting[request_id]

    def answer(self, request_id: str) -> None:
        """The notebook is saved. An answer that nobody waits for any more is ignored."""
        if request_id in self._waiting:
            self._waiting[request_id].set()
