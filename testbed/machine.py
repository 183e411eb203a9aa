"""What a cluster could leave on a machine: mounts, interfaces, addresses, firewall rules, processes, cgroups, sockets."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

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


def look() -> Traces:
    """What there is now, as seen from the namespaces of this process."""
    kinds = {
        "mounts": _lines("/proc/self/mountinfo"),
        "interfaces": os.listdir("/sys/class/net"),
        "addresses": _output("ip", "-oneline", "address").splitlines(),
        "routes": _output("ip", "route", "show", "table", "all").splitlines(),
        "rules": [line for line in _output("iptables-save").splitlines() if line.startswith("-A")],
        "processes": _cluster_processes(),
        "cgroups": (str(path) for path in CGROUPS.rglob("ai-batch-testbed*")),
        "directories": (str(path) for path in state_directory().glob("*/")),
        "run": os.listdir("/run"),
    }
    return Traces(by_kind={kind: frozenset(names) for kind, names in kinds.items()})


def _cluster_processes() -> Iterable[str]:
    """Those in other PID namespaces than ours, containers' among them, and a cluster's parent in ours."""
    ours = os.readlink("/proc/self/ns/pid")
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(path / "ns/pid") != ours or b"testbed.supervisor" in (path / "cmdline").read_bytes():
                yield f"{path.name} {(path / 'comm').read_text().strip()}"
        except OSError:
            continue  # it ended meanwhile


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def _output(*command: str) -> str:
    program = find_program(command[0])
    if program is None:
        return ""
    return subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False).stdout
