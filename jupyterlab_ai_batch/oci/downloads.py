"""A blob on its way from a registry: taken up where a cut connection left it, and verified at its end."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ..errors import RegistryError, RegistryUnreachableError, SnapshotCorruptError
from .answers import Answer
from .transport_settings import RetryPolicy

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-[0-9]{1,19}/([0-9]{1,19}|\*)\Z")
_ENOUGH_BYTES = 1 << 20
_SKIP_BYTES = 1 << 16


class BlobReader(io.RawIOBase):
    """The ``size`` bytes of blob ``digest``.

    Args:
        answer: The first answer, at its first byte.
        ask: Requests the blob from a byte on; returns the answer (200 or 206).
        pause: Called before each new request.

    Raises (reading):
        SnapshotCorruptError: at the end, when the content is not what the digest says.
        RegistryUnreachableError: the connection was cut too often.
    """

    def __init__(
        self,
        answer: Answer,
        *,
        digest: str,
        size: int,
        ask: Callable[[int], Answer],
        policy: RetryPolicy,
        pause: Callable[[float], None],
    ) -> None:
        super().__init__()
        self._answer = answer
        self._digest = digest
        self._size = size
        self._ask = ask
        self._policy = policy
        self._pause = pause
        self._delays = policy.delays()
        self._resumed_at = 0
        self._position = 0
        self._sha256 = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self._size - self._position)
        piece = self._next_piece(wanted) if wanted else b""
        if piece:
            buffer[: len(piece)] = piece
            self._sha256.update(piece)
            self._position += len(piece)
        if self._position == self._size:
            self._verify()
        return len(piece)

    def close(self) -> None:
        if not self.closed:
            self._answer.close()
        super().close()

    def _next_piece(self, wanted: int) -> bytes:
        piece = b""
        while not piece:
            cut: RegistryUnreachableError | None = None
            try:
                piece = self._answer.read_piece(wanted)
            except RegistryUnreachableError as exc:
                cut = exc
            if not piece:
                self._resume(cut)
        return piece

    def _resume(self, cause: RegistryUnreachableError | None) -> None:
        """Ask for the rest; only so often without getting a good deal of it in between."""
        self._answer.close()
        if self._position - self._resumed_at >= _ENOUGH_BYTES:
            self._delays = self._policy.delays()
        self._resumed_at = self._position
        delay = next(self._delays, None)
        if delay is None:
            raise cause or RegistryUnreachableError(
                "The registry breaks off before a blob is complete.",
                hint="It is safe to try again.",
                details={"digest": self._digest, "received_bytes": self._position},
            )
        self._pause(delay)
        self._answer = self._ask(self._position)
        self._skip_from(self._start_of(self._answer))

    def _start_of(self, answer: Answer) -> int:
        if answer.status == 200:  # noqa: PLR2004 - it knows no ranges
            return 0
        match = _CONTENT_RANGE.match(answer.header("Content-Range") or "")
        if match is None or int(match[1]) > self._position or match[2] not in ("*", str(self._size)):
            answer.close()
            raise RegistryError("The registry sends another part of a blob than was asked for.")
        return int(match[1])

    def _skip_from(self, start: int) -> None:
        """Read over what is known already; a cut in it is met by the next read."""
        with suppress(RegistryUnreachableError):
            while start < self._position and (
                piece := self._answer.read_piece(min(_SKIP_BYTES, self._position - start))
            ):
                start += len(piece)
        if start < self._position:
            self._answer.close()

    def _verify(self) -> None:
        if self._sha256.hexdigest() != self._digest.removeprefix("sha256:"):
            raise SnapshotCorruptError(
                "A blob from the registry is damaged.",
                hint="Submit the notebook again: it is captured anew.",
                details={"digest": self._digest},
            )
