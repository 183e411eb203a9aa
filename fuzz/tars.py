"""Fuzz the reader of tar streams alone, beside the standard library's: what ours accepts, both read the same way.

A stream that two readers understand differently is how something is shown to one and hidden from the other.
"""

from __future__ import annotations

import io
import os
import sys
import tarfile
import tempfile
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "unit"))

with atheris.instrument_imports(include=["jupyterlab_ai_batch.snapshot"]):
    from jupyterlab_ai_batch.snapshot.tarreader import TarReader

from seeds import put_checksums_right, write_layers

from jupyterlab_ai_batch.errors import SnapshotCorruptError

Entry = tuple[bytes, bytes, bytes, bytes]


def read_ours(stream: bytes) -> list[Entry]:
    reader = TarReader(io.BytesIO(stream))
    entries = []
    for header in reader:
        content = reader.read(1 << 20)
        entries.append((os.fsencode(header.path), header.kind, os.fsencode(header.target), content))
    return entries


def read_theirs(stream: bytes) -> list[Entry]:
    with tarfile.open(fileobj=io.BytesIO(stream), encoding="utf-8", errors="surrogateescape") as archive:
        return [
            (
                os.fsencode(member.name),
                member.type,
                os.fsencode(member.linkname if member.islnk() or member.issym() else ""),
                _content(archive, member),
            )
            for member in archive
        ]


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    opened = archive.extractfile(member) if member.isreg() else None
    return opened.read() if opened is not None else b""


def fuzz_tars(data: bytes) -> None:
    stream = put_checksums_right(data)
    try:
        ours = read_ours(stream)
    except SnapshotCorruptError:
        return
    theirs = read_theirs(stream)
    assert _comparable(ours) == _comparable(theirs), (ours, theirs)


def _comparable(entries: list[Entry]) -> list[Entry]:
    """Without what the library strips from names, and what ours keeps of a link's field where there is no link."""
    return [
        (name.rstrip(b"/"), kind, target if kind in (b"1", b"2") else b"", content)
        for name, kind, target, content in entries
    ]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as corpus:
        write_layers(Path(corpus), prefix=b"")
        atheris.Setup([*sys.argv, corpus, "-max_len=8192"], fuzz_tars)
        atheris.Fuzz()
