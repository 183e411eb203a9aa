"""What the harnesses begin with: inputs that are right, or wrong in ways that somebody thought of."""

from __future__ import annotations

import gzip
import json
from dataclasses import asdict, replace
from pathlib import Path

from snapshot_forgery import BLOCK, END, WORK_ONLY, Forgery, directory, entry, hard_link, pax, symlink
from test_hostile_layers import HOSTILE

from jupyterlab_ai_batch.oci.manifest import SnapshotImage, build_config, build_manifest
from jupyterlab_ai_batch.oci.work_index import WorkIndexEntry
from jupyterlab_ai_batch.snapshot.environment_index import EnvironmentEntry

MAX_SEED_BYTES = 8192


def write_layers(corpus: Path, *, prefix: bytes) -> None:
    """Tar streams: a good one of every kind of entry, and the hostile ones."""
    good = directory(b"w") + directory(b"w/d") + entry(b"w/a", b"content") + hard_link(b"w/b", b"w/a")
    good += symlink(b"w/l", b"../outside") + pax((b"path", b"w/long"), (b"mtime", b"1.5")) + entry() + entry(b"w/.wh.x")
    streams = [good + END, *(b"".join(tars) + END for tars in HOSTILE.values())]
    for number, stream in enumerate(streams):
        if len(stream) <= MAX_SEED_BYTES:
            (corpus / str(number)).write_bytes(prefix + stream)


def put_checksums_right(data: bytes) -> bytes:
    """Go from header to header, as a reader does."""
    tar = bytearray(data)
    at = 0
    while at + BLOCK <= len(tar) and any(tar[at : at + BLOCK]):
        tar[at + 148 : at + 156] = b" " * 8
        tar[at + 148 : at + 156] = b"%06o\0 " % sum(tar[at : at + BLOCK])
        size = bytes(tar[at + 124 : at + 136]).strip(b" \0")
        length = int(size, 8) if size.isdigit() and not set(size) & set(b"89") else 0
        at += BLOCK + length + -length % BLOCK
    return bytes(tar)


def write_records(corpus: Path) -> None:
    """One input for each parser of ``records``; the first byte chooses it."""
    lines = index_lines()
    packed = [gzip.compress(line) for line in lines]
    for number, content in enumerate([b"", *lines, *packed, b"", b""]):
        (corpus / str(number)).write_bytes(bytes([number]) + content)


def index_lines() -> tuple[bytes, bytes]:
    """A line of the work tree's index and one of the environment's list."""
    work = WorkIndexEntry(path="a", type="symlink", size=1, mtime_ns=2, sha256="", mode=0, target="t")
    environment = EnvironmentEntry("e/a", 0o100644, 1, "0" * 64, "pack", "", is_timed=False)
    return json.dumps(asdict(work)).encode(), json.dumps(environment).encode()


def image() -> tuple[bytes, bytes]:
    """A good manifest and its config."""
    forgery = Forgery(content=replace(WORK_ONLY, prefixes=("/e",), executable="/e/bin/python"))
    for name in ("base", "delta"):
        forgery.add(entry(b"w/a") + END, name=name)
    described = SnapshotImage(content=forgery.content, layers=tuple(forgery.layers))
    manifest = build_manifest("sha256:" + "0" * 64, 1, described.layers)
    return manifest, build_config(described, architecture="amd64")
