"""JSON <-> records, by their type hints: one rule for every record, strict on the way in.

RFC 3339 UTC for times, values for enums, POSIX text for paths, arrays for tuples. Unknown fields are ignored,
missing ones take the record's default, a wrong type is a ``WireError``. The runner's line protocol is here
too: an event is one line, RS (0x1e, as in RFC 7464) followed by a JSON object; every other line is kernel output.
"""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import datetime, timezone
from enum import Enum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from .models import RunnerEvent

EVENT_MARK = "\x1e"
MAX_EVENT_CHARS = 64 * 1024

T = TypeVar("T")


class WireError(ValueError):
    """A JSON value that does not have the shape of the record asked for."""


def to_json(value: Any) -> Any:  # noqa: PLR0911 - one line for each kind
    """Turn a record, or anything inside one, into JSON-serialisable values."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return format_time(value)
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    return value


def from_json(record: type[T], value: Any) -> T:
    """Build a ``record`` from parsed JSON.

    Raises:
        WireError: naming the field that has the wrong shape.
    """
    parsed: T = _parse(record, value, record.__name__)
    return parsed


def dumps(value: Any) -> str:
    """Compact JSON text of a record, which UTF-8 can always encode.

    File names that are not UTF-8 reach us as lone surrogates; such a text is escaped to ASCII, and parses to the same.
    """
    plain = to_json(value)
    text = json.dumps(plain, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(plain, separators=(",", ":"), allow_nan=False)
    return text


def loads(record: type[T], text: str | bytes) -> T:
    """Parse JSON text into a ``record``.

    Raises:
        WireError: not JSON, or not of the record's shape.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise WireError(f"{record.__name__}: not JSON") from exc
    return from_json(record, value)


def format_time(at: datetime) -> str:
    return at.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_time(text: str) -> datetime:
    """Parse RFC 3339; a time without an offset is refused.

    Raises:
        WireError: not such a time.
    """
    try:
        at = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
    except ValueError as exc:
        raise WireError(f"not an RFC 3339 time: {text[:40]!r}") from exc
    if at.tzinfo is None:
        raise WireError(f"time without an offset: {text[:40]!r}")
    return at.astimezone(timezone.utc)


def format_event(event: RunnerEvent) -> str:
    """The runner's line for an event, with its newline."""
    return f"{EVENT_MARK}{json.dumps(to_json(event), separators=(',', ':'))}\n"


def parse_event(line: str) -> RunnerEvent | None:
    """The event in a line of the runner's stdout; None for kernel output and for anything malformed."""
    if not line.startswith(EVENT_MARK) or len(line) > MAX_EVENT_CHARS:
        return None
    from .models import RunnerEvent  # with all that it brings; a capture only needs the rest of this module

    try:
        return loads(RunnerEvent, line[1:])
    except WireError:
        return None


def _parse(expected: Any, value: Any, where: str) -> Any:
    if expected is Any:
        return value
    origin = get_origin(expected)
    if origin in (Union, types.UnionType):
        return _parse_optional(expected, value, where)
    if origin is tuple:
        return _parse_tuple(expected, value, where)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, dict):
            raise WireError(f"{where}: expected an object")
        return {key: _parse(get_args(expected)[1], item, f"{where}.{key}") for key, item in value.items()}
    if is_dataclass(expected):
        return _parse_record(expected, value, where)
    return _parse_scalar(expected, value, where)


def _parse_optional(expected: Any, value: Any, where: str) -> Any:
    if value is None:
        return None
    (inner,) = (arg for arg in get_args(expected) if arg is not type(None))
    return _parse(inner, value, where)


def _parse_tuple(expected: Any, value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise WireError(f"{where}: expected an array")
    args = get_args(expected)
    if args[1:] == (Ellipsis,):
        return tuple(_parse(args[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if len(args) != len(value):
        raise WireError(f"{where}: expected {len(args)} items")
    return tuple(_parse(arg, item, f"{where}[{i}]") for i, (arg, item) in enumerate(zip(args, value, strict=True)))


def _parse_record(record: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise WireError(f"{where}: expected an object")
    known = _record_fields(record)
    missing = [name for name, (_, required) in known.items() if required and name not in value]
    if missing:
        raise WireError(f"{where}: missing {', '.join(missing)}")
    return record(
        **{name: _parse(hint, value[name], f"{where}.{name}") for name, (hint, _) in known.items() if name in value}
    )


@cache
def _record_fields(record: type) -> dict[str, tuple[Any, bool]]:
    hints = get_type_hints(record)
    return {
        field.name: (hints[field.name], field.default is MISSING and field.default_factory is MISSING)
        for field in fields(record)
    }


def _parse_scalar(expected: Any, value: Any, where: str) -> Any:
    if expected is datetime and isinstance(value, str):
        return parse_time(value)
    if expected is Path and isinstance(value, str):
        return Path(value)
    if isinstance(expected, type) and issubclass(expected, Enum):
        try:
            return expected(value)
        except ValueError as exc:
            raise WireError(f"{where}: not a {expected.__name__}") from exc
    if expected is float and type(value) in (int, float):
        return float(value)
    if type(value) is expected and expected in (str, int, bool):
        return value
    raise WireError(f"{where}: expected {getattr(expected, '__name__', expected)}")
