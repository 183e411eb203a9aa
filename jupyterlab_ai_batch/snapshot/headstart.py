"""What the last capture had to find out before it could begin, for the next one of the same kernel in the same place.

Asking Jupyter for a kernelspec and an interpreter for its packages takes longer than comparing all of its files. An
answer is used again while nothing that it was made from has changed: environment variables, and the files and
directories that ``ask_environment`` names. Only the standard library is imported, and little of that: see ``scout``.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .scout import Scout, Walk

if TYPE_CHECKING:
    from ..capture_models import CaptureRequest, EnvironmentDescription

Seen = Mapping[str, Sequence[int] | None]

_VERSION = 1
_MAX_BYTES = 4 << 20
_MAX_FILES = 64
_RACY_NS = 2 * 10**9
_VARIABLES = ("CONDA", "HOME", "IPYTHON", "JUPYTER", "PATH", "PYTHON", "VIRTUAL_ENV", "XDG")


class HeadStart(NamedTuple):
    """What is known beforehand.

    Attributes:
        environment: An EnvironmentDescription as JSON.
        seen: On which paths it depends, and what they were like.
        walk: What the last capture walked to find all of the environment; None where that is not so simple.
    """

    environment: Mapping[str, Any]
    seen: Mapping[str, Sequence[int] | None]
    walk: Walk | None

    def save(self, path: str) -> None:
        """Keep it in a file, and of all such files the newest.

        Raises:
            StorageError
        """
        from ..oci.storage import ensure_private_directory, replace_file, storage_errors

        walk = None if self.walk is None else self.walk._asdict()
        content = json.dumps({"environment": self.environment, "seen": self.seen, "walk": walk})
        directory = os.path.dirname(path)
        ensure_private_directory(Path(directory))
        with storage_errors(Path(path)):
            replace_file(Path(path), content.encode())
            kept = sorted(os.scandir(directory), key=lambda entry: entry.stat().st_mtime_ns)
            for entry in kept[:-_MAX_FILES]:
                os.unlink(entry.path)


class Vanguard:
    """A capture's use of a head start: what is known, and the scout that is out because of it.

    Attributes:
        scout: None where the last capture did not say where to look.
    """

    def __init__(self, memory: str, known: HeadStart | None, scout: Scout | None) -> None:
        self.scout = scout
        self._memory = memory
        self._known = known
        self._environment: EnvironmentDescription | None = None
        self._seen: Seen | None = None

    def describe(self, kernel_name: str) -> EnvironmentDescription:
        """As ``describe_environment``.

        Raises:
            KernelUnknownError
        """
        from ..capture_models import EnvironmentDescription
        from ..wire import WireError, from_json

        if self._known is not None:
            with suppress(WireError):
                self._environment = from_json(EnvironmentDescription, self._known.environment)
                self._seen = self._known.seen
                return self._environment
        from .environment import ask_environment

        asked_ns = time.time_ns()
        self._environment, paths = ask_environment(kernel_name)
        self._seen = look_at(paths, asked_ns=asked_ns)
        return self._environment

    def remember(self, request: CaptureRequest, work_root: str) -> None:
        """Give the next capture a head start; nothing while what was asked is still changing."""
        from ..errors import StorageError
        from ..wire import to_json
        from ..words import CaptureFrom
        from .roots import resolve_roots

        if self._seen is None:
            return
        is_root = work_root == os.path.realpath(request.root_dir)
        roots = resolve_roots(request, CaptureFrom.ROOT if is_root else CaptureFrom.FOLDER)
        learned = HeadStart(to_json(self._environment), self._seen, roots.environment_walk)
        if learned != self._known:
            with suppress(StorageError):  # the next one takes a little longer, no more
                learned.save(self._memory)


@contextmanager
def sent_ahead(memory: str) -> Iterator[Vanguard]:
    """Begin with what the file ``memory`` tells; to be called by a process that has one thread only."""
    known = load_headstart(memory)
    with ExitStack() as stack:
        scout = stack.enter_context(Scout(known.walk)) if known is not None and known.walk is not None else None
        yield Vanguard(memory, known, scout)


def headstart_path(directory: str, *parts: str, environ: Mapping[str, str]) -> str:
    """The file in ``directory`` for captures that ``parts`` (kernel, notebook, …) and the environment determine."""
    told = sorted((name, value) for name, value in environ.items() if name.startswith(_VARIABLES))
    determined = repr((_VERSION, sys.executable, sys.prefix, os.geteuid(), parts, told))
    name = hashlib.sha256(determined.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return os.path.join(directory, f"{name}.json")


def load_headstart(path: str) -> HeadStart | None:
    """What was saved; None when something has changed since, or nothing is known."""
    try:
        with open(path, encoding="utf-8") as stream:
            known = json.loads(stream.read(_MAX_BYTES))
        if any(_signature(path) != signature for path, signature in known["seen"].items()):
            return None
        walk = Walk(**{name: tuple(paths) for name, paths in known["walk"].items()}) if known["walk"] else None
        return HeadStart(known["environment"], known["seen"], walk)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def look_at(paths: Iterable[str], *, asked_ns: int) -> dict[str, Sequence[int] | None] | None:
    """What these paths are like; None when one is so young that it may have changed since ``asked_ns``."""
    seen = {path: _signature(path) for path in paths}
    young = any(max(signature[2:4]) > asked_ns - _RACY_NS for signature in seen.values() if signature is not None)
    return None if young else seen


def _signature(path: str) -> Sequence[int] | None:
    with suppress(OSError):
        found = os.lstat(path)
        return [found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
    return None
