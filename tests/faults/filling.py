"""Fills disks under captures, for real: run it where mounts are one's own (``unshare --mount``).

python -m tests.faults.filling DIRECTORY store|index|temporary|registry
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from jupyterlab_ai_batch.errors import BatchError
from jupyterlab_ai_batch.oci.layout import ImageLayout
from jupyterlab_ai_batch.oci.port import BlobStore
from tests.registries import RegistryServer, open_registry

from .described import DescribedHome, small_home

SIZES = ("4k", "64k", "256k", "1m", "3m", "6m", "9m")
ENOUGH = "200m"
EXPECTED = {"storage_full", "storage_failed", "registry_failed", "registry_unreachable"}


def main() -> int:
    base, what = Path(sys.argv[1]), sys.argv[2]
    home = small_home(base)
    place = base / "disk"
    place.mkdir()
    for size in SIZES:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", place], check=True)
        try:
            fill_once(home, place, what, size)
        finally:
            subprocess.run(["umount", "--lazy", place], check=True)
    return 0


def fill_once(home: DescribedHome, place: Path, what: str, size: str) -> None:
    """A capture on a disk of this size; then the disk grows, and the next capture succeeds."""
    for name in home.names:
        home.write(name, in_place=False)
    with opened(home, place, what) as (store, index):
        try:
            home.capture(store, f"small-{size}", index=index)
        except BatchError as exc:
            print(f"{what} of {size}: {exc.code}: {exc.message}")
            if exc.code not in EXPECTED:
                raise
        else:
            print(f"{what} of {size}: enough")
    subprocess.run(["mount", "-o", f"remount,size={ENOUGH}", place], check=True)
    with opened(home, place, what) as (store, index):
        home.check(store)
        home.capture(store, f"large-{size}", index=index)
        home.check(store, latest=f"large-{size}")


@contextmanager
def opened(home: DescribedHome, place: Path, what: str) -> Iterator[tuple[BlobStore, Path]]:
    """The store and the index's path; one of them, or what they need besides, lies on the small disk."""
    layout, index = ImageLayout(home.data / "store"), home.data / "index.db"
    if what == "store":
        yield ImageLayout(place / "store"), home.data / f"{place.stat().st_dev}.db"
    elif what == "index":
        yield layout, place / "data" / "index.db"
    elif what == "temporary":
        with open_database(home.home / "live.db"):
            tempfile.tempdir = str(place)
            yield layout, index
    else:
        with RegistryServer(place / "registry") as server, open_registry(server.host) as store:
            yield store, home.data / f"{place.stat().st_dev}.db"


@contextmanager
def open_database(path: Path) -> Iterator[None]:
    """A database in use: only SQLite itself can copy it, and that needs temporary space."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE IF NOT EXISTS t(content)")
        connection.execute("INSERT INTO t VALUES (randomblob(300000))")
        connection.commit()
        yield


if __name__ == "__main__":
    sys.exit(main())
