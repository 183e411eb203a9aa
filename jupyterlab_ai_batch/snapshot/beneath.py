"""Opening directories below a directory, and nowhere else, whatever the path and the links on the way say."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Callable
from functools import cache

DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_OPENAT2 = 437  # the same on every architecture that Python runs on
_RESOLVE_NO_MAGICLINKS, _RESOLVE_NO_SYMLINKS, _RESOLVE_BENEATH = 0x02, 0x04, 0x08
_HOW = (DIRECTORY_FLAGS, 0, _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS)

OpenBeneath = Callable[[int, str], int]


def open_beneath(root: int, path: str) -> int:
    """A descriptor of the directory ``path`` below the descriptor ``root``; ``""`` is the root itself.

    Raises:
        OSError: ELOOP or ENOTDIR where a part is a link or no directory, EXDEV where it would lead out.
    """
    return (_open_by_openat2 if _has_openat2() else open_step_by_step)(root, path)


def open_step_by_step(root: int, path: str) -> int:
    """The same for kernels before 5.6 and sandboxes that forbid ``openat2``."""
    fd = os.dup(root)
    for part in path.split("/") if path else ():
        if part == "..":
            os.close(fd)
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
        try:
            below = os.open(part, DIRECTORY_FLAGS, dir_fd=fd)
        finally:
            os.close(fd)
        fd = below
    return fd


def _open_by_openat2(root: int, path: str) -> int:
    name = os.fsencode(path) or b"."
    if b"\0" in name:
        raise ValueError("embedded null byte")
    how = (ctypes.c_uint64 * 3)(*_HOW)
    while True:
        fd: int = _libc().syscall(_OPENAT2, root, name, how, ctypes.c_size_t(ctypes.sizeof(how)))
        if fd >= 0:
            return fd
        code = ctypes.get_errno()
        if code not in (errno.EAGAIN, errno.EINTR):  # EAGAIN: something on the way was renamed meanwhile
            raise OSError(code, os.strerror(code), path)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


@cache
def _has_openat2() -> bool:
    if not sys.platform.startswith("linux"):
        return False
    root = os.open("/", DIRECTORY_FLAGS)
    try:
        os.close(_open_by_openat2(root, "."))
    except OSError:
        return False
    finally:
        os.close(root)
    return True
