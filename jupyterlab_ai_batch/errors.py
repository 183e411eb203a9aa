"""Every error that a user can meet, as one tree.

    BatchError
    ├─ InvalidSubmissionError            invalid_submission            400
    │  ├─ NotebookMissingError           notebook_missing              404
    │  ├─ NotebookInvalidError           notebook_invalid
    │  ├─ KernelUnknownError             kernel_unknown
    │  ├─ KernelStartError               kernel_start_failed
    │  ├─ ParametersInvalidError         parameters_invalid
    │  ├─ ProfileUnknownError            profile_unknown
    │  ├─ QueueUnknownError              queue_unknown
    │  └─ AdmissionRefusedError          admission_refused
    ├─ SubmissionNotFoundError           submission_not_found          404
    ├─ SubmissionStateError              submission_state              409
    │  └─ IdempotencyConflictError       idempotency_conflict
    ├─ SnapshotError                     snapshot_failed               422
    │  ├─ FileUnreadableError            file_unreadable
    │  ├─ FileUnstableError              file_unstable
    │  ├─ SnapshotTooLargeError          snapshot_too_large            413
    │  ├─ BaseImageError                 base_image_unusable
    │  └─ SnapshotCorruptError           snapshot_corrupt
    │     └─ BlobMissingError            blob_missing
    ├─ StorageError                      storage_failed                507
    │  ├─ StorageFullError               storage_full
    │  ├─ StoragePermissionError         storage_permission
    │  └─ RegistryError                  registry_failed               502
    │     ├─ RegistryUnreachableError    registry_unreachable
    │     └─ RegistryDeniedError         registry_denied
    ├─ QueueError                        queue_failed                  502
    │  ├─ QueueUnreachableError          queue_unreachable
    │  ├─ QueueTimeoutError              queue_timeout                 504
    │  ├─ QueueForbiddenError            queue_forbidden
    │  ├─ QueueInactiveError             queue_inactive
    │  └─ SessionUnusableError           session_unusable
    ├─ OutputError                       output_failed                 422
    │  ├─ OutputMissingError             output_missing                404
    │  └─ OutputConflictError            output_conflict               409
    └─ ServerError                       server_failed                 500
       └─ ServerUnreachableError         server_unreachable            502

HTTP statuses live in ``routes``: the magic, the runner and the command line raise these too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar


class BatchError(Exception):
    """A failure that a user can act on.

    Args:
        message: One sentence for the user; no secret, no traceback.
        hint: What to do next.
        details: JSON-serialisable facts (paths, limits) for programs.
    """

    code: ClassVar[str] = "batch_error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str | None = None, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = dict(details or {})


class InvalidSubmissionError(BatchError):
    """The request cannot be carried out as it is."""

    code = "invalid_submission"


class NotebookMissingError(InvalidSubmissionError):
    """There is no such notebook."""

    code = "notebook_missing"


class NotebookInvalidError(InvalidSubmissionError):
    """The file is not a notebook that can be executed: not JSON, empty, or of a newer nbformat."""

    code = "notebook_invalid"


class KernelUnknownError(InvalidSubmissionError):
    """The notebook names a kernelspec that is not installed, or a kernel id that is not running."""

    code = "kernel_unknown"


class KernelStartError(InvalidSubmissionError):
    """The notebook's kernel does not start where the notebook runs."""

    code = "kernel_start_failed"


class ParametersInvalidError(InvalidSubmissionError):
    """Parameters without a tagged cell, unknown to it, or of the wrong type."""

    code = "parameters_invalid"


class ProfileUnknownError(InvalidSubmissionError):
    """The admin has not defined such a profile."""

    code = "profile_unknown"


class QueueUnknownError(InvalidSubmissionError):
    """The backend has no such LocalQueue."""

    code = "queue_unknown"


class AdmissionRefusedError(InvalidSubmissionError):
    """The cluster's own rules (Pod Security, a quota, a policy) refuse the job as it would be submitted."""

    code = "admission_refused"


class SubmissionNotFoundError(BatchError):
    """Neither the ledger nor the backend knows this id."""

    code = "submission_not_found"


class SubmissionStateError(BatchError):
    """The Submission is in a state that does not allow this."""

    code = "submission_state"


class IdempotencyConflictError(SubmissionStateError):
    """The Idempotency-Key was used before with another body."""

    code = "idempotency_conflict"


class SnapshotError(BatchError):
    """Environment or files could not be frozen."""

    code = "snapshot_failed"


class FileUnreadableError(SnapshotError):
    """A file that belongs to the Snapshot cannot be read."""

    code = "file_unreadable"


class FileUnstableError(SnapshotError):
    """A file kept changing while it was read."""

    code = "file_unstable"
    retryable = True


class SnapshotTooLargeError(SnapshotError):
    """The work tree is larger than the admin's limit."""

    code = "snapshot_too_large"


class BaseImageError(SnapshotError):
    """The base image is for another platform, or of a kind that no other image can be put on."""

    code = "base_image_unusable"


class SnapshotCorruptError(SnapshotError):
    """A stored blob is missing or is not what its digest says."""

    code = "snapshot_corrupt"


class BlobMissingError(SnapshotCorruptError):
    """Blobs that a manifest names are not in the store: it was cleaned up meanwhile; ``digests`` says which."""

    code = "blob_missing"
    retryable = True

    @classmethod
    def of(cls, digests: Sequence[str]) -> BlobMissingError:
        return cls(
            "A stored blob is missing.",
            hint="Submit the notebook again: it is captured anew.",
            details={"digests": list(digests)},
        )

    @property
    def digests(self) -> tuple[str, ...]:
        return tuple(self.details.get("digests", ()))


class StorageError(BatchError):
    """The batch store could not be read or written."""

    code = "storage_failed"


class StorageFullError(StorageError):
    """No space, or no quota, left for the batch store."""

    code = "storage_full"
    retryable = True


class StoragePermissionError(StorageError):
    """The batch store belongs to somebody else or others can enter it."""

    code = "storage_permission"


class RegistryError(StorageError):
    """The registry refused a request, or its answers make no sense."""

    code = "registry_failed"


class RegistryUnreachableError(RegistryError):
    """The registry gave no answer, or said that it cannot answer now."""

    code = "registry_unreachable"
    retryable = True


class RegistryDeniedError(RegistryError):
    """The registry does not let this user in, or not do this."""

    code = "registry_denied"


class QueueError(BatchError):
    """The queue backend refused or failed."""

    code = "queue_failed"


class QueueUnreachableError(QueueError):
    """No answer from the queue backend; safe to retry."""

    code = "queue_unreachable"
    retryable = True


class QueueTimeoutError(QueueError):
    """The queue backend did not answer in time; safe to retry."""

    code = "queue_timeout"
    retryable = True


class QueueForbiddenError(QueueError):
    """The queue backend does not let this user do that."""

    code = "queue_forbidden"


class QueueInactiveError(QueueError):
    """The LocalQueue exists, and takes nothing now: it is stopped, or its pool is."""

    code = "queue_inactive"
    retryable = True


class SessionUnusableError(QueueError):
    """The server's own pod is not what a job in the cluster can be made like."""

    code = "session_unusable"


class OutputError(BatchError):
    """Outputs could not be brought home."""

    code = "output_failed"


class OutputMissingError(OutputError):
    """No such output, or none stored yet."""

    code = "output_missing"


class OutputConflictError(OutputError):
    """Home changed at every try to install a file; both versions are kept."""

    code = "output_conflict"
    retryable = True


class ServerError(BatchError):
    """The Jupyter server answered a client of ours with something that is not one of our errors."""

    code = "server_failed"


class ServerUnreachableError(ServerError):
    """A client of ours found no Jupyter server, or got no answer from it."""

    code = "server_unreachable"
    retryable = True
