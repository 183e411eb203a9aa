"""Answers of a registry: read within bounds, with the HTTP client's errors as ours."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import RegistryError, RegistryUnreachableError
from .trust import Origin

if TYPE_CHECKING:  # importing it takes 40 ms: not before the first request
    from urllib3 import BaseHTTPResponse

MAX_ANSWER_BYTES = 4 << 20
_TIMEOUT_S = 300.0
_PIECE_BYTES = 1 << 16

OK, CREATED, ACCEPTED, NO_CONTENT, PARTIAL = 200, 201, 202, 204, 206
UNAUTHORIZED, FORBIDDEN, NOT_FOUND, TOO_LARGE = 401, 403, 404, 413
INTERNAL_ERROR = 500
BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
REDIRECTS = frozenset({301, 302, 303, 307, 308})
UNSUPPORTED = frozenset({400, 405, 501})


@dataclass(frozen=True, slots=True)
class Body:
    """What is sent: ``length`` bytes, as pieces that can be produced again."""

    length: int
    pieces: Callable[[], Iterable[bytes | memoryview]]

    @classmethod
    def of(cls, content: bytes) -> Body:
        return cls(len(content), lambda: (content,))


class Answer:
    """A response; to be closed, or read to its end.

    Attributes:
        status: Of HTTP.
        url: Where it came from, after redirects.
    """

    def __init__(self, response: BaseHTTPResponse, url: str) -> None:
        self._response = response
        self.status = response.status
        self.url = url

    def header(self, name: str) -> str | None:
        return self._response.headers.get(name)

    def headers(self, name: str) -> list[str]:
        return self._response.headers.getlist(name)

    @property
    def length(self) -> int | None:
        """Bytes announced; None where the answer does not say."""
        text = self.header("Content-Length") or ""
        return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None  # noqa: PLR2004 - 64 bits

    def read_piece(self, limit_bytes: int) -> bytes:
        """Some bytes; none at the end.

        Raises:
            RegistryUnreachableError: the connection was cut before the announced end.
        """
        with map_client_errors(Origin.of(self.url)):
            return self._response.read(limit_bytes)

    def read(self, *, limit_bytes: int = MAX_ANSWER_BYTES, clock: Callable[[], float] = time.monotonic) -> bytes:
        """All of it.

        Raises:
            RegistryError: it is larger than the limit, or drips.
            RegistryUnreachableError: the connection was cut.
        """
        content = bytearray()
        deadline = clock() + _TIMEOUT_S
        while piece := self.read_piece(_PIECE_BYTES):
            content += piece
            if len(content) > limit_bytes or clock() > deadline:
                self.close()
                raise RegistryError(
                    "The registry's answer does not end.",
                    hint="Is this the address of a registry? If so, tell its admin.",
                    details={"limit_bytes": limit_bytes},
                )
        self.close()
        return bytes(content)

    def close(self) -> None:
        """Keep the connection for the next request where little is left to be read; else give it up."""
        remaining = self._response.length_remaining
        if remaining is not None and remaining <= _PIECE_BYTES:
            with suppress(RegistryError), map_client_errors(Origin.of(self.url)):
                self._response.read()
        self._response.close()


@contextmanager
def map_client_errors(origin: Origin) -> Iterator[None]:
    """The HTTP client's errors as ours."""
    from urllib3 import exceptions

    details = {"registry": str(origin)}
    try:
        yield
    except exceptions.SSLError as exc:
        if "CERTIFICATE" not in str(exc) and "match" not in str(exc):
            raise _unreachable(origin, exc) from exc
        raise RegistryError(
            "The registry cannot prove that it is what it says: its certificate is not trusted.",
            hint=f"If {origin.address} uses certificates of your site, ask your admin to add its authority.",
            details={**details, "is_certificate": True},
        ) from exc
    except exceptions.ProxyError as exc:
        raise RegistryUnreachableError(
            "The proxy between you and the registry gives no way.",
            hint="Check the variables https_proxy, http_proxy and no_proxy.",
            details=details,
        ) from exc
    except (exceptions.HTTPError, OSError) as exc:
        raise _unreachable(origin, exc) from exc
    except ValueError as exc:  # of http.client: signs in a header or an address that do not belong there
        raise RegistryError("The registry named an address that is not one.", details=details) from exc


def _unreachable(origin: Origin, exc: Exception) -> RegistryUnreachableError:
    return RegistryUnreachableError(
        "The registry gives no answer.",
        hint=f"Check that {origin.address} can be reached from here; it is safe to try again.",
        details={"registry": str(origin), "reason": type(exc).__name__},
    )
