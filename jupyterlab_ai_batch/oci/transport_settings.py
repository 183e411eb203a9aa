"""How registries are reached, and how patiently."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .trust import CERTIFICATE_DIRECTORIES


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
