"""Records of captures: what is asked for, what a plan says, what was made, where it lies.

Apart from the other records because a capture is over in a blink, of which making dataclasses would take a tenth.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from .words import CaptureFrom


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

    @property
    def container_started_at(self) -> datetime | None:
        return self.base.started_at if self.base is not None else None


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
class CaptureProgress:
    """How far a running capture is; ``phase`` is one of ``plan``, ``environment``, ``work``, ``finish``."""

    phase: str
    done_bytes: int
    total_bytes: int
    new_bytes: int = 0


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
