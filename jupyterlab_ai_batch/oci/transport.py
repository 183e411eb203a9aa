"""HTTP to one registry: pooled connections, retries, redirects, authentication, bounded answers.

Credentials are sent to the registry's own origin only, never along a redirect. Requests that may be repeated are, with
growing pauses, when there is no connection, or on 429 and 5xx. Safe for several threads.
"""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote, urljoin

from ..errors import RegistryError, RegistryUnreachableError
from .authentication import Authenticator, Scope, denied
from .credentials import Credentials
from .trust import CERTIFICATE_DIRECTORIES, Origin, find_proxy, tls_context

if TYPE_CHECKING:  # importing it takes 40 ms: not before the first request
    from urllib3 import BaseHTTPResponse, PoolManager

MAX_ANSWER_BYTES = 4 << 20
MAX_REDIRECTS = 5
_POOL_SIZE = 8
_ANSWER_TIMEOUT_S = 300.0
_PIECE_BYTES = 1 << 16
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,63}\Z")
_MAX_MESSAGE = 200
OK, CREATED, ACCEPTED, NO_CONTENT, PARTIAL = 200, 201, 202, 204, 206
UNAUTHORIZED, NOT_FOUND, TOO_LARGE = 401, 404, 413
UNSUPPORTED = frozenset({400, 405, 501})


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When to try again.

    Attributes:
        attempts: In all, the first one included.
        first_delay_s: Before the second attempt; it doubles from then on, up to ``longest_delay_s``.
        longest_wait_s: What a registry may ask for (Retry-After); more is an error at once.
    """

    attempts: int = 6
    first_delay_s: float = 0.25
    longest_delay_s: float = 8.0
    longest_wait_s: float = 60.0

    def delays(self) -> Iterator[float]:
        for attempt in range(self.attempts - 1):
            yield min(self.first_delay_s * 2**attempt, self.longest_delay_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportSettings:
    """How registries are reached.

    Attributes:
        plain_http: Whether the registry is spoken to without TLS; None: where it is on this machine.
        ca_file: Certificate authorities (PEM) to be trusted besides the system's.
        certificate_directories: ``<directory>/<host[:port]>/*.crt``, and ``*.cert`` with ``*.key``.
        environ: Read for proxies and ``SSL_CERT_FILE``.
        connect_timeout_s, read_timeout_s: For a connection, and for each piece of an answer.
        commit_timeout_s: For the answer to an upload, which a registry may copy somewhere first.
    """

    plain_http: bool | None = None
    ca_file: Path | None = None
    certificate_directories: tuple[Path, ...] = CERTIFICATE_DIRECTORIES
    environ: Mapping[str, str] = field(default_factory=dict)
    connect_timeout_s: float = 20.0
    read_timeout_s: float = 60.0
    commit_timeout_s: float = 300.0
    retry: RetryPolicy = field(default_factory=RetryPolicy)


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
        deadline = clock() + _ANSWER_TIMEOUT_S
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


class Transport:
    """Requests to the registry at ``endpoint`` (host and port).

    Args:
        find: The user's credentials for a repository.
        clock: Seconds; only differences count.
        sleep, chance: Replaced by tests. Pauses are drawn out by up to ``chance()`` of their length.

    Raises:
        RegistryUnreachableError: every method: no answer, also after the retries.
        RegistryDeniedError: every method: the credentials are not enough.
        RegistryError: every method: TLS fails, or answers make no sense.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        find: Callable[[str], Credentials] = lambda _: Credentials(),
        settings: TransportSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.settings = settings or TransportSettings()
        plain = self.settings.plain_http
        if plain is None:
            plain = Origin.of(f"http://{endpoint}").is_loopback
        self.origin = Origin.of(f"{'http' if plain else 'https'}://{endpoint}")
        self.sleep = sleep
        self._clock = clock
        self._chance = chance
        self._authenticator = Authenticator(self.origin, find=find, ask=self._ask_token_service, clock=clock)
        self._pools: dict[Origin, PoolManager] = {}
        self._lock = threading.Lock()

    def request(
        self,
        method: str,
        url: str,
        *,
        scope: Scope,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        repeat: bool = True,
    ) -> Answer:
        """Send a request and return its answer, of whatever status but 401 and redirects of GET and HEAD.

        Args:
            url: Absolute, or a path at the registry.
            repeat: Whether doing it twice does no harm.
        """
        delays = self.settings.retry.delays() if repeat else iter(())
        while True:
            try:
                answer = self._authorized(method, urljoin(str(self.origin), url), scope, headers or {}, body)
            except RegistryUnreachableError:
                delay = next(delays, None)
                if delay is None:
                    raise
            else:
                delay = next(delays, None) if answer.status in _BUSY else None
                if delay is None:
                    return answer
                delay = max(delay, self._wait_asked_for(answer))
                answer.close()
            self.pause(delay)

    def pause(self, delay_s: float) -> None:
        self.sleep(delay_s * (1 + self._chance()))

    def resolve_upload(self, location: str | None, base: str) -> str:
        """The address of an upload session; one that forgot about TLS is corrected, one elsewhere gets no credentials.

        Raises:
            RegistryError: there is none, or it leaves TLS.
        """
        url = urljoin(base, location or "")
        origin = Origin.of(url)
        if not location:
            raise self.nonsense("it opens an upload without an address")
        if self.origin.scheme == "https" and origin.scheme == "http":
            if origin.host != self.origin.host:
                raise self.nonsense("it wants an upload without TLS")
            # A proxy in front of the registry ends TLS, and the registry does not know.
            return f"{self.origin}{url[url.index('/', len('http://')) :]}"
        return url

    def error(self, answer: Answer, doing: str) -> RegistryError:
        """What an answer that was not hoped for means; closes it.

        Args:
            doing: What failed, for the message: "store a blob".
        """
        codes, message, _ = self.parse_errors(answer)
        return self.refused(answer.status, doing, codes, message)

    def refused(self, status: int, doing: str, codes: Sequence[str], message: str) -> RegistryError:
        if status in (401, 403):
            error: RegistryError = denied(self.origin)
        elif status in _BUSY:
            error = RegistryUnreachableError(
                "The registry cannot answer now.", hint="It is safe to try again in a few minutes."
            )
        elif status == TOO_LARGE:
            error = RegistryError(
                "A part of the Snapshot is larger than the registry accepts.",
                hint="Ask the admin of the registry to raise the size limit of its web server for uploads.",
            )
        else:
            hint = "Show the details to the admin of the registry."
            error = RegistryError(f"The registry refuses to {doing}.", hint=hint)
        error.details.update({"registry": str(self.origin), "status": status, "codes": list(codes), "answer": message})
        return error

    def parse_errors(self, answer: Answer) -> tuple[list[str], str, list[Any]]:
        """Codes, the first message and all details of an error answer; nothing in it is trusted."""
        try:
            entries = json.loads(answer.read())["errors"]
            entries = [entry for entry in entries if isinstance(entry, dict)][:100]
        except (RegistryError, ValueError, KeyError, TypeError, RecursionError):
            return [], "", []
        codes = [code for entry in entries if isinstance(code := entry.get("code"), str) and _CODE.match(code)]
        text = next((text for entry in entries if isinstance(text := entry.get("message"), str)), "")
        shown = "".join(sign if sign.isprintable() else " " for sign in text[:_MAX_MESSAGE])
        if any(secret in text for secret in self._authenticator.secrets()):
            shown = ""
        return codes, shown, [entry.get("detail") for entry in entries]

    def nonsense(self, what: str) -> RegistryError:
        return RegistryError(
            f"The registry's answers make no sense: {what}.",
            hint="Is this the address of a registry, and is nothing between you and it that changes answers?",
            details={"registry": str(self.origin)},
        )

    def close(self) -> None:
        with self._lock:
            for pool in self._pools.values():
                pool.clear()

    def _authorized(self, method: str, url: str, scope: Scope, headers: Mapping[str, str], body: Body | None) -> Answer:
        """Send with what the registry asks for; at another origin, with nothing."""
        if Origin.of(url) != self.origin:
            return self._follow(method, url, headers, None, body)
        for _ in range(3):  # without a token, with one that is no longer good, with a new one
            shown = self._authenticator.header(scope)
            answer = self._follow(method, url, headers, shown, body)
            if answer.status != UNAUTHORIZED or Origin.of(answer.url) != self.origin:
                return answer
            answer.close()
            if not self._authenticator.answer(answer.headers("WWW-Authenticate"), scope, refused=shown):
                break
        raise denied(self.origin)

    def _follow(
        self, method: str, url: str, headers: Mapping[str, str], authorization: str | None, body: Body | None
    ) -> Answer:
        sent = {"Accept-Encoding": "identity", "User-Agent": "jupyterlab-ai-batch", **headers}
        if authorization is not None:
            sent["Authorization"] = authorization
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._send(method, url, sent, body)
            if answer.status not in _REDIRECTS or method not in ("GET", "HEAD"):
                return answer
            answer.close()
            target = urljoin(url, answer.header("Location") or "")
            here, there = Origin.of(url), Origin.of(target)
            if there != here:
                sent.pop("Authorization", None)
            if there.scheme == "http" and self.origin.scheme == "https":
                raise self.nonsense("it redirects to an address without TLS")
            url = target
        raise self.nonsense("it redirects in circles")

    def _send(self, method: str, url: str, headers: Mapping[str, str], body: Body | None) -> Answer:
        from urllib3 import Timeout

        origin = Origin.of(url)
        sent = dict(headers)
        if body is not None:
            sent["Content-Length"] = str(body.length)
        settings = self.settings
        read_timeout_s = settings.read_timeout_s if body is None else settings.commit_timeout_s
        with map_client_errors(origin):
            response = self._pool(origin).request(
                method,
                url,
                headers=sent,
                body=None if body is None else cast(Iterable[bytes], body.pieces()),
                timeout=Timeout(connect=settings.connect_timeout_s, read=read_timeout_s),
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
            )
        return Answer(response, url)

    def _ask_token_service(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None
    ) -> tuple[int, bytes]:
        delays = self.settings.retry.delays()
        while True:
            try:
                sent = {"Accept": "application/json", "Accept-Encoding": "identity", **headers}
                answer = self._send(method, url, sent, None if body is None else Body.of(body))
                content = answer.read(limit_bytes=MAX_ANSWER_BYTES)
            except RegistryUnreachableError:
                delay = next(delays, None)
                if delay is None:
                    raise
            else:
                delay = next(delays, None) if answer.status in _BUSY else None
                if delay is None:
                    return answer.status, content
                delay = max(delay, self._wait_asked_for(answer))
            self.pause(delay)

    def _wait_asked_for(self, answer: Answer) -> float:
        """Seconds of Retry-After, which may be a number or a date; 0 where there is none."""
        text = answer.header("Retry-After") or ""
        wait_s = 0.0
        if text.isascii() and text.isdigit():
            wait_s = float(text[:9])
        elif text:
            try:
                until = parsedate_to_datetime(text) - parsedate_to_datetime(answer.header("Date") or "")
                wait_s = until.total_seconds()
            except (ValueError, TypeError):
                wait_s = 0.0
        if wait_s > self.settings.retry.longest_wait_s:
            answer.close()
            raise RegistryUnreachableError(
                "The registry answers no more requests for a while.",
                hint=f"Try again in {wait_s / 60:.0f} minutes.",
                details={"registry": str(self.origin), "retry_after_s": wait_s},
            )
        return wait_s

    def _pool(self, origin: Origin) -> PoolManager:
        with self._lock:
            if origin not in self._pools:
                self._pools[origin] = self._make_pool(origin)
            return self._pools[origin]

    def _make_pool(self, origin: Origin) -> PoolManager:
        from urllib3 import PoolManager, ProxyManager
        from urllib3.util import make_headers, parse_url

        settings = self.settings
        options: dict[str, Any] = {"maxsize": _POOL_SIZE}
        if origin.scheme == "https":
            options["ssl_context"] = tls_context(
                origin,
                environ=settings.environ,
                ca_file=settings.ca_file,
                certificate_directories=settings.certificate_directories,
            )
        proxy = find_proxy(origin, settings.environ)
        if proxy is None:
            return PoolManager(**options)
        try:
            user = unquote(parse_url(proxy).auth or "")
            return ProxyManager(proxy, proxy_headers=make_headers(proxy_basic_auth=user) if user else None, **options)
        except Exception:  # noqa: BLE001 - whatever it is: the address may hold a password, which the cause would show
            raise RegistryError(
                "The address of the proxy in the environment cannot be used.",
                hint="Check the variables https_proxy, http_proxy and all_proxy.",
            ) from None


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
            details=details,
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
