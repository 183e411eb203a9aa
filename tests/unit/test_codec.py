from __future__ import annotations

import gzip
import hashlib
import io
import os
import threading
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyterlab_ai_batch.errors import StorageFullError
from jupyterlab_ai_batch.oci.layout import ImageLayout
from jupyterlab_ai_batch.snapshot import codec
from jupyterlab_ai_batch.snapshot.press import CHUNKS_IN_FLIGHT, Press

MIB = 1 << 20
NOISE = os.urandom(MIB)
TEXT = b"the same line again\n" * (MIB // 20)


@pytest.mark.parametrize(
    ("content", "smallest", "largest"),
    [
        (b"", 1, 100),
        (b"x", 1, 100),
        (NOISE[:100], 100, 200),
        (NOISE, MIB, MIB + 200),
        (TEXT, 1, MIB // 10),
        (NOISE + TEXT, MIB // 2, 2 * MIB),
        (bytes(codec.MEMBER_BYTES), 1, MIB // 10),
    ],
)
def test_a_member_is_deflated_where_that_is_worth_it(content, smallest, largest):
    """Noise is stored, everything else becomes smaller; any reader of gzip reads both."""
    member = codec.compress_member(content)
    assert smallest <= len(member) <= largest
    assert gzip.decompress(member) == content
    assert zlib.decompress(member, 31) == content
    assert codec.open_decompressed(io.BytesIO(member)).read() == content


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 300_000)), max_size=6))
def test_members_depend_on_nothing_but_their_content(pieces):
    """The same content gives the same bytes, in whatever kind of memory it comes; and it comes back."""
    content = b"".join((NOISE if noise else TEXT)[:size] for noise, size in pieces)
    member = codec.compress_member(content)
    assert codec.compress_member(memoryview(bytearray(content))) == member
    assert gzip.decompress(member * 2) == content * 2


def press_one(store, chunks, **options) -> tuple[str, bytes]:
    """(diff id, blob) of one layer."""
    with Press(store, on_wait=lambda: None, on_bytes=lambda _: None, **options) as press:
        stream = press.begin()
        for chunk in chunks:
            stream.feed(bytearray(chunk))
        made = press.wait_for(stream.finish())
    return made.diff_id, store.read_blob(made.digest, limit_bytes=1 << 30)


def test_without_isal_the_layers_have_the_same_content(tmp_path, monkeypatch):
    """Another blob, the same diff id."""
    chunks = [NOISE, TEXT, b"end"]
    store = ImageLayout(tmp_path / "store")
    diff_id, blob = press_one(store, chunks)
    monkeypatch.setattr(codec, "igzip_lib", None)
    other_id, other = press_one(store, chunks)
    assert diff_id == other_id == f"sha256:{hashlib.sha256(b''.join(chunks)).hexdigest()}"
    assert gzip.decompress(blob) == gzip.decompress(other) == b"".join(chunks)


def test_layers_come_out_as_they_were_filled(tmp_path):
    """Several layers on their way at once do not mix."""
    store = ImageLayout(tmp_path / "store")
    contents = [bytes([number]) * 100_000 for number in range(20)]
    with Press(store, on_wait=lambda: None, on_bytes=lambda _: None) as press:
        waiting = []
        for content in contents:
            stream = press.begin()
            stream.feed(bytearray(content))
            waiting.append(stream.finish())
        made = [press.wait_for(pressed) for pressed in waiting]
    assert [gzip.decompress(store.read_blob(m.digest, limit_bytes=MIB)) for m in made] == contents


class SlowLayout(ImageLayout):
    """Writes nothing until it is told to."""

    def __init__(self, path):
        super().__init__(path)
        self.go = threading.Event()
        self.failure: Exception | None = None

    def write_blob(self):
        self.go.wait()
        if self.failure is not None:
            raise self.failure
        return super().write_blob()


def test_a_slow_store_is_waited_for(tmp_path):
    """Only some chunks are in memory; whoever feeds more is told that it waits."""
    store = SlowLayout(tmp_path / "store")
    waits = []

    def on_wait() -> None:
        waits.append(fed[0])
        store.go.set()

    fed = [0]
    with Press(store, on_wait=on_wait, on_bytes=lambda _: None) as press:
        stream = press.begin()
        for _ in range(3 * CHUNKS_IN_FLIGHT):
            stream.feed(press.new_chunk(codec.MEMBER_BYTES))
            fed[0] += 1
        press.wait_for(stream.finish())
    assert waits[0] == CHUNKS_IN_FLIGHT


def feed_for_ever(stream) -> None:
    while True:
        stream.feed(bytearray(10))


def test_what_the_store_says_reaches_who_feeds_it(tmp_path):
    """A full disk is told at the next chunk, and to whoever waits for the layer."""
    store = SlowLayout(tmp_path / "store")
    store.failure = StorageFullError("full")
    store.go.set()
    with Press(store, on_wait=lambda: None, on_bytes=lambda _: None) as press:
        stream = press.begin()
        with pytest.raises(StorageFullError):
            feed_for_ever(stream)
        with pytest.raises(StorageFullError):
            press.wait_for(stream.finish())


def test_what_is_discarded_leaves_nothing(tmp_path):
    """Neither a layer that is given up, nor one that an error leaves unfinished, is in the store."""
    store = ImageLayout(tmp_path / "store")

    def fill_some() -> None:
        with Press(store, on_wait=lambda: None, on_bytes=lambda _: None) as press:
            given_up = press.begin()
            given_up.feed(bytearray(NOISE))
            given_up.discard()
            press.begin().feed(bytearray(TEXT))
            raise KeyError

    with pytest.raises(KeyError):
        fill_some()
    assert [path for name in ("tmp", "blobs/sha256") for path in (tmp_path / "store" / name).iterdir()] == []
