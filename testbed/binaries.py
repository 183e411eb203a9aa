"""The programs of a cluster: built from the Go module proxy, kept in a cache outside the checkout.

``modules/NAME/go.mod`` names the upstream version and its programs, ``go.sum`` fixes every byte that goes in. A built
set is keyed by both, so the second build of the same sources is a look into a directory.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .errors import BuildError
from .places import MODULES, cache_directory

GO_MINIMUM = (1, 26)
_GET_GO = "Get it from https://go.dev/dl/ (unpack to /usr/local and put /usr/local/go/bin on PATH)."
_REPORT_EVERY_S = 15.0
_KEEP_UNUSED_S = 30 * 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """One upstream.

    Attributes:
        name: Its directory below ``modules/``.
        version_of: The Go module whose version is the upstream's; empty for our own programs.
        stamps: Go variables and what they must hold: ``{version}``, ``{major}`` or ``{minor}``.
        package: What to build; ``tool`` is every program that go.mod names.
    """

    name: str
    version_of: str = ""
    stamps: tuple[tuple[str, str], ...] = ()
    package: str = "tool"

    @property
    def directory(self) -> Path:
        return MODULES / self.name

    @property
    def version(self) -> str:
        """``v1.2.3`` as go.mod requires it."""
        found = re.search(rf"^\s*(?:require )?{re.escape(self.version_of)} (v\S+)", self._text("go.mod"), re.MULTILINE)
        if found is None:
            raise BuildError(f"modules/{self.name}/go.mod does not require {self.version_of}")
        return found[1]

    @property
    def ldflags(self) -> str:
        if not self.stamps:
            return "-s -w"
        major, minor = self.version.lstrip("v").split(".")[:2]
        values = {"version": self.version, "major": major, "minor": minor}
        return " ".join(["-s -w", *(f"-X {name}={value.format(**values)}" for name, value in self.stamps)])

    @property
    def key(self) -> str:
        """Tells apart every two sets of programs that may differ."""
        digest = hashlib.sha256(self.ldflags.encode())
        for path in sorted(self.directory.iterdir()):
            digest.update(f"\0{path.name}\0".encode() + path.read_bytes())
        return digest.hexdigest()[:16]

    def _text(self, name: str) -> str:
        return (self.directory / name).read_text()


# Kueue asks the API server for its version and refuses one that was not stamped.
KUBERNETES = Module(
    name="k8s",
    version_of="k8s.io/kubernetes",
    stamps=(
        ("k8s.io/component-base/version.gitVersion", "{version}"),
        ("k8s.io/component-base/version.gitMajor", "{major}"),
        ("k8s.io/component-base/version.gitMinor", "{minor}"),
        ("k8s.io/client-go/pkg/version.gitVersion", "{version}"),
    ),
)
KUEUE = Module(
    name="kueue", version_of="sigs.k8s.io/kueue", stamps=(("sigs.k8s.io/kueue/pkg/version.GitVersion", "{version}"),)
)
KWOK = Module(name="kwok", version_of="sigs.k8s.io/kwok")
ETCD = Module(name="etcd", version_of="go.etcd.io/etcd/server/v3")
CONTAINERD = Module(name="containerd", version_of="github.com/containerd/containerd/v2")
CNI = Module(name="cni", version_of="github.com/containernetworking/plugins")
REGISTRY = Module(name="registry", version_of="github.com/distribution/distribution/v3")
COREDNS = Module(name="coredns", version_of="github.com/coredns/coredns")
PAUSE = Module(name="pause", package=".")
# The short ones first: what is wrong with the set-up shows early.
MODULES_IN_BUILD_ORDER = (PAUSE, CNI, ETCD, CONTAINERD, REGISTRY, KWOK, COREDNS, KUEUE, KUBERNETES)


def built(module: Module) -> Path:
    """The directory of a module's programs; built now when the cache does not have it.

    Raises:
        BuildError: no Go, no module proxy, or the compiler's complaint.
    """
    place = cache_directory() / "bin"
    target = place / f"{module.name}-{module.key}"
    if not target.is_dir():
        place.mkdir(parents=True, exist_ok=True)
        with locked(place / f"{module.name}.lock"):
            if not target.is_dir():
                _build(module, target)
                _forget_unused(module, place)
    os.utime(target)
    return target


def source_directory(module: Module) -> Path:
    """Where Go unpacked an upstream's sources: manifests, stages and the like, read-only."""
    answer = _go("list", "-m", "-f", "{{.Dir}}", module.version_of, cwd=module.directory)
    if not answer:
        _go("mod", "download", module.version_of, cwd=module.directory)
        answer = _go("list", "-m", "-f", "{{.Dir}}", module.version_of, cwd=module.directory)
    return Path(answer)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file; says so when another process makes us wait."""
    with path.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(f"waiting for another process that builds {path.stem}")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def report(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def check_go() -> None:
    """Raises BuildError unless a recent Go is on PATH."""
    go = shutil.which("go")
    if go is None:
        raise BuildError(f"The cluster's programs are built with Go, which is not installed. {_GET_GO}")
    text = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False).stdout
    found = re.match(r"go(\d+)\.(\d+)", text)
    if found is None or (int(found[1]), int(found[2])) < GO_MINIMUM:
        wanted = ".".join(map(str, GO_MINIMUM))
        raise BuildError(f"Go {wanted} or newer is needed, {go} is {text.strip() or 'unknown'}. {_GET_GO}")


def _build(module: Module, target: Path) -> None:
    check_go()
    started = time.monotonic()
    report(f"{module.name}: building (once; the result is kept in {target.parent})")
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        _go("mod", "download", cwd=module.directory)
        total = len(_go("list", "-deps", module.package, cwd=module.directory).split())
        _compile(module, partial, total)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    report(f"{module.name}: built in {time.monotonic() - started:.0f} s")


def _compile(module: Module, output: Path, total: int) -> None:
    """Run the compiler and tell how far it is: ``-v`` names each package when it is begun."""
    command = ["go", "build", "-v", "-trimpath", "-ldflags", module.ldflags, "-o", f"{output}/", module.package]
    environment = {**os.environ, "CGO_ENABLED": "0"}
    lines: list[str] = []
    reported = time.monotonic()
    with subprocess.Popen(
        command, cwd=module.directory, env=environment, stderr=subprocess.PIPE, text=True, errors="replace"
    ) as process:
        assert process.stderr is not None  # noqa: S101 - PIPE was asked for
        for line in process.stderr:
            lines.append(line)
            if time.monotonic() - reported > _REPORT_EVERY_S:
                reported = time.monotonic()
                report(f"{module.name}: {len(lines)} of at most {total} packages")
    if process.returncode:
        raise BuildError(f"Building {module.name} failed:\n{''.join(lines[-20:])}")


def _go(*arguments: str, cwd: Path) -> str:
    done = subprocess.run(["go", *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"`go {' '.join(arguments)}` failed in {cwd}:\n{done.stderr[-2000:]}")
    return done.stdout.strip()


def _forget_unused(module: Module, place: Path) -> None:
    oldest = time.time() - _KEEP_UNUSED_S
    for path in place.glob(f"{module.name}-*"):
        if path.stat().st_mtime < oldest:
            shutil.rmtree(path, ignore_errors=True)
