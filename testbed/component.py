"""What a component of the cluster is, and the running cluster as components see it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any, ClassVar

import urllib3

from .binaries import Module
from .errors import TestbedError
from .instance import Instance, Settings
from .isolation import environment_inside, find_program
from .places import API, BIN, MANIFESTS

_STOP_WITHIN_S = 5.0
_REQUEST_S = 5.0


class Component(ABC):
    """One part of the cluster. ``build`` runs outside, before the cluster exists; the rest inside, in the supervisor.

    Attributes:
        name: Unique; also of its log and its data directory.
        after: Components that must be ready before this one starts.
        modules: Whose programs it runs.
        tended: It has no process that could end, but may be undone by others: then it is started again.
    """

    name: ClassVar[str]
    after: ClassVar[tuple[str, ...]] = ()
    modules: ClassVar[tuple[Module, ...]] = ()
    tended: ClassVar[bool] = False

    def build(self, settings: Settings) -> Settings:
        """Make what the modules alone are not, and note in the settings where it is."""
        return settings

    @abstractmethod
    def start(self, cluster: Cluster) -> None:
        """Begin; also after ``stop`` or a crash, so whatever it writes may be there already."""

    @abstractmethod
    def ready(self, cluster: Cluster) -> bool:
        """Whether others may rely on it now. An exception counts as no, and is shown when time is up."""

    def stop(self, cluster: Cluster) -> None:
        """End what ``start`` began."""
        cluster.end(self.name)


class Cluster:
    """The running cluster: paths, programs, processes by component, and the API server."""

    def __init__(self, instance: Instance, settings: Settings) -> None:
        self.instance = instance
        self.settings = settings
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()
        self._api: urllib3.PoolManager | None = None

    def directory(self, component: Component) -> Path:
        """Where a component keeps its data and its configuration."""
        path = self.instance.directory / component.name
        path.mkdir(exist_ok=True)
        return path

    def certificate(self, name: str) -> str:
        return str(self.instance.certificates / name)

    def program(self, name: str) -> str:
        """One of ours, or one of the machine's."""
        ours = BIN / name
        return str(ours) if ours.exists() else find_program(name) or name

    def run(self, component: str, command: Sequence[str], **variables: str) -> None:
        """Start a component's process; its output goes to the component's log."""
        with self.instance.log(component).open("ab") as log:
            process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **environment_inside(), **variables},
                start_new_session=True,
            )
        with self._lock:
            self._processes[component] = process

    def end(self, component: str) -> None:
        """Stop a component's process, if it has one, by SIGTERM and then SIGKILL."""
        with self._lock:
            process = self._processes.pop(component, None)
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()

    def pid(self, component: str) -> int | None:
        """Of its process, in the cluster's PID namespace."""
        with self._lock:
            process = self._processes.get(component)
        return process.pid if process is not None else None

    def exit_status(self, component: str) -> int | None:
        """Of a process that ended by itself; None while it runs, and for components without one."""
        with self._lock:
            process = self._processes.get(component)
        return process.poll() if process is not None else None

    def kubectl(self, *arguments: str, manifest: str | None = None) -> str:
        """Run kubectl as admin; its output.

        Raises:
            TestbedError: it failed; with its complaint.
        """
        done = subprocess.run(
            [str(BIN / "kubectl"), *arguments],
            input=manifest,
            env={**os.environ, **environment_inside()},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise TestbedError(f"`kubectl {' '.join(arguments)}` failed: {done.stderr.strip()[-2000:]}")
        return done.stdout

    def apply(self, manifest: str) -> None:
        """Create or change objects (YAML). Server-side: some are larger than the client-side annotation may be."""
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", manifest=manifest)

    def get(self, path: str) -> Any:
        """A JSON object of the API server, or None where it says 404.

        Raises:
            TestbedError: any other answer that is not 200. urllib3's errors, when there is no answer.
        """
        if self._api is None:
            self._api = urllib3.PoolManager(
                ca_certs=self.certificate("ca.crt"),
                cert_file=self.certificate("admin.crt"),
                key_file=self.certificate("admin.key"),
                retries=False,
                timeout=_REQUEST_S,
            )
        response = self._api.request("GET", API + path)
        if response.status == 404:  # noqa: PLR2004
            return None
        if response.status != 200:  # noqa: PLR2004
            raise TestbedError(f"{path}: {response.status} {response.data[:300].decode(errors='replace')}")
        return json.loads(response.data) if response.data[:1] in b"{[" else response.data.decode()


def manifest(name: str, **values: object) -> str:
    """A file of ``manifests/`` with its ``$names`` filled in."""
    return Template((MANIFESTS / name).read_text()).substitute(values)


def answers(url: str, *, ca: str | None = None, verify: bool = True) -> bool:
    """Whether an HTTP(S) server says 200. Without ``verify``: for loopback ports with a certificate of their own."""
    checks = "CERT_REQUIRED" if verify else "CERT_NONE"
    with urllib3.PoolManager(ca_certs=ca, cert_reqs=checks, retries=False, timeout=_REQUEST_S) as pool:
        return pool.request("GET", url).status == 200  # noqa: PLR2004


def has_condition(resource: Mapping[str, Any] | None, condition: str) -> bool:
    """Whether a Kubernetes object has a condition of this type with status True."""
    conditions = (resource or {}).get("status", {}).get("conditions", ())
    return any(entry["type"] == condition and entry["status"] == "True" for entry in conditions)
