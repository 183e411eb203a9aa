"""The walls of a cluster: namespaces of its own, and what it sees of the machine from within them.

Nothing that a cluster makes - interfaces, addresses, firewall rules, mounts, processes - exists outside, and all of it
goes with the last process. Only directories remain: the instance's own, and empty ones in the cgroup hierarchies.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from .errors import TestbedError
from .instance import CGROUP_PARENT, Instance, known_instances
from .places import BIN, HOST, INSIDE, NODE, REGISTRY_NAME, ROOT

CGROUPS = Path("/sys/fs/cgroup")
# Programs that we start from the machine, and the Debian package of each.
_NEEDED = {
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "ip": "iproute2",
    "iptables": "iptables",
    "runc": "runc",
}
# Written to by containerd, kubelet and CNI at paths that cannot all be configured; theirs, from the cluster's view.
_PRIVATE = ("/run", "/var/lib", "/var/log")  # /run first: a state directory may be below one of the others
_GONE_WITHIN_S = 30.0


def check_machine() -> None:
    """Raises TestbedError, with what to do, where a cluster cannot run."""
    if sys.platform != "linux" or os.geteuid() != 0:
        raise TestbedError("A cluster needs Linux and root; or set KUBECONFIG to use a cluster that you have.")
    missing = sorted({package for program, package in _NEEDED.items() if find_program(program) is None})
    if missing:
        raise TestbedError(f"Not installed: {', '.join(missing)}. On Debian: apt-get install {' '.join(missing)}")


def find_program(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]))


def supervisor_command(instance: Instance, *, bound: bool, lock: int) -> list[str]:
    """The command that starts a cluster's PID 1 in namespaces of its own; ``bound``: it dies with its parent."""
    unshare = ["unshare", "--net", "--pid", "--mount", "--uts", "--propagation", "private"]
    supervisor = [sys.executable, "-m", "testbed.supervisor", instance.name, str(instance.directory), str(lock)]
    death = ["setpriv", "--pdeathsig", "KILL"] if bound else []
    return [*death, *unshare, "--fork", "--kill-child", "--mount-proc", *supervisor]


def entering(instance: Instance, command: Sequence[str]) -> list[str]:
    """The command that runs ``command`` inside a cluster, in the same working directory.

    Raises:
        NotRunningError: it is not up.
    """
    enter = ["nsenter", "--target", str(instance.supervisor_pid()), "--net", "--pid", "--mount", "--uts"]
    variables = [f"{name}={value}" for name, value in environment_inside().items()]
    return [*enter, "env", "-C", str(Path.cwd()), *variables, *command]


def environment_inside() -> dict[str, str]:
    """Variables of commands inside, beside the caller's own."""
    return {
        "KUBECONFIG": str(INSIDE / "certificates/admin.yaml"),
        "AI_BATCH_TESTBED": str(INSIDE),
        "PATH": os.pathsep.join([str(BIN), os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]),
        "PYTHONPATH": str(ROOT),
        # There is no route out, so a proxy can only be a mistake.
        **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "all_proxy"), ""),
    }


def furnish(instance: Instance) -> None:
    """Inside, before anything runs: mounts, loopback with the cluster's address, names, forwarding."""
    _mount_private_directories(instance.directory)
    (INSIDE / "hosts").write_text(f"127.0.0.1 localhost\n{HOST} {NODE} {REGISTRY_NAME}\n")
    (INSIDE / "resolv.conf").write_text(f"nameserver {HOST}\noptions timeout:2\n")
    for name in ("hosts", "resolv.conf"):
        if Path("/etc", name).exists():
            _run("mount", "--bind", str(INSIDE / name), f"/etc/{name}")
    _run("ip", "link", "set", "lo", "up")
    _run("ip", "address", "add", f"{HOST}/32", "dev", "lo")
    Path("/proc/sys/kernel/hostname").write_text(NODE)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    for directory in cgroup_directories(instance):
        directory.mkdir(parents=True, exist_ok=True)


def _mount_private_directories(directory: Path) -> None:
    """Writes below ``_PRIVATE`` stay in here; the instance's directory appears at its inner path."""
    scratch = directory / "scratch"
    scratch.mkdir()
    _run("mount", "-t", "tmpfs", "-o", "mode=755", "testbed", str(scratch))
    for path in _PRIVATE:
        upper, work = (scratch / f"{path.strip('/').replace('/', '-')}.{kind}" for kind in ("upper", "work"))
        upper.mkdir()
        work.mkdir()
        _run("mount", "-t", "overlay", "-o", f"lowerdir={path},upperdir={upper},workdir={work}", "testbed", path)
        if INSIDE.is_relative_to(path):
            INSIDE.mkdir()
            _run("mount", "--bind", str(directory), str(INSIDE))
    netns = Path("/run/netns")
    netns.mkdir(exist_ok=True)
    _run("mount", "-t", "tmpfs", "testbed", str(netns))
    _run("mount", "--make-rshared", "/")


def cgroup_directories(instance: Instance) -> list[Path]:
    """The cluster's directory in every hierarchy of the machine."""
    return [root / instance.cgroup.lstrip("/") for root in _hierarchies()]


def _hierarchies() -> list[Path]:
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    # With version 1, some names are links to others.
    return sorted(path for path in CGROUPS.iterdir() if path.is_dir() and not path.is_symlink())


def end(instance: Instance) -> None:
    """Kill a cluster if it lives, and remove all that it left: cgroup directories and its own directory."""
    parent = instance.parent_pid()
    if parent is not None:
        os.kill(parent, 9)
        _wait_until_dead(instance)
    _remove_cgroups(instance)
    shutil.rmtree(instance.directory, ignore_errors=True)
    if instance.directory.exists():
        raise TestbedError(f"{instance.directory} could not be removed.")


def sweep() -> list[str]:
    """Clear up after clusters that were killed; their names. The caller holds the machine's lock."""
    dead = [instance for instance in known_instances() if instance.parent_pid() is None]
    for instance in dead:
        end(instance)
    return [instance.name for instance in dead]


def _wait_until_dead(instance: Instance) -> None:
    deadline = time.monotonic() + _GONE_WITHIN_S
    while instance.parent_pid() is not None:
        if time.monotonic() > deadline:
            raise TestbedError(f"The processes of {instance.name!r} do not end.")
        time.sleep(0.02)


def _remove_cgroups(instance: Instance) -> None:
    """Deepest first. A cgroup whose last process was just killed may be busy for a moment."""
    deadline = time.monotonic() + _GONE_WITHIN_S
    for root in cgroup_directories(instance):
        while root.exists():
            for path, _, _ in os.walk(root, topdown=False):
                _remove_if_empty(Path(path))
            if root.exists():
                if time.monotonic() > deadline:
                    raise TestbedError(f"{root} still has processes in it.")
                time.sleep(0.02)
        _remove_if_empty(root.parent)  # fails while another cluster has its directory there


def _remove_if_empty(path: Path) -> None:
    try:
        path.rmdir()
    except OSError:
        if path.name == CGROUP_PARENT or path.exists():
            return
        raise


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise TestbedError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
