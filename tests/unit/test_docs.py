"""Whatever a user or an admin can meet is documented, and what the documents say about the code is current."""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path

import pytest
import yaml

from jupyterlab_ai_batch import errors
from jupyterlab_ai_batch.app import BatchExtensionApp
from jupyterlab_ai_batch.cli import build_parser
from jupyterlab_ai_batch.magic.options import build_parser as build_magic_parser

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "jupyterlab_ai_batch"
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS]

sys.path.insert(0, str(ROOT / "tools"))
import write_docs  # noqa: E402


def text(*names):
    return "\n".join((ROOT / "docs" / name).read_text() for name in names)


def error_codes(error=errors.BatchError):
    return {error.code}.union(*(error_codes(child) for child in error.__subclasses__()))


def explanation_codes():
    """Every literal ``code`` that some module gives to an Explanation."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Explanation":
                for keyword in node.keywords:
                    if keyword.arg == "code":
                        found |= {leaf.value for leaf in ast.walk(keyword.value) if isinstance(leaf, ast.Constant)}
    return found


@pytest.mark.parametrize("code", sorted(error_codes() | explanation_codes()))
def test_every_code_is_explained(code):
    """docs/errors.md has a table row for each error's and each explanation's code."""
    assert f"\n| `{code}` |" in text("errors.md")


def test_every_code_of_the_front_end_is_explained():
    """docs/errors.md names each code that the browser's side makes up."""
    sources = [path for path in (ROOT / "src").rglob("*.ts*") if "__tests__" not in path.parts]
    found = {code for path in sources for code in re.findall(r"code: '([a-z_]+)'", path.read_text())}
    assert sorted(code for code in found if f"`{code}`" not in text("errors.md")) == []


def test_no_code_is_invented():
    """docs/errors.md explains no code that the product never uses."""
    files = [*PACKAGE.rglob("*.py"), *(ROOT / "src").rglob("*.ts*")]
    sources = "\n".join(path.read_text() for path in files).replace("'", '"')
    documented = re.findall(r"^\| `([a-z_]+)` \|", text("errors.md"), re.MULTILINE)
    assert [code for code in documented if f'"{code}"' not in sources] == []


def test_http_statuses_are_those_of_the_server():
    """The HTTP column of docs/errors.md is what the handlers answer."""
    from jupyterlab_ai_batch.routes.base import http_status

    documented = dict(re.findall(r"^\| `([a-z_]+)` \| (\d{3}) \|", text("errors.md"), re.MULTILINE))

    def statuses(error):
        return {error.code: str(int(http_status(error)))}.items() | set().union(
            *(statuses(child) for child in error.__subclasses__())
        )

    own = dict(statuses(errors.BatchError))
    assert {code: status for code, status in documented.items() if code in own} == own


@pytest.mark.parametrize("name", sorted(BatchExtensionApp.class_own_traits(config=True)))
def test_every_trait_is_documented_with_help(name):
    """The admin guide lists each trait; each has a help text."""
    assert f"`BatchExtensionApp.{name}`" in text("admin-guide.md")
    assert BatchExtensionApp.class_own_traits()[name].help


@pytest.mark.parametrize("command", sorted(write_docs.subcommands(build_parser())))
def test_every_command_and_option_is_documented_with_help(command):
    """docs/cli.md has a section for each command, and each of its options stands there with a help text."""
    section = text("cli.md").split(f"\n### `{command}`\n", 1)[1].split("\n### ", 1)[0]
    lines = list(write_docs.option_lines(write_docs.subcommands(build_parser())[command][0]))
    assert [line for line in lines if line not in section] == []
    assert [line for line in lines if line.endswith(": ")] == []


def test_every_option_of_the_magic_is_documented():
    """docs/magic.md names each option of %batch."""
    lines = list(write_docs.option_lines(build_magic_parser()))
    assert [line for line in lines if line not in text("magic.md") or line.endswith(": ")] == []


@pytest.mark.parametrize("name", sorted(json.loads((ROOT / "schema/plugin.json").read_text())["properties"]))
def test_every_setting_is_documented(name):
    """The user guide lists each user setting."""
    assert f"`{name}`" in text("user-guide.md")


@pytest.mark.parametrize("path", sorted(yaml.safe_load((PACKAGE / "rest-api.yml").read_text())["paths"]))
def test_every_route_is_documented(path):
    """docs/rest-api.md lists each path of the OpenAPI description."""
    assert f" {path}`" in text("rest-api.md")


@pytest.mark.parametrize("path", sorted(write_docs.pages()), ids=lambda path: path.name)
def test_generated_parts_are_current(path):
    """``make docs`` would change nothing."""
    assert path.read_text() == write_docs.pages()[path]


def anchors(page):
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_inside_the_repository_resolves(page):
    """Relative links and images name files that exist, and headings that exist in them."""
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []
