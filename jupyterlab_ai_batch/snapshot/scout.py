"""A second process that looks whether a tree is as it was, while this one is still busy with starting.

Walking thirty thousand files takes as long as importing what a capture needs, and one process cannot do both at once.
What is sent out first is a guess: what the last capture walked. ``Scout.seal`` answers for nothing else.
"""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from time import time_ns
from typing import NamedTuple

from .listing import Sealer, list_by_directory

_ANSWER_BYTES = 64
_DESCRIPTORS = 1024


class Walk(NamedTuple):
    """What to walk: absolute directories, see ``list_everything``; equal ones find the same."""

    roots: tuple[str, ...]
    never: tuple[str, ...]
    hollow: tuple[str, ...]

    @classmethod
    def of(cls, roots: Sequence[str], never: Sequence[str], hollow: Sequence[str]) -> Walk:
        return cls(tuple(roots), tuple(sorted(never)), tuple(sorted(hollow)))

    def seal(self) -> bytes:
        """The seal of what is there. Entries are not kept: that alone would take a quarter of the time.

        Raises:
            OSError: as ``list_everything``.
        """
        sealer = Sealer()
        hollow = {path[1:] for path in self.hollow}
        seen: set[str] = set()
        for root in self.roots:
            for paths, found in list_by_directory(root, never=self.never, hollow={*self.hollow} - {root}):
                directory = paths[0]
                if directory in hollow:  # a root inside of another one is met twice
                    if directory in seen:
                        del paths[0], found[0]
                    seen.add(directory)
                sealer.add(paths, found)
        return sealer.seal()


class Scout:
    """Sent out when it is made; to be made by a process that has one thread only. A context manager.

    Attributes:
        started_ns: The system's clock: no file was looked at before.
    """

    def __init__(self, walk: Walk) -> None:
        self._walk = walk
        self.started_ns = time_ns()
        self._answer, answer = os.pipe()
        try:
            self._pid = os.fork()
        except OSError:  # too many processes: the capture walks itself
            self._pid = -1
        if not self._pid:
            _walk_and_exit(walk, answer)
        os.close(answer)

    def __enter__(self) -> Scout:
        return self

    def __exit__(self, *_: object) -> None:
        """Call it back, wherever it is."""
        if self._answer >= 0:
            if self._pid > 0:
                os.kill(self._pid, signal.SIGKILL)
            self._read()

    def seal(self, walk: Walk) -> bytes | None:
        """The seal of what ``walk`` finds; None when it went elsewhere, or could not."""
        if walk != self._walk or self._answer < 0:
            return None
        return self._read() or None

    def _read(self) -> bytes:
        answer = os.read(self._answer, _ANSWER_BYTES)
        os.close(self._answer)
        self._answer = -1
        if self._pid > 0:
            with suppress(ChildProcessError):
                os.waitpid(self._pid, 0)
        return answer


def _walk_and_exit(walk: Walk, answer: int) -> None:
    status = 1
    try:
        gc.disable()
        # Locks of the process that sent it out are not held any longer than that lives.
        os.closerange(3, answer)
        os.closerange(answer + 1, _DESCRIPTORS)
        os.write(answer, walk.seal())
        status = 0
    finally:
        os._exit(status)
