"""The runner's line protocol."""

from __future__ import annotations

import io
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyterlab_ai_batch import wire
from jupyterlab_ai_batch.models import Progress
from jupyterlab_ai_batch.runner.progress import BAR_INTERVAL_S, MAX_LINE_CHARS, LineCollapser, Reporter, strip_ansi

NOW = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)


class Timer:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_lines_come_when_they_are_complete():
    """A line begun waits for its end."""
    collapser = LineCollapser()
    assert [collapser.feed(text) for text in ("a", "b\nc", "\n", "d")] == ["", "ab\n", "c\n", ""]
    assert collapser.flush() == "d\n"
    assert collapser.flush() == ""


@pytest.mark.parametrize(
    ("fed", "lines"),
    [
        (["\r1%", "\r2%", "\r100%\n"], "100%\n"),
        (["1%\r", "2%\r", "100%\r", "\n"], "100%\n"),
        (["windows\r\n", "ends\r\n"], "windows\nends\n"),
        (["a\rb\nc\rd\n"], "b\nd\n"),
        (["long\r", "\r", "\r\r", "x\n"], "x\n"),
    ],
)
def test_carriage_return_begins_the_line_anew(fed, lines):
    """Only what a terminal would show at the end of a line is a line."""
    collapser = LineCollapser()
    assert "".join(map(collapser.feed, fed)) == lines


def test_progress_bar_shows_its_state_now_and_then():
    """A bar that runs for hours is seen in the log before it ends."""
    timer = Timer()
    collapser = LineCollapser(timer=timer)
    shown = []
    for second in range(25):
        timer.now = float(second)
        shown.append(collapser.feed(f"\r{second} of 25"))
    assert [line for line in shown if line] == [f"{int(BAR_INTERVAL_S)} of 25\n", f"{2 * int(BAR_INTERVAL_S)} of 25\n"]


def test_long_line_is_cut_and_says_so():
    """Memory and log stay bounded however long a line is."""
    collapser = LineCollapser()
    for _ in range(3):
        collapser.feed("x" * MAX_LINE_CHARS)
    assert collapser.feed("\n") == "x" * MAX_LINE_CHARS + f" … ({2 * MAX_LINE_CHARS} more characters)\n"
    assert collapser.feed("y\n") == "y\n"


@given(st.lists(st.text(st.sampled_from("ab\r\n\x1e é\udcff"), max_size=8), max_size=12))
def test_no_text_becomes_an_event(texts):
    """Whatever the kernel writes, no line of it is read as an event and none is left unfinished."""
    stream = io.BytesIO()
    reporter = Reporter(stream, clock=lambda: NOW)
    for number, text in enumerate(texts):
        reporter.text("stdout" if number % 3 else "stderr", text)
    reporter.flush()
    written = stream.getvalue().decode()
    assert wire.EVENT_MARK not in written
    assert written == "" or written.endswith("\n")


def test_event_is_a_line_of_its_own():
    """Text begun before an event is ended first."""
    stream = io.BytesIO()
    reporter = Reporter(stream, clock=lambda: NOW)
    reporter.text("stdout", "begun")
    reporter.progress(1, 2)
    text, event, rest = stream.getvalue().decode().split("\n")
    parsed = wire.parse_event(event)
    assert (text, rest) == ("begun", "")
    assert parsed is not None
    assert parsed.progress == Progress(cell=1, of=2, cell_started_at=NOW)


def test_error_with_any_text_is_a_readable_event():
    """Marks, colours and lone surrogates in an exception do not break its event."""
    stream = io.BytesIO()
    Reporter(stream, clock=lambda: NOW).failed({"cell": 3, "evalue": "\x1e\x1b[31m\ud800" + "x" * 10**6, "ename": "E"})
    event = wire.parse_event(stream.getvalue().decode())
    assert event is not None
    assert event.error is not None
    assert event.error["evalue"].startswith("\ud800xxx")


def test_closed_stream_is_told_once():
    """A reader that went away is noticed and the run can go on to save."""

    class Closed(io.RawIOBase):
        def write(self, _) -> int:
            raise BrokenPipeError

    told: list[bool] = []
    reporter = Reporter(Closed(), clock=lambda: NOW, on_closed=lambda: told.append(True))
    reporter.say("one")
    reporter.say("two")
    assert told == [True]


def test_terminal_sequences_are_removed():
    """Colours, titles and cursor movements are not text."""
    assert strip_ansi("\x1b[1;31mred\x1b[0m \x1b]0;title\x07x\x1b[2Ky\x1b(B") == "red xy(B"
