"""What a capture leaves out: defaults, secrets, ``.batchignore`` files and the request's own patterns.

gitignore syntax throughout; the last match wins, in the order defaults, ``.batchignore`` (the root's, then deeper
ones), request. ``!pattern`` takes anything back, below an excluded directory too when the pattern spells out the path
(``!.cache/models/``); a bare ``!*.csv`` does not reach into excluded directories, as in git. A line
``#!include:.gitignore`` stands for the lines of that file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..errors import SnapshotError

if TYPE_CHECKING:  # importing it takes longer than most walks
    from pathspec import GitIgnoreSpec

IGNORE_FILE = ".batchignore"
OTHER_ENVIRONMENT = "another environment"
DEFAULT_ORIGIN = "default"
REQUEST_ORIGIN = "this submission"

_INCLUDE = "#!include:"
_MAX_IGNORE_BYTES = 1 << 20

_DIRECTORIES = frozenset(
    {
        ".git", ".hg", ".svn", "__pycache__", ".ipynb_checkpoints", "node_modules", ".npm", ".yarn", ".tox", ".nox",
        ".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis", ".eggs", ".local/share/Trash", ".vscode-server",
        ".cache", ".conda/pkgs", ".virtual_documents",
    }
)  # fmt: skip
_NAMES = re.compile(
    r"(?P<trash>\.Trash.*)|(?P<swap>\..*\.sw[po])|(?P<autosave>\.~.*)|(?P<nfs>\.nfs[0-9a-f]{8,})|(?P<mac>\.DS_Store)"
)
_NAME_RULES = {"trash": ".Trash*", "swap": ".*.sw[po]", "autosave": ".~*", "nfs": ".nfs*", "mac": ".DS_Store"}

_SECRET_PATHS = frozenset(
    {
        ".ssh", ".gnupg", ".aws", ".azure", ".kube", ".config/gcloud", ".config/gh", ".config/rclone",
        ".config/containers", ".docker/config.json", ".netrc", ".git-credentials", ".pypirc", ".npmrc", ".pgpass",
        ".my.cnf", ".vault-token", ".huggingface", ".kaggle", ".databrickscfg", ".globus", ".local/share/keyrings",
        ".local/share/jupyter/runtime", ".password-store", ".mozilla", ".jupyter", ".Xauthority",
    }
)  # fmt: skip
_LAST_PARTS = frozenset(rule.rpartition("/")[2] for rule in (*_DIRECTORIES, *_SECRET_PATHS))
_SECRET_NAMES = re.compile(
    r"(?P<env>\.env(\..*)?)|(?P<pem>.*\.pem)|(?P<key>.*\.key)|(?P<id>id_[^.]*(\.pub)?)|(?P<kdbx>.*\.kdbx)"
    r"|(?P<history>\..*_history)|(?P<krb>krb5cc_.*)|(?P<x509>x509up_.*)"
)
_SECRET_RULES = {
    "env": ".env.*", "pem": "*.pem", "key": "*.key", "id": "id_*", "kdbx": "*.kdbx", "history": "*_history",
    "krb": "krb5cc_*", "x509": "x509up_*",
}  # fmt: skip
_IPYTHON = re.compile(r"(?:.*/)?\.ipython/profile_[^/]+/(?:history\.sqlite.*|security)")
_TEMPLATES = (".example", ".sample", ".template", ".dist")


@dataclass(frozen=True, slots=True)
class Ignored:
    """Why something is left out.

    Attributes:
        rule: The pattern.
        secret: Whether it is one of the default secret rules.
        origin: Where the pattern stands: an ignore file, relative to the work root; "this submission"; or "default".
    """

    rule: str
    secret: bool = False
    origin: str = DEFAULT_ORIGIN


@dataclass(frozen=True, slots=True)
class _Patterns:
    """One set of user patterns. ``base`` is the directory they are relative to, with its ``/``; empty for the root."""

    base: str
    spec: GitIgnoreSpec
    rules: tuple[Ignored, ...]

    def check(self, path: str) -> Ignored | Literal[False] | None:
        """Ignored, False (taken back), or None (no pattern matches)."""
        found = self.spec.check_file(path[len(self.base) :])
        if found.include is None:
            return None
        return self.rules[found.index or 0] if found.include else False

    def reaches_into(self, directory: str) -> bool:
        """Whether a ``!pattern`` spells out a path below ``directory``."""
        lines = (rule.rule for rule in self.rules)
        return any(
            line.startswith("!") and (self.base + _literal(line[1:])).startswith(f"{directory}/") for line in lines
        )


@dataclass(frozen=True, slots=True)
class IgnoreScope:
    """The rules that hold in one directory.

    Attributes:
        nested: Patterns of the ``.batchignore`` files on the way down, outermost first.
        request: The Submission's own patterns; they come last.
        inherited: Set below an excluded directory that some ``!pattern`` reaches into.
    """

    nested: tuple[_Patterns, ...] = ()
    request: _Patterns | None = None
    inherited: Ignored | None = None

    def decide(self, path: str, name: str, *, is_directory: bool) -> Ignored | None:
        """None when ``path`` (relative to the work root) is captured."""
        checked = f"{path}/" if is_directory else path
        layers = (*self.nested, self.request) if self.request is not None else self.nested
        for patterns in reversed(layers):
            found = patterns.check(checked)
            if found is not None:
                return found or None
        return self.inherited or _default(path, name, is_directory=is_directory)

    def takes_back(self, path: str) -> bool:
        """Whether a user's pattern names this directory with ``!``."""
        layers = (*self.nested, self.request) if self.request is not None else self.nested
        found = next((hit for p in reversed(layers) if (hit := p.check(f"{path}/")) is not None), None)
        return found is False

    def enter_excluded(self, path: str, ignored: Ignored) -> IgnoreScope | None:
        """The scope below an excluded directory; None when nothing below it can be taken back."""
        layers = (*self.nested, self.request) if self.request is not None else self.nested
        if any(patterns.reaches_into(path) for patterns in layers):
            return replace(self, inherited=ignored)
        return None

    def enter(self) -> IgnoreScope:
        """The scope of a directory that is captured."""
        return self if self.inherited is None else replace(self, inherited=None)

    def with_file(self, directory: str, path: str) -> IgnoreScope:
        """The scope with the patterns of an ignore file that lies in ``directory`` (relative, empty for the root).

        Raises:
            SnapshotError: the file, or one that it includes, cannot be read or holds something that is no pattern.
        """
        origin = f"{directory}/{IGNORE_FILE}" if directory else IGNORE_FILE
        base = f"{directory}/" if directory else ""
        patterns = _compile(_with_includes(_read_lines(path), path, origin), base=base)
        return replace(self, nested=(*self.nested, patterns))


def build_scope(exclude: Sequence[str]) -> IgnoreScope:
    """The scope of the work root, before its ``.batchignore`` is read.

    Raises:
        SnapshotError: one of the request's patterns is none.
    """
    rules = [Ignored(line, origin=REQUEST_ORIGIN) for line in exclude]
    return IgnoreScope(request=_compile(rules, base="") if rules else None)


def is_environment(names: frozenset[str]) -> bool:
    """Whether a directory with these entries is a Python or conda environment."""
    return "pyvenv.cfg" in names or "conda-meta" in names


def _default(path: str, name: str, *, is_directory: bool) -> Ignored | None:
    found = _default_secret(path, name)
    if found is not None:
        return found
    if is_directory:
        for tail in _tails(path, name):
            if tail in _DIRECTORIES:
                return Ignored(f"{tail}/")
    match = _NAMES.fullmatch(name)
    return Ignored(_NAME_RULES[match.lastgroup or ""]) if match else None


def _default_secret(path: str, name: str) -> Ignored | None:
    for tail in _tails(path, name):
        if tail in _SECRET_PATHS:
            return Ignored(tail, secret=True)
    if ".ipython/" in path and _IPYTHON.fullmatch(path):
        return Ignored(f".ipython/profile_*/{name}", secret=True)
    match = _SECRET_NAMES.fullmatch(name)
    if match is None:
        return None
    kind = next(key for key in _SECRET_RULES if match[key] is not None)
    if (kind == "pem" and "/site-packages/" in path) or (kind == "env" and name.endswith(_TEMPLATES)):
        return None
    return Ignored(_SECRET_RULES[kind] if name != ".env" else ".env", secret=True)


def _tails(path: str, name: str) -> tuple[str, ...]:
    """The last one, two, three and four parts of ``path``, as far as it has them; none when no rule ends so."""
    if name not in _LAST_PARTS:
        return ()
    if len(path) == len(name):
        return (name,)
    parts = path.rsplit("/", 4)[-4:]
    return tuple("/".join(parts[-count:]) for count in range(1, len(parts) + 1))


def _read_lines(path: str) -> list[str]:
    try:
        with Path(path).open(encoding="utf-8", errors="surrogateescape") as stream:
            return stream.read(_MAX_IGNORE_BYTES).splitlines()
    except OSError as exc:
        raise SnapshotError(
            f"The file {path} cannot be read.", hint="Make it readable, or remove it.", details={"path": path}
        ) from exc


def _with_includes(lines: Sequence[str], path: str, origin: str) -> list[Ignored]:
    """The file's lines as rules. What it includes lies beside it; an include in there is only a comment."""
    rules: list[Ignored] = []
    for line in lines:
        if not line.startswith(_INCLUDE):
            rules.append(Ignored(line, origin=origin))
            continue
        name = line.removeprefix(_INCLUDE).strip()
        if "/" in name or name in {"", ".", ".."}:
            raise SnapshotError(
                f"{path} includes {name!r}, which is not the name of a file beside it.",
                hint="Write it as #!include:.gitignore.",
                details={"path": path},
            )
        included = origin.removesuffix(IGNORE_FILE) + name
        rules += [Ignored(text, origin=included) for text in _read_lines(str(Path(path).with_name(name)))]
    return rules


def _compile(rules: Sequence[Ignored], *, base: str) -> _Patterns:
    from pathspec import GitIgnoreSpec

    kept = tuple(rule for rule in rules if rule.rule)
    try:
        return _Patterns(base, GitIgnoreSpec.from_lines([rule.rule for rule in kept]), kept)
    except ValueError as exc:
        origin = kept[0].origin
        raise SnapshotError(
            f"An ignore pattern of {origin} is not valid.", hint=str(exc)[:300], details={"origin": origin}
        ) from exc


def _literal(pattern: str) -> str:
    """The part of a pattern before its first special character, without a leading ``/``."""
    return re.split(r"[*?\[\\]", pattern.removeprefix("/"), maxsplit=1)[0]
