"""What must hold for a Submission to run in the pool, each with what to do when it does not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from ...errors import AdmissionRefusedError, BatchError, QueueError, QueueForbiddenError, QueueUnreachableError
from ...models import PreflightCheck, QueueEntry, RunSpec, Submission
from ...words import SubmissionState
from . import fixes, fixes_network
from .api import EVENTS, PODS, ClusterApi, Json
from .events import parse_events
from .fixes_network import Rule
from .naming import MANAGED_BY, MANAGED_BY_LABEL
from .paths import KueuePaths
from .preflight_objects import Sightings, check_object
from .preflight_queues import QueueChecks
from .preflight_registry import Probe, RegistryChecks
from .preflight_rights import check_helpful, check_needed
from .refusals import find_remedy
from .settings import KueueSettings
from .submitting import Submitter

LIMIT_S = 15.0
_MOUNTED = "c.KubeSpawner.automount_service_account_token = True"


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What is known here of cluster and registry without asking either.

    Attributes:
        probe_registry: How far one gets with the user's repository, or with reading an image; blocks.
        account: The ServiceAccount of this server as its token says; empty: nobody knows.
        api_host, api_port: Of the API server.
    """

    probe_registry: Probe
    account: str = ""
    api_host: str = ""
    api_port: int = 443


class Preflight:
    """Asks the cluster and the registry."""

    def __init__(
        self,
        api: ClusterApi,
        settings: KueueSettings,
        submitter: Submitter,
        surroundings: Surroundings,
        paths: KueuePaths,
        *,
        now: Callable[[], datetime],
    ) -> None:
        self._api = api
        self._settings = settings
        self._submitter = submitter
        self._now = now
        self._surroundings = surroundings
        self._api_rules: Sequence[Rule] = fixes_network.api_rules(surroundings.api_host, surroundings.api_port)
        self._queues = QueueChecks(api, settings, paths)
        self._registry = RegistryChecks(surroundings.probe_registry, settings, api_rules=self._api_rules)

    async def run(self) -> Sequence[PreflightCheck]:
        """Never raises a BatchError: what fails is a check that does not hold."""
        place = f"Jobs run in the cluster, in the namespace {self._settings.namespace}."
        where = PreflightCheck(name="backend", ok=True, summary=place)
        cluster, registry = await asyncio.gather(
            self._check_cluster(), _within(LIMIT_S, "registry", self._registry.check_repository())
        )
        return [where, *cluster, registry]

    async def _check_cluster(self) -> Sequence[PreflightCheck]:
        """Without an answer of the API server, that alone."""
        try:
            user = await asyncio.wait_for(self._api.identify(), LIMIT_S)
        except (BatchError, asyncio.TimeoutError) as exc:
            return [self._unreached(exc)]
        reached = PreflightCheck(name="api", ok=True, summary=f"The API server answers, to {user}.")
        checks = (
            ("rights", check_needed(self._api, user)),
            ("helpful_rights", check_helpful(self._api, user)),
            ("kueue", self._queues.check_kueue()),
            ("positions", self._queues.check_positions()),
            *((f"queue {name}", self._queues.check_queue(name)) for name in self._settings.queues),
            ("pod", self._check_pod()),
            ("base_image", self._check_image()),
        )
        rest, objects = await asyncio.gather(
            asyncio.gather(*(_within(LIMIT_S, name, check) for name, check in checks)), self._check_objects()
        )
        return [reached, *rest, *objects]

    def _unreached(self, error: Exception) -> PreflightCheck:
        """The API server says nothing, or nothing to this account."""
        failed = PreflightCheck(name="api", ok=False, summary=_late("The cluster"))
        if isinstance(error, BatchError):
            failed = replace(failed, summary=error.message, resolution=error.hint or "")
        if isinstance(error, QueueForbiddenError):
            name = self._surroundings.account or "notebook"
            return replace(
                failed,
                summary=f"{failed.summary} Their ServiceAccount is {name}, if it is still there.",
                resolution="Ask your admin to make that ServiceAccount; then restart your server.",
                fix=fixes.service_account(self._settings.namespace, name),
            )
        if isinstance(error, QueueError) and error.details.get("path"):
            says = ("then restart the server; its ServiceAccount is c.KubeSpawner.service_account",)
            return replace(failed, fix=fixes.commands(_MOUNTED, says=says))
        rules = [fixes_network.dns_rule(), *self._api_rules]
        address = f"{self._surroundings.api_host}:{self._surroundings.api_port}"
        says = (f"if the API server answers others at {address}:",)
        return replace(
            failed,
            resolution="Ask your admin whether a NetworkPolicy lets your pod reach the API server.",
            fix=fixes_network.egress(self._api.namespace, rules, says=says),
        )

    async def _check_pod(self) -> PreflightCheck:
        """Everything that a Job takes over from this server's pod, through all rules of the cluster."""
        profiles = [kept.profile.name for kept in self._settings.profiles]
        refusals = [found for found in await asyncio.gather(*map(self._try_out, profiles)) if found is not None]
        taken = PreflightCheck(name="pod", ok=True, summary="The cluster would take a job like this server.")
        return refusals[0] if refusals else taken

    async def _try_out(self, profile: str) -> PreflightCheck | None:
        """None: the cluster would take a job of this profile."""
        try:
            await self._submitter.try_out(_sample_entry(self._settings, profile, self._now()))
        except (AdmissionRefusedError, QueueUnreachableError) as exc:
            return self._refused(exc, profile)
        return None

    def _refused(self, error: BatchError, profile: str) -> PreflightCheck:
        remedy = find_remedy(error.message, namespace=self._api.namespace, profile=profile)
        if remedy is None:
            return _failed("pod", error)
        return PreflightCheck(
            name="pod",
            ok=False,
            summary=f"{remedy.cause}. {error.message}",
            resolution="Show this to your admin, with the lines below.",
            fix=remedy.fix,
        )

    async def _check_image(self) -> PreflightCheck:
        return await self._registry.check_image((await self._submitter.session()).image)

    async def _check_objects(self) -> Sequence[PreflightCheck]:
        """The Secret and the ConfigMap of jobs: nobody but an admin may look at them."""
        settings = self._settings
        wanted = (
            ("registry_secret", "Secret", settings.registry_secret),
            ("registry_authorities", "ConfigMap", settings.registry_ca_config_map),
        )
        seen, own_pod = await asyncio.gather(self._look_around(), self._own_pod())
        server = settings.repository.partition("/")[0]
        lines = {
            "Secret": lambda name: fixes.registry_secret(settings.namespace, name, server),
            "ConfigMap": lambda name: fixes.authorities(settings.namespace, name),
        }
        return [
            check_object(name, kind, value, fix=lines[kind](value), own_pod=own_pod, seen=seen)
            for name, kind, value in wanted
            if value
        ]

    async def _look_around(self) -> Sightings:
        """What the account may not see did not happen."""
        lists = await asyncio.gather(
            asyncio.wait_for(self._api.list(EVENTS), LIMIT_S),
            asyncio.wait_for(self._api.list(PODS, labels=f"{MANAGED_BY_LABEL}={MANAGED_BY}"), LIMIT_S),
            return_exceptions=True,
        )
        events, pods = ([] if isinstance(found, BaseException) else list(found.items) for found in lists)
        return Sightings(parse_events(events), pods, self._now())

    async def _own_pod(self) -> Json | None:
        try:
            return await asyncio.wait_for(self._submitter.own_pod(), LIMIT_S)
        except (BatchError, asyncio.TimeoutError):
            return None


async def _within(limit_s: float, name: str, check: Awaitable[PreflightCheck]) -> PreflightCheck:
    """The check, or that it failed, in time."""
    try:
        return await asyncio.wait_for(check, limit_s)
    except QueueForbiddenError as exc:  # what is missing is said once, with the rights
        return _failed(name, exc, ok=None)
    except BatchError as exc:
        return _failed(name, exc)
    except asyncio.TimeoutError:
        return PreflightCheck(name=name, ok=None, summary=_late("Whoever should answer this"))


def _late(who: str) -> str:
    return f"{who} gives no answer within {LIMIT_S:.0f} seconds."


def _failed(name: str, error: BatchError, *, ok: bool | None = False) -> PreflightCheck:
    return PreflightCheck(name=name, ok=ok, summary=error.message, resolution=error.hint or "")


def _sample_entry(settings: KueueSettings, profile: str, now: datetime) -> QueueEntry:
    """A Submission that is never made."""
    submission = Submission(
        id="preflight",
        state=SubmissionState.QUEUED,
        title="preflight",
        notebook_path="preflight.ipynb",
        backend="kueue",
        target="kueue",
        profile=profile,
        queue=settings.queues[0],
        created_at=now,
        observed_at=now,
    )
    run = RunSpec(
        submission_id=submission.id,
        attempt=1,
        work_root="/preflight",
        notebook="preflight.ipynb",
        kernel_name="python3",
    )
    return QueueEntry(submission=submission, snapshot_digest=f"sha256:{'0' * 64}", run=run)
