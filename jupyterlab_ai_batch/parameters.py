"""Notebook parameters: read from the cell tagged ``parameters``, checked, and written as source again. Pure.

The convention is papermill's: the cell tagged ``parameters`` holds defaults, and a cell tagged ``injected-parameters``
with the values of one Submission follows it.
"""

from __future__ import annotations

import ast
import io
import json
import keyword
import math
import re
import tokenize
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import ParametersInvalidError

PARAMETERS_TAG = "parameters"
INJECTED_TAG = "injected-parameters"
TYPES = ("bool", "int", "float", "str", "json")
MAX_VALUES_CHARS = 256 * 1024

_ASSIGNMENT = re.compile(r"^\s*(?:const\s+)?([A-Za-z.][\w.]*)\s*(?:<-|=)(?!=)\s*([^#\n]+?)\s*(?:#\s*(.*))?$")
_NAME = re.compile(r"[^\W\d]\w*\Z")
_R_NAME = re.compile(r"[A-Za-z.][\w.]*\Z", re.ASCII)
_FOREIGN_LITERALS = {"TRUE": True, "T": True, "true": True, "FALSE": False, "F": False, "false": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One name that the tagged cell sets.

    Attributes:
        type: ``bool``, ``int``, ``float``, ``str``, or ``json`` for everything else.
        default: JSON value; None also when the cell computes it.
        help: The comment at the end of its line.
    """

    name: str
    type: str
    default: Any = None
    help: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParametersCell:
    """Where the tagged cell stands among all cells (0-based), and its source."""

    index: int
    source: str


def find_parameters_cell(notebook: Mapping[str, Any]) -> ParametersCell | None:
    """The first code cell tagged ``parameters`` of a parsed notebook; None when there is none."""
    cells = notebook.get("cells")
    for index, cell in enumerate(cells if isinstance(cells, list) else ()):
        if isinstance(cell, Mapping) and cell.get("cell_type") == "code" and PARAMETERS_TAG in cell_tags(cell):
            return ParametersCell(index=index, source=cell_source(cell))
    return None


def cell_tags(cell: Mapping[str, Any]) -> tuple[str, ...]:
    metadata = cell.get("metadata")
    tags = metadata.get("tags") if isinstance(metadata, Mapping) else None
    return tuple(tag for tag in tags if isinstance(tag, str)) if isinstance(tags, list) else ()


def cell_source(cell: Mapping[str, Any]) -> str:
    source = cell.get("source", "")
    if isinstance(source, list):
        return "".join(part for part in source if isinstance(part, str))
    return source if isinstance(source, str) else ""


def infer_parameters(source: str, language: str) -> tuple[Parameter, ...]:
    """What a tagged cell sets, in its order; a name set twice counts once, with its last value."""
    found = _infer_python(source) if is_python(language) else _infer_by_line(source)
    return tuple({parameter.name: parameter for parameter in found}.values())


def is_python(language: str) -> bool:
    return language.lower() in ("python", "ipython", "python3", "")


def parse_values(texts: Mapping[str, str], parameters: Sequence[Parameter]) -> dict[str, Any]:
    """Type the words of a command line by the cell: JSON where it is JSON, the text itself elsewhere."""
    types = {parameter.name: parameter.type for parameter in parameters}
    return {name: _parse_text(text, types.get(name, "json")) for name, text in texts.items()}


def validate_parameters(values: Mapping[str, Any], parameters: Sequence[Parameter] | None) -> dict[str, Any]:
    """The values, each of its parameter's type; ``parameters`` None means that there is no tagged cell.

    Raises:
        ParametersInvalidError: naming the parameter and what was expected.
    """
    if not values:
        return {}
    if parameters is None:
        raise ParametersInvalidError(
            "Parameters are given, but the notebook has no cell tagged 'parameters'.",
            hint="Add the tag 'parameters' to the cell that sets the defaults, or submit without parameters.",
            details={"parameters": sorted(values)},
        )
    known = {parameter.name: parameter for parameter in parameters}
    checked = {name: _check(name, value, known) for name, value in values.items()}
    _check_size(checked)
    return checked


def render_parameters(values: Mapping[str, Any], language: str) -> str:
    """Source of the injected cell for ``python``, ``R`` or ``julia``.

    Raises:
        ParametersInvalidError: no such language here, or a name that the language cannot assign to.
    """
    dialect = _dialect(language)
    names = _R_NAME if dialect == "r" else _NAME
    for name in values:
        if names.match(name) is None or keyword.iskeyword(name):
            raise ParametersInvalidError(
                f"'{name[:40]}' cannot be the name of a parameter.", details={"parameter": name}
            )
    assign = "<-" if dialect == "r" else "="
    lines = [f"{name} {assign} {_LITERALS[dialect](value)}" for name, value in values.items()]
    return "\n".join(["# Parameters", *lines])


def _dialect(language: str) -> str:
    if is_python(language):
        return "python"
    if language.lower() in ("r", "julia"):
        return language.lower()
    raise ParametersInvalidError(
        f"Parameters cannot be passed to a notebook written in {language[:40]}.",
        hint="Submit without parameters; python, R and julia take them.",
        details={"language": language},
    )


# --- reading ------------------------------------------------------------------------------------------------------


def _infer_python(source: str) -> list[Parameter]:
    source = "\n".join("" if line.lstrip().startswith(("%", "!")) else line for line in source.splitlines())
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    comments = _comments(source)
    return [
        _python_parameter(name, node.value, annotation, comments.get(node.end_lineno or node.lineno, ""))
        for node in tree.body
        if isinstance(node, (ast.Assign, ast.AnnAssign))
        for name, annotation in _targets(node)
    ]


def _targets(node: ast.Assign | ast.AnnAssign) -> list[tuple[str, ast.expr | None]]:
    if isinstance(node, ast.AnnAssign):
        return [(node.target.id, node.annotation)] if isinstance(node.target, ast.Name) else []
    return [(target.id, None) for target in node.targets if isinstance(target, ast.Name)]


def _python_parameter(name: str, value: ast.expr | None, annotation: ast.expr | None, comment: str) -> Parameter:
    default, computed = _literal(value)
    declared = _annotated_type(annotation)
    kind = declared or ("json" if computed else _type_of(default))
    if declared == "float" and type(default) is int:
        default = float(default)
    if computed and not comment and value is not None:
        comment = f"default: {ast.unparse(value)[:200]}"
    return Parameter(name=name, type=kind, default=default, help=comment)


def _literal(value: ast.expr | None) -> tuple[Any, bool]:
    """(JSON value, False), or (None, True) for what only running the cell would tell."""
    if value is None:
        return None, False
    try:
        literal = json.loads(json.dumps(ast.literal_eval(value), allow_nan=False))
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None, True
    return literal, False


def _annotated_type(annotation: ast.expr | None) -> str | None:
    if annotation is None:
        return None
    names = set(re.findall(r"[A-Za-z_]\w*", ast.unparse(annotation))) - {"Optional", "typing", "None", "Union"}
    if len(names) != 1:
        return "json"
    (name,) = names
    return name if name in TYPES else "json"


def _type_of(value: Any) -> str:
    name = type(value).__name__
    return name if name in TYPES else "json"


def _comments(source: str) -> dict[int, str]:
    found: dict[int, str] = {}
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT:
                found[token.start[0]] = token.string.lstrip("#").strip()
    except (tokenize.TokenError, SyntaxError):
        pass
    return found


def _infer_by_line(source: str) -> list[Parameter]:
    found = []
    for match in filter(None, map(_ASSIGNMENT.match, source.splitlines())):
        name, text, comment = match.groups()
        default = _foreign_literal(text.rstrip(";"))
        found.append(Parameter(name=name, type=_type_of(default), default=default, help=(comment or "").strip()))
    return found


def _foreign_literal(text: str) -> Any:
    if text in _FOREIGN_LITERALS:
        return _FOREIGN_LITERALS[text]
    text = text[:-1] if re.fullmatch(r"-?\d+L", text) else text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    return value if isinstance(value, (bool, int, float, str)) else None


# --- checking -----------------------------------------------------------------------------------------------------


def _parse_text(text: str, kind: str) -> Any:
    if kind == "str":
        return text
    lowered = text.strip().lower()
    if kind == "bool" and lowered in ("true", "false", "yes", "no", "1", "0"):
        return lowered in ("true", "yes", "1")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _check(name: str, value: Any, known: Mapping[str, Parameter]) -> Any:
    parameter = known.get(name)
    if parameter is None:
        raise ParametersInvalidError(
            f"The notebook has no parameter '{name[:40]}'.",
            hint=f"Its parameters are: {', '.join(known) or 'none'}.",
            details={"parameter": name, "known": list(known)},
        )
    kind = parameter.type
    if kind == "float" and type(value) is int and abs(value) < 2**1023:
        return float(value)
    finite = not isinstance(value, float) or math.isfinite(value)
    if finite and (kind == "json" or type(value).__name__ == kind or (value is None and parameter.default is None)):
        return value
    raise ParametersInvalidError(
        f"The parameter '{name}' takes {_KIND_WORDS[kind]}.",
        hint=f"For example: {json.dumps(parameter.default)}." if parameter.default is not None else None,
        details={"parameter": name, "type": kind},
    )


_KIND_WORDS = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "json": "a JSON value (no NaN, no infinity)",
}


def _check_size(values: Mapping[str, Any]) -> None:
    try:
        size = len(json.dumps(values, allow_nan=False))
    except (ValueError, TypeError, RecursionError) as exc:
        raise ParametersInvalidError("Parameters must be JSON values: no NaN, no infinity.") from exc
    if size > MAX_VALUES_CHARS:
        raise ParametersInvalidError(
            f"The parameters are too long: {size} characters, {MAX_VALUES_CHARS} at most.",
            hint="Put large values in a file that the notebook reads.",
        )


# --- writing ------------------------------------------------------------------------------------------------------


def _python_literal(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {_python_literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_python_literal, value)) + "]"
    return repr(value)


def _quoted(text: str) -> str:
    """A double-quoted string whose escapes R and Julia share."""
    escapes = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return (
        '"' + "".join(escapes.get(char, char if char.isprintable() else f"\\u{ord(char):04x}") for char in text) + '"'
    )


def _r_literal(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int):
        return f"{value}L" if abs(value) < 2**31 else f"{value}"
    if isinstance(value, Mapping):
        return "list(" + ", ".join(f"{_quoted(str(key))} = {_r_literal(item)}" for key, item in value.items()) + ")"
    if isinstance(value, (list, tuple)):
        plain = len({type(item) for item in value}) == 1 and isinstance(value[0], (bool, int, float, str))
        return ("c(" if plain else "list(") + ", ".join(map(_r_literal, value)) + ")"
    return _quoted(value) if isinstance(value, str) else repr(value)


def _julia_literal(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "Dict(" + ", ".join(f"{_quoted_julia(str(k))} => {_julia_literal(v)}" for k, v in value.items()) + ")"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_julia_literal, value)) + "]"
    return _quoted_julia(value) if isinstance(value, str) else repr(value)


def _quoted_julia(text: str) -> str:
    return _quoted(text).replace("$", "\\$")


_LITERALS = {"python": _python_literal, "r": _r_literal, "julia": _julia_literal}
