"""Single Debian packages, unpacked into the cache without being installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from .binaries import locked, report
from .errors import BuildError
from .places import cache_directory


def unpacked(package: str) -> Path:
    """The directory with a package's files; fetched and unpacked now when the cache does not have it.

    Raises:
        BuildError: this is no Debian, or its package lists do not know the package.
    """
    place = cache_directory() / "debian"
    target = place / package
    if not target.is_dir():
        place.mkdir(parents=True, exist_ok=True)
        with locked(place / f"{package}.lock"):
            if not target.is_dir():
                _unpack(package, target)
    return target


def _unpack(package: str, target: Path) -> None:
    report(f"{package}: fetching")
    partial = target.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    # As root, apt would read and write as a user that may not enter the cache.
    fetch = ["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", package]
    if _run(fetch, partial) is not None:
        _run(["apt-get", "update", "-q"], partial)
        if (complaint := _run(fetch, partial)) is not None:
            raise BuildError(f"The Debian package {package} cannot be fetched: {complaint}")
    (archive,) = partial.glob("*.deb")
    if (complaint := _run(["dpkg-deb", "--extract", archive.name, "."], partial)) is not None:
        raise BuildError(f"{archive.name} cannot be unpacked: {complaint}")
    archive.unlink()
    partial.rename(target)


def _run(command: list[str], directory: Path) -> str | None:
    """What a command complained about; None when it did not."""
    try:
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return f"{command[0]} is not installed"
    return None if done.returncode == 0 else done.stderr.strip()[-1000:]
