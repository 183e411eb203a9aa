"""How a blob gets into a repository: found there, mounted from a neighbour, or sent; a torn upload begins anew."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from urllib.parse import urlsplit

from ..errors import RegistryDeniedError, RegistryError, RegistryUnreachableError
from .answers import ACCEPTED, CREATED, Answer, Body
from .repository import Repository
from .uploads import Spool

CHUNK_BYTES = 32 << 20
_TORN = frozenset({"BLOB_UPLOAD_INVALID", "BLOB_UPLOAD_UNKNOWN", "DIGEST_INVALID", "SIZE_INVALID", "RANGE_INVALID"})
_LOST = frozenset({404, 416})
_RANGE = re.compile(r"(?:bytes=)?0-([0-9]{1,19})\Z")


class BlobSender:
    """Sends blobs to ``repository``.

    Args:
        mount_from: Repositories of the same registry where a blob may be already.
    """

    def __init__(self, repository: Repository, mount_from: Sequence[str]) -> None:
        self._repository = repository
        self._mount_from = [name for name in mount_from if name != repository.name]
        self._sent: list[int] = []

    @property
    def sent_bytes(self) -> int:
        return sum(self._sent)

    def send(self, spool: Spool) -> None:
        """Have the blob there, by whichever way is the cheapest; a torn upload begins anew."""
        delays = self._repository.transport.settings.retry.delays()
        while self._repository.blob_size(spool.digest) is None:
            session = self._open_session(spool.digest)
            if session is None:
                break
            try:
                self._fill(session, spool)
                self._sent.append(spool.size)
                self._repository.blob_size(spool.digest)  # noted for the manifest, whose writing would wait for it
                break
            except RegistryUnreachableError:
                delay = next(delays, None)
                if delay is None:
                    raise
            spool.check_wanted()
            self._repository.transport.pause(delay)
        self._repository.present.add(spool.digest)

    def try_upload(self) -> None:
        """Begin an upload, and give it up: nothing is stored.

        Raises:
            RegistryDeniedError: this user may not.
            RegistryError
        """
        path = self._repository.path("blobs/uploads/")
        answer = self._repository.request("POST", path, actions="pull,push", body=Body.of(b""))
        self._cancel(self._session_of(answer))

    def try_mount(self, digest: str, neighbour: str) -> bool:
        """Have a blob of another repository of the registry; False where the registry would not."""
        mounted, session = self._mount(digest, neighbour)
        self._cancel(session)
        return mounted

    def _open_session(self, digest: str) -> str | None:
        """The address of a new upload, or None once the blob was mounted from a neighbour."""
        for neighbour in self._mount_from:
            mounted, session = self._mount(digest, neighbour)
            if mounted:
                return None
            if session is not None and neighbour == self._mount_from[-1]:
                return session
            self._cancel(session)
        path = self._repository.path("blobs/uploads/")
        return self._session_of(self._repository.request("POST", path, actions="pull,push", body=Body.of(b"")))

    def _mount(self, digest: str, neighbour: str) -> tuple[bool, str | None]:
        """Whether it was mounted; if not, the upload that most registries open instead."""
        path = self._repository.path(f"blobs/uploads/?mount={digest}&from={neighbour}")
        try:
            answer = self._repository.request(
                "POST", path, actions="pull,push", mount_from=neighbour, body=Body.of(b"")
            )
        except RegistryDeniedError:  # the neighbour's blobs are not for this user
            return False, None
        if answer.status == ACCEPTED:
            return False, self._session_of(answer)
        answer.close()
        if answer.status != CREATED:
            return False, None
        self._repository.check_claim(answer, digest)
        self._repository.present.add(digest)
        return True, None

    def _session_of(self, answer: Answer) -> str:
        if answer.status != ACCEPTED:
            raise self._repository.transport.error(answer, "store a blob")
        answer.close()
        return self._repository.transport.resolve_upload(answer.header("Location"), answer.url)

    def _fill(self, session: str, spool: Spool) -> None:
        start = 0
        while spool.size - start > CHUNK_BYTES:
            end = start + CHUNK_BYTES
            session = self._send_chunk(session, spool, start, end)
            start = end
        answer = self._upload("PUT", _with_digest(session, spool.digest), spool, start, spool.size)
        if answer.status != CREATED:
            raise self._torn_or_refused(answer)
        answer.close()
        self._repository.check_claim(answer, spool.digest)

    def _send_chunk(self, session: str, spool: Spool, start: int, end: int) -> str:
        answer = self._upload("PATCH", session, spool, start, end)
        if answer.status != ACCEPTED:
            raise self._torn_or_refused(answer)
        match = _RANGE.match(answer.header("Range") or "")
        if match is not None and int(match[1]) != end - 1:
            answer.close()
            raise _torn()  # some registries accept a chunk at the wrong place without a word
        return self._session_of(answer)

    def _upload(self, method: str, session: str, spool: Spool, start: int, end: int) -> Answer:
        headers = {"Content-Type": "application/octet-stream"}
        if start or method == "PATCH":
            headers["Content-Range"] = f"{start}-{max(start, end - 1)}"
        body = spool.body(start, end)
        return self._repository.request(method, session, actions="pull,push", headers=headers, body=body, repeat=False)

    def _torn_or_refused(self, answer: Answer) -> RegistryError:
        error = self._repository.transport.error(answer, "store a blob")
        torn = answer.status in _LOST or not _TORN.isdisjoint(error.details["codes"])
        return _torn() if torn else error

    def _cancel(self, session: str | None) -> None:
        if session is not None:
            with suppress(RegistryError):
                self._repository.request("DELETE", session, actions="delete", repeat=False).close()


def _with_digest(session: str, digest: str) -> str:
    return f"{session}{'&' if urlsplit(session).query else '?'}digest={digest}"


def _torn() -> RegistryUnreachableError:
    return RegistryUnreachableError("The upload to the registry was torn.", hint="It is safe to try again.")
