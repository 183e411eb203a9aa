"""Blobs that wait to be sent: how much of them there may be, and how they are given up."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyterlab_ai_batch.errors import RegistryError
from jupyterlab_ai_batch.oci import uploads
from jupyterlab_ai_batch.oci.uploads import Spool, Uploads

WAIT_S = 30


@pytest.fixture
def small(monkeypatch):
    """Limits of some bytes instead of megabytes."""
    monkeypatch.setattr(uploads, "MEMORY_BYTES", 100)
    monkeypatch.setattr(uploads, "PENDING_MEMORY_BYTES", 200)
    monkeypatch.setattr(uploads, "PENDING_BYTES", 1000)
    monkeypatch.setattr(uploads, "PIECE_BYTES", 7)


def spool_of(content, directory):
    spool = Spool(directory)
    spool.write(content)
    return spool


@given(data=st.data())
def test_any_part_comes_as_often_as_it_is_asked_for(tmp_path_factory, data):
    """From memory and from a file, whatever the pieces were."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uploads, "MEMORY_BYTES", 100)
        patch.setattr(uploads, "PIECE_BYTES", 7)
        pieces = data.draw(st.lists(st.binary(max_size=60), max_size=6))
        whole = b"".join(pieces)
        spool = Spool(tmp_path_factory.mktemp("spool"))
        for piece in pieces:
            spool.write(piece)
        start = data.draw(st.integers(0, len(whole)))
        end = data.draw(st.integers(start, len(whole)))
        body = spool.body(start, end)
        assert [b"".join(body.pieces()), b"".join(body.pieces())] == [whole[start:end]] * 2
        assert (body.length, spool.size, spool.memory_bytes) == (
            end - start,
            len(whole),
            len(whole) if len(whole) <= 100 else 0,
        )
        spool.close()


@pytest.mark.parametrize(("size", "at_once"), [(90, 2), (150, 6), (400, 2), (1500, 1)])
def test_only_so_much_waits(small, tmp_path, size, at_once):
    """In memory (90), on disk (the others); a blob that is larger than all limits is sent alone."""
    changed, taken, most = threading.Condition(), [0], [0]

    def send(_):
        with changed:  # as slow as to let the writer run ahead, as far as it can
            assert changed.wait_for(lambda: taken[0] >= at_once or taken[0] == len(left), WAIT_S)
            taken[0] -= 1
            left.pop()

    left = list(range(24))
    with ThreadPoolExecutor(4) as threads:
        pending = Uploads(send, threads)
        for number in range(24):
            pending.start(spool_of(bytes([number]) * size, tmp_path))
            with changed:
                taken[0] += 1
                most[0] = max(most[0], taken[0])
                changed.notify_all()
        pending.finish()
    assert (left, most[0]) == ([], at_once)
    assert list(tmp_path.iterdir()) == []


def test_giving_up_wakes_who_waits(small, tmp_path):
    """A writer that waits for room gets an error, what is being sent ends, and nothing stays on disk."""
    sending = threading.Event()

    def send(spool):
        sending.set()
        while True:  # until it is given up
            for _ in spool.body(0, spool.size).pieces():
                pass

    threads, writer = ThreadPoolExecutor(2), ThreadPoolExecutor(1)
    pending = Uploads(send, threads)
    pending.start(spool_of(b"x" * 900, tmp_path))
    waits = writer.submit(pending.start, spool_of(b"y" * 900, tmp_path))
    assert sending.wait(WAIT_S)
    pending.close()
    with pytest.raises(RegistryError, match="given up"):
        waits.result(WAIT_S)
    writer.shutdown()
    assert list(tmp_path.iterdir()) == []


def test_a_failure_is_raised_once(tmp_path):
    """By the next call; the one after it goes on."""

    def send(_):
        raise RegistryError("no")

    with ThreadPoolExecutor(1) as threads:
        pending = Uploads(send, threads)
        pending.start(spool_of(b"content", tmp_path))
        with pytest.raises(RegistryError, match="no"):
            pending.finish()
        pending.finish()
        pending.raise_failed()
