"""Deltas -> a new base, when nobody waits for it.

Every delta makes restoring slower, and what a later one hides is carried along all the same. A capture does not stop
to put that right: it is done afterwards, from the files as they are then, for the next capture to build on. Whatever
ends it half-way, the deltas still hold; what it wrote by then is not written again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from datetime import datetime

from ..capture_models import CaptureRequest
from ..errors import BlobMissingError
from ..oci.base_image import compose
from ..oci.manifest import SnapshotContent, SnapshotImage
from ..oci.port import MANIFEST_MEDIA_TYPE, BlobStore
from .capture import is_notebook, nanoseconds
from .captured import CapturedWork, base_tag, encode_layer, work_key
from .index import SignatureIndex
from .layers import Workbench
from .making import make_control_layer
from .press import Press
from .progress import Reporter
from .reading import FileReader
from .roots import CaptureRoots, choose_work_tree
from .summary import split_reserved_names
from .work_layers import capture_work, wants_new_base


def is_due(index: SignatureIndex, work_root: str) -> bool:
    """Whether a new base of a work tree would be worth it; asks the index only."""
    return wants_new_base(index.load_seal(work_key(work_root)).state)


def compact(
    request: CaptureRequest,
    work_root: str,
    *,
    store: BlobStore,
    index: SignatureIndex,
    clock: Callable[[], datetime],
) -> bool:
    """Write a new base of a work tree that was captured before; False when that is not worth it.

    It is named in the store, so that no garbage collection takes it before a Snapshot uses it; see ``base_tag``.

    Raises:
        SnapshotError and its kinds, StorageError: nothing has changed then.
    """
    if not is_due(index, work_root):
        return False
    try:
        return _compact(request, work_root, store, index, clock, gone=())
    except BlobMissingError as exc:
        return _compact(request, work_root, store, index, clock, gone=exc.digests)


def _compact(
    request: CaptureRequest,
    work_root: str,
    store: BlobStore,
    index: SignatureIndex,
    clock: Callable[[], datetime],
    *,
    gone: Collection[str],
) -> bool:
    reporter = Reporter(lambda _progress: None)
    reader = FileReader(now_ns=lambda: nanoseconds(clock()))
    started_ns = nanoseconds(clock())
    roots, tree = choose_work_tree(request)
    if roots.work_root != work_root or tree.over or tree.unreadable:
        return False
    entries, _ = split_reserved_names(tree.entries)
    with Press(store, on_wait=reporter.tick, on_bytes=reporter.wrote) as press:
        bench = Workbench(store, reader, reporter, press, started_ns=started_ns, gone=gone)
        accept = {roots.notebook: is_notebook}
        made = capture_work(bench, index, entries, work_root=work_root, accept=accept, new_base=True)
        if os.path.join(work_root, roots.notebook) in bench.unstable:
            return False
        state = {**made.state, "control": encode_layer(make_control_layer(bench, made))}
    _name(store, request, roots, CapturedWork.of(state))
    if index.load_tree(work_key(work_root)).state.get("layers") != made.built_on:
        return False  # a capture has come in between
    index.save_tree(work_key(work_root), made.files, state, seal=made.seal)
    return True


def _name(store: BlobStore, request: CaptureRequest, roots: CaptureRoots, work: CapturedWork) -> None:
    content = SnapshotContent(
        work_root=roots.work_root, notebook=roots.notebook, kernel_name=request.environment.kernel_name
    )
    image = compose(SnapshotImage(content=content, layers=work.layers))
    store.put_blob(image.config)
    store.put_manifest(image.manifest, tag=base_tag(roots.work_root), media_type=MANIFEST_MEDIA_TYPE)
