"""Container tools of other projects, run beside the system's own: containerd in namespaces, umoci on layouts."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.programs import find_program, program

WAIT_S = 60.0
_NOT_NEEDED = (
    "grpc.v1.cri",
    "internal.v1.opt",
    *(f"snapshotter.v1.{kind}" for kind in ("aufs", "btrfs", "zfs", "devmapper")),
)


@dataclass
class Containerd:
    """A containerd in namespaces of its own (mounts, processes), which end with it; a context manager.

    Attributes:
        snapshotter: ``overlayfs``, or ``native`` where this system cannot put an overlay on ``directory``.
    """

    directory: Path
    process: subprocess.Popen | None = None
    pid: int = 0
    snapshotter: str = "overlayfs"

    def __enter__(self) -> Containerd:
        require_root()
        for name in ("containerd", "ctr", "runc", "containerd-shim-runc-v2", "unshare", "nsenter"):
            program(name)
        self.directory.mkdir(parents=True)
        self.socket = self.directory / "containerd.sock"
        config = self.directory / "config.toml"
        disabled = ", ".join(f'"io.containerd.{name}"' for name in _NOT_NEEDED)
        config.write_text(f"version = 2\ndisabled_plugins = [{disabled}]\n")
        places = ["--root", self.directory / "root", "--state", self.directory / "state", "--address", self.socket]
        own = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        own += ["sh", "-c", 'mount -t tmpfs tmpfs /run && exec "$0" "$@"']  # shims keep sockets and pipes there
        tried = subprocess.run([*own, "true"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if tried.returncode:
            pytest.skip(f"no namespaces for containerd here: {tried.stderr.strip()}")
        with (self.directory / "log.txt").open("wb") as log:
            command = [*own, program("containerd"), "--config", config, *places]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self._await_start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Kill the first process of the namespace; the kernel ends the others with it, and undoes the mounts."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        with contextlib.suppress(ProcessLookupError):
            while self.pid and Path(f"/proc/{self.pid}/status").exists():
                os.kill(self.pid, signal.SIGKILL)
                time.sleep(0.01)

    def ctr(self, *arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ``ctr`` where containerd runs."""
        enter = ["nsenter", "-t", str(self.pid), "-m", "-p"]
        command = [*enter, program("ctr"), "--address", self.socket, "--namespace", "test", *arguments]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, cwd="/")
        if check and done.returncode:
            log = (self.directory / "log.txt").read_text()[-3000:]
            pytest.fail(f"ctr {arguments}: {done.stdout[-2000:]}{done.stderr[-2000:]}\n{log}")
        return done

    def pull(self, reference: str) -> None:
        self.ctr("images", "pull", "--plain-http", "--snapshotter", self.snapshotter, reference)

    @contextlib.contextmanager
    def mounted(self, reference: str) -> Iterator[Path]:
        """The image's root filesystem, as a path of this process."""
        target = self.directory / "mounted"
        target.mkdir()
        self.ctr("images", "mount", "--snapshotter", self.snapshotter, reference, target)
        try:
            yield Path(f"/proc/{self.pid}/root{target}")
        finally:
            self.ctr("images", "unmount", "--snapshotter", self.snapshotter, "--rm", target)
            target.rmdir()

    def run(self, reference: str, name: str, *command: str) -> str:
        """What a container prints; the test fails where its program does."""
        options = ["--rm", "--cgroup", "", "--snapshotter", self.snapshotter]
        return self.ctr("run", *options, reference, name, *command).stdout

    def _await_start(self) -> None:
        deadline = time.monotonic() + WAIT_S
        while not self.socket.exists():
            assert self.process.poll() is None, (self.directory / "log.txt").read_text()
            assert time.monotonic() < deadline, "containerd does not start"
            time.sleep(0.02)
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        self.pid = int(children.split()[0])
        self.ctr("version")
        listed = [line.split() for line in self.ctr("plugins", "ls").stdout.splitlines()]
        if not any(columns[1] == "overlayfs" and columns[-1] == "ok" for columns in listed if columns):
            self.snapshotter = "native"


def require_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("containerd and the owners of files need root")


def skopeo(*arguments: object) -> None:
    _run(program("skopeo"), "--insecure-policy", *arguments)


def umoci_unpack(layout: Path, tag: str, bundle: Path, *, rootless: bool = False) -> Path:
    """The root filesystem that umoci makes of an image."""
    _run(program("umoci"), "unpack", *(["--rootless"] if rootless else []), "--image", f"{layout}:{tag}", bundle)
    return bundle / "rootfs"


def _run(*command: object) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr[-2000:])


def libraries_of(binary: Path) -> list[Path]:
    """The shared libraries and the loader that a program needs to start."""
    ldd = find_program("ldd")
    if ldd is None:
        pytest.skip("ldd is not installed")
    listed = subprocess.run([ldd, binary], capture_output=True, text=True, check=True).stdout
    words = (word for line in listed.splitlines() for word in line.split())
    return sorted({Path(word) for word in words if word.startswith("/")})


def describe(top: Path, *, owners: bool = True) -> dict[bytes, tuple]:
    """Everything below a directory, by relative path: kind, mode, owner, time (ns), content, target, other names."""
    start = os.fsencode(top)
    found: dict[bytes, tuple] = {}
    names: dict[tuple[int, int], list[bytes]] = {}
    stack = [start]
    while stack:
        for entry in os.scandir(stack.pop()):
            status = entry.stat(follow_symlinks=False)
            path = entry.path[len(start) + 1 :]
            owner = (status.st_uid, status.st_gid) if owners else ()
            common = (oct(status.st_mode), *owner, status.st_mtime_ns)
            if stat.S_ISDIR(status.st_mode):
                stack.append(entry.path)
                found[path] = common
            elif stat.S_ISLNK(status.st_mode):
                found[path] = (*common, os.readlink(entry.path))  # noqa: PTH115 - bytes
            else:
                names.setdefault((status.st_dev, status.st_ino), []).append(path)
                with open(entry.path, "rb") as stream:  # noqa: PTH123 - bytes
                    found[path] = (*common, status.st_size, hashlib.sha256(stream.read()).hexdigest())
    for group in names.values():
        for path in group:
            found[path] = (*found[path], tuple(sorted(group)) if len(group) > 1 else ())
    return found


def differences(expected: dict[bytes, tuple], found: dict[bytes, tuple]) -> dict[bytes, tuple]:
    """By path: what was expected, what was found."""
    paths = expected.keys() | found.keys()
    return {
        path: (expected.get(path), found.get(path)) for path in sorted(paths) if expected.get(path) != found.get(path)
    }
