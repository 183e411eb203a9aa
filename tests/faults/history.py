"""What every file was at every moment: the truth that a Snapshot is held against."""

from __future__ import annotations

import os
import pickle
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

# ("absent",)  ("dir", mode)  ("link", target)  ("file", mode, mtime_ns, content)  ("other",)
# ("through", …one of these…): not in the tree, but found at this path where a directory above became a link
State = tuple
ABSENT: State = ("absent",)


class History:
    """States of every path below ``tops``, by moment.

    A moment passes at each ``record``; between two of them nothing changes, as whoever changes a file records it. With
    ``journal`` set, changes are also written there, so that they outlive a process that is killed.
    """

    def __init__(self, *tops: Path) -> None:
        self._tops = tops
        self._moments: list[dict[str, State]] = [{}]
        self.journal: BinaryIO | None = None
        self.record()

    @property
    def now(self) -> int:
        return len(self._moments) - 1

    def record(self) -> None:
        """Look at everything; a new moment begins where something has changed."""
        last = self._moments[-1]
        found = {path: observe(path) for path in self._walk()}
        found |= {path: _observe_through(path) for path in last if path not in found}
        changed = {path: state for path, state in found.items() if last.get(path, ABSENT) != state}
        if changed:
            self._add(changed)
            if self.journal is not None:
                pickle.dump(changed, self.journal)
                self.journal.flush()

    def replay(self, journal: BinaryIO) -> None:
        """Take over the moments that another process has recorded."""
        while True:
            try:
                self._add(pickle.load(journal))  # noqa: S301 - our own
            except EOFError:
                return

    def states(self, path: str, first: int, last: int) -> list[State]:
        """What ``path`` was from moment ``first`` to ``last``, both included."""
        found = [moment.get(path, ABSENT) for moment in self._moments[first : last + 1]]
        through = [state[1:] for state in found if state[0] == "through"]
        return [ABSENT if state[0] == "through" else state for state in found] + through

    def latest(self) -> dict[str, State]:
        """What there is now."""
        return {path: state for path, state in self._moments[-1].items() if state[0] not in ("absent", "through")}

    def paths(self) -> set[str]:
        """Every path that there ever was."""
        return set(self._moments[-1])

    def _add(self, changed: dict[str, State]) -> None:
        self._moments.append({**self._moments[-1], **changed})

    def _walk(self) -> Iterator[str]:
        for top in self._tops:
            yield str(top)
            for directory, names, files in os.walk(top):
                yield from (f"{directory}/{name}" for name in (*names, *files))


def observe(path: str) -> State:
    """The state of ``path`` right now. Directories above it may be links; it is not followed itself."""
    try:
        found = os.lstat(path)
        if stat.S_ISLNK(found.st_mode):
            return ("link", os.readlink(path))  # noqa: PTH115 - text
        if stat.S_ISDIR(found.st_mode):
            return ("dir", stat.S_IMODE(found.st_mode))
        if not stat.S_ISREG(found.st_mode):
            return ("other",)
        content = Path(path).read_bytes()
    except OSError:
        return ABSENT
    return ("file", stat.S_IMODE(found.st_mode), found.st_mtime_ns, content)


def _observe_through(path: str) -> State:
    state = observe(path)
    return state if state == ABSENT else ("through", *state)
