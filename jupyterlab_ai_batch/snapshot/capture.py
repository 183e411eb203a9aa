"""The capture: environment and work tree become layers, then one manifest under the Submission's tag.

The manifest comes last: a capture that is killed, or ended by an error, leaves only blobs that nothing names. The
signature index knows them, so that the next capture goes on from there. It is not trusted about what the store has:
when the store misses a blob that the manifest names, the capture is made again without it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from ..capture_models import CaptureProgress, CaptureRequest, SnapshotSummary
from ..errors import BlobMissingError, FileUnreadableError, SnapshotTooLargeError
from ..oci.base_image import BaseImage, ComposedImage, compose
from ..oci.manifest import Program, SnapshotContent, SnapshotImage
from ..oci.port import MANIFEST_MEDIA_TYPE, BlobStore
from .captured import CapturedWork, work_key
from .index import SignatureIndex
from .progress import Reporter
from .reading import unreadable
from .roots import CaptureRoots, choose_work_tree
from .scout import Scout
from .summary import (
    describe_finding,
    heaviest_directories,
    reserved_warnings,
    split_reserved_names,
    tree_warnings,
)
from .trees import CapturedTrees, Made, find_unchanged_environment, find_unchanged_work
from .walk import Tree

OnUnstable = Literal["fail", "exclude"]

MAX_ATTEMPTS = 3

_NAMED_FILES = 10


def capture(
    request: CaptureRequest,
    *,
    store: BlobStore,
    index: SignatureIndex,
    tag: str,
    progress: Callable[[CaptureProgress], None],
    clock: Callable[[], datetime],
    on_unstable: OnUnstable = "fail",
    base: BaseImage | None = None,
    program: Program | None = None,
    scout: Scout | None = None,
) -> SnapshotSummary:
    """Freeze what ``request`` names and name it ``tag``.

    Args:
        index: Of this store alone: what it knows of layers holds for no other.
        base: An image to put the Snapshot on; ``store`` has its layers (see ``copy_base``). What the environment has in
            common with it is not captured again.
        program: What a container of the Snapshot starts.
        scout: Sent out to look whether the environment has changed; see there.
        progress: Called at least every 0.1 s of work; what it raises ends the capture, and nothing of it is visible.

    Raises:
        NotebookMissingError, NotebookInvalidError: nothing to run.
        SnapshotTooLargeError, FileUnreadableError, FileUnstableError, SnapshotError
        StorageFullError, StoragePermissionError, StorageError
        BaseImageError: the base cannot be read, or has too many layers.
    """
    gone: set[str] = set()
    reporter = Reporter(progress)
    attempts = 0
    while True:
        attempts += 1
        attempt = _Attempt(request, store, index, reporter, clock, base, on_unstable, scout, frozenset(gone))
        try:
            return attempt.run(tag, program)
        except BlobMissingError as exc:
            if attempts == MAX_ATTEMPTS:
                raise
            gone.update(exc.digests)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One attempt; ``gone`` are digests of blobs that the store turned out not to have."""

    request: CaptureRequest
    store: BlobStore
    index: SignatureIndex
    reporter: Reporter
    clock: Callable[[], datetime]
    base: BaseImage | None
    on_unstable: OnUnstable
    scout: Scout | None
    gone: frozenset[str]

    def run(self, tag: str, program: Program | None) -> SnapshotSummary:
        began = self._begin()
        self.reporter.begin("plan")
        roots, tree = choose_work_tree(self.request, on_tick=self.reporter.tick)
        _check_tree(self.request, roots, tree)
        trees = CapturedTrees(
            roots,
            *split_reserved_names(tree.entries),
            self.reporter.tick,
            self.scout,
            base=self.base,
            started_at=self.request.environment.container_started_at,
        )
        if self.scout is not None:
            self._greet_store(roots)
        made = self._find_unchanged(trees) or self._make(trees, began)
        environment = made.session.environment
        self.reporter.begin("finish")
        image = SnapshotImage(content=_content(self.request, roots, base=made.session.base), layers=made.layers)
        digest = _write_manifest(self.store, compose(image, base=self.base, program=program), tag)
        return SnapshotSummary(
            digest=digest,
            captured_from=began,
            captured_until=self.clock(),
            bytes=environment.bytes + made.work.bytes,
            new_bytes=made.new_bytes,
            files=environment.files + made.work.files,
            work_root=roots.work_root,
            warnings=(
                *roots.warnings,
                *tree_warnings(tree),
                *reserved_warnings(trees.reserved),
                *made.warnings,
                *(describe_finding(*finding) for finding in made.work.findings),
            ),
        )

    def _begin(self) -> datetime:
        began = self.clock()
        if self.scout is None:
            return began
        return min(began, datetime.fromtimestamp(self.scout.started_ns / 10**9, tz=began.tzinfo))

    def _greet_store(self, roots: CaptureRoots) -> None:
        """Have a registry connected when it is needed, as long as the scout is still out; any question will do."""
        known = CapturedWork.from_state(self.index.load_seal(work_key(roots.work_root)).state)
        if known is not None:
            self.store.has_blob(known.layers[-1].digest)

    def _find_unchanged(self, trees: CapturedTrees) -> Made | None:
        """The layers of the last capture, where both trees are as they were."""
        if (work := find_unchanged_work(trees, self.index, self.gone)) is None:
            return None
        session = find_unchanged_environment(trees, self.index, self.gone)
        return Made(session=session, work=work) if session is not None else None

    def _make(self, trees: CapturedTrees, began: datetime) -> Made:
        from .making import make_layers  # it takes longer to import than an unchanged tree to compare

        return make_layers(
            trees,
            store=self.store,
            index=self.index,
            reporter=self.reporter,
            now_ns=lambda: nanoseconds(self.clock()),
            started_ns=nanoseconds(began),
            gone=self.gone,
            accept={trees.roots.notebook: is_notebook},
            on_unstable=self.on_unstable,
        )


def is_notebook(content: bytes) -> bool:
    """Whether the content is a JSON object with cells: a notebook that is just being saved is not."""
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return isinstance(parsed, dict) and ("cells" in parsed or "worksheets" in parsed)


def _check_tree(request: CaptureRequest, roots: CaptureRoots, tree: Tree) -> None:
    if tree.over:
        raise too_large(request, roots, tree)
    if tree.unreadable:
        path = os.path.join(roots.work_root, tree.unreadable[0])
        raise FileUnreadableError(
            f"You are not allowed to read the directory {path}.",
            hint="Change its permissions, or leave it out with a line in .batchignore.",
            details={"paths": tree.unreadable[:_NAMED_FILES]},
        )
    if roots.notebook not in tree.entries:
        raise unreadable(os.path.join(roots.work_root, roots.notebook))


def too_large(request: CaptureRequest, roots: CaptureRoots, tree: Tree) -> SnapshotTooLargeError:
    heaviest = heaviest_directories(tree.entries)
    largest = f" The heaviest directory is {heaviest[0][0]!r}." if heaviest else ""
    return SnapshotTooLargeError(
        f"The files in {roots.work_root} are larger than the {request.limit_bytes / 1e9:.1f} GB"
        " that a snapshot may have.",
        hint=f"Leave out large files with lines in .batchignore, or move the notebook to a folder of its own.{largest}",
        details={
            "limit_bytes": request.limit_bytes,
            "bytes_seen": tree.bytes,
            "work_root": roots.work_root,
            "heaviest": [list(item) for item in heaviest],
        },
    )


def _content(request: CaptureRequest, roots: CaptureRoots, *, base: str | None) -> SnapshotContent:
    environment = request.environment
    return SnapshotContent(
        work_root=roots.work_root,
        notebook=roots.notebook,
        kernel_name=environment.kernel_name,
        prefixes=roots.prefixes,
        editable_sources=roots.sources,
        executable=str(environment.executable) if environment.executable is not None else None,
        python_version=environment.python_version,
        base=base,
    )


def _write_manifest(store: BlobStore, image: ComposedImage, tag: str) -> str:
    store.put_blob(image.config)
    return store.put_manifest(image.manifest, tag=tag, media_type=MANIFEST_MEDIA_TYPE)


def nanoseconds(at: datetime) -> int:
    return int(at.timestamp() * 10**9)
