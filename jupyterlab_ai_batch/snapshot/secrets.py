"""Text that looks like a secret, found before it travels. Only the place and the kind are kept, never the text.

Hyperscan, where it is installed, says which kinds occur in a text; Python's ``re`` then says where. Without it a search
for the kinds' literals narrows them down. Either way the findings are those of ``re``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from importlib import import_module
from pathlib import PurePosixPath
from threading import Lock
from typing import Any

from .secret_kinds import KINDS, PLACEHOLDER, PLACEHOLDER_WORDS, SecretKind

MAX_SCANNED_BYTES = 1 << 20
MAX_FINDINGS = 20

_MIN_LETTERS = 7  # different ones; 16 random characters of 32 have fewer once in a million
_RANDOM_BYTES = 16
_HYPERSCAN_FROM_BYTES = 4 << 20  # compiling the patterns takes as long as scanning this much without
_UPPER_BOUND = re.compile(rb"\{(\d+),\d+\}")  # patterns without match no less, and compile to far smaller automata
_ESCAPED = re.compile(rb"\\[nrtbf]\Z")
_PATTERNS = tuple(re.compile(kind.pattern) for kind in KINDS)

Narrow = Callable[[bytes], Iterable[int]]


def is_scanned(path: str, data: bytes) -> bool:
    """Whether a file's content is looked at: notebooks, and text below 1 MiB."""
    if PurePosixPath(path).suffix == ".ipynb":
        return True
    return len(data) <= MAX_SCANNED_BYTES and b"\0" not in data[:4096]


def find_secrets(data: bytes, *, narrow: Narrow | None = None) -> list[tuple[int, str]]:
    """(line, kind) of what looks like a secret, in the order of lines, at most 20.

    Args:
        narrow: Gives the numbers of the kinds that may occur; by default the fastest that is installed.
    """
    found: set[tuple[int, str]] = set()
    for number in (narrow or _narrow)(data):
        for count, start in enumerate(_starts(data, KINDS[number], _PATTERNS[number])):
            if count >= MAX_FINDINGS:
                break
            found.add((data.count(b"\n", 0, start) + 1, KINDS[number].name))
    return sorted(found)[:MAX_FINDINGS]


def narrow_by_literals(data: bytes) -> list[int]:
    """The kinds one of whose literals occurs."""
    return [number for number, kind in enumerate(KINDS) if any(literal in data for literal in kind.literals)]


@lru_cache(maxsize=1)
def load_hyperscan() -> Narrow | None:
    """The kinds whose pattern matches, by Hyperscan; None where it is not installed."""
    try:
        hyperscan: Any = import_module("hyperscan")
    except ImportError:
        return None
    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    count = len(KINDS)
    flags = [hyperscan.HS_FLAG_SINGLEMATCH] * count
    patterns = [_UPPER_BOUND.sub(rb"{\1,}", kind.pattern) for kind in KINDS]
    database.compile(expressions=patterns, ids=list(range(count)), elements=count, flags=flags)
    lock = Lock()  # a database has one scratch space

    def narrow(data: bytes) -> list[int]:
        numbers: list[int] = []
        with lock:
            database.scan(data, match_event_handler=lambda number, *_: numbers.append(number))
        return sorted(numbers)

    return narrow


class _Narrowing:
    """By literals at first; by Hyperscan once so much was scanned that compiling its patterns pays."""

    def __init__(self) -> None:
        self._scanned = 0

    def __call__(self, data: bytes) -> Iterable[int]:
        self._scanned += len(data)
        fast = load_hyperscan() if self._scanned > _HYPERSCAN_FROM_BYTES else None
        return (fast or narrow_by_literals)(data)


_narrow = _Narrowing()


def _starts(data: bytes, kind: SecretKind, pattern: re.Pattern[bytes]) -> Iterator[int]:
    for match in pattern.finditer(data):
        if kind.whole and not _stands_alone(data, match.start(), match.end()):
            continue
        if PLACEHOLDER.search(match[0]) is None and _looks_random(match[pattern.groups]):
            yield match.start()


def _stands_alone(data: bytes, start: int, end: int) -> bool:
    """Neither the end nor the beginning of a longer word; the n of an escaped line break is no letter."""
    before = data[max(start - 2, 0) : start]
    if _is_word(before[-1:]) and _is_word(data[start : start + 1]) and _ESCAPED.search(before) is None:
        return False
    return not _is_word(data[end : end + 1])


def _is_word(byte: bytes) -> bool:
    return byte.isalnum() or byte == b"_"


def _looks_random(text: bytes) -> bool:
    if text.lower() in PLACEHOLDER_WORDS:
        return False
    return len(text) < _RANDOM_BYTES or len(set(text)) >= _MIN_LETTERS
