"""Manifests of a repository: read and verified, or written once everything that they mention is there."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import Executor
from dataclasses import dataclass

from ..errors import BlobMissingError, RegistryError, SnapshotCorruptError
from .answers import ACCEPTED, CREATED, NO_CONTENT, NOT_FOUND, OK, UNSUPPORTED, Answer, Body
from .mentions import MAX_MANIFEST_BYTES, mentioned
from .port import DOCKER_INDEX_MEDIA_TYPE, DOCKER_MANIFEST_MEDIA_TYPE, INDEX_MEDIA_TYPE, MANIFEST_MEDIA_TYPE
from .reference import is_digest, is_tag
from .repository import SIZE_UNKNOWN, Repository

_INDEXES = frozenset({INDEX_MEDIA_TYPE, DOCKER_INDEX_MEDIA_TYPE})
_MANIFESTS = (MANIFEST_MEDIA_TYPE, INDEX_MEDIA_TYPE, DOCKER_MANIFEST_MEDIA_TYPE, DOCKER_INDEX_MEDIA_TYPE)
_UNKNOWN_BLOBS = frozenset({"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"})
_ACCEPT = {"Accept": ", ".join(_MANIFESTS)}


@dataclass(frozen=True, slots=True)
class Manifest:
    """``content`` has ``digest``."""

    content: bytes
    digest: str
    media_type: str


class Manifests:
    """The manifests of ``repository``."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    def get(self, reference: str) -> Manifest:
        """What a tag or a digest names.

        Raises:
            SnapshotCorruptError: it names nothing, or the content is not what its digest says.
        """
        if not is_digest(reference) and not is_tag(reference):
            raise _nothing_named(reference)
        answer = self._repository.request("GET", self._path(reference), headers=_ACCEPT)
        if answer.status == NOT_FOUND:
            answer.close()
            raise _nothing_named(reference)
        if answer.status != OK:
            raise self._repository.transport.error(answer, "hand out a manifest")
        media_type = (answer.header("Content-Type") or "").partition(";")[0].strip()
        content = answer.read(limit_bytes=MAX_MANIFEST_BYTES)
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        if is_digest(reference) and digest != reference:
            raise SnapshotCorruptError("A manifest from the registry is damaged.", details={"digest": reference})
        self._repository.check_claim(answer, digest)
        if media_type not in _MANIFESTS:
            raise self._repository.transport.nonsense("it sends something that is not a manifest")
        mentioned(content)
        return Manifest(content, digest, media_type)

    def put(self, content: bytes, tag: str | None, media_type: str) -> str:
        """Store and name it, by its digest alone where there is no tag; returns its digest.

        Raises:
            BlobMissingError: the registry misses blobs that it mentions.
        """
        if tag is not None and not is_tag(tag):
            raise RegistryError("A name for the registry is not a tag.", details={"tag": ascii(tag[:100])})
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        headers = {"Content-Type": media_type}
        path = self._path(digest if tag is None else tag)
        answer = self._repository.request("PUT", path, actions="pull,push", headers=headers, body=Body.of(content))
        if answer.status not in (OK, CREATED, ACCEPTED):
            raise self._refused(answer, content)
        answer.close()
        self._repository.check_claim(answer, digest)
        return digest

    def has(self, digest: str) -> bool:
        """Whether the very same manifest is there: no registry removes what a manifest that it keeps refers to."""
        return self._size(digest) is not None

    def check_mentioned(self, content: bytes, media_type: str, threads: Executor) -> None:
        """Make sure of every blob (of an index: every manifest) just before it is named; asking also keeps it a while.

        Raises:
            BlobMissingError: some are not there.
        """
        descriptors = {found.digest: found for found in mentioned(content)}
        ask = self._size if media_type in _INDEXES else self._repository.recent_blob_size
        sizes = dict(zip(descriptors, threads.map(ask, descriptors), strict=True))
        missing = [digest for digest, size in sizes.items() if size is None]
        if missing:
            raise BlobMissingError.of(missing)
        if any(size not in (SIZE_UNKNOWN, descriptors[digest].size) for digest, size in sizes.items()):
            raise self._repository.transport.nonsense("it says another size of a blob than was stored")

    def digest_of(self, tag: str) -> str | None:
        """The digest of the manifest that a tag names, as the registry says; None where there is no such tag."""
        answer = self._repository.request("HEAD", self._path(tag), headers=_ACCEPT)
        answer.close()
        if answer.status == NOT_FOUND:
            return None
        if answer.status != OK:
            raise self._repository.transport.error(answer, "say what a tag names")
        claimed = answer.header("Docker-Content-Digest") or ""
        return claimed if is_digest(claimed) else self.get(tag).digest

    def delete(self, reference: str) -> bool:
        """Whether it is gone; False where the registry does not delete such a thing."""
        answer = self._repository.request("DELETE", self._path(reference), actions="delete")
        if answer.status in UNSUPPORTED:
            answer.close()
            return False
        if answer.status not in (OK, ACCEPTED, NO_CONTENT, NOT_FOUND):
            raise self._repository.transport.error(answer, "delete a tag")
        answer.close()
        return True

    def _path(self, reference: str) -> str:
        return self._repository.path(f"manifests/{reference}")

    def _size(self, digest: str) -> int | None:
        return self._repository.head(self._path(digest), digest, _ACCEPT)

    def _refused(self, answer: Answer, content: bytes) -> RegistryError | BlobMissingError:
        codes, message, details = self._repository.transport.parse_errors(answer)
        if _UNKNOWN_BLOBS.isdisjoint(codes):
            return self._repository.transport.refused(answer.status, "store a manifest", codes, message)
        known = [found.digest for found in mentioned(content)]
        named = json.dumps(details)
        missing = [digest for digest in known if digest in named] or known
        self._repository.present.difference_update(missing)
        return BlobMissingError.of(missing)


def _nothing_named(reference: str) -> SnapshotCorruptError:
    return SnapshotCorruptError(
        f"The registry has nothing named {reference[:80]!r}.", details={"reference": reference[:80]}
    )
