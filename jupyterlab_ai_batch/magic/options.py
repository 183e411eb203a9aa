"""The options of ``%batch``: the words of ``jupyter ai-batch submit``."""

from __future__ import annotations

import argparse
import ast
import json
import re
import shlex
from typing import Any, NoReturn

from ..errors import InvalidSubmissionError

_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")
_HINT = "%batch? lists the options."


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InvalidSubmissionError(f"%batch does not understand its options: {message}.", hint=_HINT)


def parse_options(line: str) -> argparse.Namespace:
    """The options in a magic's line.

    Raises:
        InvalidSubmissionError: unknown option, or a value that cannot be read.
    """
    try:
        words = shlex.split(line)
    except ValueError as exc:
        raise InvalidSubmissionError("A quotation mark in the options of %batch is not closed.", hint=_HINT) from exc
    return build_parser().parse_args(words)


def parse_duration(text: str) -> int:
    """Seconds in ``90``, ``45s``, ``30m``, ``2h``, ``1d`` or a sum of them like ``1h30m``.

    Raises:
        InvalidSubmissionError: anything else, or nothing.
    """
    parts = _DURATION_PART.findall(text)
    compact = re.sub(r"\s", "", text).lower()
    seconds = round(sum(float(number) * _UNITS_S[unit] for number, unit in parts))
    if "".join(f"{number}{unit}" for number, unit in parts) != compact or seconds < 1:
        raise InvalidSubmissionError(f"{text[:40]!r} is not a duration.", hint="Write 90s, 30m, 2h or 1h30m.")
    return seconds


def parse_parameters(texts: list[str]) -> dict[str, Any]:
    """Values of ``name=value`` words: JSON and Python literals as what they are, everything else as text.

    Raises:
        InvalidSubmissionError: a word without ``=``.
    """
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise InvalidSubmissionError(f"{text[:40]!r} is not a parameter.", hint="Write --param name=value.")
        values[name.strip()] = parse_value(value)
    return values


def parse_value(text: str) -> Any:
    """``true``, ``True``, ``3``, ``[1, 2]`` as values; anything that is not JSON or a Python literal is text."""
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        value = ast.literal_eval(text)
        json.dumps(value, allow_nan=False)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
    return value


def build_parser() -> argparse.ArgumentParser:
    """The parser of the magic's line; docs/magic.md is written from it."""
    parser = _Parser(prog="%batch", add_help=False, allow_abbrev=False)
    parser.add_argument(
        "notebook", nargs="?", metavar="NOTEBOOK", help="another notebook to submit in place of this one"
    )
    parser.add_argument("--profile", metavar="NAME", help="resource shape; without it the first one")
    parser.add_argument("--queue", metavar="NAME", help="queue to wait in; without it the first one")
    parser.add_argument("--target", metavar="NAME", help="where to run; without it where the queue decides")
    parser.add_argument("--title", metavar="TEXT", help="name in lists and notifications; without it the notebook's")
    parser.add_argument("--max-duration", metavar="TIME", help="time limit of each attempt: 90s, 30m, 2h, 1h30m")
    parser.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="value of a parameter, repeatable; JSON and Python literals as values, everything else as text",
    )
    parser.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        help="after an interruption, begin with the files saved last; without it as the notebook's metadata say",
    )
    parser.add_argument("--wait", action="store_true", help="end the cell only when the batch job has ended")
    return parser
