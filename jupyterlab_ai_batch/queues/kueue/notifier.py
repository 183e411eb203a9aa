"""Tells several listeners that something may have changed; many changes are one notice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

QUIET_S = 0.1


class Notifier:
    """For one event loop."""

    def __init__(self, *, quiet_s: float = QUIET_S) -> None:
        """``quiet_s``: the least time between two notices to a listener."""
        self._quiet_s = quiet_s
        self._listeners: set[asyncio.Event] = set()

    def notify(self) -> None:
        for listener in self._listeners:
            listener.set()

    async def listen(self) -> AsyncGenerator[None, None]:
        """A notice at once, and then one after changes; ends only when closed."""
        changed = asyncio.Event()
        self._listeners.add(changed)
        try:
            yield
            while True:
                await changed.wait()
                await asyncio.sleep(self._quiet_s)
                changed.clear()
                yield
        finally:
            self._listeners.discard(changed)
