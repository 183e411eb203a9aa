"""Words that records, messages and commands share; importable without the records."""

from __future__ import annotations

from enum import Enum


class SubmissionState(str, Enum):
    """Where a Submission stands; waiting and eviction are states, not errors."""

    CAPTURING = "capturing"
    QUEUED = "queued"
    BLOCKED = "blocked"
    STARTING = "starting"
    RUNNING = "running"
    EVICTING = "evicting"
    CANCELLING = "cancelling"
    COLLECTING = "collecting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        return self in _TERMINAL


_TERMINAL = frozenset({SubmissionState.SUCCEEDED, SubmissionState.FAILED, SubmissionState.CANCELLED})


class CaptureFrom(str, Enum):
    """What the work tree of a Snapshot is taken from."""

    AUTO = "auto"  # the root directory where its plan is within the limit, else the notebook's folder
    ROOT = "root"
    FOLDER = "folder"


class OutputsState(str, Enum):
    """What became of the files that the current Attempt produced."""

    PENDING = "pending"  # none stored yet
    PARTIAL = "partial"  # a checkpoint of a running or evicted Attempt
    AVAILABLE = "available"  # complete, not yet merged into the home
    COLLECTED = "collected"  # merged into the home


class FileChange(str, Enum):
    """How a file of an OutputSet differs from the Snapshot it started from."""

    NEW = "new"
    CHANGED = "changed"
    DELETED = "deleted"


class MergeAction(str, Enum):
    """What a collect did, or would do, with one file at home."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    KEPT_BOTH = "kept_both"  # both sides changed: the job's version lies beside as a conflict copy
    KEPT_HOME = "kept_home"  # the job deleted the file; home keeps it
    REFUSED = "refused"  # a path that would leave the work tree, or a type that is never installed


class BackendChoice(str, Enum):
    """Where Submissions go, as an admin decides; ``AUTO``: to the cluster from a pod that is prepared for it."""

    AUTO = "auto"
    LOCAL = "local"
    KUEUE = "kueue"
