"""Tags of a repository: listed page by page, and deleted without harm to what other tags name."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urljoin

from ..errors import RegistryError
from .answers import NOT_FOUND, OK
from .port import MANIFEST_MEDIA_TYPE
from .reference import is_tag
from .remote_manifests import Manifests
from .repository import Repository
from .trust import Origin

_MAX_PAGES = 1000
_NEXT = re.compile(r'<([^<>]{1,2048})>\s*;\s*rel="?next"?')


def list_tags(repository: Repository) -> Iterator[list[str]]:
    """Names, one page of the registry's after another."""
    url = repository.path("tags/list?n=1000")
    for _ in range(_MAX_PAGES):
        answer = repository.request("GET", url)
        if answer.status == NOT_FOUND:  # a repository without anything is not there
            answer.close()
            return
        if answer.status != OK:
            raise repository.transport.error(answer, "list its tags")
        following = _NEXT.search(answer.header("Link") or "")
        yield _parse(repository, answer.read())
        if following is None:
            return
        url = urljoin(answer.url, following[1])
        if Origin.of(url) != repository.transport.origin:
            raise repository.transport.nonsense("its list of tags goes on elsewhere")
    raise repository.transport.nonsense("its list of tags does not end")


def delete_tag(tag: str, *, repository: Repository, manifests: Manifests, put_blob: Callable[[bytes], Any]) -> None:
    """Remove ``tag`` only.

    Registries of the older kind delete a manifest with all its tags. There, the tag is moved to a manifest of its own,
    and that is deleted: a tag that somebody sets meanwhile to the same content is not lost.

    Args:
        put_blob: Stores content and waits until it is there; returns (digest, size).

    Raises:
        RegistryError: the registry does not allow deletion; the tag stays as it is.
    """
    if not is_tag(tag) or manifests.digest_of(tag) is None:
        return
    if manifests.delete(tag) and manifests.digest_of(tag) is None:
        return
    if not manifests.delete(f"sha256:{secrets.token_hex(32)}"):  # of something that is not there: is it allowed at all?
        raise _not_allowed(tag, repository)
    kept = manifests.get(tag)
    if not manifests.delete(manifests.put(_placeholder(*put_blob(b"{}")), tag, MANIFEST_MEDIA_TYPE)):
        manifests.put(kept.content, tag, kept.media_type)
        raise _not_allowed(tag, repository)


def _placeholder(digest: str, size: int) -> bytes:
    """A manifest that nothing else can name."""
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_MEDIA_TYPE,
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest, "size": size},
        "layers": [],
        "annotations": {"ai-batch.deleted": secrets.token_hex(16)},
    }
    return json.dumps(manifest).encode()


def _parse(repository: Repository, content: bytes) -> list[str]:
    try:
        names = json.loads(content)["tags"] or []
        return [name for name in names if isinstance(name, str) and is_tag(name)]
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise repository.transport.nonsense("it sends something that is not a list of tags") from exc


def _not_allowed(tag: str, repository: Repository) -> RegistryError:
    return RegistryError(
        "The registry does not allow to delete.",
        hint="Ask the admin of the registry for a rule that removes old tags, or to allow deletion.",
        details={"tag": tag, "repository": repository.name},
    )
