"""KueueBackend: the QueueBackend port on a shared pool that Kueue manages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from ...capture_models import BaseReference
from ...errors import (
    BatchError,
    BlobMissingError,
    QueueError,
    QueueUnreachableError,
    SubmissionNotFoundError,
)
from ...models import LogChunk, Observation, PreflightCheck, Profile, QueueEntry, QueueReading
from ...oci.layout import ImageLayout
from ..port import StoredOutputs
from .api import JOBS, ClusterApi, Json
from .cache import has_ended
from .conditions import observe
from .ending import Endings, deleted_unseen
from .entries import entry_of
from .fetching import fetch_outputs, outputs_here
from .histories import Histories
from .kept_logs import KeptLogs
from .log_spool import spooled
from .lookout import Lookout, Sighting
from .manifest import export_yaml
from .memory import Memory, Remembered, with_cancel, with_release
from .naming import MANAGED_BY, MANAGED_BY_LABEL, job_name
from .notifier import Notifier
from .paths import KueuePaths, is_safe_id
from .pauses import Pauses
from .preflight import Preflight, Surroundings
from .queue_numbers import BACKEND, QueueNumbers
from .reading_logs import LogRequest, number_logs, read_attempt_log
from .repository import OutputsRepository
from .settings import KueueSettings
from .store import uid_of
from .submitting import Submitter
from .tidying import Tidier
from .waiting import in_thread

FETCH_TRIES = 3


class KueueBackend:
    """Runs Submissions as Jobs that Kueue queues; the truth is in the cluster and the registry."""

    name = BACKEND

    def __init__(
        self,
        data_dir: Path,
        *,
        settings: KueueSettings,
        api: ClusterApi,
        open_repository: Callable[[], OutputsRepository],
        pod: str,
        python: str,
        now: Callable[[], datetime],
        surroundings: Surroundings,
        container: str | None = None,
        user_id: int | None = None,
        group_id: int | None = None,
        make_pauses: Callable[[], Pauses] = Pauses,
    ) -> None:
        """Do no I/O.

        Args:
            open_repository: The user's repository, with the server's credentials; may block.
            pod: Name of the server's own pod, and ``container`` in it; from the downward API.
            python: Interpreter in the server's image that has this package.
            user_id, group_id: Of the server's process; None takes the pod's word for them.
            now: Aware UTC.
            surroundings: What ``preflight`` looks at besides the cluster.
        """
        self._api = api
        self._settings = settings
        self._now = now
        self._paths = KueuePaths(data_dir)
        self._layout = ImageLayout(self._paths.outputs)
        self._memory = Memory(self._paths)
        self._notifier = Notifier()
        notify = self._notifier.notify
        self._histories = Histories(open_repository, on_change=notify)
        self._kept_logs = KeptLogs(self._paths, self._histories)
        self._numbers = QueueNumbers(api, settings, now=now)
        self._lookout = Lookout(
            api, self._paths, self._histories, self._notifier, self._numbers, now=now, make_pauses=make_pauses
        )
        self._endings = Endings(
            self._lookout, self._histories, self._kept_logs, self._memory, on_change=notify, make_pauses=make_pauses
        )
        self._submitter = Submitter(
            api, settings, pod=pod, container=container, python=python, user_id=user_id, group_id=group_id
        )
        self._preflight = Preflight(api, settings, self._submitter, surroundings, self._paths, now=now)
        self._seen: dict[str, QueueEntry | None] = {}
        self._tidier = Tidier(api, self._memory, self._paths, self._layout, now=now)

    # --- the port -------------------------------------------------------------------------------------------------

    async def base(self) -> BaseReference:
        # Without the pod's word for the start: the container itself knows it by the clock that its files have.
        return BaseReference(image=(await self._submitter.session()).image)

    async def submit(self, entry: QueueEntry) -> None:
        remembered = await in_thread(self._memory.get, entry.submission.id)
        if remembered is None or not remembered.is_over:
            await self._submitter.submit(entry)
            self._notifier.notify()

    async def cancel(self, submission_id: str) -> None:
        remembered = await in_thread(self._memory.get, submission_id)
        if remembered is not None and remembered.ended is not None:
            return
        job = await self._job(submission_id)
        entry = entry_of(job)
        if job is None or entry is None:
            if remembered is None:
                raise _unknown(submission_id)
            return
        if has_ended(job):
            return
        # Written down first: the Job's own mark goes with it, and the end would look like somebody else's deed.
        await in_thread(self._memory.update, entry, with_cancel(self._now()))
        await self._api.delete(JOBS, job_name(submission_id), uid=uid_of(job), foreground=True)
        self._notifier.notify()

    async def observe(self, submission_ids: Sequence[str], *, with_positions: bool = True) -> Mapping[str, Observation]:
        known = await in_thread(self._memory.get_all, list(submission_ids))
        found = {name: remembered.ended for name, remembered in known.items() if remembered.ended is not None}
        still_open = [name for name in submission_ids if name not in found]
        if still_open:
            await self._lookout.ready(with_positions=with_positions)
            self._tidier.tidy(self._lookout.jobs())
            seen = await asyncio.gather(*(self._observe(name, known.get(name)) for name in still_open))
            found |= {observation.submission_id: observation for observation in seen if observation is not None}
        return found

    async def list_entries(self) -> Sequence[QueueEntry]:
        listing = await self._api.list(JOBS, labels=f"{MANAGED_BY_LABEL}={MANAGED_BY}")
        remembered = await in_thread(self._memory.everything)
        entries = {known.submission_id: known.entry for known in remembered}
        entries |= {entry.submission.id: entry for entry in map(entry_of, listing.items) if entry is not None}
        return sorted(entries.values(), key=lambda entry: entry.submission.created_at)

    async def watch(self) -> AsyncIterator[None]:
        async with aclosing(self._lookout.changes()) as changes:
            async for _ in changes:
                yield

    async def read_log(self, submission_id: str, *, attempt: int | None, offset: int, limit_bytes: int) -> LogChunk:
        remembered = await in_thread(self._memory.get, submission_id)
        has_ended = remembered is not None and remembered.ended is not None
        if not has_ended:
            await self._check_known(submission_id, remembered)
            with suppress(QueueError):  # what was heard so far can be read all the same
                await self._lookout.ready()
        with suppress(BatchError):
            await self._histories.at_least_once(submission_id)
        return await read_attempt_log(
            submission_id,
            LogRequest(number=attempt, offset=offset, limit_bytes=limit_bytes),
            paths=self._paths,
            history=self._histories.known(submission_id),
            kept_logs=self._kept_logs,
            present=frozenset() if has_ended else self._lookout.present_pods(submission_id),
            has_ended=has_ended,
        )

    async def latest_outputs(self, submission_id: str) -> StoredOutputs | None:
        remembered = await in_thread(self._memory.get, submission_id)
        is_final = remembered is not None and remembered.ended is not None
        if is_final:
            here = await in_thread(outputs_here, self._layout, submission_id)
            if here is not None:
                return here
        else:
            await self._check_known(submission_id, remembered)
        for _ in range(FETCH_TRIES - 1):
            with suppress(BlobMissingError):  # a newer one took its place meanwhile
                return await self._fetch(submission_id, is_final=is_final)
        return await self._fetch(submission_id, is_final=is_final)

    async def manifest(self, submission_id: str) -> str:
        remembered = await in_thread(self._memory.get, submission_id)
        job = await self._job(submission_id) if remembered is None else None
        entry = remembered.entry if remembered is not None else entry_of(job)
        if entry is None:
            raise _unknown(submission_id)
        return export_yaml(await self._submitter.build(entry))

    async def release(self, submission_id: str) -> None:
        remembered = await in_thread(self._memory.get, submission_id)
        job = await self._job(submission_id)
        entry = remembered.entry if remembered is not None else entry_of(job)
        if entry is None:
            return
        await in_thread(self._memory.update, entry, with_release(self._now()))
        await self._keep_logs(submission_id)
        if job is not None and has_ended(job):
            await self._tidier.remove(job)
        await self._tidier.prune()

    async def list_queues(self) -> Sequence[QueueReading]:
        return await self._numbers.read(self._lookout.first_position)

    async def list_profiles(self) -> Sequence[Profile]:
        available = await self._numbers.available()
        shapes = [profile.profile for profile in self._settings.profiles]
        return [replace(shape, available=available[shape.name]) for shape in shapes]

    async def preflight(self) -> Sequence[PreflightCheck]:
        return await self._preflight.run()

    async def close(self) -> None:
        await self._endings.stop()
        await self._tidier.stop()
        await self._lookout.stop()
        await self._histories.stop()
        await self._api.close()

    # --------------------------------------------------------------------------------------------------------------

    async def _observe(self, submission_id: str, remembered: Remembered | None) -> Observation | None:
        cancel_asked = remembered is not None and remembered.cancel_asked_at is not None
        sighting = await self._lookout.sight(submission_id)
        seen = observe(submission_id, self._lookout.read(submission_id, sighting), cancel_asked=cancel_asked)
        if sighting.job is not None and submission_id not in self._seen:
            self._seen[submission_id] = entry_of(sighting.job)
        if seen is None:
            seen = await self._observe_traces(submission_id, sighting)
        if seen is None or not seen.state.is_terminal:
            return seen
        entry = self._seen.get(submission_id) or (remembered.entry if remembered is not None else None)
        return await self._endings.find_out(seen, entry)

    async def _observe_traces(self, submission_id: str, sighting: Sighting) -> Observation | None:
        """Nothing of it is in the cluster: what it stored says whether it ever was, unless it was seen there.

        Raises:
            QueueUnreachableError: the registry cannot say so; nothing is given up for lost before it can.
        """
        try:
            await self._histories.fresh(submission_id)
        except BatchError as exc:
            raise QueueUnreachableError(exc.message, hint=exc.hint, details=exc.details) from exc
        seen = observe(submission_id, self._lookout.read(submission_id, sighting))
        if seen is not None or submission_id not in self._seen:
            return seen
        return deleted_unseen(submission_id, self._now())

    async def _fetch(self, submission_id: str, *, is_final: bool) -> StoredOutputs | None:
        newest = (await self._histories.fresh(submission_id)).newest
        if newest is None:
            return None
        return await self._histories.with_repository(
            lambda repository: fetch_outputs(repository, self._layout, submission_id, newest.digest, is_final=is_final)
        )

    async def _job(self, submission_id: str) -> Json | None:
        """The Job as it is now, not as it was last heard of."""
        return await self._api.get(JOBS, job_name(submission_id)) if is_safe_id(submission_id) else None

    async def _check_known(self, submission_id: str, remembered: Remembered | None) -> None:
        if remembered is not None or self._lookout.knows(submission_id):
            return
        if entry_of(await self._job(submission_id)) is not None:
            return
        if not is_safe_id(submission_id) or not (await self._histories.at_least_once(submission_id)).stored:
            raise _unknown(submission_id)

    async def _keep_logs(self, submission_id: str) -> None:
        """Have the logs of all Attempts here before their pods go; one that is nowhere any more is lost."""
        with suppress(BatchError):
            history = await self._histories.at_least_once(submission_id)
            logs = number_logs(await in_thread(spooled, self._paths.logs(submission_id)), history)
            whole = {log.number for log in logs if log.is_complete}
            for stored in history.stored:
                if stored.attempt.number not in whole:
                    await self._kept_logs.fetch(submission_id, stored)


def _unknown(submission_id: str) -> SubmissionNotFoundError:
    return SubmissionNotFoundError("The cluster knows no such submission.", details={"submission_id": submission_id})
