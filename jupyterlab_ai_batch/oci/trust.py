"""Whom a request goes to: origins, the proxies between, and the certificates that prove who answers.

TLS is always verified; there is no switch against it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..errors import RegistryError

if TYPE_CHECKING:  # not needed before the first address with https
    import ssl

CERTIFICATE_DIRECTORIES = (Path("/etc/containers/certs.d"), Path("/etc/docker/certs.d"))
# Where distributions keep their authorities, for interpreters that were built elsewhere and look in the wrong place.
_SYSTEM_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port: what credentials are bound to. IPv6 addresses are without brackets."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Origin:
        """The origin of an absolute http or https address.

        Raises:
            RegistryError: it is something else, or carries credentials.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as exc:
            raise _bad_address() from exc
        if parts.scheme not in _DEFAULT_PORTS or not host or "@" in parts.netloc:
            raise _bad_address()
        return cls(parts.scheme, host, _DEFAULT_PORTS[parts.scheme] if port is None else port)

    @property
    def is_loopback(self) -> bool:
        return is_loopback(self.host)

    @property
    def address(self) -> str:
        """As a host is written in an address: brackets where needed, the port where it is not the default."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.address}"


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def find_proxy(origin: Origin, environ: Mapping[str, str]) -> str | None:
    """The address of the proxy for ``origin``, as ``https_proxy``, ``http_proxy``, ``all_proxy`` and ``no_proxy`` say.

    Capital letters count too. Loopback hosts are never reached through a proxy.
    """
    proxy = _variable(environ, f"{origin.scheme}_proxy") or _variable(environ, "all_proxy")
    if not proxy or origin.is_loopback or _is_excepted(origin, _variable(environ, "no_proxy")):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _variable(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name) or environ.get(name.upper()) or ""


def _is_excepted(origin: Origin, no_proxy: str) -> bool:
    return any(_matches(origin, entry.strip().lower()) for entry in no_proxy.split(",") if entry.strip())


def _matches(origin: Origin, entry: str) -> bool:
    """``*``, ``host``, ``.domain``, ``host:port``, an address, or a network as ``10.0.0.0/8``."""
    if entry == "*":
        return True
    name, colon, port = entry.rpartition(":")
    if colon and port.isdigit() and (name.endswith("]") or ":" not in name):
        if int(port) != origin.port:
            return False
        entry = name
    try:
        return ipaddress.ip_address(origin.host) in ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        suffix = entry.removeprefix("*").lstrip(".")
        return origin.host == suffix or origin.host.endswith(f".{suffix}")


def tls_context(
    origin: Origin, *, environ: Mapping[str, str], ca_file: Path | None, certificate_directories: Sequence[Path]
) -> ssl.SSLContext:
    """A context that verifies ``origin``: the system's authorities, and those that were added.

    Added are ``ca_file``, ``$SSL_CERT_FILE``, and ``<directory>/<host[:port]>/*.crt``; a client certificate is
    ``*.cert`` there with its ``*.key``.

    Raises:
        RegistryError: one of these files cannot be used.
    """
    import ssl

    added = [Path(environ["SSL_CERT_FILE"])] if environ.get("SSL_CERT_FILE") else []
    if ca_file is not None:
        added.append(ca_file)
    own_certificates: list[Path] = []
    for directory in certificate_directories:
        own = directory / f"{origin.host}:{origin.port}"
        own = own if own.is_dir() else directory / origin.address
        added.extend(sorted(own.glob("*.crt")))
        own_certificates.extend(sorted(own.glob("*.cert")))
    paths = ssl.get_default_verify_paths()
    keys = (path.with_suffix(".key") for path in own_certificates)
    places: tuple[str | Path, ...] = (
        paths.cafile or "",
        paths.capath or "",
        *_SYSTEM_BUNDLES,
        *added,
        *own_certificates,
        *keys,
    )
    return _make_context(tuple(added), tuple(own_certificates), tuple(_stamp(Path(place)) for place in places))


@lru_cache(maxsize=16)
def _make_context(added: Sequence[Path], own_certificates: Sequence[Path], _stamps: object) -> ssl.SSLContext:
    """One for all with the same certificates: reading the system's takes 20 ms, and a capture reaches four origins."""
    import ssl

    context = ssl.create_default_context()
    found = ssl.get_default_verify_paths()
    if not found.cafile and not found.capath:
        for bundle in _SYSTEM_BUNDLES:
            if Path(bundle).is_file():
                _load(context, Path(bundle))
                break
    for certificate in own_certificates:
        _load_client_certificate(context, certificate)
    for path in added:
        _load(context, path)
    return context


def _stamp(path: Path) -> object:
    """Another one once what lies there is another."""
    with suppress(OSError):
        found = path.stat()
        return path, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size
    return path


def _load(context: ssl.SSLContext, path: Path) -> None:
    try:
        context.load_verify_locations(cafile=path)
    except OSError as exc:  # ssl.SSLError is one
        raise _unusable_certificate(path) from exc


def _load_client_certificate(context: ssl.SSLContext, path: Path) -> None:
    try:
        context.load_cert_chain(path, path.with_suffix(".key"))
    except OSError as exc:
        raise _unusable_certificate(path) from exc


def _unusable_certificate(path: Path) -> RegistryError:
    return RegistryError(
        "A certificate file for the registry cannot be used.",
        hint=f"Check that {path} holds certificates in PEM form and can be read.",
        details={"path": str(path), "is_certificate": True},
    )


def _bad_address() -> RegistryError:
    return RegistryError(
        "The registry named an address that is not one.", hint="Ask the admin of the registry to check its settings."
    )
