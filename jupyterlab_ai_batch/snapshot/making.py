"""The layers of a capture, where something has changed: environment, work tree, control layer."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Mapping
from typing import Literal

from ..errors import FileUnstableError, NotebookInvalidError
from ..oci.base_image import BaseImage
from ..oci.manifest import Layer, LayerRole
from ..oci.port import BlobStore
from ..oci.work_index import WORK_INDEX_PATH, WorkIndexEntry, write_work_index
from .captured import (
    CapturedSession,
    CapturedWork,
    decode_layer,
    encode_layer,
    environment_key,
    may_exist,
    work_key,
)
from .environment_layers import capture_environment
from .index import IndexedFile, SignatureIndex
from .layers import Workbench, single_file_layer
from .listing import seal_of
from .press import Press
from .progress import Reporter
from .reading import FileReader
from .rootfs import changes_since, removed_layers
from .trees import CapturedTrees, Made, find_unchanged_environment
from .work_layers import WorkLayers, capture_work

OnUnstable = Literal["fail", "exclude"]

_NAMED_FILES = 10


def make_layers(
    trees: CapturedTrees,
    *,
    store: BlobStore,
    index: SignatureIndex,
    reporter: Reporter,
    now_ns: Callable[[], int],
    started_ns: int,
    gone: Collection[str],
    accept: Mapping[str, Callable[[bytes], bool]],
    on_unstable: OnUnstable,
) -> Made:
    """Write what the store has not, and note in the index what was made of it.

    Args:
        started_ns: When the trees began to be walked.
        gone: Digests of blobs that the store has lost, whatever the index says.
        accept: By path in the work tree, what a file's content must be like.
    """
    with Press(store, on_wait=reporter.tick, on_bytes=reporter.wrote) as press:
        bench = Workbench(store, FileReader(now_ns=now_ns), reporter, press, started_ns=started_ns, gone=gone)
        work = _make_work(bench, index, trees, accept) if trees.scout is not None else None
        session = _make_environment(bench, index, trees)
        work = work or _make_work(bench, index, trees, accept)
        _check_unstable(bench, on_unstable)
    return Made(session=session, work=work, new_bytes=bench.new_bytes, warnings=tuple(bench.warnings))


def _make_environment(bench: Workbench, index: SignatureIndex, trees: CapturedTrees) -> CapturedSession:
    bench.reporter.begin("environment")
    if (unchanged := find_unchanged_environment(trees, index, bench.gone)) is not None:
        return unchanged
    if trees.base is not None:
        return _make_session(bench, index, trees, trees.base)
    made = capture_environment(bench, index, trees.environment_key, trees.environment, roots=trees.roots)
    return CapturedSession(environment=made)


def _make_session(bench: Workbench, index: SignatureIndex, trees: CapturedTrees, base: BaseImage) -> CapturedSession:
    """What the environment has besides its image; sealed as a whole where that was proven."""
    changes = changes_since(
        base,
        trees.environment,
        roots=trees.roots,
        container=trees.container,
        store=bench.store,
        index=index,
        on_tick=bench.reporter.tick,
    )
    key = environment_key(trees.roots.environment_roots, base)
    made = CapturedSession(
        environment=capture_environment(bench, index, key, changes.entries, roots=trees.roots),
        hidden=removed_layers(bench, changes.removed),
        base=base.digest if changes.is_delta else None,
    )
    if index.load_seal(key).seal == seal_of(changes.entries):
        index.save_tree(trees.environment_key, {}, made.to_state(), seal=seal_of(trees.environment))
    return made


def _make_work(
    bench: Workbench, index: SignatureIndex, trees: CapturedTrees, accept: Mapping[str, Callable[[bytes], bool]]
) -> CapturedWork:
    bench.reporter.begin("work")
    roots = trees.roots
    made = capture_work(bench, index, trees.work, work_root=roots.work_root, accept=accept)
    for path in accept:
        if os.path.realpath(os.path.join(roots.work_root, path)) in bench.unstable:
            raise NotebookInvalidError(
                f"The notebook {path} is not a notebook, or is being written all the time.",
                hint="Open it in JupyterLab and save it, then submit again.",
                details={"path": path},
            )
    state = {**made.state, "control": encode_layer(make_control_layer(bench, made))}
    index.save_tree(work_key(roots.work_root), made.files, state, seal=made.seal)
    return CapturedWork.of(state)


def make_control_layer(bench: Workbench, made: WorkLayers) -> Layer:
    """The layer with the work tree's index: the last one where nothing changed."""
    if made.unchanged and "control" in made.state:
        layer = decode_layer(made.state["control"])
        if may_exist([layer], bench.gone):
            return layer
    entries = (work_index_entry(path, entry) for path, entry in made.files.items() if path)
    return bench.wait_for(single_file_layer(bench, LayerRole.CONTROL, WORK_INDEX_PATH, write_work_index(entries)))


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
