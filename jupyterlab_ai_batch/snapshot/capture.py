"""The capture: environment and work tree become layers, then one manifest under the Submission's tag.

Order of visibility: blobs, manifest, signature index. A capture that is killed leaves blobs that nothing names.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Literal

from ..errors import FileUnreadableError, FileUnstableError, NotebookInvalidError, SnapshotTooLargeError
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
from .index import IndexedFile, SignatureIndex, TreeRecord
from .layers import Workbench, single_file_layer
from .progress import Reporter
from .reading import FileReader, unreadable
from .rootfs import Changes, changes_since, removed_layers
from .roots import CaptureRoots, choose_work_tree, walk_environment
from .summary import describe_findings, heaviest_directories, split_reserved_names, tree_warnings
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

    Raises:
        NotebookMissingError, NotebookInvalidError: nothing to run.
        SnapshotTooLargeError, FileUnreadableError, FileUnstableError, SnapshotError
        StorageFullError, StoragePermissionError, StorageError
        BaseImageError: the base cannot be read, or has too many layers.
    """
    began = clock()
    reporter = Reporter(progress)
    reporter.begin("plan")
    reader = FileReader(now_ns=lambda: _nanoseconds(clock()))
    bench = Workbench(store, reader, reporter, started_ns=_nanoseconds(began))
    roots, tree = choose_work_tree(request, on_tick=reporter.tick)
    _check_tree(request, roots, tree)
    bench.warnings += [*roots.warnings, *tree_warnings(tree)]
    environment, changes = _capture_environment(bench, index, roots, request, base)
    reporter.begin("work")
    known = index.load_tree(work_key(roots.work_root))
    work = _capture_work(bench, known, roots, tree)
    _check_unstable(bench, on_unstable)
    reporter.begin("finish")
    content = _content(request, roots, base=base.digest if base is not None and changes.is_delta else None)
    control, control_state = _control_layer(bench, work, content)
    hidden = removed_layers(bench, changes.removed)
    layers = (*hidden, *environment.layers, environment.index_layer, *work.layers, control)
    digest = _write_manifest(
        store, compose(SnapshotImage(content=content, layers=layers), base=base, program=program), tag
    )
    environment.save(index)
    work.save(index, control_state)
    return SnapshotSummary(
        digest=digest,
        captured_from=began,
        captured_until=clock(),
        bytes=environment.bytes + sum(entry.size for entry in work.files.values()),
        new_bytes=bench.new_bytes,
        files=sum(not stat.S_ISDIR(e.mode) for files in (environment.files, work.files) for e in files.values()),
        work_root=roots.work_root,
        warnings=(*bench.warnings, *describe_findings(work.files)),
    )


def _capture_environment(
    bench: Workbench, index: SignatureIndex, roots: CaptureRoots, request: CaptureRequest, base: BaseImage | None
) -> tuple[CapturedEnvironment, Changes]:
    bench.reporter.begin("environment")
    key = environment_key(roots.environment_roots)
    entries = walk_environment(roots, on_tick=bench.reporter.tick)
    changes = Changes(entries=entries)
    if base is not None:
        reference = request.environment.base
        changes = changes_since(
            base,
            entries,
            roots=roots,
            started_at=reference.started_at if reference is not None else None,
            store=bench.store,
            index=index,
            on_tick=bench.reporter.tick,
        )
        key = f"{key}\n{base.digest}"
    return capture_environment(bench, index.load_tree(key), changes.entries, roots=roots), changes


def _capture_work(bench: Workbench, known: TreeRecord, roots: CaptureRoots, tree: Tree) -> CapturedWork:
    entries, reserved = split_reserved_names(tree.entries)
    if reserved:
        bench.warnings.append(
            f"{reserved[0]!r} is left out: names that begin with '.wh.' cannot be kept in a snapshot."
        )
    accept = {roots.notebook: is_notebook}
    work = capture_work(bench, known, entries, work_root=roots.work_root, accept=accept)
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


def _control_layer(bench: Workbench, work: CapturedWork, content: SnapshotContent) -> tuple[Layer, dict[str, Any]]:
    """The layer with the work tree's index; the last one when nothing changed."""
    stored: Mapping[str, Any] = work.known.state.get("control", {})
    if work.unchanged and stored.get("work_root") == content.work_root:
        layer = decode_layer(stored["layer"])
        if bench.has_layers([layer]):
            return layer, dict(stored)
    entries = (work_index_entry(path, entry) for path, entry in work.files.items() if path)
    layer = single_file_layer(bench, LayerRole.CONTROL, WORK_INDEX_PATH, write_work_index(entries))
    return layer, {"work_root": content.work_root, "layer": encode_layer(layer)}


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
