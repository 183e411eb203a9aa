"""The runner's stdout, taken apart into events and kernel output. Pure."""

from __future__ import annotations

from ..models import RunnerEvent
from ..wire import EVENT_MARK, MAX_EVENT_CHARS, parse_event

_MARK = EVENT_MARK.encode()


class EventStream:
    """Feeds on chunks of bytes, cut anywhere; holds back no more than one event's worth of them."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, chunk: bytes) -> tuple[list[RunnerEvent], bytes]:
        """The events that are complete now, and the kernel output between them."""
        events: list[RunnerEvent] = []
        text = bytearray()
        rest = self._held + chunk
        self._held = b""
        while rest:
            before, mark, after = rest.partition(_MARK)
            text += before
            if not mark:
                break
            line, newline, rest = after.partition(b"\n")
            if not newline and len(line) <= 4 * MAX_EVENT_CHARS:
                self._held = mark + line
                break
            event = parse_event(EVENT_MARK + line.decode("utf-8", "replace"))
            if event is not None:
                events.append(event)
            else:
                text += line + newline
        return events, bytes(text)

    def finish(self) -> bytes:
        """What is left when the stream has ended, as kernel output."""
        held, self._held = self._held, b""
        return held.removeprefix(_MARK)
