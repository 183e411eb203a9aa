"""Hand a Submission to the cluster: once, whatever dies on the way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from ...errors import (
    InvalidSubmissionError,
    QueueError,
    QueueForbiddenError,
    QueueInactiveError,
    QueueUnknownError,
)
from ...models import QueueEntry
from .api import JOBS, LOCAL_QUEUES, PODS, ClusterApi, Json
from .identity import Session, parse_session
from .json_fields import field, message, parse_conditions, word
from .manifest import build_job, build_pod, parse_entry
from .naming import job_name
from .paths import is_safe_id
from .settings import KueueSettings

_ACTIVE = "Active"
CREATE_TRIES = 2

_log = logging.getLogger(__name__)


class Submitter:
    """Makes Jobs of Submissions.

    Attributes:
        session: What a Job takes over from the server's own pod; known once that was read.
    """

    def __init__(
        self,
        api: ClusterApi,
        settings: KueueSettings,
        *,
        pod: str,
        container: str | None,
        python: str,
        user_id: int | None,
        group_id: int | None,
    ) -> None:
        """``pod``, ``container``: the server's own; ``python``: the interpreter in its image that has this package.

        ``user_id``, ``group_id``: of the server's process; None takes the pod's word for them.
        """
        self._api = api
        self._settings = settings
        self._pod = pod
        self._container = container
        self._python = python
        self._user_id = user_id
        self._group_id = group_id
        self._session: Session | None = None

    async def submit(self, entry: QueueEntry) -> None:
        """Create the Job; one that is there already for the same Submission is as good.

        Raises:
            ProfileUnknownError, QueueUnknownError, QueueInactiveError, AdmissionRefusedError: there is no Job.
            QueueError: also when a Job of that name belongs to something else.
        """
        self._check_names(entry)
        job = await self.build(entry)
        checks = await asyncio.gather(
            self._check_queue(entry.submission.queue), self._check_pod(job), return_exceptions=True
        )
        for failure in filter(None, checks):
            raise failure
        await self._create(entry, job)

    async def try_out(self, entry: QueueEntry) -> None:
        """Have the cluster, and Kueue's webhook, look at a Submission's Job and pod; nothing is made.

        Raises:
            AdmissionRefusedError, QueueError
        """
        job = await self.build(entry)
        await asyncio.gather(
            self._api.create(PODS, build_pod(job), dry_run=True), self._api.create(JOBS, job, dry_run=True)
        )

    async def build(self, entry: QueueEntry) -> dict[str, Any]:
        """The Job of a Submission, as it is submitted.

        Raises:
            QueueError: the server's own pod cannot be read, or a Job cannot take over what it has.
        """
        image = f"{self._settings.repository}@{entry.snapshot_digest}"
        return build_job(entry, await self.session(), self._settings, image=image, python=self._python)

    async def session(self) -> Session:
        """What a Job takes over from the server's own pod; read once: a pod does not change.

        Raises:
            QueueError
        """
        if self._session is None:
            pod = await self.own_pod()
            if pod is None:
                raise QueueError(
                    f"There is no pod {self._pod!r} in the namespace {self._api.namespace}.",
                    hint="The server must know its own pod by the downward API: ask your admin for POD_NAME and"
                    " POD_NAMESPACE in its environment.",
                )
            self._session = parse_session(
                pod, container=self._container, user_id=self._user_id, group_id=self._group_id
            )
        return self._session

    async def own_pod(self) -> Json | None:
        """The server's own pod as it is now.

        Raises:
            QueueError
        """
        return await self._api.get(PODS, self._pod)

    def _check_names(self, entry: QueueEntry) -> None:
        submission = entry.submission
        if not is_safe_id(submission.id):
            raise InvalidSubmissionError("The Submission's id cannot be the name of a Job.")
        self._settings.find_profile(submission.profile)
        if submission.queue not in self._settings.queues:
            raise QueueUnknownError(
                f"There is no queue named {submission.queue!r}.",
                hint=f"Choose one of: {', '.join(self._settings.queues)}.",
                details={"queues": list(self._settings.queues)},
            )

    async def _check_queue(self, name: str) -> None:
        """Kueue takes a Job for a queue that does not exist, and lets it wait for ever."""
        try:
            queue = await self._api.get(LOCAL_QUEUES, name)
        except QueueForbiddenError as exc:
            _log.debug("the queue is not looked at: %s", exc.message)
            return
        if queue is None:
            raise QueueUnknownError(
                f"There is no queue named {name!r} in the namespace {self._api.namespace}.",
                hint="Choose another queue, or ask your admin for a LocalQueue of that name.",
            )
        reason = why_inactive(queue)
        if reason is not None:
            raise QueueInactiveError(
                f"The queue {name!r} takes no jobs now: {reason}", hint="Ask your admin.", details={"queue": name}
            )

    async def _check_pod(self, job: Mapping[str, Any]) -> None:
        """Pod Security looks at pods, not at Jobs: a Job whose pods it refuses would hold its slot without one."""
        try:
            await self._api.create(PODS, build_pod(job), dry_run=True)
        except QueueForbiddenError as exc:
            _log.debug("the pod is not tried: %s", exc.message)

    async def _create(self, entry: QueueEntry, job: Mapping[str, Any]) -> None:
        name = job_name(entry.submission.id)
        for _ in range(CREATE_TRIES):
            if await self._api.create(JOBS, job) is not None:
                return
            existing = await self._api.get(JOBS, name)
            if existing is None:  # it went in between
                continue
            known = parse_entry(existing)
            if known is None or known.submission.id != entry.submission.id:
                break
            return
        raise QueueError(
            f"There is another Job named {name!r} in the namespace {self._api.namespace}.",
            hint="Delete it, or submit the notebook again.",
            details={"job": name},
        )


def why_inactive(queue: Json) -> str | None:
    """Why a LocalQueue admits nothing, in Kueue's words; None when it does."""
    policy = word(field(queue, "spec", "stopPolicy"))
    if policy not in ("", "None"):
        return f"it is stopped (stopPolicy {policy})."
    active = parse_conditions(field(queue, "status", "conditions")).get(_ACTIVE)
    if active is None or active.holds is True:
        return None
    return message(active.message) or active.reason or "it is not active."
