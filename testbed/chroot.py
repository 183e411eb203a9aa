"""Run a command in a directory tree as its root, and keep what it changed apart from the tree.

    python -m testbed.chroot LOWER[:LOWER...] UPPER SHARED COMMAND...

The mounts are made in a mount namespace of the command's own and end with it. What this machine knows about names,
certificates and package indexes is lent to the tree below ``/mnt``; ``SHARED`` is there as ``/mnt/shared``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from .errors import BuildError
from .places import ROOT

# Present in the tree, so that lending them leaves no trace in what is kept.
_LENT = ("/dev", "/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt")
_PASSED = ("PIP_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
_PIP_CONFIGURATION = ("~/.config/pip/pip.conf", "~/.pip/pip.conf", "/etc/pip.conf")


def run_in(lowers: Sequence[Path], upper: Path, shared: Path, *command: str) -> None:
    """Run ``command`` in the tree that ``lowers``, the lowest first, make; what it writes is then in ``upper``.

    Raises:
        BuildError: it failed; with the end of its output.
    """
    upper.mkdir(parents=True, exist_ok=True)
    order = ":".join(str(lower) for lower in reversed(lowers))
    walls = ["unshare", "--mount", "--propagation", "private"]
    ours = [sys.executable, "-m", "testbed.chroot", order, str(upper), str(shared)]
    done = subprocess.run([*walls, *ours, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"`{' '.join(command)}` failed in the image:\n{(done.stdout + done.stderr)[-3000:]}")


def _main(order: str, upper: Path, shared: Path, command: Sequence[str]) -> None:
    tree, work = (upper.with_name(f"{upper.name}.{kind}") for kind in ("tree", "work"))
    for directory in (tree, work):
        directory.mkdir(exist_ok=True)
    _mount("-t", "overlay", "-o", f"lowerdir={order},upperdir={upper},workdir={work}", "image", str(tree))
    _mount("-t", "proc", "proc", f"{tree}/proc")
    for place in _LENT:
        _mount("--bind", place, f"{tree}{place}")
    _mount("-t", "tmpfs", "lent", f"{tree}/mnt")
    _lend(shared, tree / "mnt/shared")
    environment = {**_passed_environment(tree), "PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/root"}
    os.chroot(tree)
    os.chdir("/")
    os.execvpe(command[0], list(command), environment)  # noqa: S606 - its place is ours from here on


def _passed_environment(tree: Path) -> Mapping[str, str]:
    """Settings for package indexes; the files that they name are lent, and named by their new places."""
    settings = {name: value for name, value in os.environ.items() if name.startswith(_PASSED)}
    found = [path for path in (Path(place).expanduser() for place in _PIP_CONFIGURATION) if path.is_file()]
    if found and "PIP_CONFIG_FILE" not in settings:
        settings["PIP_CONFIG_FILE"] = str(found[0])
    passed = {}
    for name, value in settings.items():
        words = []
        for number, word in enumerate(value.split()):
            if word.startswith("/") and Path(word).exists():
                _lend(Path(word), tree / f"mnt/{name}-{number}")
                word = f"/mnt/{name}-{number}"  # noqa: PLW2901 - the same, from inside
            words.append(word)
        passed[name] = " ".join(words)
    return passed


def _lend(source: Path, target: Path) -> None:
    if source.is_dir():
        target.mkdir()
    else:
        target.touch()
    _mount("--bind", str(source), str(target))


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
