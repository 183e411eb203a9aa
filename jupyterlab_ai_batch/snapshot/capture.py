"""The capture: environment and work tree become layers, then one manifest under the Submission's tag.

The manifest comes last: a capture that is killed, or ended by an error, leaves only blobs that nothing names. The
signature index knows them, so that the next capture goes on from there. It is not trusted about what the store has:
when the store misses a blob that the manifest names, the capture is made again without it.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from ..errors import (
    BlobMissingError,
    FileUnreadableError,
    FileUnstableError,
    NotebookInvalidError,
    SnapshotTooLargeError,
)
from ..models import CaptureProgress, CaptureRequest, SnapshotSummary
from ..oci.base_image import BaseImage, ComposedImage, compose
from ..oci.manifest import (
    Layer,
    LayerRole,
    Program,
    SnapshotContent,
    SnapshotImage,
)
from ..oci.port import MANIFEST_MEDIA_TYPE, BlobStore
from ..oci.work_index import WORK_INDEX_PATH, WorkIndexEntry, write_work_index
from .environment_layers import (
    CapturedEnvironment,
    capture_environment,
    decode_layer,
    encode_layer,
    environment_key,
)
from .index import IndexedFile, SignatureIndex
from .layers import Workbench, single_file_layer
from .press import Press
from .progress import Reporter
from .reading import FileReader, unreadable
from .rootfs import Changes, changes_since, removed_layers
from .roots import CaptureRoots, choose_work_tree, walk_environment
from .summary import describe_finding, heaviest_directories, split_reserved_names, tree_warnings
from .walk import Tree
from .work_layers import CapturedWork, capture_work, work_key

OnUnstable = Literal["fail", "exclude"]

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
) -> SnapshotSummary:
    """Freeze what ``request`` names and name it ``tag``.

    Args:
        base: An image to put the Snapshot on; ``store`` has its layers (see ``copy_base``). What the environment has in
            common with it is not captured again.
        program: What a container of the Snapshot starts.
        progress: Called at least every 0.1 s of work; what it raises ends the capture, and nothing of it is visible.

    Raises:
        NotebookMissingError, NotebookInvalidError: nothing to run.
        SnapshotTooLargeError, FileUnreadableError, FileUnstableError, SnapshotError
        StorageFullError, StoragePermissionError, StorageError
        BaseImageError: the base cannot be read, or has too many layers.
    """
    gone: set[str] = set()
    while True:
        try:
            with _workbench(store, progress, clock, gone) as bench:
                return _Capture(request, bench, index, base, program, on_unstable, clock).run(tag)
        except BlobMissingError as exc:  # noqa: PERF203 - the index knew layers that the store has lost
            if gone.issuperset(exc.digests):
                raise
            gone.update(exc.digests)


@contextmanager
def _workbench(
    store: BlobStore,
    progress: Callable[[CaptureProgress], None],
    clock: Callable[[], datetime],
    gone: Collection[str] = (),
) -> Iterator[Workbench]:
    reporter = Reporter(progress)
    reporter.begin("plan")
    reader = FileReader(now_ns=lambda: _nanoseconds(clock()))
    with Press(store, on_wait=reporter.tick, on_bytes=reporter.wrote) as press:
        yield Workbench(store, reader, reporter, press, started_ns=_nanoseconds(clock()), gone=frozenset(gone))


@dataclass(frozen=True, slots=True)
class _Capture:
    """One attempt at a capture."""

    request: CaptureRequest
    bench: Workbench
    index: SignatureIndex
    base: BaseImage | None
    program: Program | None
    on_unstable: OnUnstable
    clock: Callable[[], datetime]

    def run(self, tag: str) -> SnapshotSummary:
        began, bench = self.clock(), self.bench
        roots, tree = choose_work_tree(self.request, on_tick=bench.reporter.tick)
        _check_tree(self.request, roots, tree)
        bench.warnings += [*roots.warnings, *tree_warnings(tree)]
        environment, changes = self._environment(roots)
        bench.reporter.begin("work")
        work = _capture_work(bench, self.index, roots, tree)
        _check_unstable(bench, self.on_unstable)
        bench.reporter.begin("finish")
        control = _control_layer(bench, self.index, work, roots)
        layers = (
            *removed_layers(bench, changes.removed),
            *environment.layers,
            environment.index_layer,
            *work.layers,
            control,
        )
        base_digest = self.base.digest if self.base is not None and changes.is_delta else None
        image = SnapshotImage(content=_content(self.request, roots, base=base_digest), layers=layers)
        return SnapshotSummary(
            digest=_write_manifest(bench.store, compose(image, base=self.base, program=self.program), tag),
            captured_from=began,
            captured_until=self.clock(),
            bytes=environment.bytes + work.state["bytes"],
            new_bytes=bench.new_bytes,
            files=environment.files + work.state["files"],
            work_root=roots.work_root,
            warnings=(*bench.warnings, *(describe_finding(*finding) for finding in work.findings)),
        )

    def _environment(self, roots: CaptureRoots) -> tuple[CapturedEnvironment, Changes]:
        bench, base = self.bench, self.base
        bench.reporter.begin("environment")
        key = environment_key(roots.environment_roots)
        changes = Changes(entries=walk_environment(roots, on_tick=bench.reporter.tick))
        if base is not None:
            reference = self.request.environment.base
            changes = changes_since(
                base,
                changes.entries,
                roots=roots,
                started_at=reference.started_at if reference is not None else None,
                store=bench.store,
                index=self.index,
                on_tick=bench.reporter.tick,
            )
            key = f"{key}\n{base.digest}"
        return capture_environment(bench, self.index, key, changes.entries, roots=roots), changes


def _capture_work(bench: Workbench, index: SignatureIndex, roots: CaptureRoots, tree: Tree) -> CapturedWork:
    entries, reserved = split_reserved_names(tree.entries)
    if reserved:
        bench.warnings.append(
            f"{reserved[0]!r} is left out: names that begin with '.wh.' cannot be kept in a snapshot."
        )
    accept = {roots.notebook: is_notebook}
    work = capture_work(bench, index, entries, work_root=roots.work_root, accept=accept)
    if os.path.realpath(os.path.join(roots.work_root, roots.notebook)) in bench.unstable:
        raise NotebookInvalidError(
            f"The notebook {roots.notebook} is not a notebook, or is being written all the time.",
            hint="Open it in JupyterLab and save it, then submit again.",
            details={"path": roots.notebook},
        )
    return work


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


def _check_unstable(bench: Workbench, on_unstable: OnUnstable) -> None:
    if not bench.unstable:
        return
    names = sorted(bench.unstable)
    listed = ", ".join(names[:_NAMED_FILES]) + (" …" if len(names) > _NAMED_FILES else "")
    if on_unstable == "fail":
        raise FileUnstableError(
            f"These files keep changing while they are read: {listed}.",
            hint="Submit again when nothing writes to them, or leave them out with a line in .batchignore.",
            details={"paths": names[:100]},
        )
    bench.warnings.append(f"These files kept changing and are left out: {listed}.")


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


def _control_layer(bench: Workbench, index: SignatureIndex, work: CapturedWork, roots: CaptureRoots) -> Layer:
    """The layer with the work tree's index, the last one where nothing changed; after it the tree is complete."""
    key = work_key(roots.work_root)
    if work.unchanged and "control" in work.state:
        layer = decode_layer(work.state["control"])
        if bench.may_have([layer]):
            if work.files is not None:
                index.save_tree(key, work.files, work.state, seal=work.seal)
            return layer
    files = index.load_tree(key).files if work.files is None else work.files
    entries = (work_index_entry(path, entry) for path, entry in files.items() if path)
    layer = bench.wait_for(single_file_layer(bench, LayerRole.CONTROL, WORK_INDEX_PATH, write_work_index(entries)))
    index.save_tree(key, files, {**work.state, "control": encode_layer(layer)}, seal=work.seal)
    return layer


def work_index_entry(path: str, entry: IndexedFile) -> WorkIndexEntry:
    kind: Literal["file", "symlink", "dir"] = "file"
    if stat.S_ISDIR(entry.mode):
        kind = "dir"
    elif stat.S_ISLNK(entry.mode):
        kind = "symlink"
    return WorkIndexEntry(
        path=path,
        type=kind,
        size=entry.size,
        mtime_ns=entry.mtime_ns,
        sha256=entry.sha256.hex(),
        mode=stat.S_IMODE(entry.mode),
        target=entry.target if kind == "symlink" else None,
    )


def _write_manifest(store: BlobStore, image: ComposedImage, tag: str) -> str:
    store.put_blob(image.config)
    return store.put_manifest(image.manifest, tag=tag, media_type=MANIFEST_MEDIA_TYPE)


def _nanoseconds(at: datetime) -> int:
    return int(at.timestamp() * 10**9)
