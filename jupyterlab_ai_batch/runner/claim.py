"""Which Attempt this is. Pods number themselves, by the tags ``outputs-<submission id>-<n>`` of a repository.

A pod takes the next free number by putting an OutputSet without files under its tag, and reads it back: registries
know no "only where it is not there yet", and an old pod may still be ending while a new one starts. Whoever finds the
other's takes another number. Both may have found their own, so each looks again before it replaces it (``is_held``).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import BinaryIO

from ..errors import RegistryError, SnapshotCorruptError
from ..models import OutputFile, OutputSet
from ..oci.outputset import outputs_tag, parse_outputs_tag, read_output_set, store_output_set
from ..oci.port import BlobStore

MAX_TRIES = 20
_OWN_AMONG_NEWEST = 5  # more pods of one Submission do not overlap


class Claim:
    """The number of this pod's Attempt.

    Attributes:
        pod_uid: What tells this pod's OutputSets from another's.
    """

    def __init__(self, submission_id: str, *, pod_uid: str, notebook: str, clock: Callable[[], datetime]) -> None:
        self.pod_uid = pod_uid
        self._submission_id = submission_id
        self._notebook = notebook
        self._clock = clock
        self._number: int | None = None
        self._digest = ""

    def take(self, store: BlobStore) -> int:
        """The number: that of this pod's earlier start, else the next that is free.

        Raises:
            RegistryError: other pods were quicker every time.
            StorageError: the store fails; ask again.
        """
        if self._number is None:
            self._number = self._find_own(store) or self._take_next(store)
        return self._number

    def attempts(self, store: BlobStore) -> list[int]:
        """The numbers of all Attempts so far, this one's among them; newest first."""
        return sorted(self._taken(store), reverse=True)

    def is_held(self, store: BlobStore) -> bool:
        """Whether the tag is still this pod's; where it is not, the next ``take`` gives another number."""
        if self._number is None:
            return False
        if self._is_ours(store, self._number):
            return True
        if outputs_tag(self._submission_id, self._number) not in store.tag_names():
            return True  # somebody deleted it, which takes no number away
        self._number = None
        return False

    def note(self, digest: str) -> None:
        """The manifest that this pod has put under its tag."""
        self._digest = digest

    def _take_next(self, store: BlobStore) -> int:
        for _ in range(MAX_TRIES):
            number = max(self._taken(store), default=0) + 1
            claimed = self._empty_set(number)
            self._digest = store_output_set(store, claimed, _no_file, tag=outputs_tag(self._submission_id, number))[1]
            if self._is_ours(store, number):
                return number
        raise RegistryError(
            "No number could be found for this Attempt: others take each one at the same time.",
            hint="Cancel the Submission, and submit it again.",
        )

    def _find_own(self, store: BlobStore) -> int | None:
        newest = self.attempts(store)[:_OWN_AMONG_NEWEST]
        return next((number for number in newest if self._is_ours(store, number)), None)

    def _taken(self, store: BlobStore) -> set[int]:
        parsed = (parse_outputs_tag(name) for name in store.tag_names())
        return {found[1] for found in parsed if found is not None and found[0] == self._submission_id}

    def _is_ours(self, store: BlobStore, number: int) -> bool:
        """An answer that was lost may have been to a request that was done: then only the pod's id tells."""
        tag = outputs_tag(self._submission_id, number)
        try:
            digest = store.get_manifest(tag)[1]
            return digest == self._digest or read_output_set(store, digest)[0].pod_uid == self.pod_uid
        except SnapshotCorruptError:
            return False

    def _empty_set(self, number: int) -> OutputSet:
        return OutputSet(
            submission_id=self._submission_id,
            attempt=number,
            complete=False,
            stored_at=self._clock(),
            executed_notebook=self._notebook,
            pod_uid=self.pod_uid,
        )


def _no_file(file: OutputFile) -> BinaryIO:
    raise FileNotFoundError(file.path)
