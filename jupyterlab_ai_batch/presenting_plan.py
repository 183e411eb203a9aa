"""What ``snapshot --dry-run`` prints for people: what would be captured, what not, and why. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .capture_models import Excluded, PlannedLayer, SnapshotPlan
from .explain import count_words, size_words
from .presenting import printable
from .words import CaptureFrom

MIN_COLUMNS = 60

_SHOWN = 10
_LABEL = 14
_INDENT = "  "
_ORIGINS = {CaptureFrom.ROOT: "the root directory", CaptureFrom.FOLDER: "the notebook's folder"}

Rows = Sequence[Sequence[str]]


def format_plan(plan: SnapshotPlan, *, columns: int = 80) -> str:
    """The plan in lines of at most ``columns`` characters, but for sentences."""
    width = max(columns, MIN_COLUMNS)
    blocks = [
        "\n".join(f"{name.ljust(_LABEL)}{text}" for name, text in _summary(plan)),
        _block("New or changed", _new_rows(plan), plan.new_files, width),
        _block("Heaviest directories", _heaviest_rows(plan), len(plan.heaviest), width),
        _block("Left out", _excluded_rows(plan.excluded), max(plan.excluded_count, len(plan.excluded)), width),
        _block("Environment layers", _layer_rows(plan.environment_layers), len(plan.environment_layers), width),
        _block("Secrets left out", [("", path) for path in plan.secrets_excluded], len(plan.secrets_excluded), width),
        _block("Looks like a secret, and would be captured", _finding_rows(plan), len(plan.findings), width),
        "\n".join(f"Note: {printable(warning)}" for warning in plan.warnings),
    ]
    return "\n\n".join(block for block in blocks if block)


def shorten(text: str, width: int) -> str:
    """``text`` in at most ``width`` characters; the middle gives way, the end of a path says most."""
    if len(text) <= width:
        return text
    front = (width - 1) // 3
    return f"{text[:front]}…{text[len(text) - (width - 1 - front) :]}"


def _summary(plan: SnapshotPlan) -> list[tuple[str, str]]:
    files = f"{count_words(plan.work_files, 'file')}, {size_words(plan.work_bytes)}"
    environment = f"{count_words(plan.environment_files, 'file')}, {size_words(plan.environment_bytes)}"
    removed = f"; {count_words(plan.removed_files, 'file')} gone since" if plan.removed_files else ""
    return [
        ("Captured from", f"{printable(plan.work_root)} ({_ORIGINS.get(plan.capture_from, plan.capture_from.value)})"),
        ("Files", f"{files} of at most {size_words(plan.limit_bytes)}"),
        ("Environment", environment + (", unchanged since last time" if plan.environment_unchanged else "")),
        ("To be read", f"{count_words(plan.new_files, 'file')}, {size_words(plan.new_bytes)}{removed}"),
    ]


def _new_rows(plan: SnapshotPlan) -> Rows:
    return [(size_words(size), path) for path, size in plan.new]


def _heaviest_rows(plan: SnapshotPlan) -> Rows:
    whole = max(plan.work_bytes, 1)
    return [(size_words(size), f"{path}/", f"{size / whole:.0%}") for path, size in plan.heaviest]


def _excluded_rows(excluded: Iterable[Excluded]) -> Rows:
    return [
        ("" if entry.bytes is None else size_words(entry.bytes), entry.path, f"{entry.rule}{_origin_words(entry)}")
        for entry in excluded
    ]


def _origin_words(entry: Excluded) -> str:
    return f" ({entry.origin})" if entry.origin else ""


def _layer_rows(layers: Iterable[PlannedLayer]) -> Rows:
    return [
        (size_words(layer.bytes), layer.name, f"{count_words(layer.files, 'file')}{', new' if layer.new else ''}")
        for layer in layers
    ]


def _finding_rows(plan: SnapshotPlan) -> Rows:
    return [("", f"{found.path}, line {found.line}", found.kind) for found in plan.findings]


def _block(title: str, rows: Rows, count: int, width: int) -> str:
    """A title and the first rows: size, name, remark. The names give way where a line would be too long."""
    if not rows:
        return ""
    shown = [[printable(cell) for cell in row] for row in rows[:_SHOWN]]
    sizes = max(len(row[0]) for row in shown)
    remarks = [shorten(row[2], width // 2) if len(row) > 2 else "" for row in shown]  # noqa: PLR2004
    space = width - len(_INDENT) - (sizes + 2 if sizes else 0) - (max(map(len, remarks)) + 2)
    names = [shorten(row[1], space) for row in shown]
    longest = max(map(len, names))
    lines = [f"{title} ({count})" if count > len(shown) else title]
    for row, name, remark in zip(shown, names, remarks, strict=True):
        size = f"{row[0].rjust(sizes)}  " if sizes else ""
        lines.append(f"{_INDENT}{size}{name.ljust(longest)}  {remark}".rstrip())
    lines += [f"{_INDENT}… and {count - len(shown)} more"] if count > len(shown) else []
    return "\n".join(lines)
