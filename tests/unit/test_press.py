from __future__ import annotations

import threading

import pytest

from jupyterlab_ai_batch.oci.layout import ImageLayout
from jupyterlab_ai_batch.snapshot import press
from jupyterlab_ai_batch.snapshot.press import Press


def test_a_failure_while_chunks_wait_for_a_compressor_ends_at_once(tmp_path, monkeypatch):
    """What is cancelled is not waited for; nothing is left in the store."""
    go_on = threading.Event()

    def compress(_chunk):
        go_on.wait()
        return b""

    monkeypatch.setattr(press, "compress_member", compress)
    with pytest.raises(ValueError, match="mine"):
        fail_midway(ImageLayout(tmp_path / "store"), go_on)
    assert list((tmp_path / "store/tmp").iterdir()) == []
    assert list((tmp_path / "store/blobs/sha256").iterdir()) == []


def fail_midway(store, go_on):
    with Press(store, on_wait=lambda: None, on_bytes=lambda _: None) as working:
        stream = working.begin()
        for _ in range(press.CHUNKS_IN_FLIGHT):
            stream.feed(bytearray(10))
        threading.Timer(0.05, go_on.set).start()
        raise ValueError("mine")
