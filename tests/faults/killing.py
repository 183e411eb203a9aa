"""Kills captures at random moments, for real, while somebody writes into the home; then captures again and checks.

python -m tests.faults.killing DIRECTORY [--registry HOST] --kills 50
"""

from __future__ import annotations

import argparse
import mmap
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from random import Random

from jupyterlab_ai_batch.errors import BatchError
from jupyterlab_ai_batch.oci.layout import ImageLayout
from jupyterlab_ai_batch.oci.port import BlobStore

from .described import DescribedHome, small_home

_PATIENCE_S = 60.0
_UNKILLED_SHARE = 0.1
_KEPT_TAGS = 4


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--registry", help="host:port; else the captures go into a layout on disk")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    home = small_home(options.directory)
    with_store = _registry(options.registry) if options.registry else _layout(home)
    rounds = Rounds(home, with_store, Random(options.seed))  # noqa: S311
    try:
        rounds.run(options.kills)
    finally:
        rounds.stop()
    print(f"{rounds.kills} kills, {rounds.captures} captures, {rounds.refused} refused for files that changed")
    return 0


class Rounds:
    """One round: a capture that is killed, mostly; one that must succeed; a look at the whole store."""

    def __init__(self, home: DescribedHome, with_store: Callable[[Callable], None], random: Random) -> None:
        self._home = home
        self._with_store = with_store
        self._random = random
        self._pause = memoryview(mmap.mmap(-1, 2)).cast("B")  # [wished, obeyed]
        self._typical_s = 0.5
        self.kills = self.captures = self.refused = 0
        self._writer = self._fork(self._write_for_ever)

    def run(self, kills: int) -> None:
        deadline = time.monotonic() + _PATIENCE_S * 4
        while self.kills < kills:
            assert time.monotonic() < deadline, f"only {self.kills} kills"
            tag = f"{self.captures:03}-disturbed"
            child = self._fork(lambda tag=tag: self._capture(tag, exclude=True))
            if self._random.random() < _UNKILLED_SHARE:
                status = _wait(child, _PATIENCE_S)
                self.refused += os.waitstatus_to_exitcode(status) == 3
                assert os.waitstatus_to_exitcode(status) in (0, 3)
            else:
                self._kill(child)
            self._capture_in_peace()

    def stop(self) -> None:
        os.kill(self._writer, signal.SIGKILL)
        os.waitpid(self._writer, 0)

    def _kill(self, child: int) -> None:
        status = _wait(child, self._random.uniform(0, self._typical_s))
        self.kills += os.WIFSIGNALED(status)
        assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) in (0, 3)

    def _capture_in_peace(self) -> None:
        self.captures += 1
        tag = f"{self.captures:03}-whole"
        self._pause[0] = 1
        while not self._pause[1]:
            time.sleep(0.001)
        began = time.monotonic()
        child = self._fork(lambda: self._capture(tag))
        status = _wait(child, _PATIENCE_S)
        self._typical_s = time.monotonic() - began
        assert os.waitstatus_to_exitcode(status) == 0, "the next capture does not succeed by itself"
        child = self._fork(lambda: self._with_store(lambda store: self._check(store, tag)))
        assert os.waitstatus_to_exitcode(_wait(child, _PATIENCE_S)) == 0, "the check failed"
        self._pause[0] = 0

    def _capture(self, tag: str, *, exclude: bool = False) -> None:
        try:
            self._with_store(lambda store: self._home.capture(store, tag, on_unstable="exclude" if exclude else "fail"))
        except BatchError as exc:
            if not exclude:
                raise
            print(f"{tag}: {exc.code}")
            os._exit(3)

    def _check(self, store: BlobStore, tag: str) -> None:
        """All that is there; then only a few are kept, so that each round costs the same."""
        self._home.check(store, latest=tag)
        for old in sorted(dict(store.tags()))[:-_KEPT_TAGS]:
            store.delete_tag(old)

    def _write_for_ever(self) -> None:
        while os.getppid() != 1:
            self._pause[1] = self._pause[0]
            if not self._pause[0]:
                name = self._random.choice(self._home.names)
                self._home.write(name, in_place=self._random.random() < 0.5)
            time.sleep(0.01)

    def _fork(self, action: Callable[[], object]) -> int:
        sys.stdout.flush()
        child = os.fork()
        if child:
            return child
        status = 1
        try:
            action()
            status = 0
        except BaseException:  # noqa: BLE001 - the child ends here
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)


def _wait(child: int, limit_s: float) -> int:
    """The child's wait status; it is killed when the time is over."""
    fd = os.pidfd_open(child)
    try:
        ended, _, _ = select.select([fd], [], [], limit_s)
        if not ended:
            os.kill(child, signal.SIGKILL)
        return os.waitpid(child, 0)[1]
    finally:
        os.close(fd)


def _layout(home: DescribedHome) -> Callable[[Callable], None]:
    return lambda action: action(ImageLayout(home.data / "store"))


def _registry(host: str) -> Callable[[Callable], None]:
    from tests.registries import open_registry

    def with_store(action: Callable) -> None:
        with open_registry(host) as store:
            action(store)

    return with_store


if __name__ == "__main__":
    sys.exit(main())
