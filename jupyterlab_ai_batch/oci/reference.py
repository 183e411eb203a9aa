"""Names of images: ``host[:port]/repository[:tag][@digest]``, with Docker Hub's shorthand.

``python:3.12`` is ``docker.io/library/python:3.12``; a first part with a dot, a colon, a capital or the name
``localhost`` is a host. The grammar is the distribution specification's; digests are SHA-256 only, as everywhere here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import InvalidSubmissionError

DOCKER_HUB = "docker.io"
_DOCKER_HUB_ENDPOINT = "registry-1.docker.io"
_DOCKER_HUB_NAMES = frozenset({DOCKER_HUB, "index.docker.io", _DOCKER_HUB_ENDPOINT})
_MAX_REPOSITORY = 255
_MAX_TEXT = 1024

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]{{2,45}}\])(?::([0-9]{{1,5}}))?\Z")
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*\Z")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}\Z")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A repository in a registry, and what is meant there.

    Attributes:
        host: With its port where one was given; ``docker.io`` for Docker Hub.
        digest: Wins over ``tag`` where both are given.
    """

    host: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    @property
    def name(self) -> str:
        """The repository without what is meant there."""
        return f"{self.host}/{self.repository}"

    @property
    def endpoint(self) -> str:
        """Host and port that answer requests: Docker Hub's are elsewhere."""
        return _DOCKER_HUB_ENDPOINT if self.host == DOCKER_HUB else self.host

    @property
    def target(self) -> str:
        """What to ask the repository for: the digest, else the tag, else ``latest``."""
        return self.digest or self.tag or "latest"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.name}{tag}{digest}"


def parse_reference(text: str) -> Reference:
    """Read a name as users and admins write it.

    Raises:
        InvalidSubmissionError: not such a name; the hint says what is wrong.
    """
    if len(text) > _MAX_TEXT:
        raise _invalid(text, "It is too long.")
    name, _, digest = text.partition("@")
    if "@" in text and not _DIGEST.match(digest):
        raise _invalid(text, "After @ stands a digest: sha256: and 64 small hexadecimal digits.")
    host, rest = _split_host(name)
    repository, colon, tag = rest.partition(":")
    if colon and not is_tag(tag):
        raise _invalid(text, "A tag has at most 128 letters, digits and the signs _ . -")
    if not is_host(host):
        raise _invalid(text, "The part before the first / is not a host with an optional port.")
    if host in _DOCKER_HUB_NAMES:
        host = DOCKER_HUB
        repository = repository if "/" in repository else f"library/{repository}"
    if not is_repository(repository):
        raise _invalid(
            text, "A repository has small letters and digits, single . _ or - between them, and parts with /"
        )
    return Reference(host=host, repository=repository, tag=tag or None, digest=digest or None)


def is_host(text: str) -> bool:
    match = _HOST.match(text)
    return match is not None and (match[1] is None or 0 < int(match[1]) <= 65535)  # noqa: PLR2004 - the last port


def is_repository(text: str) -> bool:
    return len(text) <= _MAX_REPOSITORY and _REPOSITORY.match(text) is not None


def is_tag(text: str) -> bool:
    return _TAG.match(text) is not None


def is_digest(text: str) -> bool:
    return _DIGEST.match(text) is not None


def _split_host(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    if slash and (first == "localhost" or "." in first or ":" in first or first != first.lower()):
        return first, rest
    return DOCKER_HUB, name


def _invalid(text: str, hint: str) -> InvalidSubmissionError:
    shown = text if len(text) <= 100 and text.isprintable() else ascii(text[:100])  # noqa: PLR2004 - enough to recognise
    return InvalidSubmissionError(f"{shown!r} is not the name of an image.", hint=hint, details={"reference": shown})
