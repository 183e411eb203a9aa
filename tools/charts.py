"""Charts for the documentation as SVG text: equal figures give equal text, and dark pages get light ink."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape

FONT = "font: 13px system-ui, sans-serif"
COLOURS = ("#2f6fde", "#e0823d", "#3f9b6b", "#a35bc4")
DARK_COLOURS = ("#6ea3ff", "#f0a46b", "#6cc596", "#c78be3")
WIDTH = 760
LABELS_WIDTH = 270
BAR_HEIGHT, GROUP_GAP = 15, 12
PLOT_TOP, PLOT_HEIGHT = 34, 300
LEFT, RIGHT = 70, 710


def bar_chart(groups: Mapping[str, Mapping[str, float]], *, unit: str) -> str:
    """Horizontal bars, one group per key, one bar per series; every series has its colour in every group."""
    series = list(dict.fromkeys(name for group in groups.values() for name in group))
    longest = max(value for group in groups.values() for value in group.values())
    room = WIDTH - LABELS_WIDTH - 90
    parts, y = legend(series), PLOT_TOP
    for label, group in groups.items():
        middle = y + BAR_HEIGHT * len(group) / 2
        parts.append(text(LABELS_WIDTH - 12, middle + 4, label, anchor="end"))
        for name, value in group.items():
            width = room * value / longest
            parts.append(box(series.index(name), LABELS_WIDTH, y, width, BAR_HEIGHT - 2))
            parts.append(text(LABELS_WIDTH + width + 6, y + 11, f"{value:.2f} {unit}"))
            y += BAR_HEIGHT
        y += GROUP_GAP
    return picture(parts, height=y)


def line_chart(lines: Mapping[str, Sequence[tuple[float, float]]], *, x_label: str, unit: str) -> str:
    """Lines over logarithmic axes, a point at every value; a straight diagonal is linear growth."""
    points = [point for line in lines.values() for point in line]
    across = _axis([x for x, _ in points], LEFT, RIGHT)
    up = _axis([y for _, y in points], PLOT_TOP + PLOT_HEIGHT, PLOT_TOP + 10)
    parts = legend(list(lines))
    for x in _decades([x for x, _ in points]):
        parts.append(grid(across(x), PLOT_TOP, across(x), PLOT_TOP + PLOT_HEIGHT))
        parts.append(text(across(x), PLOT_TOP + PLOT_HEIGHT + 18, f"{x:,.0f}".replace(",", " "), anchor="middle"))
    for y in _decades([y for _, y in points]):
        parts.append(grid(LEFT, up(y), RIGHT, up(y)))
        parts.append(text(LEFT - 8, up(y) + 4, f"{y:g} {unit}", anchor="end"))
    for number, line in enumerate(lines.values()):
        path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in line)
        parts.append(f'<polyline class="l{number}" points="{path}"/>')
        parts += [f'<circle class="c{number}" cx="{across(x):.1f}" cy="{up(y):.1f}" r="3.5"/>' for x, y in line]
    parts.append(text((LEFT + RIGHT) / 2, PLOT_TOP + PLOT_HEIGHT + 38, x_label, anchor="middle"))
    return picture(parts, height=PLOT_TOP + PLOT_HEIGHT + 50)


def _axis(values: Sequence[float], start: float, end: float) -> Callable[[float], float]:
    """From values to places between ``start`` and ``end``, by their logarithm; whole decades."""
    decades = _decades(values)
    low, high = math.log10(decades[0]), math.log10(decades[-1])
    return lambda value: start + (math.log10(value) - low) / (high - low) * (end - start)


def _decades(values: Iterable[float]) -> list[float]:
    found = [math.log10(value) for value in values]
    low = math.floor(min(found))
    return [10.0**power for power in range(low, max(low + 1, math.ceil(max(found))) + 1)]


def legend(names: Sequence[str]) -> list[str]:
    parts, x = [], float(LABELS_WIDTH)
    for number, name in enumerate(names):
        parts.append(box(number, x, 8, 12, 12))
        parts.append(text(x + 18, 18, name))
        x += 44 + 7.2 * len(name)
    return parts


def box(colour: int, x: float, y: float, width: float, height: float) -> str:
    return f'<rect class="c{colour}" x="{x:.0f}" y="{y:.0f}" width="{width:.1f}" height="{height:.0f}" rx="2"/>'


def text(x: float, y: float, words: str, *, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def grid(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def picture(parts: Iterable[str], *, height: float) -> str:
    body = "\n".join(parts)
    size = f'width="{WIDTH}" height="{height:.0f}" viewBox="0 0 {WIDTH} {height:.0f}"'
    style = _style("#1f2328", "#d0d7de", COLOURS)
    dark = _style("#e6edf3", "#444c56", DARK_COLOURS)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n'
        f"<style>text {{ {FONT} }}\npolyline {{ fill: none; stroke-width: 2 }}\n"
        f"{style}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}</style>\n{body}\n</svg>\n"
    )


def _style(ink: str, lines: str, colours: Sequence[str]) -> str:
    rules = [f"text {{ fill: {ink} }}", f"line {{ stroke: {lines} }}"]
    for number, colour in enumerate(colours):
        rules.append(f".c{number} {{ fill: {colour} }} .l{number} {{ stroke: {colour} }}")
    return "\n".join(rules)
