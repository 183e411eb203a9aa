"""Events and kernel output on the runner's stdout."""

from datetime import datetime, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyterlab_ai_batch import wire
from jupyterlab_ai_batch.models import Progress, RunnerEvent
from jupyterlab_ai_batch.queues.event_stream import EventStream

AT = datetime(2026, 1, 1, tzinfo=timezone.utc)
EVENT = RunnerEvent(kind="progress", at=AT, progress=Progress(cell=1, of=2))
LINE = wire.format_event(EVENT).encode()


@given(st.lists(st.integers(min_value=0, max_value=400)))
def test_cut_anywhere(cuts):
    """However the stream is cut into chunks, the same events and the same text come out."""
    whole = b"a\n" + LINE + "mid-line ü".encode() + LINE + b"end\n"
    places = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    stream, events, text = EventStream(), [], b""
    for start, end in pairwise(places):
        found, more = stream.feed(whole[start:end])
        events += found
        text += more
    assert ([EVENT, EVENT], "a\nmid-line üend\n".encode()) == (events, text + stream.finish())


@pytest.mark.parametrize("line", [b"\x1enot json\n", b'\x1e{"kind": 1}\n', b"\x1e[]\n"])
def test_malformed_events_are_text(line):
    """What only looks like an event is shown as output, without its mark."""
    assert ([], line[1:]) == EventStream().feed(line)


def test_an_endless_event_is_not_held_back():
    """A mark followed by megabytes without a newline does not fill the memory."""
    stream = EventStream()
    events, text = stream.feed(b"\x1e" + b"x" * (1 << 20))
    assert ([], 1 << 20, b"") == (events, len(text), stream.finish())
