"""Credentials for registries, from where container tools keep them.

``$REGISTRY_AUTH_FILE``, ``$DOCKER_CONFIG/config.json`` (else ``~/.docker/config.json``),
``$XDG_RUNTIME_DIR/containers/auth.json``, ``~/.config/containers/auth.json``: the first that has an answer counts.
In a file: the helper named for the host, then the most specific entry of ``auths`` (Podman's keys may go down to a
repository), then the credentials store. Nothing here is ever logged, shown in a repr or put into an error.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import RegistryError
from .reference import DOCKER_HUB

HELPER_TIMEOUT_S = 30.0
MAX_FILE_BYTES = 1 << 20
_IDENTITY_TOKEN_USER = "<token>"  # noqa: S105 - the helpers' protocol: the secret is a refresh token
_HUB_KEYS = ("index.docker.io", "registry-1.docker.io")
_NOT_FOUND = "credentials not found"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What proves who the user is.

    Attributes:
        identity_token: A refresh token for the registry's token service; used instead of the password.
        registry_token: A bearer token to be sent as it is.
    """

    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)

    def __bool__(self) -> bool:
        return bool(self.username or self.identity_token or self.registry_token)

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every text that must not be shown."""
        basic = self.basic.removeprefix("Basic ") if self.password else ""
        return tuple(text for text in (self.password, self.identity_token, self.registry_token, basic) if text)

    @property
    def basic(self) -> str:
        """The value of an Authorization header."""
        pair = f"{self.username}:{self.password}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"


def credential_files(environ: Mapping[str, str], *, home: Path) -> tuple[Path, ...]:
    """Where container tools look, in their order."""
    docker = Path(environ["DOCKER_CONFIG"]) if environ.get("DOCKER_CONFIG") else home / ".docker"
    config = Path(environ["XDG_CONFIG_HOME"]) if environ.get("XDG_CONFIG_HOME") else home / ".config"
    files = [docker / "config.json"]
    if environ.get("REGISTRY_AUTH_FILE"):
        files.insert(0, Path(environ["REGISTRY_AUTH_FILE"]))
    if environ.get("XDG_RUNTIME_DIR"):
        files.append(Path(environ["XDG_RUNTIME_DIR"]) / "containers/auth.json")
    return (*files, config / "containers/auth.json")


def find_credentials(
    host: str,
    repository: str,
    *,
    files: Sequence[Path],
    environ: Mapping[str, str],
    timeout_s: float = HELPER_TIMEOUT_S,
) -> Credentials:
    """The user's credentials for a repository; empty ones where there are none.

    Args:
        host: As in Reference: with its port, ``docker.io`` for Docker Hub.
        environ: In which credential helpers run (``PATH``, ``HOME``).

    Raises:
        RegistryError: a file is not what it should be, or a credential helper fails.
    """
    for path in files:
        found = _ask_file(path, host, repository, environ, timeout_s)
        if found:
            return found
    return Credentials()


def _ask_file(path: Path, host: str, repository: str, environ: Mapping[str, str], timeout_s: float) -> Credentials:
    config = _read_config(path)
    helpers, auths, store = config.get("credHelpers"), config.get("auths"), config.get("credsStore")
    for key in _host_keys(host):
        helper = helpers.get(key) if isinstance(helpers, dict) else None
        if helper and (found := _ask_helper(helper, key, environ, timeout_s)):
            return found
    if isinstance(auths, dict) and (found := _match_auths(auths, host, repository, path)):
        return found
    if store:
        for key in _store_keys(host):
            if found := _ask_helper(store, key, environ, timeout_s):
                return found
    return Credentials()


def _read_config(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            config = json.loads(stream.read(MAX_FILE_BYTES))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as exc:
        raise _unusable(path, exc.strerror or "it cannot be read") from exc
    except (ValueError, RecursionError):
        raise _unusable(path, "it is not JSON") from None  # the cause would quote the file
    if not isinstance(config, dict):
        raise _unusable(path, "it is not a JSON object")
    return config


def _match_auths(auths: dict[str, Any], host: str, repository: str, path: Path) -> Credentials:
    known = {_normalise(key): entry for key, entry in auths.items()}
    for key in _candidates(host, repository):
        entry = known.get(key)
        if isinstance(entry, dict) and (found := _parse_entry(entry, path)):
            return found
    return Credentials()


def _candidates(host: str, repository: str) -> Iterator[str]:
    """Most specific first: host/a/b, host/a, host."""
    parts = repository.split("/")
    for name in _host_keys(host):
        for count in range(len(parts), -1, -1):
            yield "/".join([name, *parts[:count]])


def _host_keys(host: str) -> tuple[str, ...]:
    return (host, *_HUB_KEYS) if host == DOCKER_HUB else (host,)


def _store_keys(host: str) -> tuple[str, ...]:
    """Docker keeps its Hub under the address of an API that is gone."""
    return ("https://index.docker.io/v1/", host) if host == DOCKER_HUB else (host, f"https://{host}")


def _normalise(key: str) -> str:
    """Keys may be addresses: ``https://host/v1/`` is ``host``."""
    for scheme in ("https://", "http://"):
        if key.startswith(scheme):
            return key.removeprefix(scheme).partition("/")[0]
    return key.rstrip("/")


def _parse_entry(entry: dict[str, Any], path: Path) -> Credentials:
    username, password = _text(entry, "username"), _text(entry, "password")
    if encoded := _text(entry, "auth"):
        try:
            username, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise _unusable(path, "an entry of its auths cannot be decoded") from None
        if not colon:
            raise _unusable(path, "an entry of its auths has no password")
    return Credentials(
        username=username,
        password=password.strip("\0"),
        identity_token=_text(entry, "identitytoken"),
        registry_token=_text(entry, "registrytoken"),
    )


def _text(entry: dict[str, Any], key: str) -> str:
    value = entry.get(key)
    return value if isinstance(value, str) else ""


def _ask_helper(name: Any, host: str, environ: Mapping[str, str], timeout_s: float) -> Credentials:
    """Run ``docker-credential-NAME get`` with the host on its standard input."""
    import shutil
    import subprocess

    if not isinstance(name, str) or not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise _helper_failed("?", "its name is not that of a program")
    program = shutil.which(f"docker-credential-{name}", path=environ.get("PATH"))
    if program is None:
        raise _helper_failed(name, "it is not installed")
    try:
        result = subprocess.run(
            [program, "get"], input=host.encode(), capture_output=True, timeout=timeout_s, env=environ, check=False
        )
    except subprocess.TimeoutExpired:
        raise _helper_failed(name, f"it gave no answer for {timeout_s:g} s") from None
    except OSError as exc:
        raise _helper_failed(name, exc.strerror or "it cannot be started") from exc
    if result.returncode != 0:
        if _NOT_FOUND in (result.stdout + result.stderr).decode(errors="replace").lower():
            return Credentials()
        raise _helper_failed(name, f"it ended with status {result.returncode}")
    return _parse_helper_answer(name, result.stdout)


def _parse_helper_answer(name: str, answer: bytes) -> Credentials:
    try:
        fields = json.loads(answer[:MAX_FILE_BYTES])
        username, secret = fields["Username"], fields["Secret"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _helper_failed(name, "its answer makes no sense") from None  # the cause would quote the secret
    if not isinstance(username, str) or not isinstance(secret, str):
        raise _helper_failed(name, "its answer makes no sense")
    if username == _IDENTITY_TOKEN_USER:
        return Credentials(identity_token=secret)
    return Credentials(username=username, password=secret)


def _unusable(path: Path, why: str) -> RegistryError:
    return RegistryError(
        f"The file with your registry credentials cannot be used: {why}.",
        hint=f"Repair {path}, or log in to the registry again.",
        details={"path": str(path)},
    )


def _helper_failed(name: str, why: str) -> RegistryError:
    return RegistryError(
        f"The credential helper docker-credential-{name} failed: {why}.",
        hint="Log in to the registry again, or remove the helper from your container tools' configuration.",
        details={"helper": name},
    )
