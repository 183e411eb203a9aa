"""Write the parts of ``docs/`` that repeat what the code says; ``tests/unit/test_docs.py`` fails when they differ.

Whole page: performance.md, from performance.json (``make bench``). Sections between ``<!-- begin: NAME -->`` and
``<!-- end: NAME -->``: commands and options, traits, user settings, REST calls.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
sys.path.insert(0, str(ROOT))


def replace_section(page: str, name: str, content: str) -> str:
    """``page`` with what stands between the markers of ``name`` replaced.

    Raises:
        ValueError: the page has no such markers.
    """
    pattern = re.compile(rf"(<!-- begin: {name} -->\n).*?(<!-- end: {name} -->)", re.DOTALL)
    if not pattern.search(page):
        raise ValueError(f"no section {name}")
    return pattern.sub(lambda found: f"{found[1]}{content.strip()}\n{found[2]}", page)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


# --- commands -----------------------------------------------------------------------------------------------------


def subcommands(parser: argparse.ArgumentParser) -> dict[str, tuple[argparse.ArgumentParser, str]]:
    """The visible commands of ``parser``, with their one-line help."""
    for action in parser._actions:  # noqa: SLF001 - argparse has no public way to ask
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            shown = {pseudo.dest: pseudo.help or "" for pseudo in action._choices_actions}  # noqa: SLF001
            return {name: (action.choices[name], text) for name, text in shown.items() if text != argparse.SUPPRESS}
    return {}


def option_lines(parser: argparse.ArgumentParser) -> Iterator[str]:
    """One list item per visible argument: its spellings, its value's name, its help."""
    for action in parser._actions:  # noqa: SLF001
        if action.help == argparse.SUPPRESS or "--help" in action.option_strings:
            continue
        value = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
        if action.choices:
            value = "{" + ",".join(str(choice) for choice in action.choices) + "}"
        name = ", ".join(action.option_strings) or value
        spelling = f"{name} {value}" if action.option_strings and action.nargs != 0 else name
        help_text = (action.help or "").replace("%(default)s", str(action.default)).replace("%%", "%")
        yield f"- `{spelling}`: {help_text}"


def positionals(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:  # noqa: SLF001
        if not action.option_strings:
            yield f"[{action.metavar}]" if action.nargs == "?" else str(action.metavar)


def command_reference() -> str:
    from jupyterlab_ai_batch.cli import build_parser

    parts = []
    for name, (parser, text) in subcommands(build_parser()).items():
        usage = f"jupyter ai-batch {name} {' '.join(['[OPTION…]', *positionals(parser)])}"
        parts.append(f"### `{name}`\n\n{text[:1].upper()}{text[1:].rstrip('.')}.\n\n```text\n{usage}\n```\n")
        parts.append("\n".join(option_lines(parser)) + "\n")
    return "\n".join(parts)


def magic_options() -> str:
    from jupyterlab_ai_batch.magic.options import build_parser

    return "\n".join(option_lines(build_parser()))


# --- configuration ------------------------------------------------------------------------------------------------


def trait_reference() -> str:
    from jupyterlab_ai_batch.app import BatchExtensionApp

    lines = []
    for name, trait in sorted(BatchExtensionApp.class_own_traits(config=True).items()):
        help_text = " ".join(trait.help.split()).replace("``", "`")
        lines.append(f"- `BatchExtensionApp.{name}` ({type(trait).__name__.lower()}): {help_text}")
    return "\n".join(lines)


def setting_reference() -> str:
    schema = json.loads((ROOT / "schema/plugin.json").read_text())
    return "\n".join(
        f"- **{setting['title']}** (`{name}`, default `{json.dumps(setting['default'])}`): {setting['description']}"
        for name, setting in schema["properties"].items()
    )


def route_reference() -> str:
    import yaml

    api = yaml.safe_load((ROOT / "jupyterlab_ai_batch/rest-api.yml").read_text())
    rows = [
        [f"`{method.upper()} {path}`", " ".join(call.get("summary", "").split())]
        for path, calls in api["paths"].items()
        for method, call in calls.items()
        if method in {"get", "post", "put", "patch", "delete"}
    ]
    return table(["call", "what it does"], rows)


# --- performance --------------------------------------------------------------------------------------------------


def ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 0.1 else f"{seconds * 1000:.0f} ms"  # noqa: PLR2004


def verdict(*, met: bool) -> str:
    return "met" if met else "**missed**"


def round_trip_section(figures: dict[str, Any]) -> str:
    base = figures["execute"]["median_s"]
    limit = base * 1.05 + 2
    names = {"execute": "`jupyter execute`", "ours": "this extension", "theirs": "jupyter-scheduler"}
    rows = [
        [text, f"{figures[name]['median_s']:.2f} s", f"{figures[name]['median_s'] - base:+.2f} s"]
        for name, text in names.items()
    ]
    met = verdict(met=figures["ours"]["median_s"] <= limit)
    return (
        "## A repeated Submission, from submit to finished\n\n"
        f"A notebook that computes for {figures['notebook_s']:.0f} s, same kernel everywhere, median of "
        f"{figures['ours']['count']} interleaved runs. Ours includes the capture (of a known environment), "
        "isolation, and the results' way home; jupyter-scheduler's ends with the results in its staging area. Both are "
        "asked every 0.1 s whether they have finished.\n\n"
        f"{table(['what', 'median', 'over `jupyter execute`'], rows)}\n\n"
        f"Target: at most 5 % + 2 s over `jupyter execute`, so {limit:.2f} s: {met}.{phase_words(figures)}"
    )


def phase_words(figures: dict[str, Any]) -> str:
    spent = figures.get("phases_s")
    if not spent:
        return ""
    return (
        f"\n\nWhere ours goes: {spent['captured']:.2f} s until the snapshot is complete, {spent['admitted']:.2f} s "
        f"until it is admitted, {spent['started']:.2f} s until files and environment are ready, {spent['ended']:.2f} s "
        f"of run, {spent['home']:.2f} s until the results are home."
    )


def submit_section(figures: dict[str, Any]) -> str:
    rows = [
        [f"{size['tree_bytes'] / 2**20:.0f} MiB", str(size["count"]), ms(size["median_s"]), ms(size["max_s"])]
        for size in (figures["small"], figures["large"])
    ]
    met = verdict(met=max(figures[name]["max_s"] for name in ("small", "large")) <= 0.3)  # noqa: PLR2004
    return (
        "## The submit call\n\nFrom the request to the answer; every byte of the work tree is new to the store before "
        "each call. The capture goes on in the background.\n\n"
        f"{table(['work tree', 'calls', 'median', 'slowest'], rows)}\n\nTarget: within 300 ms whatever the size: {met}."
    )


def page_section(figures: dict[str, Any]) -> str:
    names = {
        "ours_10000": "this extension, 10 000 Submissions",
        "ours_100000": "this extension, 100 000 Submissions",
        "theirs_10000": "jupyter-scheduler, 10 000 jobs",
    }
    rows = [[text, ms(figures[name]["median_s"]), ms(figures[name]["p99_s"])] for name, text in names.items()]
    ours, large, theirs = (figures[name]["median_s"] for name in names)
    return (
        "## A page of 100, newest first\n\n"
        f"Over HTTP on one kept connection, {figures['ours_10000']['count']} requests each, in turns.\n\n"
        f"{table(['what', 'median', '99th percentile'], rows)}\n\n"
        f"Targets: at most 0.5 × jupyter-scheduler's: {ours / theirs:.2f} ×, {verdict(met=ours <= theirs / 2)}; "
        f"no slower with 100 000 (at most 1.2 ×): {large / ours:.2f} ×, {verdict(met=large <= 1.2 * ours)}."
    )


def loop_section(figures: dict[str, Any]) -> str:
    rows = [
        [text, str(figures[name]["count"]), *(ms(figures[name][key]) for key in ("median_s", "p99_s", "max_s"))]
        for name, text in (("idle", "nothing"), ("capturing", "1 GiB is captured, the list is polled"))
    ]
    met = verdict(met=figures["capturing"]["p99_s"] <= 0.02)  # noqa: PLR2004
    return (
        "## The server's event loop during a capture\n\n"
        "How much later than asked for a 5 ms sleep inside the server ends. One capture took "
        f"{figures['capture']['median_s']:.1f} s.\n\n"
        f"{table(['meanwhile', 'samples', 'median', '99th percentile', 'worst'], rows)}\n\n"
        f"Target: at most 20 ms at the 99th percentile: {met}."
    )


def load_words(figures: dict[str, Any]) -> str:
    load = figures.get("load_before")
    return "" if load is None else f" (Load average of the machine before: {load:.1f}.)"


SECTIONS: dict[str, Callable[[dict[str, Any]], str]] = {
    "a": round_trip_section,
    "b": submit_section,
    "c": page_section,
    "d": loop_section,
}


MEASURED = (
    "Measured by `make bench` (`benchmarks/local.py`): real servers over loopback, this extension and "
    "jupyter-scheduler side by side in one run. This page is written from the figures in "
    "[performance.json](performance.json); do not edit it."
)


def performance_page(figures: dict[str, Any]) -> str:
    machine, versions = figures["machine"], figures["versions"]
    return "\n\n".join(
        [
            "# Performance",
            MEASURED,
            f"Measured on {figures['measured_at']}: {machine['cores']} cores ({machine['cpu']}), "
            f"{machine['memory_gib']} GiB, {machine['system']}; "
            + ", ".join(f"{name} {version}" for name, version in versions.items())
            + ".",
            *(
                section(figures[name]) + load_words(figures[name])
                for name, section in SECTIONS.items()
                if name in figures
            ),
        ]
    )


# --- pages --------------------------------------------------------------------------------------------------------

GENERATED: dict[str, tuple[tuple[str, Callable[[], str]], ...]] = {
    "cli.md": (("commands", command_reference),),
    "magic.md": (("magic-options", magic_options),),
    "admin-guide.md": (("traits", trait_reference),),
    "user-guide.md": (("settings", setting_reference),),
    "rest-api.md": (("routes", route_reference),),
}


def pages() -> dict[Path, str]:
    """Every generated page as it should be."""
    wanted = {}
    for name, sections in GENERATED.items():
        text = (DOCS / name).read_text()
        for section, build in sections:
            text = replace_section(text, section, build())
        wanted[DOCS / name] = text
    figures = DOCS / "performance.json"
    if figures.exists():
        wanted[DOCS / "performance.md"] = performance_page(json.loads(figures.read_text())) + "\n"
    return wanted


def main() -> int:
    for path, text in pages().items():
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
