from __future__ import annotations

import gzip
import io
import os
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyterlab_ai_batch.errors import SnapshotCorruptError
from jupyterlab_ai_batch.snapshot import codec
from jupyterlab_ai_batch.snapshot.tarreader import TarReader
from jupyterlab_ai_batch.snapshot.tarstream import DIRECTORY, FILE, HARD_LINK, SYMLINK, TarHeader, TarWriter

_PART = st.binary(min_size=1, max_size=120).filter(
    lambda b: b"\0" not in b and b"/" not in b and b not in (b".", b"..")
)
_PATH = st.lists(_PART, min_size=1, max_size=5).map(lambda parts: os.fsdecode(b"/".join(parts)))
_NUMBER = st.integers(0, 2**31)
_HEADER = st.builds(
    TarHeader,
    path=_PATH,
    kind=st.sampled_from([FILE, SYMLINK, DIRECTORY, HARD_LINK]),
    mode=st.integers(0, 0o7777),
    mtime_ns=st.integers(-(2**62), 2**62),
    uid=_NUMBER,
    gid=_NUMBER,
    target=_PATH,
)


def _write(entries: list[tuple[TarHeader, bytes]], chunk_bytes: int = 1 << 16) -> tuple[bytes, list[int]]:
    chunks: list[bytes] = []
    writer = TarWriter(chunks.append, chunk_bytes=chunk_bytes)
    for header, content in entries:
        writer.add(header)
        if content:
            writer.write(content)
    writer.close()
    return b"".join(chunks), [len(chunk) for chunk in chunks]


def _complete(header: TarHeader, content: bytes) -> tuple[TarHeader, bytes]:
    """The header with the size of its content, without what its kind does not have."""
    content = content if header.kind == FILE else b""
    target = header.target if header.kind in (SYMLINK, HARD_LINK) else ""
    values = {name: getattr(header, name) for name in ("path", "kind", "mode", "mtime_ns", "uid", "gid")}
    return TarHeader(**values, size=len(content), target=target), content


_ENTRIES = st.lists(st.builds(_complete, _HEADER, st.binary(max_size=2000)), max_size=6)


@given(_ENTRIES)
def test_what_is_written_is_read_back(entries):
    """Any name, time, owner and content survives the round trip."""
    data, _ = _write(entries)
    reader = TarReader(io.BytesIO(data))
    assert [(header, reader.read(10_000)) for header in reader] == entries


@given(_ENTRIES)
def test_others_read_the_same(entries):
    """The standard library's reader sees the same names, kinds, links, sizes and owners."""
    data, _ = _write(entries)
    with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape") as archive:
        found = [(m.name, m.type, m.linkname, m.size if m.isreg() else 0, m.uid, m.mode) for m in archive]
    expected = [(h.path.rstrip("/") or h.path, h.kind, h.target, h.size, h.uid, h.mode) for h, _ in entries]
    assert [item[1:] for item in found] == [item[1:] for item in expected]
    assert [item[0] for item in found] == [item[0] for item in expected]


@given(st.binary(max_size=3000))
def test_hostile_bytes_are_refused_or_harmless(data):
    """Whatever the stream holds, the reader ends with its own error or normally."""
    try:
        for _ in TarReader(io.BytesIO(data + bytes(1024))):
            pass
    except SnapshotCorruptError:
        pass


@given(_ENTRIES.filter(bool), st.data())
def test_a_flipped_header_byte_never_escapes_as_another_error(entries, data):
    """Damage gives snapshot_corrupt, or another entry, never a crash."""
    raw = bytearray(_write(entries)[0])
    raw[data.draw(st.integers(0, 511))] ^= data.draw(st.integers(1, 255))
    try:
        for _ in TarReader(io.BytesIO(bytes(raw))):
            pass
    except SnapshotCorruptError:
        pass


def test_chunks_have_the_size_that_was_asked_for():
    """All but the last: compressed members depend on nothing else."""
    content = os.urandom(10_000)
    _, sizes = _write([(TarHeader(path="a", kind=FILE, mode=0, size=len(content)), content)], chunk_bytes=4096)
    assert sizes == [4096, 4096, 3584]


def test_content_must_match_its_header():
    """Too much or too little is refused while writing."""
    writer = TarWriter(lambda _chunk: None, chunk_bytes=512)
    writer.add(TarHeader(path="a", kind=FILE, mode=0, size=2))
    with pytest.raises(ValueError, match="more"):
        writer.write(b"abc")
    with pytest.raises(ValueError, match="missing"):
        writer.close()


def test_members_are_independent_gzip_without_a_time():
    """A layer is the concatenation of members that any gzip reads, the same every time."""
    first, second = os.urandom(1000), bytes(5000)
    blob = codec.compress_member(first) + codec.compress_member(second)
    assert gzip.decompress(blob) == first + second
    assert blob[4:8] == bytes(4)
    with codec.open_decompressed(io.BytesIO(blob)) as stream:
        assert stream.read() == first + second


def test_the_fallback_codec_has_the_same_content(monkeypatch):
    """Without ISA-L the blob differs, its content does not."""
    data = b"abc" * 100_000
    monkeypatch.setattr(codec, "igzip_lib", None)
    monkeypatch.setattr(codec, "_load_isal", lambda _name: None)
    blob = codec.compress_member(data) * 2
    assert codec.open_decompressed(io.BytesIO(blob)).read() == data * 2
