"""What the registry has of a Submission: an OutputSet for each Attempt, under a tag of its own.

A job wrote them: each is checked, and one that is not sound is as good as none. Blocks: for threads.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from ...errors import SnapshotCorruptError
from ...models import Attempt, OutputSet, OutputsSummary
from ...oci.outputset import outputs_tag, parse_outputs_tag, read_output_set
from ...words import OutputsState
from .repository import OutputsRepository

MAX_ATTEMPTS = 200

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAttempt:
    """The OutputSet of one Attempt, without its list of files.

    Attributes:
        digest: Of its manifest.
        pod_uid: Which pod wrote it; empty when it does not say.
        log_sha256: Of the log as the runner wrote it; empty when none is stored.
        has_files: Whether it holds more than the claim to the Attempt's number.
    """

    attempt: Attempt
    digest: str
    pod_uid: str
    log_sha256: str
    log_bytes: int
    outputs: OutputsSummary
    has_files: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """All that the registry has of a Submission; ``stored`` by number."""

    stored: Sequence[StoredAttempt] = ()

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        return tuple(stored.attempt for stored in self.stored)

    @property
    def newest(self) -> StoredAttempt | None:
        """The latest that has something to bring home."""
        return next((stored for stored in reversed(self.stored) if stored.has_files), None)

    def numbered(self, number: int) -> StoredAttempt | None:
        return next((stored for stored in self.stored if stored.attempt.number == number), None)


def read_history(repository: OutputsRepository, submission_id: str, *, known: History) -> History:
    """What is there now; an OutputSet that ``known`` has is not read again.

    Raises:
        RegistryError, StorageError
    """
    parsed = map(parse_outputs_tag, repository.tag_names())
    numbers = sorted(found[1] for found in parsed if found is not None and found[0] == submission_id)
    stored = (_read(repository, submission_id, number, known.numbered(number)) for number in numbers[-MAX_ATTEMPTS:])
    return History(stored=tuple(filter(None, stored)))


def _read(
    repository: OutputsRepository, submission_id: str, number: int, known: StoredAttempt | None
) -> StoredAttempt | None:
    try:
        _, digest = repository.get_manifest(outputs_tag(submission_id, number))
        if known is not None and known.digest == digest:
            return known
        output_set, _ = read_output_set(repository, digest)
    except SnapshotCorruptError as exc:  # or it was replaced meanwhile: the next look finds the new one
        _log.warning("%s: the outputs of attempt %s are left out: %s", submission_id, number, exc.message)
        return known
    if (output_set.submission_id, output_set.attempt) != (submission_id, number):
        _log.warning("%s: the outputs of attempt %s are those of something else", submission_id, number)
        return known
    return _stored_attempt(output_set, digest, known)


def _stored_attempt(output_set: OutputSet, digest: str, known: StoredAttempt | None) -> StoredAttempt:
    # Whole seconds, as all times of the cluster are: nothing then ends before it began.
    began_at = known.attempt.admitted_at if known is not None else output_set.stored_at.replace(microsecond=0)
    return StoredAttempt(
        attempt=Attempt(
            number=output_set.attempt,
            admitted_at=began_at,
            started_at=began_at,
            ended_at=output_set.stored_at if output_set.complete else None,
            saved_at=output_set.stored_at if output_set.files else None,
            usage=output_set.usage,
        ),
        digest=digest,
        pod_uid=output_set.pod_uid,
        log_sha256=output_set.log_sha256,
        log_bytes=output_set.log_bytes,
        outputs=summarise(output_set),
        has_files=output_set.complete or bool(output_set.files),
    )


def summarise(output_set: OutputSet) -> OutputsSummary:
    """An OutputSet in three numbers."""
    state = OutputsState.AVAILABLE if output_set.complete else OutputsState.PARTIAL
    size = sum(file.size_bytes for file in output_set.files)
    return OutputsSummary(state=state, files=len(output_set.files), bytes=size)
