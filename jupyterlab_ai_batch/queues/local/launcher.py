"""Become the job: mount overlays where asked to, tie this process's life to the worker's, execute the command.

Started as a program (``python -I -S launcher.py CONFIG.json``), never imported by the worker, stdlib only. Config:
Started as a program (``python -I -S launcher.py CONFIG.json``), never imported by the worker; stdlib only. Config:
or directory, read only), ``upper``, ``work`` and ``merged``, where the two appear as one. Ends with status 126 and a
line on stderr when something cannot be set up.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
MS_REC_PRIVATE = 0x4000 | (1 << 18)
PR_SET_PDEATHSIG = 1
CANNOT_START = 126


def main(config_path: str) -> None:
    config = json.loads(Path(config_path).read_text(encoding="utf-8"))
    try:
        if config["overlays"]:
            mount_overlays(config["overlays"])
        if sys.platform == "linux":
            die_with_parent(config["parent"])
        command = config["command"]
        os.execv(command[0], command)  # noqa: S606 - the command is the worker's own
    except OSError as exc:
        sys.stderr.write(f"ai-batch: the job cannot be started: {exc}\n")
        sys.exit(CANNOT_START)


def mount_overlays(directories: list[str]) -> None:
    """Mount in a mount namespace of our own; where we lack the right to, in a user namespace of our own."""
    user, group = os.geteuid(), os.getegid()
    in_user_namespace = not _unshare(CLONE_NEWNS)
    if in_user_namespace:
        if not _unshare(CLONE_NEWNS | CLONE_NEWUSER):
            raise OSError(ctypes.get_errno(), "no namespace of its own")
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="ascii")
    _mount(None, "/", None, MS_REC_PRIVATE, None)
    for directory in directories:
        # Relative names: overlayfs would take apart paths that hold a colon or a comma.
        os.chdir(directory)
        options = "lowerdir=lower,upperdir=upper,workdir=work" + (",userxattr" if in_user_namespace else "")
        _mount("overlay", "merged", "overlay", 0, options)
    os.chdir("/")


def die_with_parent(parent: int) -> None:
    # After unshare: gaining capabilities clears the setting.
    if _libc().prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0 or os.getppid() != parent:
        raise OSError(ctypes.get_errno(), "the worker is gone")


def _unshare(flags: int) -> bool:
    return bool(_libc().unshare(flags) == 0)


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None) -> None:
    encoded = [text.encode() if text is not None else None for text in (source, target, kind, options)]
    if _libc().mount(encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3]) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{os.strerror(number)} (mount {target})")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


if __name__ == "__main__":
    main(sys.argv[1])
