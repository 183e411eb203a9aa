"""PID 1 of a cluster and, below it, the process that brings the components up and keeps them up.

    python -m testbed.supervisor NAME DIRECTORY LOCK

PID 1 only reaps: orphans come to it, and when it ends the kernel ends everything else. Components come up in threads,
each as soon as those that it needs are ready. One that dies is started again; one with a marker in ``stopped/`` is kept
down until the marker goes.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .certificates import write_certificates
from .component import Cluster, Component
from .components import chosen
from .errors import TestbedError
from .instance import Instance
from .isolation import furnish
from .places import INSIDE

READY_WITHIN_S = 120.0
_ASK_EVERY_S = 0.1
_WATCH_EVERY_S = 0.2
_TEND_EVERY_S = 3.0
_RESTART_AFTER_S = 1.0


@dataclass(slots=True)
class Watched:
    """A component and how it is doing. ``seconds``: from its start to ready, the first time."""

    component: Component
    state: str = "waiting"
    seconds: float | None = None
    restarts: int = 0
    down_since: float = 0.0
    ask_at: float = 0.0


class Supervisor:
    """Brings a cluster up and watches it; never returns while it lives."""

    def __init__(self, cluster: Cluster, components: Sequence[Component]) -> None:
        self._cluster = cluster
        self._watched = {component.name: Watched(component) for component in components}
        self._state = "starting"
        self._message = ""
        self._written = ""

    def run(self) -> None:
        started = time.monotonic()
        with ThreadPoolExecutor(max_workers=len(self._watched)) as threads:
            begun: dict[str, Future[None]] = {}
            for name, watched in self._watched.items():
                needs = [begun[other] for other in watched.component.after if other in begun]
                begun[name] = threads.submit(self._bring_up, watched, needs)
            while not all(future.done() for future in begun.values()):
                self._write_status()
                time.sleep(_WATCH_EVERY_S)
        failures = [str(error) for future in begun.values() if (error := future.exception()) is not None]
        self._state = "failed" if failures else "ready"
        self._message = failures[0] if failures else f"ready after {time.monotonic() - started:.1f} s"
        while True:
            self._watch()
            self._write_status()
            time.sleep(_WATCH_EVERY_S)

    def _bring_up(self, watched: Watched, needs: Sequence[Future[None]]) -> None:
        for need in needs:
            need.result()
        started = time.monotonic()
        watched.state = "starting"
        deadline = started + READY_WITHIN_S
        self._start_repeatedly(watched, deadline)
        while not self._is_ready(watched):
            if time.monotonic() > deadline:
                watched.state = "failed"
                raise TestbedError(
                    f"{watched.component.name} is not ready after {READY_WITHIN_S:.0f} s; last: {self._message or '-'}"
                )
            time.sleep(_ASK_EVERY_S)
        watched.state = "ready"
        watched.seconds = time.monotonic() - started

    def _start_repeatedly(self, watched: Watched, deadline: float) -> None:
        """A component that applies objects may have to wait for a webhook that is up but not yet answering."""
        while True:
            try:
                return watched.component.start(self._cluster)
            except TestbedError as error:  # noqa: PERF203 - it waits anyway
                self._message = f"{watched.component.name}: {error}"
                if time.monotonic() > deadline:
                    watched.state = "failed"
                    raise
                time.sleep(_ASK_EVERY_S)

    def _is_ready(self, watched: Watched) -> bool:
        name = watched.component.name
        if (status := self._cluster.exit_status(name)) is not None:
            watched.state = "failed"
            raise TestbedError(f"{name} ended with status {status} while it started")
        try:
            return watched.component.ready(self._cluster)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is not ready
            self._message = f"{name}: {error}"
            return False

    def _watch(self) -> None:
        for name, watched in self._watched.items():
            wanted = not self._cluster.instance.stop_marker(name).exists()
            if not wanted and watched.state != "stopped":
                watched.component.stop(self._cluster)
                watched.state = "stopped"
            elif wanted and watched.state == "stopped":
                self._restart(watched)
            elif wanted and watched.state == "restarting" and self._is_ready_again(watched):
                watched.state = "ready"
            elif wanted and watched.state == "down" and time.monotonic() - watched.down_since > _RESTART_AFTER_S:
                watched.restarts += 1
                self._restart(watched)
            elif wanted and watched.state == "ready" and watched.component.tended and self._is_lost(watched):
                self._restart(watched)
            if wanted and watched.state in {"ready", "restarting"} and self._cluster.exit_status(name) is not None:
                watched.state = "down"
                watched.down_since = time.monotonic()

    def _restart(self, watched: Watched) -> None:
        try:
            watched.component.start(self._cluster)
            watched.state = "restarting"
        except Exception as error:  # noqa: BLE001 - what it needs may be down as well; tried again
            self._message = f"{watched.component.name}: {error}"
            watched.state = "down"
            watched.down_since = time.monotonic()

    def _is_ready_again(self, watched: Watched) -> bool:
        try:
            return watched.component.ready(self._cluster)
        except Exception:  # noqa: BLE001 - whatever it is, it is not ready
            return False

    def _is_lost(self, watched: Watched) -> bool:
        """Whether a tended component is no longer ready; asked now and then."""
        if time.monotonic() < watched.ask_at:
            return False
        watched.ask_at = time.monotonic() + _TEND_EVERY_S
        return not self._is_ready_again(watched)

    def _write_status(self) -> None:
        components = {name: self._describe(name, watched) for name, watched in self._watched.items()}
        text = json.dumps({"state": self._state, "message": self._message, "components": components}, indent=1)
        if text != self._written:
            partial = self._cluster.instance.status_file.with_suffix(".partial")
            partial.write_text(text)
            partial.replace(self._cluster.instance.status_file)
            self._written = text

    def _describe(self, name: str, watched: Watched) -> Mapping[str, Any]:
        return {
            "state": watched.state,
            "seconds": watched.seconds,
            "restarts": watched.restarts,
            "pid": self._cluster.pid(name),
        }


def reap_until_gone(child: int) -> int:
    """PID 1's whole duty: reap what comes, until ``child`` ends; its exit status."""
    while True:
        pid, status = os.wait()
        if pid == child:
            return os.waitstatus_to_exitcode(status)


def supervise(name: str, directory: Path) -> None:
    furnish(Instance(name, directory))
    instance = Instance(name, INSIDE)
    (INSIDE / "name").write_text(name)
    settings = instance.read_settings()
    for place in ("logs", "stopped", "bin"):
        (INSIDE / place).mkdir(exist_ok=True)
    for programs in settings.programs:
        for program in Path(programs).iterdir():
            (INSIDE / "bin" / program.name).symlink_to(program)
    write_certificates(instance.certificates)
    Supervisor(Cluster(instance, settings), chosen(settings)).run()


def main() -> int:
    name, directory, lock = sys.argv[1:]
    os.set_inheritable(int(lock), False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever started us
    child = os.fork()
    if child:
        return reap_until_gone(child)
    supervise(name, Path(directory))
    return 0


if __name__ == "__main__":
    sys.exit(main())
