"""HTTP to one registry: retries, redirects, authentication, errors in words.

Credentials are sent to the registry's own origin only, never along a redirect. Requests that may be repeated are, with
growing pauses, when there is no connection, or on 429 and 5xx. Safe for several threads.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast
from urllib.parse import urljoin

from ..errors import RegistryError, RegistryUnreachableError
from .answers import BUSY, FORBIDDEN, REDIRECTS, TOO_LARGE, UNAUTHORIZED, Answer, Body, map_client_errors
from .authentication import Authenticator, Scope, denied
from .connections import Connections
from .credentials import Credentials
from .transport_settings import TransportSettings
from .trust import Origin

MAX_REDIRECTS = 5
_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,63}\Z")
_MAX_MESSAGE = 200


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
        self.clock = clock
        self._chance = chance
        self._authenticator = Authenticator(self.origin, find=find, ask=self._ask_token_service, clock=clock)
        self._connections = Connections(self.settings)

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
        address = urljoin(str(self.origin), url)
        delays = self.settings.retry.delays() if repeat else iter(())
        return self._repeated(lambda: self._authorized(method, address, scope, headers or {}, body), delays)

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
        if status in (UNAUTHORIZED, FORBIDDEN):
            error: RegistryError = denied(self.origin)
        elif status in BUSY:
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
        self._connections.close()

    def _repeated(self, send: Callable[[], Answer], delays: Iterator[float]) -> Answer:
        while True:
            try:
                answer = send()
            except RegistryUnreachableError:
                delay = next(delays, None)
                if delay is None:
                    raise
            else:
                delay = next(delays, None) if answer.status in BUSY else None
                if delay is None:
                    return answer
                delay = max(delay, self._wait_asked_for(answer))
                answer.close()
            self.pause(delay)

    def _authorized(self, method: str, url: str, scope: Scope, headers: Mapping[str, str], body: Body | None) -> Answer:
        """Send with what the registry asks for; at another origin, with nothing."""
        if Origin.of(url) != self.origin:
            return self._follow(method, url, headers, None, body)
        shown = None
        for _ in range(3):  # without a token, with one that is no longer good, with a new one
            shown = self._authenticator.header(scope)
            answer = self._follow(method, url, headers, shown, body)
            if answer.status != UNAUTHORIZED or Origin.of(answer.url) != self.origin:
                return answer
            answer.close()
            if not self._authenticator.answer(answer.headers("WWW-Authenticate"), scope, refused=shown):
                break
        # A token says what it allows; a password that is shown is right or wrong.
        raise denied(self.origin, is_login=shown is None or shown.startswith("Basic "))

    def _follow(
        self, method: str, url: str, headers: Mapping[str, str], authorization: str | None, body: Body | None
    ) -> Answer:
        sent = {"Accept-Encoding": "identity", "User-Agent": "jupyterlab-ai-batch", **headers}
        if authorization is not None:
            sent["Authorization"] = authorization
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._send(method, url, sent, body)
            if answer.status not in REDIRECTS or method not in ("GET", "HEAD"):
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
            response = self._connections.to(origin).request(
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
        sent = {"Accept": "application/json", "Accept-Encoding": "identity", **headers}
        content = None if body is None else Body.of(body)
        answer = self._repeated(lambda: self._send(method, url, sent, content), self.settings.retry.delays())
        return answer.status, answer.read()

    def _wait_asked_for(self, answer: Answer) -> float:
        """Seconds of Retry-After, which may be a number or a date; 0 where there is none."""
        text = answer.header("Retry-After") or ""
        wait_s = 0.0
        if text.isascii() and text.isdigit():
            wait_s = float(text[:9])
        elif text:
            from email.utils import parsedate_to_datetime

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
