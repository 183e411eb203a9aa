"""Values of a pod's specification that are to stand in another specification. Pure.

Unlike texts for people, they are taken as they are or not at all.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from typing import Any

from .json_fields import whole

MAX_VALUE_CHARS = 32 * 1024
_MAX_PATH_CHARS = 4096
_MAX_NAME_CHARS = 253
_MAX_ID = 2**31 - 1
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?\Z")
_QUALIFIED = re.compile(r"(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?\Z")
_LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?\Z")


def text(value: Any, *, limit: int = MAX_VALUE_CHARS) -> str | None:
    """A text that UTF-8 can encode, without NUL."""
    if not isinstance(value, str) or len(value) > limit or "\0" in value:
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return None
    return value


def name(value: Any) -> str | None:
    """The name of an object."""
    given = text(value, limit=_MAX_NAME_CHARS)
    return given if given is not None and _NAME.match(given) else None


def labels(value: Any) -> Mapping[str, str]:
    """Labels, without those that cannot be any."""
    pairs = value.items() if isinstance(value, Mapping) else ()
    return {
        key: item
        for key, item in pairs
        if isinstance(key, str) and isinstance(item, str) and _QUALIFIED.match(key) and _LABEL_VALUE.match(item)
    }


def path(value: Any) -> str | None:
    """An absolute path in its shortest form."""
    given = text(value, limit=_MAX_PATH_CHARS)
    if given is None or not given.startswith("/") or not given.isprintable() or ".." in given.split("/"):
        return None
    return "/" + posixpath.normpath(given).strip("/")


def relative_path(value: Any) -> str | None:
    """A relative path that does not lead out, in its shortest form; empty for the place itself."""
    given = text(value, limit=_MAX_PATH_CHARS)
    if given is None or given.startswith("/") or not given.isprintable() or ".." in given.split("/"):
        return None
    shortest = posixpath.normpath(given)
    return "" if shortest == "." else shortest


def identity(value: Any) -> int | None:
    """A user's or group's number."""
    number = whole(value)
    return number if number is not None and 0 <= number <= _MAX_ID else None


def present(**fields: Any) -> dict[str, Any]:
    """The fields that have a value: neither None nor empty; 0 and False are values."""
    return {key: value for key, value in fields.items() if value is not None and value not in ("", (), [], {})}
