"""The composition root: the only place that constructs concrete backends, stores and engines.

The server extension and the command line both come here; so do the processes that they start, which get the same
settings through the capture's work order and the worker's settings file.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from .capture_models import CaptureProgress, EnvironmentDescription, EnvironmentView, SnapshotPlan, SnapshotSummary
from .compose_cluster import (
    ClusterConfig,
    build_kueue_backend,
    choose_cluster,
    open_repository,
    opened_snapshots,
    prepare_client,
)
from .errors import BatchError, InvalidSubmissionError
from .ledger import Ledger
from .models import Profile
from .oci.layout import ImageLayout
from .oci.storage import ensure_private_directory
from .queues.local.settings import WorkerSettings, default_slots
from .wire import WireError, from_json, to_json

if TYPE_CHECKING:
    from .capture_models import BaseReference
    from .capturing import CaptureOrder
    from .models import Submission
    from .oci.base_image import BaseImage
    from .oci.port import BlobStore
    from .queues.port import QueueBackend
    from .service import SubmissionService
    from .snapshot.headstart import Vanguard
    from .snapshot.index import SignatureIndex

LOWEST_PRIORITY = 19
CHILD_COMMAND = (sys.executable, "-m", "jupyterlab_ai_batch")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchConfig:
    """All settings of one server or command, as plain values. Admins set them as traits of the extension.

    Attributes:
        root_dir: Absolute; notebook paths are relative to it.
        data_dir: Absolute; store, ledger and queue (0700).
        profiles: What users may choose, the first is the default; empty takes the backend's own.
        worker: The local backend's limits.
        cluster: Where jobs go; None for the local queue.
        snapshot_limit_bytes: Uncompressed size that a work tree may have; default 2 GiB.
        exclude: Ignore patterns (gitignore syntax) for every Submission.
        auto_collect: Bring files home as soon as a run ends, while a server is up.
        checkpoint_interval_s: Seconds between two stored results of a running notebook; default 30.
        plan_timeout_s: Seconds that a plan may take; default 120.
    """

    root_dir: Path
    data_dir: Path
    profiles: tuple[Profile, ...] = ()
    worker: WorkerSettings = field(default_factory=lambda: WorkerSettings(slots=default_slots()))
    cluster: ClusterConfig | None = None
    snapshot_limit_bytes: int = 2 * 1024**3
    exclude: tuple[str, ...] = ()
    auto_collect: bool = True
    checkpoint_interval_s: float = 30.0
    plan_timeout_s: float = 120.0


def build_config(
    settings: Mapping[str, Any],
    *,
    root_dir: Path,
    data_dir: Path,
    environ: Mapping[str, str],
    is_prepared: bool = False,
) -> BatchConfig:
    """A BatchConfig from trait values by name (``slots`` and its like belong to the worker); unknown names are left.

    Blocks: in a pod it may ask the cluster whether jobs can go there; not with ``is_prepared`` (see choose_cluster).

    Raises:
        InvalidSubmissionError: a setting has the wrong type.
        SessionUnusableError: jobs are to go to a cluster, and this process is in none.
    """
    own = {f.name for f in fields(BatchConfig)} - {"root_dir", "data_dir", "worker", "cluster"}
    worker = {"slots": default_slots(), **_chosen(settings, {f.name for f in fields(WorkerSettings)})}
    plain = {
        "root_dir": str(root_dir),
        "data_dir": str(data_dir),
        "worker": to_json(worker),
        "cluster": to_json(choose_cluster(settings, environ=environ, is_prepared=is_prepared)),
        **to_json(_chosen(settings, own)),
    }
    try:
        return from_json(BatchConfig, plain)
    except WireError as exc:
        raise InvalidSubmissionError(f"The configuration of batch jobs has a wrong value: {exc}.") from exc


def _chosen(settings: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name in names and value is not None}


def utc_now() -> datetime:
    return datetime.now(timezone.utc)


def build_service(
    config: BatchConfig,
    *,
    environ: Mapping[str, str],
    on_change: Callable[[Submission], None] = lambda _: None,
    clock: Callable[[], datetime] = utc_now,
) -> SubmissionService:
    """A service over the configured backend; creates the data directory.

    Args:
        environ: The process's: where the cluster is, proxies, credentials.

    Raises:
        StoragePermissionError: the data directory belongs to somebody else.
        StorageError
    """
    from .service import ServiceConfig, SubmissionService

    ensure_private_directory(config.data_dir)
    return SubmissionService(
        backend=build_backend(config, environ=environ, clock=clock),
        ledger=build_ledger(config.data_dir, clock=clock),
        open_store=lambda: open_store(config, environ),
        open_layout=ImageLayout,
        config=ServiceConfig(
            root_dir=config.root_dir,
            data_dir=config.data_dir,
            snapshot_limit_bytes=config.snapshot_limit_bytes,
            exclude=config.exclude,
            auto_collect=config.auto_collect,
            checkpoint_interval_s=config.checkpoint_interval_s,
            plan_timeout_s=config.plan_timeout_s,
            child_command=CHILD_COMMAND,
            composition=to_json(config),
        ),
        clock=clock,
        on_change=on_change,
    )


def build_ledger(data_dir: Path, *, clock: Callable[[], datetime] = utc_now) -> Ledger:
    return Ledger(data_dir / "ledger.db", clock=clock)


@contextmanager
def open_store(config: BatchConfig, environ: Mapping[str, str]) -> Iterator[BlobStore]:
    """Where this configuration's Snapshots are."""
    if config.cluster is None:
        yield ImageLayout(config.data_dir / "store")
        return
    with open_repository(config.cluster, environ) as registry:
        yield registry


def build_backend(
    config: BatchConfig, *, environ: Mapping[str, str], clock: Callable[[], datetime] = utc_now
) -> QueueBackend:
    if config.cluster is not None:
        return build_kueue_backend(config.cluster, config.data_dir, environ=environ, clock=clock)
    from .queues.local.backend import LocalQueueBackend

    return LocalQueueBackend(
        config.data_dir,
        profiles=config.profiles,
        slots=config.worker.slots,
        settings=config.worker,
        worker_command=[*CHILD_COMMAND, "worker", "--data-dir", str(config.data_dir)],
        clock=clock,
    )


# --- what the processes that we start do ---------------------------------------------------------------------------


def run_carry(data_dir: Path, submission_id: str, lock_fd: int, *, environ: Mapping[str, str]) -> bool:
    """The capture child of one Submission; True when it is queued."""
    from .capturing import carry, hold_lock, read_order, turn
    from .snapshot.headstart import sent_ahead

    signal.signal(signal.SIGTERM, _end)
    hold_lock(data_dir, submission_id, lock_fd)
    order = read_order(data_dir, submission_id)
    config = from_json(BatchConfig, order.composition)
    ledger = build_ledger(data_dir)
    try:
        with turn(data_dir), sent_ahead(_headstart_of(order, environ)) as vanguard:
            if config.cluster is not None:
                prepare_client()
            backend = build_backend(config, environ=environ)
            capture = partial(capture_order, environ=environ, vanguard=vanguard)
            queued = carry(order, capture=capture, ledger=ledger, backend=backend, clock=utc_now)
            if queued and config.cluster is None:
                _tidy_store(config, ledger)
        snapshot = ledger.get(submission_id).snapshot if queued else None
    finally:
        ledger.close()
    if snapshot is not None:
        compact_order(order, snapshot.work_root, environ=environ)
    return queued


def _headstart_of(order: CaptureOrder, environ: Mapping[str, str]) -> str:
    from .snapshot.headstart import headstart_path

    told = (order.kernel_name, str(order.notebook.parent), str(order.root_dir), order.request.capture_from.value)
    return headstart_path(str(order.data_dir / "headstarts"), "carry", *told, environ=environ)


def _end(number: int, _frame: object) -> NoReturn:
    """What a signal does: everything is left as after any other error."""
    sys.exit(128 + number)


def _tidy_store(config: BatchConfig, ledger: Ledger) -> None:
    from .retention import tidy

    store = ImageLayout(config.data_dir / "store")
    tidy(config.data_dir, ledger=ledger, store=store, keep_runs=config.worker.keep_runs)


def compact_order(order: CaptureOrder, work_root: str, *, environ: Mapping[str, str]) -> None:
    """Tidy up the layers of a captured work tree, at the lowest priority; a failure is logged, and nothing is lost."""
    from .capturing import try_alone
    from .snapshot.compaction import compact, is_due
    from .snapshot.environment import describe_environment
    from .snapshot.index import SignatureIndex

    with try_alone(order.data_dir / "captures" / "compact.lock") as alone:
        if not alone:
            return
        try:
            with SignatureIndex(_index_path(order, _target(order))) as index:  # a registry is not asked for nothing
                if not is_due(index, work_root):
                    return
            os.nice(LOWEST_PRIORITY)
            with _opened(order, environ) as (store, index, _):
                request = order.capture_request(describe_environment(order.kernel_name))
                compact(request, work_root, store=store, index=index, clock=utc_now)
        except BatchError as exc:
            _log.warning("the layers of %s were not compacted: %s", work_root, exc.message)


def capture_order(
    order: CaptureOrder,
    progress: Callable[[CaptureProgress], None],
    *,
    environ: Mapping[str, str],
    vanguard: Vanguard | None = None,
) -> tuple[EnvironmentDescription, SnapshotSummary]:
    """Capture what an order asks for, under the tag of its Submission, where its backend looks for it."""
    from .retention import snapshot_tag
    from .snapshot.capture import capture
    from .snapshot.environment import describe_environment

    describe = describe_environment if vanguard is None else vanguard.describe
    environment = replace(describe(order.kernel_name), base=order.base)
    request = order.capture_request(environment)
    with _opened(order, environ) as (store, index, base):
        summary = capture(
            request,
            store=store,
            index=index,
            tag=snapshot_tag(order.submission_id),
            progress=progress,
            clock=utc_now,
            base=base,
            scout=vanguard.scout if vanguard is not None else None,
        )
    if vanguard is not None:
        vanguard.remember(request, summary.work_root)
    return environment, summary


def plan_order(order: CaptureOrder, *, environ: Mapping[str, str]) -> SnapshotPlan:
    """What capturing an order would hold."""
    from .snapshot.environment import describe_environment
    from .snapshot.plan import plan_snapshot

    ensure_private_directory(order.data_dir)
    environment = replace(describe_environment(order.kernel_name), base=order.base)
    with _opened(order, environ) as (store, index, base):
        return plan_snapshot(order.capture_request(environment), store=store, index=index, clock=utc_now, base=base)


@contextmanager
def _opened(
    order: CaptureOrder, environ: Mapping[str, str]
) -> Iterator[tuple[BlobStore, SignatureIndex, BaseImage | None]]:
    """The store that an order's Snapshot is for, what is known of earlier ones there, and the image below it."""
    from .snapshot.index import SignatureIndex

    target = _target(order)
    with SignatureIndex(_index_path(order, target)) as index:
        if target is None:
            yield ImageLayout(order.data_dir / "store"), index, None
            return
        with opened_snapshots(*target, environ=environ) as (store, base):
            yield store, index, base


def _target(order: CaptureOrder) -> tuple[ClusterConfig, BaseReference] | None:
    """The cluster whose jobs run an order's Snapshot, and the image below it; None for the local queue."""
    cluster = from_json(BatchConfig, order.composition).cluster
    return (cluster, order.base) if cluster is not None and order.base is not None else None


def _index_path(order: CaptureOrder, target: tuple[ClusterConfig, BaseReference] | None) -> Path:
    """What is known of earlier captures: one file for each place where Snapshots go."""
    from .snapshot.index import push_index_path

    return order.data_dir / "index.db" if target is None else push_index_path(order.data_dir, target[0].repository.name)


def run_worker(data_dir: Path) -> int:
    """The detached worker of the local queue; returns when it has been idle long enough."""
    from .queues.local.worker import Worker

    worker = Worker(data_dir, SnapshotRestorer(data_dir))
    worker.install_signal_handlers()
    return worker.run()


class SnapshotRestorer:
    """The local queue's Restorer, over the snapshot engine and the store."""

    def __init__(self, data_dir: Path) -> None:
        self._store = ImageLayout(data_dir / "store")
        self._index = data_dir / "index.db"

    def restore_work(self, digest: str, target: Path) -> None:
        from .snapshot import restore
        from .snapshot.index import SignatureIndex

        with SignatureIndex(self._index) as index:
            restore.restore_work(self._store, digest, target, index=index)

    def environment_digest(self, digest: str) -> str:
        from .snapshot import restore

        return restore.environment_digest(self._store, digest)

    def materialise_environment(self, digest: str, target: Path, *, earlier: Sequence[Path] = ()) -> EnvironmentView:
        from .snapshot import restore
        from .snapshot.index import SignatureIndex

        with SignatureIndex(self._index) as index:
            return restore.materialise_environment(self._store, digest, target, earlier=earlier, index=index)

    def read_base_index(self, digest: str) -> bytes:
        from .snapshot import restore

        return restore.read_base_index(self._store, digest)
