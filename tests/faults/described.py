"""Files that tell of themselves which version they are, so that a mix of two moments is seen in any of them."""

from __future__ import annotations

import json
import mmap
import struct
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from random import Random
from typing import Any

from jupyterlab_ai_batch.capture_models import CaptureRequest, EnvironmentDescription, SnapshotSummary
from jupyterlab_ai_batch.oci.port import BlobStore
from jupyterlab_ai_batch.snapshot.capture import capture
from jupyterlab_ai_batch.snapshot.index import SignatureIndex

from .checker import Snapshot, ViolationError, check_lists, read_snapshot

NOTEBOOK = json.dumps({"cells": [{"source": "1"}], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
BLOCK = 4096
_HEAD = struct.Struct(">16sQII")  # name, version, number of the block, number of blocks


def describe(name: str, version: int, blocks: int) -> bytes:
    """``blocks`` blocks, each with its own header, and bytes that do not compress."""
    random = Random(f"{name} {version}")  # noqa: S311
    noise = random.randbytes(BLOCK - _HEAD.size)
    heads = (_HEAD.pack(name.encode(), version, number, blocks) for number in range(blocks))
    return b"".join(head + noise for head in heads)


def version_of(name: str, content: bytes) -> int:
    """The one version that all of ``content`` is of.

    Raises:
        ViolationError: it never was so.
    """
    heads = [_HEAD.unpack_from(content, start) for start in range(0, len(content), BLOCK)]
    version, blocks = heads[0][1], heads[0][3]
    expected = [(name.encode().ljust(16, b"\0"), version, number, blocks) for number in range(blocks)]
    if heads != expected or content != describe(name, version, blocks):
        raise ViolationError(f"{name} is torn: {heads[:2]} … {heads[-1:]}")
    return int(version)


@dataclass
class DescribedHome:
    """A home of such files, an environment beside it, and what the last written version of each file is.

    Attributes:
        sizes: In blocks, by file name.
        begun, done: Versions that a writer has begun and has finished to write, by number of the file; shared by
            all processes that are forked from this one.
    """

    base: Path
    sizes: dict[str, int]
    begun: Any = field(init=False)
    done: Any = field(init=False)

    def __post_init__(self) -> None:
        self.home, self.prefix, self.data = self.base / "home", self.base / "env", self.base / "data"
        self.names = sorted(self.sizes)
        shared = [mmap.mmap(-1, 8 * len(self.names)) for _ in range(2)]
        self.begun, self.done = (memoryview(pages).cast("Q") for pages in shared)
        package = self.prefix / "lib/python3.11/site-packages/pack"
        for directory in (self.home, package, self.prefix / "bin", self.data):
            directory.mkdir(parents=True)
        (self.home / "n.ipynb").write_text(NOTEBOOK)
        (package / "big.so").write_bytes(Random(1).randbytes(1 << 20))  # noqa: S311
        (self.prefix / "bin/python").symlink_to("/usr/bin/env")
        for name in self.names:
            self.write(name, in_place=False)

    def write(self, name: str, *, in_place: bool) -> None:
        """The next version, in place as some programs do, or by a rename as careful ones do."""
        number = self.names.index(name)
        self.begun[number] += 1
        content = describe(name, self.begun[number], self.sizes[name])
        path = self.home / name
        if in_place:
            with path.open("r+b", buffering=0) as stream:
                for start in range(0, len(content), BLOCK):
                    stream.write(content[start : start + BLOCK])
        else:
            new = path.with_name(f".~{name}")
            new.write_bytes(content)
            new.replace(path)
        self.done[number] = self.begun[number]

    def capture(self, store: BlobStore, tag: str, **options: Any) -> SnapshotSummary:
        request = CaptureRequest(
            root_dir=self.home,
            notebook=self.home / "n.ipynb",
            environment=EnvironmentDescription(
                kernel_name="python3",
                executable=self.prefix / "bin/python",
                prefix=self.prefix,
                prefixes=(self.prefix,),
                python_version="3.11.0",
            ),
        )
        with SignatureIndex(options.pop("index", self.data / "index.db")) as index:
            return capture(
                request,
                store=store,
                index=index,
                tag=tag,
                progress=lambda _: None,
                clock=lambda: datetime.now(timezone.utc),
                **options,
            )

    def check(self, store: BlobStore, *, latest: str | None = None) -> dict[str, Snapshot]:
        """Every Snapshot is whole, and every file in it of one version; in ``latest``, of the present one.

        Raises:
            ViolationError
        """
        tags = dict(store.tags())
        found = {digest: read_snapshot(store, digest) for digest in set(tags.values())}
        for snapshot in found.values():
            check_lists(snapshot)
            for path, state in snapshot.work.items():
                name = path.rpartition("/")[2]
                if state[0] == "file" and name in self.sizes:
                    version_of(name, state[3])
        if latest is not None:
            self._check_present(found[tags[latest]])
        return {tag: found[digest] for tag, digest in tags.items()}

    def _check_present(self, snapshot: Snapshot) -> None:
        for number, name in enumerate(self.names):
            state = snapshot.work.get(f"{self.home}/{name}", ("absent",))
            if state[0] != "file" or version_of(name, state[3]) != self.done[number]:
                raise ViolationError(f"{name} is not captured as it is")


def small_home(base: Path) -> DescribedHome:
    """A dozen files, 6 MB, two of them large."""
    sizes = {f"f{number}": 1 + number * number for number in range(10)}
    return DescribedHome(base, {**sizes, "large-1": 600, "large-2": 700})
