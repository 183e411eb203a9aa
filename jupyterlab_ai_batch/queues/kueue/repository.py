"""The user's repository in the registry, as far as this backend reads it."""

from __future__ import annotations

from typing import Protocol

from ...oci.port import BlobStore


class OutputsRepository(BlobStore, Protocol):
    """Blocks: for threads. Every method may raise RegistryError and its kinds."""

    def close(self) -> None:
        """Let go of the connections."""
        ...
