"""How far one gets into a repository of a registry: name, connection, certificate, login, reading, writing.

Blocks, and gives up soon: it is asked while somebody waits for the answer. Nothing is stored.
"""

from __future__ import annotations

import socket
import threading
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from ..errors import RegistryDeniedError, RegistryError, RegistryUnreachableError, SnapshotError, StorageError
from .reference import Reference
from .registry import Registry
from .trust import Origin

NAME_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 3.0


class Step(Enum):
    """What did not work; in the order in which it is tried."""

    NO_RESOLVER = "nobody answers what address the name has"
    NAME = "the name has no address"
    NO_LOGIN = "the file with the credentials is not there"
    SILENCE = "nothing answers at the address"
    REFUSED = "nothing listens at the address"
    CERTIFICATE = "the certificate is not trusted"
    LOGIN = "the credentials are not accepted"
    ACCESS = "the credentials do not allow it"
    OTHER = "the registry answers otherwise than it should"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One step that failed.

    Attributes:
        doing: What was tried: ``read`` or ``write``.
        addresses: What the name stands for, as far as that is known.
        error: As it was raised, if it was.
    """

    step: Step
    origin: Origin
    doing: str = "read"
    addresses: tuple[str, ...] = ()
    error: StorageError | SnapshotError | None = None


@dataclass(slots=True)
class _Lookup:
    """What a look at the name gives; ``done`` once it gives anything."""

    addresses: tuple[str, ...] = ()
    failure: OSError | None = None
    done: threading.Event = field(default_factory=threading.Event)

    def look(self, host: str, port: int) -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            self.addresses = tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
        except OSError as exc:
            self.failure = exc
        self.done.set()


def probe_network(origin: Origin, *, known: str = "") -> Finding | None:
    """Whether a connection can be made at all; None when it can. For origins without a proxy between.

    Args:
        known: A name that the resolver has if it works: one that passes on a question to nobody seems not to answer.
    """
    addresses, is_answered = _look_up(origin.host, origin.port)
    if addresses:
        return _connect(origin, addresses)
    is_answered = is_answered or (bool(known) and bool(_look_up(known, origin.port)[0]))
    return Finding(step=Step.NAME if is_answered else Step.NO_RESOLVER, origin=origin)


def probe_repository(registry: Registry, reference: Reference, *, push: bool) -> Finding | None:
    """Whether a repository can be read, and with ``push`` also written; None when it can.

    Args:
        registry: The repository ``reference`` names, of little patience; a digest or tag in it is to be there.
    """
    doing = "read"
    try:
        if reference.digest or reference.tag:
            registry.get_manifest(reference.target)
        else:
            next(iter(registry.tag_names()), None)
        if push:
            doing = "write"
            registry.try_upload()
    except (StorageError, SnapshotError) as exc:
        return Finding(step=_step_of(exc), origin=registry.origin, doing=doing, error=exc)
    return None


def _look_up(host: str, port: int) -> tuple[tuple[str, ...], bool]:
    """The addresses of a name, and whether there was an answer."""
    looked = _Lookup()
    # A resolver that is silent holds a thread for a minute: nobody waits for it, and it keeps no process alive.
    threading.Thread(target=looked.look, args=(host, port), daemon=True, name="look-up").start()
    is_done = looked.done.wait(NAME_TIMEOUT_S)
    return looked.addresses, is_done and getattr(looked.failure, "errno", None) != socket.EAI_AGAIN


def _connect(origin: Origin, addresses: tuple[str, ...]) -> Finding | None:
    try:
        socket.create_connection((origin.host, origin.port), timeout=CONNECT_TIMEOUT_S).close()
    except ConnectionRefusedError:
        return Finding(step=Step.REFUSED, origin=origin, addresses=addresses)
    except OSError:
        return Finding(step=Step.SILENCE, origin=origin, addresses=addresses)
    return None


def _step_of(error: StorageError | SnapshotError) -> Step:
    details: dict[str, Any] = error.details
    if isinstance(error, RegistryDeniedError):
        return Step.LOGIN if details.get("is_login") else Step.ACCESS
    if isinstance(error, RegistryUnreachableError):
        return Step.OTHER if "status" in details else Step.SILENCE
    if isinstance(error, RegistryError) and details.get("is_certificate"):
        return Step.CERTIFICATE
    return Step.OTHER
