"""The log file of an Attempt."""

from hypothesis import given
from hypothesis import strategies as st

from jupyterlab_ai_batch.queues.log_file import LogWriter, _whole_characters, read_log


@given(st.text(), st.integers(min_value=0, max_value=3))
def test_cut_at_characters(text, cut):
    """Text that is cut inside a character is read up to it."""
    whole = text.encode()
    part = whole[: len(whole) - cut] if cut else whole
    kept = part[: _whole_characters(part)]
    assert kept.decode() == part.decode("utf-8", "ignore")


def test_bytes_that_are_not_text(tmp_path):
    """A log that is not UTF-8 is read to its end all the same."""
    path = tmp_path / "log.txt"
    path.write_bytes(b"\x80\x80\x80\x80\xff")
    chunk = read_log(path, attempt=1, offset=0, limit_bytes=100, ended=True)
    assert (5, True) == (chunk.next_offset, chunk.complete)


def test_offset_beyond_the_end(tmp_path):
    """An offset beyond the end is the end."""
    path = tmp_path / "log.txt"
    path.write_bytes(b"abc")
    chunk = read_log(path, attempt=1, offset=99, limit_bytes=100, ended=False)
    assert ("", 3, 3, False) == (chunk.text, chunk.offset, chunk.next_offset, chunk.complete)


def test_no_log(tmp_path):
    """An Attempt that never wrote has an empty log."""
    assert read_log(tmp_path / "no", attempt=1, offset=5, limit_bytes=1, ended=True).complete


def test_notes_are_lines(tmp_path):
    """What we say stands on a line of its own; a log that is full stays as it is."""
    log = LogWriter(tmp_path / "log.txt", limit_bytes=60)
    log.write(b"output")
    log.note("Hello.")
    log.write("ü".encode() * 60)
    log.write(b"dropped")
    log.close()
    text = (tmp_path / "log.txt").read_text()
    assert text.startswith("output\n[ai-batch] Hello.\nü")
    assert text.endswith("the rest is not kept.\n")
    assert "dropped" not in text
