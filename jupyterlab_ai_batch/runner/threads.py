"""Blocking work beside the event loop, in threads that never keep the process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def start_thread(work: Callable[[], T]) -> asyncio.Future[T]:
    """Run ``work`` in a thread of its own.

    Unlike one of ``asyncio.to_thread``, it is not waited for at the end of the loop or of the process: a connection
    that hangs must not use up the grace period that a pod has for ending.
    """
    result: Future[T] = Future()

    def run() -> None:
        try:
            value = work()
        except BaseException as exc:  # noqa: BLE001 - whoever awaits the result gets it
            result.set_exception(exc)
        else:
            result.set_result(value)

    result.set_running_or_notify_cancel()
    threading.Thread(target=run, daemon=True).start()
    return asyncio.wrap_future(result)
