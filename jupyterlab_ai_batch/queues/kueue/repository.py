"""The user's repository in the registry, as far as this backend reads it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from ...oci.port import BlobStore


class OutputsRepository(BlobStore, Protocol):
    """Blocks: for threads. Every method may raise RegistryError and its kinds."""

    def tag_names(self) -> Iterator[str]:
        """All tags, without what they name."""
        ...

    def tag_digest(self, tag: str) -> str | None:
        """The digest of the manifest that a tag names; None where there is no such tag."""
        ...

    def close(self) -> None: ...
