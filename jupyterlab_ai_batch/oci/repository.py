"""One repository of a registry: its paths, its requests, and what is known to be in it."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import SnapshotCorruptError
from .answers import INTERNAL_ERROR, NOT_FOUND, OK, Answer, Body
from .authentication import Scope
from .reference import is_digest
from .transport import Transport

SIZE_UNKNOWN = -1
FRESH_S = 30.0  # registries keep what nothing refers to for hours before they collect it
_ABSENT = frozenset({NOT_FOUND, INTERNAL_ERROR})


class Repository:
    """Requests within ``name``.

    Attributes:
        present: Digests that the registry has said to have.
    """

    def __init__(self, transport: Transport, name: str) -> None:
        self.transport = transport
        self.name = name
        self.present: set[str] = set()
        self._actions = "pull"
        self._heard: dict[str, tuple[float, int]] = {}

    def path(self, rest: str) -> str:
        return f"/v2/{self.name}/{rest}"

    def will_push(self) -> None:
        """Ask for the right to push along with everything: one token then does for all."""
        self._actions = "pull,push"

    def request(
        self,
        method: str,
        url: str,
        *,
        actions: str | None = None,
        mount_from: str | None = None,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        repeat: bool = True,
    ) -> Answer:
        """See Transport.request; ``url`` as ``path`` gives it, or where the registry said."""
        scope = Scope(self.name, actions or self._actions, mount_from)
        return self.transport.request(method, url, scope=scope, headers=headers, body=body, repeat=repeat)

    def blob_size(self, digest: str) -> int | None:
        """Bytes of a blob, SIZE_UNKNOWN, or None where it is not there. Asking keeps it from garbage collection."""
        check_digest(digest)
        return self.head(self.path(f"blobs/{digest}"), digest)

    def recent_blob_size(self, digest: str) -> int | None:
        """As ``blob_size``, where the registry has not just said so."""
        heard_at, size = self._heard.get(digest, (0.0, 0))
        is_fresh = digest in self.present and self.transport.clock() < heard_at + FRESH_S
        return size if is_fresh else self.blob_size(digest)

    def head(self, path: str, digest: str, headers: Mapping[str, str] | None = None) -> int | None:
        """As ``blob_size``, of whatever is at ``path``.

        A registry whose disk was full when it noted a blob fails at that blob for ever, until it is stored again: such
        a blob counts as absent.
        """
        answer = self.request("HEAD", path, headers=headers)
        answer.close()
        if answer.status in _ABSENT:
            self.present.discard(digest)
            return None
        if answer.status != OK:
            raise self.transport.error(answer, "say what it has")
        self.check_claim(answer, digest)
        size = SIZE_UNKNOWN if answer.length is None else answer.length
        self.present.add(digest)
        self._heard[digest] = self.transport.clock(), size
        return size

    def check_claim(self, answer: Answer, digest: str) -> None:
        """Refuse an answer that names its content otherwise."""
        claimed = answer.header("Docker-Content-Digest")
        if claimed is not None and claimed.startswith("sha256:") and claimed != digest:
            raise self.transport.nonsense("it names another digest than that of the content")


def check_digest(digest: str) -> None:
    if not is_digest(digest):
        raise SnapshotCorruptError("A stored reference is not a digest.", details={"digest": digest[:80]})
