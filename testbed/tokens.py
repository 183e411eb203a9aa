"""A registry's token service: ``python -m testbed.tokens``, inside a cluster.

Who may do what: everybody pulls ``base/*``; a user pulls and pushes ``users/NAME`` and ``environments``, where the
layers that all users share live; ``admin`` may do everything. A request for more is granted in part, as the protocol
wants it.
"""

from __future__ import annotations

import base64
import hmac
import json
import secrets
import ssl
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from .components.registry import ISSUER, SERVICE
from .instance import inside
from .places import HOST, TOKEN_PORT

VALID_S = 300
_ADMIN = "admin"
_COORDINATE_BYTES = 32


@dataclass(frozen=True, slots=True)
class Access:
    """One repository and what is wanted there, or granted."""

    name: str
    actions: tuple[str, ...]


def parse_scope(scope: str) -> Access | None:
    """``repository:NAME:ACTION,ACTION``; None for other types of resources. A name may hold colons."""
    kind, _, rest = scope.partition(":")
    name, _, actions = rest.rpartition(":")
    return Access(name, tuple(actions.split(","))) if kind == "repository" and name else None


def granted(user: str | None, wanted: Access) -> Access:
    """The part of ``wanted`` that a user, or nobody, may have."""
    if user == _ADMIN:
        return wanted
    allowed: set[str] = set()
    if wanted.name.startswith("base/"):
        allowed = {"pull"}
    elif user is not None and wanted.name == f"users/{user}":
        allowed = {"pull", "push", "delete"}
    elif user is not None and wanted.name == "environments":
        allowed = {"pull", "push"}
    return Access(wanted.name, tuple(action for action in wanted.actions if action in allowed))


class Signer:
    """Writes the tokens, as JSON Web Tokens that carry their certificate."""

    def __init__(self, certificate: Path, key: Path) -> None:
        der = x509.load_pem_x509_certificate(certificate.read_bytes()).public_bytes(serialization.Encoding.DER)
        loaded = serialization.load_pem_private_key(key.read_bytes(), None)
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise TypeError("the token service's key is not an elliptic curve key")
        self._header = {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(der).decode()]}
        self._key = loaded

    def sign(self, user: str | None, accesses: Iterable[Access]) -> str:
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": SERVICE,
            "sub": user or "",
            "iat": now,
            "nbf": now - 10,
            "exp": now + VALID_S,
            "jti": secrets.token_hex(16),
            "access": [{"type": "repository", "name": one.name, "actions": one.actions} for one in accesses],
        }
        content = f"{_encode(self._header)}.{_encode(claims)}"
        r, s = decode_dss_signature(self._key.sign(content.encode(), ec.ECDSA(hashes.SHA256())))
        signature = r.to_bytes(_COORDINATE_BYTES, "big") + s.to_bytes(_COORDINATE_BYTES, "big")
        return f"{content}.{_base64url(signature)}"


class Handler(BaseHTTPRequestHandler):
    """GET with basic authentication, and the OAuth2 form that containerd tries first."""

    protocol_version = "HTTP/1.1"
    accounts: Mapping[str, str]
    signer: Signer

    def do_GET(self) -> None:
        request = urlsplit(self.path)
        if request.path == "/healthz":
            self._answer(200, {})
            return
        user = self._basic_user()
        if user is None and "Authorization" in self.headers:
            self._refuse()
            return
        self._grant(user, parse_qs(request.query).get("scope", []))

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())
        user, password = (form.get(name, [""])[0] for name in ("username", "password"))
        if form.get("grant_type") != ["password"] or not self._is_account(user, password):
            self._refuse()
            return
        self._grant(user, form.get("scope", []))

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - inherited name
        """Tokens are asked for all the time."""

    def _grant(self, user: str | None, scopes: Sequence[str]) -> None:
        wanted = [access for scope in " ".join(scopes).split() if (access := parse_scope(scope)) is not None]
        token = self.signer.sign(user, [granted(user, access) for access in wanted])
        self._answer(200, {"token": token, "access_token": token, "expires_in": VALID_S})

    def _basic_user(self) -> str | None:
        scheme, _, encoded = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            user, _, password = base64.b64decode(encoded).decode().partition(":")
        except ValueError:
            return None
        return user if self._is_account(user, password) else None

    def _is_account(self, user: str, password: str) -> bool:
        return hmac.compare_digest(self.accounts.get(user, "").encode(), password.encode()) and user in self.accounts

    def _refuse(self) -> None:
        self._answer(401, {"errors": [{"code": "UNAUTHORIZED", "message": "wrong user or password"}]})

    def _answer(self, status: int, content: Mapping[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _encode(content: Mapping[str, Any]) -> str:
    return _base64url(json.dumps(content).encode())


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def main() -> None:
    instance = inside()
    certificates = instance.certificates
    Handler.accounts = json.loads(instance.accounts_file.read_text())
    Handler.signer = Signer(certificates / "token.crt", certificates / "token.key")
    server = ThreadingHTTPServer((HOST, TOKEN_PORT), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "registry.crt", certificates / "registry.key")
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.serve_forever()


if __name__ == "__main__":
    main()
