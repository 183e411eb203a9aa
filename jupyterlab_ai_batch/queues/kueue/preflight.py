"""What must hold for a Submission to run in the pool, each with what to do when it does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from ...errors import BatchError
from ...models import PreflightCheck, QueueEntry, RunSpec, Submission
from ...words import SubmissionState
from .api import EVENTS, JOBS, LOCAL_QUEUES, PODS, VISIBILITY, WORKLOADS, ClusterApi, Json, Resource
from .histories import Histories
from .json_fields import field, records, word
from .settings import KueueSettings
from .submitting import Submitter, why_inactive


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """One line of a Role."""

    resource: Resource
    verbs: Sequence[str]
    subresource: str = ""

    @property
    def rule(self) -> str:
        """In YAML."""
        target = f"{self.resource.plural}/{self.subresource}" if self.subresource else self.resource.plural
        group = self.resource.group or '""'
        return f"- {{apiGroups: [{group}], resources: [{target}], verbs: [{', '.join(self.verbs)}]}}"

    def __str__(self) -> str:
        return f"{self.resource}/{self.subresource}" if self.subresource else str(self.resource)


# Without the first group nothing works, without the second less is explained and checked.
NEEDED = (
    Right(resource=JOBS, verbs=("create", "get", "list", "watch", "delete")),
    Right(resource=PODS, verbs=("get", "list", "watch")),
    Right(resource=PODS, subresource="log", verbs=("get",)),
    Right(resource=WORKLOADS, verbs=("list", "watch")),
)
HELPFUL = (
    Right(resource=PODS, verbs=("create",)),
    Right(resource=LOCAL_QUEUES, verbs=("get",)),
    Right(resource=VISIBILITY, subresource="pendingworkloads", verbs=("get",)),
    Right(resource=EVENTS, verbs=("list", "watch")),
)


class Preflight:
    """Asks the cluster and the registry."""

    def __init__(
        self,
        api: ClusterApi,
        settings: KueueSettings,
        submitter: Submitter,
        histories: Histories,
        *,
        now: Callable[[], datetime],
    ) -> None:
        self._api = api
        self._settings = settings
        self._submitter = submitter
        self._histories = histories
        self._now = now

    async def run(self) -> Sequence[PreflightCheck]:
        """Never raises a BatchError: what fails is a check that does not hold."""
        needed, helpful, registry, secret, pod, *queues = await asyncio.gather(
            self._check_rights("rights", NEEDED, is_needed=True),
            self._check_rights("helpful_rights", HELPFUL, is_needed=False),
            self._check_registry(),
            self._check_secret(),
            self._check_pod(),
            *map(self._check_queue, self._settings.queues),
        )
        place = f"Jobs run in the cluster, in the namespace {self._settings.namespace}."
        where = PreflightCheck(name="backend", ok=True, summary=place)
        return [where, needed, helpful, *queues, registry, secret, pod]

    async def _check_rights(self, name: str, rights: Sequence[Right], *, is_needed: bool) -> PreflightCheck:
        asked = [(right, verb) for right in rights for verb in right.verbs]
        try:
            answers = await asyncio.gather(
                *(self._api.may(verb, right.resource, subresource=right.subresource) for right, verb in asked)
            )
        except BatchError as exc:
            return _failed(name, exc)
        missing = [pair for pair, allowed in zip(asked, answers, strict=True) if not allowed]
        if not missing:
            summary = "Your server's account may submit, watch and cancel jobs."
            return PreflightCheck(
                name=name, ok=True, summary=summary if is_needed else "Your server's account may see why a job waits."
            )
        words = ", ".join(f"{verb} {right}" for right, verb in missing)
        rules = "; ".join(dict.fromkeys(right.rule for right, _ in missing))
        return PreflightCheck(
            name=name,
            ok=False if is_needed else None,
            summary=f"Your server's account lacks rights in the namespace {self._api.namespace}: {words}.",
            resolution=f"Ask your admin to add to its Role there: {rules}",
        )

    async def _check_queue(self, queue: str) -> PreflightCheck:
        name = f"queue {queue}"
        try:
            found = await self._api.get(LOCAL_QUEUES, queue)
        except BatchError as exc:
            return _failed(name, exc, ok=None)
        reason = "it does not exist." if found is None else why_inactive(found)
        if reason is None:
            return PreflightCheck(name=name, ok=True, summary=f"The queue {queue} takes jobs.")
        return PreflightCheck(
            name=name,
            ok=False,
            summary=f"The queue {queue} takes no jobs: {reason}",
            resolution=f"Ask your admin for an active LocalQueue {queue} in the namespace {self._api.namespace}.",
        )

    async def _check_registry(self) -> PreflightCheck:
        try:
            await self._histories.with_repository(lambda repository: next(iter(repository.tag_names()), None))
        except BatchError as exc:
            return _failed("registry", exc)
        repository = self._settings.repository
        return PreflightCheck(name="registry", ok=True, summary=f"The repository {repository} can be read.")

    async def _check_secret(self) -> PreflightCheck:
        """Nobody but an admin may look at Secrets; one that this server's own pod uses is there."""
        name, secret = "registry_secret", self._settings.registry_secret
        if not secret:
            return PreflightCheck(name=name, ok=True, summary="Jobs reach the registry without a Secret.")
        try:
            pod = await self._submitter.own_pod()
        except BatchError as exc:
            return _failed(name, exc, ok=None)
        if secret in _secrets_of(pod):
            return PreflightCheck(
                name=name, ok=True, summary=f"The Secret {secret} is there: your server uses it, too."
            )
        return PreflightCheck(
            name=name,
            ok=None,
            summary=f"Whether the Secret {secret}, which jobs need, is there cannot be told from here.",
            resolution="A job without it fails at once, and says so; ask your admin for it then.",
        )

    async def _check_pod(self) -> PreflightCheck:
        """Everything that a Job takes over from this server's pod, through all rules of the cluster."""
        try:
            await self._submitter.try_out(_sample_entry(self._settings, self._now()))
        except BatchError as exc:
            return _failed("pod", exc)
        return PreflightCheck(name="pod", ok=True, summary="The cluster would take a job like this server.")


def _secrets_of(pod: Json | None) -> set[str]:
    volumes = records(field(pod, "spec", "volumes"))
    pulls = records(field(pod, "spec", "imagePullSecrets"))
    names = [*(field(volume, "secret", "secretName") for volume in volumes), *(pull.get("name") for pull in pulls)]
    return {word(name) for name in names}


def _failed(name: str, error: BatchError, *, ok: bool | None = False) -> PreflightCheck:
    return PreflightCheck(name=name, ok=ok, summary=error.message, resolution=error.hint or "")


def _sample_entry(settings: KueueSettings, now: datetime) -> QueueEntry:
    """A Submission that is never made."""
    submission = Submission(
        id="preflight",
        state=SubmissionState.QUEUED,
        title="preflight",
        notebook_path="preflight.ipynb",
        backend="kueue",
        target="kueue",
        profile=settings.profiles[0].profile.name,
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
