"""A pod's log as it comes from the cluster -> the lines that are new, and what the runner says in them. Pure.

Why times and not offsets: the API gives a log from its beginning, or from a second on, never from a byte on, and once
the kubelet has rotated the file (10 MB), its beginning is another one. So each line is asked for with its time, and a
reader that comes back asks for the lines since the second of the last one that it took, and leaves out those before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from ...models import Progress, RunnerEvent
from ..event_stream import EventStream

MAX_LINE_BYTES = 1024**2
MAX_TEXT_CHARS = 4096
MAX_NUMBER = 2**53
_STAMP = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d) ")
_SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPlace:
    """Where a reader of a pod's log stands.

    Attributes:
        at_ns: Time of the last line that was taken, since 1970; 0 before the first.
        count: How many lines of this very time were taken.
    """

    at_ns: int = 0
    count: int = 0

    @property
    def since(self) -> str:
        """What to ask the cluster for: everything from this second on; empty for all."""
        if not self.at_ns:
            return ""
        return datetime.fromtimestamp(self.at_ns // _SECOND_NS, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerReport:
    """What the runner has said in its log so far.

    Attributes:
        failure: The last ``failed`` event's error: text that the job wrote.
        stored: How many times it has stored an OutputSet.
        finished: It came to its end.
    """

    progress: Progress | None = None
    failure: Mapping[str, Any] | None = None
    stored: int = 0
    finished: bool = False


def note_event(report: RunnerReport, event: RunnerEvent) -> RunnerReport:
    """The report after one more event; kinds that are not known change nothing."""
    if event.kind == "progress" and event.progress is not None:
        return replace(report, progress=event.progress)
    if event.kind == "stored":
        return replace(report, stored=report.stored + 1)
    if event.kind == "failed":
        return replace(report, failure=_plain(event.error or {}))
    return replace(report, finished=True) if event.kind == "finished" else report


class LogReader:
    """Takes each line once, over any number of streams of the same log.

    Attributes:
        place: After the last line that was taken.
        report: What the runner has said up to there.
    """

    def __init__(self, place: LogPlace, report: RunnerReport) -> None:
        self.place = place
        self.report = report
        self._events = EventStream()
        self.begin()

    def begin(self) -> None:
        """A new stream begins, from ``place.since`` on: a line that broke off comes again, whole."""
        self._held = b""
        self._is_cut = False
        self._to_skip: LogPlace | None = self.place if self.place.at_ns else None
        self._skipped = 0

    def feed(self, chunk: bytes) -> bytes:
        """The text of the lines that are complete and new, without the runner's events."""
        text = bytearray()
        for line in self._split(chunk):
            text += self._take(line)
        return bytes(text)

    def finish(self) -> bytes:
        """The log has ended: what stands after its last end of line."""
        rest, self._held = self._held, b""
        return (self._take(rest) if rest else b"") + self._events.finish()

    def _split(self, chunk: bytes) -> Iterator[bytes]:
        """Whole lines; of an endless one, what fits."""
        *whole, rest = (self._held + chunk).split(b"\n")
        for line in whole:
            if not self._is_cut:
                yield line + b"\n"
            self._is_cut = False
        self._held = b"" if self._is_cut else rest
        if len(self._held) > MAX_LINE_BYTES:
            yield self._held[:MAX_LINE_BYTES] + b"\n"
            self._held, self._is_cut = b"", True

    def _take(self, line: bytes) -> bytes:
        found = _parse_stamp(line)
        at_ns, text = found if found is not None else (self.place.at_ns, line)
        if self._to_skip is not None and self._is_known(at_ns, self._to_skip):
            return b""
        self._to_skip = None
        self.place = LogPlace(at_ns=at_ns, count=self.place.count + 1 if at_ns == self.place.at_ns else 1)
        events, output = self._events.feed(text)
        for event in events:
            self.report = note_event(self.report, event)
        return output

    def _is_known(self, at_ns: int, last: LogPlace) -> bool:
        if at_ns == last.at_ns and self._skipped < last.count:
            self._skipped += 1
            return True
        return at_ns < last.at_ns


def _plain(error: Mapping[str, Any]) -> Mapping[str, Any]:
    """What can be written as JSON again, and is not too long: the job may have written anything."""
    texts = {key: value[:MAX_TEXT_CHARS] for key, value in error.items() if isinstance(value, str)}
    numbers = {key: value for key, value in error.items() if type(value) is int and abs(value) <= MAX_NUMBER}
    return {**texts, **numbers}


def _parse_stamp(line: bytes) -> tuple[int, bytes] | None:
    """The time before a line, in ns since 1970, and the line; None where no time stands before it."""
    match = _STAMP.match(line)
    if match is None:
        return None
    seconds, fraction, offset = (part.decode() if part else "" for part in match.groups())
    try:
        at = datetime.fromisoformat(seconds + ("+00:00" if offset == "Z" else offset))
    except ValueError:
        return None
    return int(at.timestamp()) * _SECOND_NS + int(fraction.ljust(9, "0") or 0), line[match.end() :]
