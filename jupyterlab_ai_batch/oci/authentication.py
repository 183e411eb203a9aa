"""What a registry wants to see before it answers: a token from its token service, or a user name and password.

A registry says so by status 401 and ``WWW-Authenticate``. Tokens are kept per scope until they expire. Credentials go
to the registry's own origin and to the token service that this origin named, over https (or on the same machine).
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlencode

from ..errors import RegistryDeniedError, RegistryError
from .credentials import Credentials
from .trust import Origin

_CLIENT_ID = "jupyterlab-ai-batch"
_MINIMUM_LIFE_S = 60.0  # the protocol's default and minimum
_MARGIN = 0.9
_TOKEN = re.compile(r"[\x21-\x7e]{1,32768}\Z")
_CHALLENGE = re.compile(r'([a-zA-Z0-9_-]+)(\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+)))?')
_MAX_HEADER = 4096


@dataclass(frozen=True, slots=True)
class Scope:
    """What a request needs to be allowed to do.

    Attributes:
        actions: ``pull``, ``pull,push`` or ``delete``.
        mount_from: A repository of the same registry to be read.
    """

    repository: str
    actions: str = "pull"
    mount_from: str | None = None

    def texts(self, demanded: str) -> list[str]:
        """As the token service reads them; with what a registry demanded besides."""
        texts = [f"repository:{self.repository}:{self.actions}"]
        if self.mount_from is not None:
            texts.append(f"repository:{self.mount_from}:pull")
        return texts + [text for text in demanded.split() if not any(_covers(own, text) for own in texts)]


class TokenService(Protocol):
    """Sends one request, without credentials of its own, and returns status and content of the answer."""

    def __call__(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None
    ) -> tuple[int, bytes]: ...


@dataclass(frozen=True, slots=True)
class _Token:
    value: str
    expires_at: float


class Authenticator:
    """The Authorization headers for one origin; safe for several threads.

    Args:
        find: The user's credentials for a repository; asked at most once for each, and only when it is needed.
        ask: Reaches token services.
        clock: Seconds; only differences count.
    """

    def __init__(
        self, origin: Origin, *, find: Callable[[str], Credentials], ask: TokenService, clock: Callable[[], float]
    ) -> None:
        self._origin = origin
        self._find = find
        self._ask = ask
        self._clock = clock
        self._lock = threading.RLock()
        self._challenge: dict[str, str] | None = None
        self._basic = False
        self._tokens: dict[Scope, _Token] = {}
        self._credentials: dict[str, Credentials] = {}

    def header(self, scope: Scope) -> str | None:
        """What to send along with a request; None as long as the registry has not asked."""
        with self._lock:
            if self._basic:
                return self._own(scope).basic
            if self._challenge is None:
                return None
            token = self._tokens.get(scope)
            if token is None or token.expires_at <= self._clock():
                token = self._fetch(scope, self._challenge)
            return f"Bearer {token.value}"

    def answer(self, challenges: Sequence[str], scope: Scope, *, refused: str | None) -> bool:
        """Learn from a 401; False when there is nothing left to try.

        Args:
            refused: The Authorization header that the registry did not accept.

        Raises:
            RegistryDeniedError: the token service does not let the user in.
            RegistryError: the registry or its token service makes no sense.
        """
        offered = _parse_challenges(challenges)
        with self._lock:
            if refused != self.header(scope):
                return True  # another thread was faster
            if (bearer := offered.get("bearer")) is not None:
                if refused is not None and bearer.get("error") == "insufficient_scope":
                    return False
                self._challenge, self._basic = bearer, False
                self._fetch(scope, bearer, bearer.get("scope", ""))
                return True
            if "basic" in offered and refused is None and self._own(scope).username:
                self._basic = True
                return True
            return False

    def secrets(self) -> tuple[str, ...]:
        """Every text that must not be shown."""
        with self._lock:
            found = [secret for credentials in self._credentials.values() for secret in credentials.secrets]
            return (*found, *(token.value for token in self._tokens.values()))

    def _own(self, scope: Scope) -> Credentials:
        if scope.repository not in self._credentials:
            self._credentials[scope.repository] = self._find(scope.repository)
        return self._credentials[scope.repository]

    def _fetch(self, scope: Scope, challenge: Mapping[str, str], demanded: str = "") -> _Token:
        credentials = self._own(scope)
        if credentials.registry_token:
            token = _Token(_check_token(credentials.registry_token), self._clock() + _MINIMUM_LIFE_S)
        else:
            realm = self._check_realm(challenge.get("realm", ""))
            scopes = scope.texts(demanded)
            status, content = self._request_token(realm, challenge.get("service", ""), scopes, credentials)
            token = self._parse_token(status, content)
        self._tokens[scope] = token
        return token

    def _request_token(
        self, realm: str, service: str, scopes: Sequence[str], credentials: Credentials
    ) -> tuple[int, bytes]:
        if credentials.identity_token:
            form = {
                "grant_type": "refresh_token",
                "refresh_token": credentials.identity_token,
                "service": service,
                "scope": " ".join(scopes),
                "client_id": _CLIENT_ID,
            }
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            return self._ask("POST", realm, headers=headers, body=urlencode(form).encode())
        query = [("service", service)] * bool(service) + [("scope", text) for text in scopes]
        headers = {}
        if credentials.username:
            query.insert(0, ("account", credentials.username))
            headers["Authorization"] = credentials.basic
        url = f"{realm}{'&' if '?' in realm else '?'}{urlencode(query)}"
        return self._ask("GET", url, headers=headers, body=None)

    def _check_realm(self, realm: str) -> str:
        origin = Origin.of(realm)
        trusted = origin.scheme == "https" or (self._origin.scheme == "http" and _are_neighbours(origin, self._origin))
        if not trusted or "#" in realm:
            raise RegistryError(
                "The registry sends you to a token service that is not secure; nothing was sent there.",
                hint="Ask the admin of the registry: the token service needs https.",
                details={"registry": str(self._origin), "token_service": str(origin)},
            )
        return realm

    def _parse_token(self, status: int, content: bytes) -> _Token:
        if status in (400, 401, 403):
            raise denied(self._origin, is_login=True)
        try:
            fields = json.loads(content) if status == 200 else {}  # noqa: PLR2004 - the HTTP status
            value = fields.get("token") or fields.get("access_token")
            life = float(fields.get("expires_in") or 0)
        except (ValueError, TypeError, AttributeError, RecursionError):
            value, life = None, 0.0
        if not isinstance(value, str):
            raise RegistryError(
                "The registry's token service gives no token.",
                hint="Try again later; if it stays so, tell the admin of the registry.",
                details={"registry": str(self._origin), "status": status},
            )
        return _Token(_check_token(value), self._clock() + max(life, _MINIMUM_LIFE_S) * _MARGIN)


def denied(origin: Origin, *, is_login: bool = False) -> RegistryDeniedError:
    """``is_login``: who asks is not let in at all, whatever is asked for."""
    return RegistryDeniedError(
        "The registry does not let you in, or does not let you do this.",
        hint=f"Log in to {origin.address} with a container tool (`docker login` or `podman login`), "
        "or ask the admin of the registry for access.",
        details={"registry": str(origin), "is_login": is_login},
    )


def _covers(own: str, demanded: str) -> bool:
    name, _, actions = own.rpartition(":")
    wanted, _, more = demanded.rpartition(":")
    return name == wanted and set(more.split(",")) <= set(actions.split(","))


def _are_neighbours(realm: Origin, registry: Origin) -> bool:
    return realm.host == registry.host or (realm.is_loopback and registry.is_loopback)


def _check_token(value: str) -> str:
    if not _TOKEN.match(value):
        raise RegistryError("The registry's token service gives a token that is none.")
    return value


def _parse_challenges(headers: Sequence[str]) -> dict[str, dict[str, str]]:
    """Parameters by scheme; schemes and names in small letters. A word without a value begins a challenge."""
    challenges: dict[str, dict[str, str]] = {}
    for header in headers:
        parameters: dict[str, str] = {}
        for name, value, quoted, plain in _CHALLENGE.findall(header[:_MAX_HEADER]):
            if value:
                parameters[name.lower()] = re.sub(r"\\(.)", r"\1", quoted) or plain
            else:
                parameters = challenges.setdefault(name.lower(), {})
    return challenges
