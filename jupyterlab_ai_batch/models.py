"""The project's records: frozen, typed, without I/O; those of captures are in ``capture_models``.

Times are aware UTC datetimes (``_at``), durations seconds (``_s``), sizes bytes (``_bytes``).
Paths named ``notebook_path`` are API paths: relative to the server's root directory, ``/``-separated.
``wire.py`` turns these records into JSON and back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .capture_models import CaptureProgress, SnapshotSummary
from .words import CaptureFrom, FileChange, MergeAction, OutputsState, SubmissionState


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
class Usage:
    """What an Attempt has used so far, all of its processes together.

    Attributes:
        peak_memory_bytes: The most at one moment, looked at every few seconds, without the page cache; None where that
            cannot be told.
        cpu_s: Seconds of processor time.
    """

    peak_memory_bytes: int | None = None
    cpu_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One admission to run; an Eviction ends an Attempt, not a Submission.

    Attributes:
        number: 1-based.
        ended_by: ``succeeded``, ``failed``, ``cancelled`` or the Eviction's reason (``WorkerLost``, …).
        ended_because: Of an Eviction: a clause like "to make room for an interactive session"; empty when not known.
        saved_at: When its last files were stored; None when it stored none.
        time_lost_s: Run time that an Eviction threw away, 0 otherwise: all of it; with ``resume`` what was after
            ``saved_at``, for the next Attempt has the files of that moment.
        usage: As its runner said last.
    """

    number: int
    admitted_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    ended_by: str | None = None
    ended_because: str = ""
    saved_at: datetime | None = None
    time_lost_s: float = 0.0
    usage: Usage | None = None


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
        pod_uid: Of the pod that stored it, which is the Attempt; empty where no pod did.
        log_sha256: Hex digest of the Attempt's log so far (``outputset.open_log``); empty where none is kept with it.
        log_bytes: Its size.
        usage: Of the Attempt until then.
    """

    submission_id: str
    attempt: int
    complete: bool
    stored_at: datetime
    executed_notebook: str
    files: tuple[OutputFile, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    pod_uid: str = ""
    log_sha256: str = ""
    log_bytes: int = 0
    usage: Usage | None = None


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
        hint: Whether it fits what the user's own runs have used, in one sentence; empty where there is nothing to say.
    """

    name: str
    title: str
    cpu_millicores: int | None = None
    memory_bytes: int | None = None
    gpu_slots: int = 0
    default_max_duration_s: int | None = None
    available: int | None = None
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolReading:
    """Who holds the GPU slots of a shared pool, by class; nobody's names. The parts sum up to ``slots``.

    Attributes:
        resource: What a slot is in the cluster (``nvidia.com/mig-1g.5gb``); empty where there are several kinds.
        mine: Held by this user's batch jobs, ``others_batch`` by those of others, ``interactive`` by all sessions.
        interactive_waiting: Sessions that wait for a slot: they get one before any batch job does.
    """

    resource: str
    slots: int
    mine: int
    others_batch: int
    interactive: int
    free: int
    interactive_waiting: int
    observed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class FairShare:
    """What a user's recent use does to the order of a queue with admission fair sharing.

    Attributes:
        used: GPU slots, averaged over the recent past; use counts the less the longer ago it was.
        weight: ``used`` counts divided by it.
        half_life_s: Seconds after which use counts half; None where the admin does not say.
        sampled_at: When the cluster last looked.
        summary: One sentence for the user.
    """

    used: float
    weight: float
    half_life_s: int | None
    sampled_at: datetime | None
    summary: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueReading:
    """One dated reading of a LocalQueue.

    Attributes:
        backend: Name of the QueueBackend that it belongs to: where a Submission to it will run.
        slots: In all; None where that is not the user's to know (a shared pool). ``gpu_slots`` is 0 then.
        busy: Submissions that have a slot; ``waiting`` those that wait for one.
        pool: Of a shared pool whose numbers the user may read.
        share: Where the queue orders its users by their recent use.
    """

    name: str
    backend: str
    slots: int | None
    busy: int
    waiting: int
    gpu_slots: int = 0
    gpu_busy: int = 0
    observed_at: datetime | None = None
    pool: PoolReading | None = None
    share: FairShare | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PreflightCheck:
    """One thing that must hold before a Submission can run; ``ok`` None means it could not be told.

    Attributes:
        resolution: What to do, as a sentence.
        fix: What an admin applies or configures to mend it, complete, in as many lines as it needs: YAML for
            ``kubectl apply -f -`` in the user's namespace, commands, or lines of configuration, each after comments.
    """

    name: str
    ok: bool | None
    summary: str
    resolution: str = ""
    fix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionRequest:
    """What a user asks for, as it arrived; validated by ``service``.

    Attributes:
        notebook_path: API path; or None with ``kernel_id`` given, which the server resolves to a path.
        max_duration_s: Time limit of each Attempt; None takes the profile's default.
        replace_notebook: Install the executed notebook over the original (three-way: only if untouched).
        exclude: Extra ignore patterns (gitignore syntax) for this Submission only.
        resume: An Attempt after an Eviction begins with the files saved last; None takes what the notebook's
            metadata say (``ai_batch.resume``), else false.
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
    resume: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A durable request and the last that is known about it.

    Attributes:
        state: As last observed at ``observed_at``; with ``stale`` the backend could not be reached since.
        target: Where it runs: ``local``, or later a cluster flavour or HPC site.
        capture: Set while ``capturing``.
        resume: See SubmissionRequest; decided when it was submitted.
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
    resume: bool = False
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
        outbox: Directory in the job: an OCI image layout that receives OutputSets, unless ``outputs_to`` does.
        outputs_to: Registry repository (``host/name``) that receives OutputSets; empty: the outbox is all.
            The Attempt then numbers itself by the tags that it finds there; ``attempt`` is not looked at.
        registry_auth: Path of a docker configuration file with credentials for it; empty: none.
        registry_ca: Path of certificate authorities (PEM) to be trusted besides the system's; empty: none.
        grace_s: Seconds between being told to end and being killed; two thirds are for storing what there is.
        resume: Begin with the files that a former Attempt stored last: in ``outputs_to``, or else in ``former``.
        former: Outboxes of former Attempts, newest first.
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
    outputs_to: str = ""
    registry_auth: str = ""
    registry_ca: str = ""
    grace_s: float = 30.0
    resume: bool = False
    former: tuple[str, ...] = ()


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
