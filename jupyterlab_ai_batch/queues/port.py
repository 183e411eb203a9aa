"""The port that every queue backend implements; ``tests/contract`` runs the same suite against each.

A backend holds the truth about Submissions that were handed to it: it survives the server, the browser and the
ledger. All methods are coroutines and never block the event loop. Every method may raise ``QueueUnreachableError`` or
``QueueTimeoutError``; both are safe to retry.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..capture_models import BaseReference
from ..models import LogChunk, Observation, OutputSet, PreflightCheck, Profile, QueueEntry, QueueReading


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredOutputs:
    """Where an OutputSet's bytes can be read: an OCI image layout and the manifest in it."""

    output_set: OutputSet
    layout: Path
    manifest_digest: str


class QueueBackend(Protocol):
    """A queue that runs Submissions."""

    @property
    def name(self) -> str:
        """The word used on the wire: ``local``, ``kueue``."""
        ...

    async def base(self) -> BaseReference | None:
        """The image that Snapshots are put on, which jobs then run; None where they bring everything themselves.

        Raises:
            QueueError: it cannot be told; nothing can be submitted then.
        """
        ...

    async def submit(self, entry: QueueEntry) -> None:
        """Enqueue; durable when it returns. Handing in the same id again changes nothing.

        Raises:
            ProfileUnknownError, QueueUnknownError: nothing was enqueued.
        """
        ...

    async def cancel(self, submission_id: str) -> None:
        """Ask for the end of a Submission; returns before it has ended. Idempotent; terminal ones stay as they are.

        Raises:
            SubmissionNotFoundError: the backend does not know the id.
        """
        ...

    async def observe(self, submission_ids: Sequence[str], *, with_positions: bool = True) -> Mapping[str, Observation]:
        """Read the present view of several Submissions; ids that the backend does not know are absent.

        Args:
            with_positions: Somebody looks. Else a backend that has to ask for positions may leave them out.
        """
        ...

    async def list_entries(self) -> Sequence[QueueEntry]:
        """Everything that the backend still knows, oldest first: what a lost ledger is rebuilt from."""
        ...

    def watch(self) -> AsyncIterator[None]:
        """Yield once at the start and then whenever something may have changed; ends only when closed.

        Several changes may be one yield, and a yield may bring no change: it is a hint to ``observe``.
        """
        ...

    async def read_log(self, submission_id: str, *, attempt: int | None, offset: int, limit_bytes: int) -> LogChunk:
        """Read a piece of an Attempt's log (None: the latest), resumable by byte offset.

        Raises:
            SubmissionNotFoundError: no such id or Attempt.
        """
        ...

    async def latest_outputs(self, submission_id: str) -> StoredOutputs | None:
        """The newest complete or partial OutputSet, parsed and validated; None when nothing was stored yet.

        Raises:
            SubmissionNotFoundError: no such id.
        """
        ...

    async def manifest(self, submission_id: str) -> str | None:
        """The Submission as YAML that ``kubectl apply`` takes; None where nothing runs on Kubernetes.

        Raises:
            SubmissionNotFoundError: no such id.
        """
        ...

    async def release(self, submission_id: str) -> None:
        """The outputs are safe at home: the backend may drop what only served the run. Idempotent."""
        ...

    async def list_queues(self) -> Sequence[QueueReading]:
        """The LocalQueues that this user may submit to; the first is the default."""
        ...

    async def list_profiles(self) -> Sequence[Profile]:
        """The resource shapes that this user may ask for; the first is the default."""
        ...

    async def preflight(self) -> Sequence[PreflightCheck]:
        """What must hold for a Submission to run, each with what to do when it does not."""
        ...

    async def close(self) -> None:
        """Let go of connections and threads; never of Submissions."""
        ...
