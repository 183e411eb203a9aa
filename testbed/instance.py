"""One cluster as seen from outside: its directory, whether it lives, and how to get in.

settings.json   what it was started with          status.json   what its supervisor says, rewritten at each change
alive           locked by the supervisor for as long as it lives; holds the process id of its parent
logs/NAME.log   of each component                 stopped/NAME  present: the component is to be stopped
accounts.json   of the registry
certificates/  bin/  and a directory per component that keeps data
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .errors import NotRunningError, TestbedError
from .places import INSIDE, state_directory

DEFAULT_NAME = "default"
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?\Z")
CGROUP_PARENT = "ai-batch-testbed"
_LOCK_ATTEMPTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a cluster is started with.

    Attributes:
        fake_nodes: KWOK nodes beside the real one.
        mig_slices: Of ``nvidia.com/mig-1g.5gb`` on the real node.
        programs: Directories whose programs are linked into ``bin/``.
        images: Image layouts whose content is pushed to the registry, by repository and tag.
        user_image: The layout of the image of users' servers.
        kueue_manifests: Rendered at build time.
        kwok_config: The configuration of KWOK, rendered at build time.
    """

    fake_nodes: int = 0
    mig_slices: int = 7
    programs: tuple[str, ...] = ()
    images: Mapping[str, str] = field(default_factory=dict)
    user_image: str = ""
    kueue_manifests: str = ""
    kwok_config: str = ""


@dataclass(frozen=True, slots=True)
class Instance:
    """A cluster by name. ``directory`` is where this process finds it: outside, or ``/run/testbed`` inside."""

    name: str
    directory: Path

    @classmethod
    def named(cls, name: str) -> Instance:
        """Seen from outside, whether it exists or not."""
        if not _NAME.match(name):
            raise TestbedError(f"{name!r} is not a name for a cluster: up to 40 of a-z, 0-9 and -")
        return cls(name, state_directory() / name)

    @property
    def cgroup(self) -> str:
        """Below the root of every hierarchy; all pods live under it."""
        return f"/{CGROUP_PARENT}/{self.name}"

    @property
    def alive_file(self) -> Path:
        return self.directory / "alive"

    @property
    def status_file(self) -> Path:
        return self.directory / "status.json"

    @property
    def accounts_file(self) -> Path:
        """Users of the registry and their passwords."""
        return self.directory / "accounts.json"

    @property
    def certificates(self) -> Path:
        return self.directory / "certificates"

    def log(self, component: str) -> Path:
        return self.directory / "logs" / f"{component}.log"

    def stop_marker(self, component: str) -> Path:
        return self.directory / "stopped" / component

    def write_settings(self, settings: Settings) -> None:
        (self.directory / "settings.json").write_text(json.dumps(asdict(settings), indent=1))

    def read_settings(self) -> Settings:
        content = json.loads((self.directory / "settings.json").read_text())
        return Settings(**{**content, "programs": tuple(content["programs"])})

    def read_status(self) -> dict[str, Any]:
        """``{"state": ..., "components": {NAME: {...}}}``; empty before the supervisor has written one."""
        try:
            status: dict[str, Any] = json.loads(self.status_file.read_text())
        except FileNotFoundError:
            return {}
        return status

    def parent_pid(self) -> int | None:
        """Process id, in our namespace, of the process whose death ends the cluster; None when it does not live."""
        try:
            with self.alive_file.open() as stream:
                if _lock(stream.fileno(), fcntl.LOCK_SH):
                    return None
                return int(stream.read() or 0) or None
        except FileNotFoundError:
            return None

    def supervisor_pid(self) -> int:
        """Process id, in our namespace, of the cluster's PID 1.

        Raises:
            NotRunningError: the cluster is not up.
        """
        parent = self.parent_pid()
        children = _children(parent) if parent is not None else []
        if not children:
            raise NotRunningError(f"No cluster named {self.name!r} is up: python -m testbed up --name {self.name}")
        return children[0]


def known_instances() -> Iterator[Instance]:
    """Every cluster that has a directory, alive or not."""
    place = state_directory()
    if place.is_dir():
        yield from (Instance(path.name, path) for path in sorted(place.iterdir()) if path.is_dir())


def inside() -> Instance:
    """The cluster that this process is in."""
    name = (INSIDE / "name").read_text()
    return Instance(name, INSIDE)


def take_lock(instance: Instance) -> int:
    """Claim a name; the descriptor is handed to the supervisor, whose life then is the lock's.

    Raises:
        TestbedError: it is up already.
    """
    instance.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(instance.alive_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for attempt in range(_LOCK_ATTEMPTS):
        if _lock(descriptor, fcntl.LOCK_EX):
            break
        time.sleep(0.05 * attempt)  # somebody may only be looking whether it is up
    else:
        os.close(descriptor)
        raise TestbedError(f"A cluster named {instance.name!r} is up already.")
    os.ftruncate(descriptor, 0)
    return descriptor


def _lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
