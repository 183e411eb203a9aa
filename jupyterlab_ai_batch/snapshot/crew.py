"""Threads that work on the layers of one restore."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

from .limits import Budget

_MAX_THREADS = 4


class Crew:
    """Runs jobs, each on a layer, at the same time; a context manager that waits for all of them.

    The first failure, here or in a job, stops the others through their budget, and is the one that is raised.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._pool = ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1))
        self._first: BaseException | None = None

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self._first is None:
            self._budget.stop()
        self._pool.shutdown(cancel_futures=self._budget.is_stopped)
        if self._first is not None:
            raise self._first

    def submit(self, job: Callable[[], None]) -> None:
        self._pool.submit(self._run, job)

    def _run(self, job: Callable[[], None]) -> None:
        if self._budget.is_stopped:
            return
        try:
            job()
        except BaseException as exc:  # noqa: BLE001 - raised by __exit__
            if not self._budget.is_stopped:
                self._first = exc
            self._budget.stop()
