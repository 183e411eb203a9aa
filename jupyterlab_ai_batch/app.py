"""The server extension: an admin's settings, one service for one user, and its routes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_server.extension.application import ExtensionApp
from traitlets import Bool, Dict, Enum, Float, Int, List, Unicode, default

from .errors import BatchError
from .models import Submission
from .routes.saves import SaveRequests
from .routes.table import HANDLERS
from .words import BackendChoice

if TYPE_CHECKING:
    from .service import SubmissionService

SUBMISSION_EVENT = "https://events.jupyter.org/jupyterlab_ai_batch/submission/v1"
SAVE_REQUEST_EVENT = "https://events.jupyter.org/jupyterlab_ai_batch/save_request/v1"
_EVENTS = Path(__file__).parent / "events"

BuildService = Callable[[Callable[[Submission], None]], "SubmissionService"]


class BatchExtensionApp(ExtensionApp):
    """Submits notebooks as batch jobs and brings their results home."""

    name = "jupyterlab_ai_batch"
    description = "Batch jobs from notebooks."

    data_dir = Unicode(
        "",
        help="""Directory (absolute path) for the ledger, snapshots and the local queue; closed to others (mode
        0700), refused when it belongs to somebody else. Default: ``ai-batch`` in Jupyter's data directory.""",
    ).tag(config=True)
    snapshot_limit_bytes = Int(
        2 * 1024**3, min=1, help="Size in bytes, uncompressed, that a work tree may have. Default: 2147483648 (2 GiB)."
    ).tag(config=True)
    exclude = List(
        Unicode(),
        help="""Patterns (gitignore syntax) of files that are never captured, besides those that are left out anyway.
        Default: none.""",
    ).tag(config=True)
    plan_timeout_s = Float(120.0, help="Seconds that planning a snapshot may take. Default: 120.").tag(config=True)
    auto_collect = Bool(
        True,
        help="""Whether results are merged into the home as soon as a run ends; otherwise on demand. Default: True.""",
    ).tag(config=True)
    save_wait_s = Float(
        2.0,
        help="""Seconds that a Submission from a kernel waits for the browser to save the notebook. Default: 2.""",
    ).tag(config=True)
    checkpoint_interval_s = Float(
        30.0, help="Seconds between two stored sets of results while a batch job runs. Default: 30."
    ).tag(config=True)
    backend = Enum(
        [choice.value for choice in BackendChoice],
        default_value=BackendChoice.AUTO.value,
        help="""Where batch jobs run: ``kueue`` in the cluster of the server's pod, ``local`` on its own machine,
        ``auto`` in the cluster from a pod that has ``POD_NAME``, ``POD_NAMESPACE``, a service account, a ``repository``
        and one of its ``queues``, else locally. Default: auto.""",
    ).tag(config=True)
    slots = Int(
        min=1,
        help="Attempts that the local queue runs at the same time. Default: one for every 8 cores, at least 1.",
    ).tag(config=True)
    profiles = List(
        Dict(),
        help="""Resource shapes that users can ask for, the first is the default. Keys: ``name``, ``title``,
        ``cpu_millicores``, ``memory_bytes``, ``gpu_slots``, ``default_max_duration_s``; in the cluster also
        ``gpu_resource`` (what one slot is called there: ``nvidia.com/mig-1g.5gb``), ``scratch_bytes`` (10 GiB),
        ``grace_period_s`` (30: how long a job that is interrupted may save what it has), ``node_selector``,
        ``tolerations`` and ``runtime_class``. Default: none, which gives ``cpu``, and on a machine with GPUs
        ``gpu``.""",
    ).tag(config=True)
    queues = List(
        Unicode(),
        default_value=["default"],
        help="""Cluster: names of LocalQueues in the server's namespace that users can choose, the first is the default.
        Default: ``default``.""",
    ).tag(config=True)
    repository = Unicode(
        "",
        help="""Cluster: ``REGISTRY/NAME``, the user's repository for snapshots and outputs; jobs in the cluster need
        one. Default: none.""",
    ).tag(config=True)
    registry_secret = Unicode(
        "",
        help="""Cluster: Secret of type ``kubernetes.io/dockerconfigjson`` in the server's namespace, with which jobs
        pull and push there. Default: none.""",
    ).tag(config=True)
    registry_auth_file = Unicode(
        "",
        help="""Cluster: file with the server's own credentials for it, in Docker's format. Default: where container
        tools keep them, like ``~/.docker/config.json``.""",
    ).tag(config=True)
    registry_ca_config_map = Unicode(
        "",
        help="""Cluster: ConfigMap with certificate authorities for the registry under ``ca.crt``, for jobs.
        Default: none but the image's.""",
    ).tag(config=True)
    registry_ca_file = Unicode(
        "",
        help="""Cluster: file with the same authorities (PEM), for the server. Default: none but the system's.""",
    ).tag(config=True)
    mount_from = List(
        Unicode(),
        help="""Cluster: repositories of the same registry that may have some layers already, like a group's; the
        user's credentials must allow to pull from them. Default: none.""",
    ).tag(config=True)
    environment_allow = List(
        Unicode(),
        help="""Cluster: patterns (``fnmatch``) of the names of environment variables of the server's pod that jobs get
        too; never secrets, tokens or ``JUPYTERHUB_*``. Default: none, which takes those that say where programs and
        packages are, how many threads they use, which language and time zone, and proxies.""",
    ).tag(config=True)
    shared_volumes = List(
        Unicode(),
        help="""Cluster: names of volumes of the server's pod that jobs mount too, read-only. Default: none.""",
    ).tag(config=True)
    service_account = Unicode(
        "", help="Cluster: ServiceAccount of jobs, whose token they never get. Default: the namespace's."
    ).tag(config=True)
    pool_queues = Dict(
        help="""Cluster: the pool's ClusterQueues, by who uses them: ``{"interactive": [...], "batch": [...]}``. Where
        users' accounts may get them, the sidebar shows who holds the pool. Default: none, and nothing is shown.""",
    ).tag(config=True)
    usage_half_life_s = Int(
        0,
        min=0,
        help="""Cluster: seconds after which use counts half, as in Kueue's ``usageHalfLifeTime``; told to users.
        Default: 0, not told.""",
    ).tag(config=True)
    container = Unicode(
        "",
        help="""Cluster: name of the server's container in its pod. Default: ``notebook``, else the only one that is no
        known sidecar.""",
    ).tag(config=True)
    gpu_devices = List(
        Unicode(),
        default_value=None,
        allow_none=True,
        help="""NVML UUIDs of the GPUs and MIG devices that batch jobs may use, each one slot. Default: None, every one
        that NVML lists.""",
    ).tag(config=True)
    isolate = Bool(True, help="Whether batch jobs run in a bubblewrap sandbox where that works. Default: True.").tag(
        config=True
    )
    stop_grace_s = Float(
        30.0, help="Seconds that a batch job has to save its results before it is killed. Default: 30."
    ).tag(config=True)
    idle_exit_s = Float(
        60.0, help="Seconds without work after which the local worker ends; it comes back with work. Default: 60."
    ).tag(config=True)
    log_limit_bytes = Int(
        100 * 1024**2, min=1, help="Bytes of output kept for each Attempt. Default: 104857600 (100 MiB)."
    ).tag(config=True)
    max_worker_lost = Int(
        5, min=1, help="Evictions by a lost worker, in a row, after which a Submission fails. Default: 5."
    ).tag(config=True)
    keep_runs = Int(200, min=0, help="Finished Submissions whose log and stored results are kept. Default: 200.").tag(
        config=True
    )
    keep_environments = Int(
        3, min=0, help="Restored environments that are kept for later Submissions. Default: 3."
    ).tag(config=True)

    # Replaced in tests; None composes the service from the traits.
    build_service: BuildService | None = None

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._service: SubmissionService | None = None
        self._starting: asyncio.Lock | None = None
        self._first_start: asyncio.Task[None] | None = None

    @default("slots")
    def _default_slots(self) -> int:
        from .queues.local.settings import default_slots

        return default_slots()

    @property
    def _server(self) -> Any:
        """The server that this extension is linked to, once it is."""
        return self.serverapp

    def initialize_settings(self) -> None:
        """Register the events, and hand the routes what they need."""
        for name in ("submission-v1", "save_request-v1"):
            self._server.event_logger.register_event_schema(_EVENTS / f"{name}.yaml")
        get_service: Callable[[], Awaitable[SubmissionService]] = self.get_service
        self.settings["ai_batch_service"] = get_service
        self.settings["ai_batch_saves"] = SaveRequests(self._emit_save_request, wait_s=self.save_wait_s)

    def initialize_handlers(self) -> None:
        """Add the routes."""
        self.handlers.extend(HANDLERS)

    async def get_service(self) -> SubmissionService:
        """The running service; the first call builds it.

        Raises:
            StorageError: the data directory cannot be used; the next call tries again.
        """
        if self._starting is None:
            self._starting = asyncio.Lock()
        async with self._starting:
            if self._service is None:
                build = self.build_service or self._compose
                service = await asyncio.to_thread(build, self._emit_change)
                await service.start()
                self._service = service
        return self._service

    async def _start_jupyter_server_extension(self, serverapp: Any) -> None:  # noqa: ARG002
        # In the background: opening the ledger and asking the queue must not hold up the server.
        self._first_start = asyncio.create_task(self._start_at_once())

    async def _start_at_once(self) -> None:
        """Start without a request: what ended while no server was up comes home now."""
        try:
            await self.get_service()
        except BatchError as error:
            self.log.warning("Batch jobs are not available: %s: %s", error.code, error.message)

    async def stop_extension(self) -> None:
        """Let go of the service; Submissions go on."""
        if self._first_start is not None:
            self._first_start.cancel()
        if self._service is not None:
            await self._service.stop()
            self._service = None

    def _compose(self, on_change: Callable[[Submission], None]) -> SubmissionService:
        from .compose import build_config, build_service
        from .configuring import choose_data_dir

        settings = {name: getattr(self, name) for name in self.class_own_traits(config=True)}
        root_dir = Path(self._server.root_dir).expanduser().resolve()
        config = build_config(settings, root_dir=root_dir, data_dir=choose_data_dir(self.data_dir), environ=os.environ)
        return build_service(config, environ=os.environ, on_change=on_change)

    def _emit_change(self, submission: Submission) -> None:
        self._server.event_logger.emit(
            schema_id=SUBMISSION_EVENT, data={"submission_id": submission.id, "state": submission.state.value}
        )

    def _emit_save_request(self, request_id: str, notebook_path: str) -> bool:
        """Emit; True when somebody listens: the logger returns None when it has nobody to tell."""
        emitted = self._server.event_logger.emit(
            schema_id=SAVE_REQUEST_EVENT, data={"request_id": request_id, "notebook_path": notebook_path}
        )
        return emitted is not None
