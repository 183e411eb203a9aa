"""Bringing clusters up and down, from outside."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from .binaries import MODULES_IN_BUILD_ORDER, built, locked, report
from .components import chosen
from .errors import NotRunningError, TestbedError
from .instance import Instance, Settings, take_lock
from .isolation import check_machine, end, entering, environment_inside, supervisor_command, sweep
from .places import ROOT, state_directory

_ASK_EVERY_S = 0.1
_COMPONENT_WITHIN_S = 60.0
_LOG_LINES = 30


def build(settings: Settings) -> Settings:
    """Everything that a cluster with these settings needs, from the cache or made now; the settings that say where."""
    components = chosen(settings)
    needed = {module for component in components for module in component.modules}
    programs = tuple(str(built(module)) for module in MODULES_IN_BUILD_ORDER if module in needed)
    for component in components:
        settings = component.build(settings)
    return dataclasses.replace(settings, programs=programs)


def up(instance: Instance, settings: Settings, *, bound: bool = False, keep: bool = False) -> Instance:
    """Start a cluster and wait until every component is ready.

    Args:
        bound: It dies with this process, however that ends.
        keep: It is left as it is when a component does not come up.

    Raises:
        TestbedError: it is up already, or a component did not come up.
    """
    check_machine()
    settings = build(settings)
    with _machine_lock():
        sweep()
        lock = take_lock(instance)
    try:
        instance.write_settings(settings)
        process = _start_supervisor(instance, lock, bound=bound)
    finally:
        os.close(lock)
    try:
        _wait_until_ready(instance, process)
    except BaseException:
        if not keep:
            down(instance)
        raise
    return instance


def down(instance: Instance) -> None:
    """End a cluster and remove all that it left; nothing happens when there is none."""
    with _machine_lock():
        end(instance)


def clear_up() -> None:
    """Remove what clusters that were killed left behind."""
    with _machine_lock():
        for name in sweep():
            report(f"{name}: was killed; removed what it left")


def stop_component(instance: Instance, component: str) -> None:
    """Stop one component of a running cluster, and keep it down."""
    _known(instance, component)
    instance.stop_marker(component).touch()
    _wait_for_state(instance, component, "stopped")


def start_component(instance: Instance, component: str) -> None:
    """Start one component again and wait until it is ready."""
    _known(instance, component)
    instance.stop_marker(component).unlink(missing_ok=True)
    _wait_for_state(instance, component, "ready")


def reset(instance: Instance) -> None:
    """Delete what users and tests made, and set the pool up anew."""
    stop_component(instance, "pool")
    command = entering(instance, [sys.executable, "-m", "testbed.reset"])
    if subprocess.run(command, check=False).returncode:
        raise TestbedError("Not everything could be deleted.")
    start_component(instance, "pool")


def _start_supervisor(instance: Instance, lock: int, *, bound: bool) -> subprocess.Popen[bytes]:
    with (instance.directory / "supervisor.log").open("wb") as log:
        process = subprocess.Popen(
            supervisor_command(instance, bound=bound, lock=lock),
            cwd=ROOT,
            env={**os.environ, **environment_inside()},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[lock],
            start_new_session=True,
        )
    os.pwrite(lock, str(process.pid).encode(), 0)
    return process


def _wait_until_ready(instance: Instance, process: subprocess.Popen[bytes]) -> None:
    told: set[str] = set()
    while True:
        status = instance.read_status()
        for name, component in status.get("components", {}).items():
            if component["state"] == "ready" and name not in told:
                told.add(name)
                report(f"  {name}: ready after {component['seconds']:.1f} s")
        if status.get("state") == "ready":
            return report(f"{instance.name}: {status['message']}")
        if status.get("state") == "failed" or process.poll() is not None:
            raise TestbedError(_why(instance))
        time.sleep(_ASK_EVERY_S)


def _why(instance: Instance) -> str:
    """What went wrong, with the last lines of the logs of whoever it was."""
    status = instance.read_status()
    failed = [name for name, one in status.get("components", {}).items() if one["state"] == "failed"]
    paths = [instance.log(name) for name in failed] or [instance.directory / "supervisor.log"]
    parts = [status.get("message") or "The supervisor ended."]
    for path in paths:
        if path.exists():
            lines = path.read_text(errors="replace").splitlines()[-_LOG_LINES:]
            parts.append(f"--- {path.name}\n" + "\n".join(lines))
    with suppress(NotRunningError):
        command = entering(instance, ["kubectl", "get", "events", "--all-namespaces", "--field-selector=type=Warning"])
        parts.append(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
    return "\n".join(parts)


def _known(instance: Instance, component: str) -> None:
    instance.supervisor_pid()
    names = sorted(instance.read_status().get("components", {}))
    if component not in names:
        raise TestbedError(f"There is no component {component!r}; there are {', '.join(names)}.")


def _wait_for_state(instance: Instance, component: str, state: str) -> None:
    deadline = time.monotonic() + _COMPONENT_WITHIN_S
    while instance.read_status()["components"][component]["state"] != state:
        if time.monotonic() > deadline:
            raise TestbedError(f"{component} is not {state} after {_COMPONENT_WITHIN_S:.0f} s.")
        time.sleep(_ASK_EVERY_S)


@contextmanager
def _machine_lock() -> Iterator[None]:
    """One process at a time claims names or removes directories."""
    place = state_directory()
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(place / "machine.lock"):
        yield
