"""The project's records and words: frozen, typed, without I/O.

Times are aware UTC datetimes (``_at``), durations seconds (``_s``), sizes bytes (``_bytes``).
Paths named ``notebook_path`` are API paths: relative to the server's root directory, ``/``-separated.
``wire.py`` turns these records into JSON and back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why a Submission waits, failed or ended, and what to do about it.

    Attributes:
        code: Stable, snake_case; documented in docs/errors.md.
        summary: One sentence for the user, second person, present tense.
        resolution: What to do next; empty when nothing needs doing.
        raw_reason: The backend's own word, verbatim (``WorkerLost``, Kueue's reason); never translated.
        since: When this began to hold.
    """

    code: str
    summary: str
    resolution: str = ""
    raw_reason: str | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePosition:
    """Where a pending Submission stands.

    Attributes:
        in_local_queue: Submissions ahead in the same LocalQueue; 0 means next.
        in_cluster_queue: Same, across every LocalQueue feeding the ClusterQueue.
        observed_at: Stale as soon as the queue moves.
    """

    in_local_queue: int
    in_cluster_queue: int
    observed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far the notebook has come.

    Attributes:
        cell: 1-based number, among code cells, of the cell that runs now or ran last; 0 before the first.
        of: How many code cells there are.
        cell_started_at: When that cell began.
    """

    cell: int
    of: int
    cell_started_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One admission to run; an Eviction ends an Attempt, not a Submission.

    Attributes:
        number: 1-based.
        ended_by: ``succeeded``, ``failed``, ``cancelled`` or the Eviction's reason (``WorkerLost``, …).
        time_lost_s: Run time that an Eviction threw away; 0 otherwise.
    """

    number: int
    admitted_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    ended_by: str | None = None
    time_lost_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotSummary:
    """What a user needs to know about a Snapshot.

    Attributes:
        digest: ``sha256:…`` of the Snapshot's OCI manifest.
        captured_from: When reading began; edits before it are in the Snapshot.
        captured_until: When reading ended; edits after it are not.
        bytes: Uncompressed size of all captured files.
        new_bytes: Compressed size of the layers that this capture had to write.
        files: How many files and links it holds.
        work_root: Absolute directory that the work tree was taken from.
        warnings: One sentence each: suspected secrets, unstable, skipped files.
    """

    digest: str
    captured_from: datetime
    captured_until: datetime
    bytes: int
    new_bytes: int
    files: int = 0
    work_root: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureProgress:
    """How far a running capture is; ``phase`` is one of ``plan``, ``environment``, ``work``, ``finish``."""

    phase: str
    done_bytes: int
    total_bytes: int
    new_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputsSummary:
    """The OutputSet of the latest Attempt in four numbers."""

    state: OutputsState
    files: int = 0
    bytes: int = 0
    conflicts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFile:
    """One file of an OutputSet.

    Attributes:
        path: Relative to the work root, ``/``-separated, never leaving it once parsed.
        sha256: Hex digest of the content; for a symlink, of its target text; empty for a deletion.
        base_sha256: Digest in the Snapshot; None when the file is new.
        link_target: Set for a symlink.
    """

    path: str
    change: FileChange
    size_bytes: int = 0
    sha256: str = ""
    base_sha256: str | None = None
    mode: int = 0o644
    mtime_ns: int = 0
    link_target: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSet:
    """What one Attempt produced.

    Attributes:
        complete: False for a checkpoint of an Attempt that was still running.
        stored_at: When the manifest was written; it is written last.
        executed_notebook: Relative path, in the job's work tree, of the notebook that was executed. Its
            executed content is stored under this path; home installs it under another name unless asked.
        skipped: Paths that changed but could not be stored, with the reason.
    """

    submission_id: str
    attempt: int
    complete: bool
    stored_at: datetime
    executed_notebook: str
    files: tuple[OutputFile, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeEntry:
    """What one file's merge did, or would do: ``installed_as`` is where the job's version now lies at home."""

    path: str
    action: MergeAction
    installed_as: str | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeReport:
    """A collect, file by file."""

    entries: tuple[MergeEntry, ...] = ()
    executed_notebook: str | None = None
    dry_run: bool = False

    @property
    def conflicts(self) -> int:
        return sum(entry.action is MergeAction.KEPT_BOTH for entry in self.entries)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """An admin-named resource shape.

    Attributes:
        gpu_slots: GPU slots (whole GPUs or MIG devices) that one Attempt occupies.
        memory_bytes: Limit enforced on the Attempt where the system can; None means none.
        available: How many Attempts of this shape could start now; None when not known.
    """

    name: str
    title: str
    cpu_millicores: int | None = None
    memory_bytes: int | None = None
    gpu_slots: int = 0
    default_max_duration_s: int | None = None
    available: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueReading:
    """One dated reading of a LocalQueue: slots in all, busy, and Submissions that wait."""

    name: str
    slots: int
    busy: int
    waiting: int
    gpu_slots: int = 0
    gpu_busy: int = 0
    observed_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PreflightCheck:
    """One thing that must hold before a Submission can run; ``ok`` None means it could not be told."""

    name: str
    ok: bool | None
    summary: str
    resolution: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionRequest:
    """What a user asks for, as it arrived; validated by ``service``.

    Attributes:
        notebook_path: API path; or None with ``kernel_id`` given, which the server resolves to a path.
        max_duration_s: Time limit of each Attempt; None takes the profile's default.
        replace_notebook: Install the executed notebook over the original (three-way: only if untouched).
        exclude: Extra ignore patterns (gitignore syntax) for this Submission only.
    """

    notebook_path: str | None = None
    kernel_id: str | None = None
    profile: str | None = None
    queue: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    title: str | None = None
    max_duration_s: int | None = None
    target: str | None = None
    priority: int = 0
    capture_from: CaptureFrom = CaptureFrom.AUTO
    replace_notebook: bool = False
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A durable request and the last that is known about it.

    Attributes:
        state: As last observed at ``observed_at``; with ``stale`` the backend could not be reached since.
        target: Where it runs: ``local``, or later a cluster flavour or HPC site.
        capture: Set while ``capturing``.
    """

    id: str
    state: SubmissionState
    title: str
    notebook_path: str
    backend: str
    target: str
    profile: str
    queue: str
    created_at: datetime
    observed_at: datetime
    priority: int = 0
    parameters: Mapping[str, Any] = field(default_factory=dict)
    max_duration_s: int | None = None
    replace_notebook: bool = False
    stale: bool = False
    explanation: Explanation | None = None
    position: QueuePosition | None = None
    progress: Progress | None = None
    capture: CaptureProgress | None = None
    attempts: tuple[Attempt, ...] = ()
    snapshot: SnapshotSummary | None = None
    outputs: OutputsSummary | None = None
    executed_notebook: str | None = None  # API path at home, once collected

    @property
    def short_id(self) -> str:
        return short_id(self.id)


def short_id(submission_id: str) -> str:
    """The first characters of an id: enough to tell a user's Submissions apart in file names and titles."""
    return submission_id[:8]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """Everything that an Attempt needs to run, whatever the backend; travels as JSON.

    Attributes:
        work_root: Absolute path of the work tree, the same in the job as at home.
        notebook: Path of the notebook relative to ``work_root``.
        kernel_name: The notebook's own kernelspec.
        environment_prefixes: Absolute directories that the Snapshot's environment layers cover.
        checkpoint_interval_s: Seconds between two stored OutputSets while running.
        base_index: Where the runner finds the Snapshot's index of the work tree (gzipped JSON lines).
        outbox: OCI image layout directory, in the job, that receives OutputSets.
    """

    submission_id: str
    attempt: int
    work_root: str
    notebook: str
    kernel_name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    environment_prefixes: tuple[str, ...] = ()
    checkpoint_interval_s: float = 30.0
    base_index: str = ""
    outbox: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueEntry:
    """A Submission as handed to a QueueBackend: enough to run it, and to list it after the ledger is lost."""

    submission: Submission
    snapshot_digest: str
    run: RunSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One dated reading of a backend about one Submission.

    Attributes:
        state: Any state but ``capturing`` and ``collecting``: those belong to the service.
        outputs: Latest OutputSet that the backend has, if any.
    """

    submission_id: str
    state: SubmissionState
    observed_at: datetime
    explanation: Explanation | None = None
    position: QueuePosition | None = None
    progress: Progress | None = None
    attempts: tuple[Attempt, ...] = ()
    outputs: OutputsSummary | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogChunk:
    """A piece of an Attempt's log.

    Attributes:
        text: Decoded with replacement characters; ends at a character boundary.
        offset: Byte offset of ``text`` in the log.
        next_offset: Where the following read continues.
        complete: True when the Attempt ended and ``next_offset`` is the end of its log.
    """

    attempt: int
    text: str
    offset: int
    next_offset: int
    complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerEvent:
    """One line of the runner's protocol on stdout.

    Attributes:
        kind: ``progress``, ``stored``, ``failed`` or ``finished``; readers ignore kinds they do not know.
        at: When the runner said it.
        error: For ``failed``: ``{"cell": n, "ename": …, "evalue": …}``, untrusted text.
    """

    kind: str
    at: datetime
    progress: Progress | None = None
    error: Mapping[str, Any] | None = None


# --- What a capture is asked for and what it would hold -----------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseReference:
    """The image that a session's container was started from.

    Attributes:
        image: As registries name it.
        started_at: When the container started; None lets the container tell.
    """

    image: str
    started_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentDescription:
    """The kernel's environment, as its own interpreter describes it.

    Attributes:
        kernel_name: Kernelspec name.
        executable: Absolute path of the interpreter; None for a kernel that is not Python.
        prefix: ``sys.prefix``; None for a kernel that is not Python.
        prefixes: Directories to capture: prefix, user site, kernelspec directory outside them.
        apart: Directories inside prefixes that are not the environment's: conda's package cache, other environments.
        editable_sources: Source directories of editable installs.
        base: Set where the environment lies in an image; what differs from the image is the environment then.
    """

    kernel_name: str
    executable: Path | None
    prefix: Path | None
    prefixes: tuple[Path, ...] = ()
    apart: tuple[Path, ...] = ()
    editable_sources: tuple[Path, ...] = ()
    python_version: str | None = None
    base: BaseReference | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureRequest:
    """What to freeze.

    Attributes:
        root_dir: The server's root directory.
        notebook: Absolute path of the notebook; its parse is checked, it can never be ignored.
        never: Directories that are never captured (our own store, the trash, …).
        limit_bytes: Uncompressed size that the work tree may have.
    """

    root_dir: Path
    notebook: Path
    environment: EnvironmentDescription
    capture_from: CaptureFrom = CaptureFrom.AUTO
    exclude: tuple[str, ...] = ()
    never: tuple[Path, ...] = ()
    limit_bytes: int = 2 * 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class Excluded:
    """Something a plan leaves out.

    Attributes:
        rule: The pattern or the cause.
        bytes: None when not measured: a directory that is not entered.
        origin: Where the pattern stands: an ignore file, relative to the work root, ``this submission``, ``default``;
            empty for a cause that is no pattern.
    """

    path: str
    rule: str
    bytes: int | None = None
    origin: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretFinding:
    """A place that looks like a secret: never the secret itself."""

    path: str
    line: int
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedLayer:
    """One layer of the environment: a large distribution, or several small ones.

    Attributes:
        name: The distribution's; ``rest-…`` for small ones, ``compiled-…`` bytecode, ``local`` what installers note.
        bytes: Uncompressed.
        new: Whether it differs from the last capture's.
    """

    name: str
    files: int
    bytes: int
    new: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotPlan:
    """What a capture would hold, before anything is written.

    Attributes:
        capture_from: What ``auto`` resolved to.
        new_bytes: Uncompressed bytes that the index has not seen yet.
        removed_files: Known to the index, and gone.
        new: Path (absolute in the environment) and bytes of new or changed files: the heaviest ones.
        excluded_count: How many there are; ``excluded`` lists the first 200.
        environment_layers: Heaviest first.
        secrets_excluded: Left out by the default secret rules.
        findings: Captured, but looking like secrets: the user decides.
        heaviest: The ten heaviest directories, relative path and bytes.
    """

    capture_from: CaptureFrom
    work_root: str
    work_files: int
    work_bytes: int
    environment_files: int
    environment_bytes: int
    new_files: int
    new_bytes: int
    environment_unchanged: bool
    limit_bytes: int
    excluded: tuple[Excluded, ...] = ()
    secrets_excluded: tuple[str, ...] = ()
    findings: tuple[SecretFinding, ...] = ()
    heaviest: tuple[tuple[str, int], ...] = ()
    warnings: tuple[str, ...] = ()
    removed_files: int = 0
    new: tuple[tuple[str, int], ...] = ()
    excluded_count: int = 0
    environment_layers: tuple[PlannedLayer, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentMount:
    """One directory of the environment as a job is to see it.

    Attributes:
        source: Where its files lie now: a materialised directory, or the live one.
        path: Absolute path at which the job must find it.
        live: True when ``source`` is the live directory itself, which a job may only read.
    """

    source: Path
    path: Path
    live: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentView:
    """A Snapshot's environment, made ready on this machine.

    Attributes:
        mounts: Outer directories before the ones inside them.
        linked_files: Files shared with the live environment (no copy).
        copied_bytes: Bytes written because the live environment has changed since, or could not be linked.
        warnings: What could not be isolated, one sentence each.
    """

    mounts: tuple[EnvironmentMount, ...] = ()
    linked_files: int = 0
    copied_bytes: int = 0
    warnings: tuple[str, ...] = ()
