"""The runner's stdout: events, and between them the kernel's output as lines of text (see ``wire``)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from time import monotonic
from typing import Any, Protocol

from ..models import Progress, RunnerEvent
from ..wire import EVENT_MARK, format_event

MAX_LINE_CHARS = 16 * 1024
MAX_EVALUE_CHARS = 2000
BAR_INTERVAL_S = 10.0

_ANSI = re.compile(r"\x1b\[[0-9;:?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-Z\\-_]")


def strip_ansi(text: str) -> str:
    """Text without terminal colours and other escape sequences."""
    return _ANSI.sub("", text).replace("\x1b", "")


class LineCollapser:
    """Turns one stream of kernel output into log lines.

    A carriage return starts the line anew, as on a terminal: of a progress bar only the last state in every
    ``BAR_INTERVAL_S`` becomes a line. A line longer than ``MAX_LINE_CHARS`` is cut and says by how much.
    """

    def __init__(self, *, timer: Callable[[], float] = monotonic) -> None:
        self._timer = timer
        self._line = ""
        self._left_out = 0
        self._returned = False
        self._is_bar = False
        self._bar_shown_at = timer()

    def feed(self, text: str) -> str:
        """The complete lines, each with its newline, that are ready once ``text`` has come."""
        *complete, rest = text.replace(EVENT_MARK, "").replace("\r\n", "\n").split("\n")
        lines = []
        for part in complete:
            self._append(part)
            lines.append(self._take())
        self._append(rest)
        if self._is_bar and self._line and self._timer() - self._bar_shown_at >= BAR_INTERVAL_S:
            self._bar_shown_at = self._timer()
            lines.append(self._format())
        return "".join(lines)

    def flush(self) -> str:
        """The line begun so far, with a newline; empty when there is none."""
        return self._take() if self._line else ""

    def _append(self, part: str) -> None:
        for number, piece in enumerate(part.split("\r")):
            if number:
                self._returned = self._is_bar = True
            if not piece:
                continue
            if self._returned:
                self._line, self._left_out, self._returned = "", 0, False
            room = MAX_LINE_CHARS - len(self._line)
            self._line += piece[:room]
            self._left_out += max(len(piece) - room, 0)

    def _take(self) -> str:
        line = self._format()
        self._line, self._left_out = "", 0
        self._returned = self._is_bar = False
        return line

    def _format(self) -> str:
        return self._line + (f" … ({self._left_out} more characters)\n" if self._left_out else "\n")


class LineStream(Protocol):
    """What the Reporter writes whole lines to."""

    def write(self, lines: bytes, /) -> object: ...

    def flush(self) -> None: ...


class Reporter:
    """Writes the line protocol; every call is flushed. When nobody reads any more, ``on_closed`` is called, once."""

    def __init__(
        self, stream: LineStream, *, clock: Callable[[], datetime], on_closed: Callable[[], None] = lambda: None
    ) -> None:
        self._stream = stream
        self._clock = clock
        self._on_closed = on_closed
        self._closed = False
        self._collapsers: dict[str, LineCollapser] = {}
        self._last_stream = ""

    def progress(self, cell: int, of: int) -> None:
        """Cell ``cell`` (1-based among code cells; 0 before the first) of ``of`` begins now."""
        now = self._clock()
        self._event("progress", progress=Progress(cell=cell, of=of, cell_started_at=now if cell else None))

    def stored(self) -> None:
        """An OutputSet is in the outbox."""
        self._event("stored")

    def failed(self, error: Mapping[str, Any]) -> None:
        """The run failed; the text in ``error`` is cut to what a user can read."""
        self._event("failed", error={key: _shorten(value) for key, value in error.items()})

    def finished(self) -> None:
        """Every cell was executed and the outputs are stored."""
        self._event("finished")

    def text(self, stream: str, text: str) -> None:
        """Kernel output of ``stream`` (``stdout``, ``stderr``, ``kernel``, …)."""
        lines = self._collapsers[self._last_stream].flush() if self._last_stream not in ("", stream) else ""
        self._last_stream = stream
        lines += self._collapsers.setdefault(stream, LineCollapser()).feed(text)
        self._write(lines)

    def say(self, line: str) -> None:
        """One line of the runner's own."""
        self.flush()
        self._write(LineCollapser().feed(line.replace("\n", " ") + "\n"))

    def flush(self) -> None:
        """End the lines begun so far."""
        self._write("".join(collapser.flush() for collapser in self._collapsers.values()))

    def _event(self, kind: str, *, progress: Progress | None = None, error: Mapping[str, Any] | None = None) -> None:
        self.flush()
        self._write(format_event(RunnerEvent(kind=kind, at=self._clock(), progress=progress, error=error)))

    def _write(self, text: str) -> None:
        if not text or self._closed:
            return
        try:
            self._stream.write(text.encode("utf-8", "replace"))
            self._stream.flush()
        except OSError:
            self._closed = True
            self._on_closed()


def _shorten(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = strip_ansi(value).replace(EVENT_MARK, "")
    return text if len(text) <= MAX_EVALUE_CHARS else f"{text[:MAX_EVALUE_CHARS]}…"
