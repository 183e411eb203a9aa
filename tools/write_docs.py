"""Write the parts of ``docs/`` that repeat what the code says; ``tests/unit/test_docs.py`` fails when they differ.

Whole: performance.md with its charts, from the figures of ``make bench``. Sections between ``<!-- begin: NAME -->`` and
``<!-- end: NAME -->``: commands and options, traits, user settings, REST calls.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import performance
from tables import table

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


# --- deployment ---------------------------------------------------------------------------------------------------


def deployed(path: str, language: str) -> Callable[[], str]:
    """A file of ``deploy/``, which is what admins apply and tests run."""
    return lambda: f"```{language}\n{(ROOT / 'deploy' / path).read_text().strip()}\n```"


def policy_table() -> str:
    """What each ValidatingAdmissionPolicy is for, by the comment that it begins with."""
    import yaml

    rows = []
    folder = ROOT / "deploy/policies"
    for name in yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]:
        comment, policy = (folder / name).read_text().split("\n", 1)
        rows.append([f"`{next(yaml.safe_load_all(policy))['metadata']['name']}`", comment.lstrip("# ")])
    return table(["policy", "what it holds to"], rows)


# --- pages --------------------------------------------------------------------------------------------------------

GENERATED: dict[str, tuple[tuple[str, Callable[[], str]], ...]] = {
    "cli.md": (("commands", command_reference),),
    "magic.md": (("magic-options", magic_options),),
    "admin-guide.md": (("traits", trait_reference),),
    "user-guide.md": (("settings", setting_reference),),
    "rest-api.md": (("routes", route_reference),),
    "cluster.md": (
        ("role", deployed("user/access.yaml", "yaml")),
        ("pool", deployed("pool-readers/access.yaml", "yaml")),
        ("hub", deployed("example/jupyterhub_config.py", "python")),
        ("server", deployed("example/user/jupyter_server_config.py", "python")),
    ),
    "install.md": (
        ("kueue", deployed("kueue/configuration.yaml", "yaml")),
        ("policies", policy_table),
    ),
}


def pages() -> dict[Path, str]:
    """Every generated page as it should be."""
    wanted = {}
    for name, sections in GENERATED.items():
        text = (DOCS / name).read_text()
        for section, build in sections:
            text = replace_section(text, section, build())
        wanted[DOCS / name] = text
    return {**wanted, **performance.pages(DOCS)}


def main() -> int:
    for path, text in pages().items():
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
