"""What a cluster could leave on a machine: mounts, interfaces, addresses, firewall rules, processes, cgroups, files."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .instance import CGROUP_PARENT
from .isolation import CGROUPS, find_program
from .places import state_directory


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """Every kind of thing by its names; two of them are compared."""

    by_kind: Mapping[str, frozenset[str]]

    def added_since(self, before: Traces) -> dict[str, list[str]]:
        """What is here and was not before; kinds without any are left out."""
        added = {kind: sorted(names - before.by_kind[kind]) for kind, names in self.by_kind.items()}
        return {kind: names for kind, names in added.items() if names}


def look(name: str) -> Traces:
    """What there is now, as seen from the namespaces of this process; of processes and directories, one cluster's."""
    kinds = {
        "mounts": _lines("/proc/self/mountinfo"),
        "interfaces": (path.name for path in Path("/sys/class/net").iterdir()),
        "addresses": _output("ip", "-oneline", "address").splitlines(),
        "routes": _output("ip", "route", "show", "table", "all").splitlines(),
        "rules": [line for line in _output("iptables-save").splitlines() if line.startswith("-A")],
        "run": (path.name for path in Path("/run").iterdir()),
        "processes": _processes_of(name),
        "cgroups": (str(path) for path in CGROUPS.rglob(f"{CGROUP_PARENT}/{name}")),
        "directories": (str(path) for path in state_directory().glob(name)),
    }
    return Traces(by_kind={kind: frozenset(names) for kind, names in kinds.items()})


def _processes_of(name: str) -> Iterable[str]:
    """Containers are known by their cgroup, components by what is mounted for them, the parent by its command."""
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it may end meanwhile
            described = (path / "cgroup").read_text() + (path / "mountinfo").read_text()
            described += (path / "cmdline").read_text().replace("\0", " ")
            if f"/{CGROUP_PARENT}/{name}/" in described or f"/testbed/{name} " in described:
                yield f"{path.name} {(path / 'comm').read_text().strip()}"


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def _output(*command: str) -> str:
    program = find_program(command[0])
    if program is None:
        return ""
    return subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False).stdout
