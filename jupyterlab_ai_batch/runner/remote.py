"""OutputSets of an Attempt into a repository of a registry.

Credentials are read here, by the runner's process, from the file that the RunSpec names; they are in no variable of the
environment and in no argument, and nothing hands them to the kernel. That keeps them out of notebooks, outputs and
logs, not out of the reach of the user's own code: the kernel runs as the same user in the same container, and whoever
is that user can open the mounted file. So what it holds should be good for this user's repository alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from ..errors import BlobMissingError, RegistryError, RegistryUnreachableError
from ..models import OutputSet, RunSpec
from ..oci.outputset import OpenFile, outputs_tag, store_output_set
from ..oci.reference import parse_reference
from ..oci.registry import Registry, RegistrySettings, connect
from ..oci.transport_settings import RetryPolicy, TransportSettings
from .claim import Claim
from .destination import OpenLog
from .resuming import Former

MAX_TRIES = 4

T = TypeVar("T")


class RegistryDestination:
    """A repository; the connection stays until something fails, with all that is known to be there."""

    is_remote = True

    def __init__(self, claim: Claim, submission_id: str, connect: Callable[[], Registry]) -> None:
        self._claim = claim
        self._submission_id = submission_id
        self._connect = connect
        self._store: Registry | None = None

    def claim(self) -> None:
        with self._connected() as store:
            self._claim.take(store)

    def with_former(self, work: Callable[[Sequence[Former]], T]) -> T:
        with self._connected() as store:
            tags = [outputs_tag(self._submission_id, number) for number in self._claim.attempts(store)]
            return work([Former(store, tag) for tag in tags])

    def put(self, output_set: OutputSet, open_file: OpenFile, open_log_content: OpenLog) -> OutputSet:
        with self._connected() as store:
            for _ in range(MAX_TRIES):
                with suppress(_NumberLostError, BlobMissingError):  # another pod has it; garbage was collected
                    return self._put(store, output_set, open_file, open_log_content)
        raise RegistryError(
            "The registry does not keep what is stored.",
            hint="Ask its admin how long it keeps what no manifest names yet, then submit again.",
        )

    def tidy(self) -> None:
        """What no tag names any more, the registry's own garbage collection frees."""

    def give_up(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            _close_aside(store)

    def _put(self, store: Registry, output_set: OutputSet, open_file: OpenFile, open_log_content: OpenLog) -> OutputSet:
        number = self._claim.take(store)
        own = replace(output_set, attempt=number, pod_uid=self._claim.pod_uid)

        def check() -> None:
            store.flush()  # what takes long is over: nobody else comes between the check and the manifest
            if not self._claim.is_held(store):
                raise _NumberLostError

        tag = outputs_tag(self._submission_id, number)
        stored, digest = store_output_set(
            store, own, open_file, tag=tag, open_log_content=open_log_content, before_naming=check
        )
        self._claim.note(digest)
        return stored

    @contextmanager
    def _connected(self) -> Iterator[Registry]:
        store = self._store
        if store is None:
            store = self._store = self._connect()
        try:
            yield store
        except Exception as exc:
            if self._store is not store:
                raise RegistryUnreachableError("The upload to the registry was given up.") from exc
            self.give_up()
            raise


class _NumberLostError(Exception):
    """Another pod has the tag."""


def open_repository(spec: RunSpec, claim: Claim, *, environ: Mapping[str, str]) -> RegistryDestination:
    """The repository that ``spec`` names; nothing is sent or read yet.

    Args:
        environ: Read for proxies and certificates.
    """
    settings = RegistrySettings(
        transport=TransportSettings(
            ca_file=Path(spec.registry_ca) if spec.registry_ca else None,
            environ=environ,
            connect_timeout_s=5.0,
            read_timeout_s=30.0,
            commit_timeout_s=120.0,
            # A few short ones: who waits longer, and for how long, is decided where it is known what for.
            retry=RetryPolicy(attempts=3, longest_wait_s=10.0),
        ),
        credential_files=(Path(spec.registry_auth),) if spec.registry_auth else (),
        spool_directory=Path(spec.outbox) / "spool",
    )
    return RegistryDestination(claim, spec.submission_id, lambda: connect(parse_reference(spec.outputs_to), settings))


def _close_aside(store: Registry) -> None:
    """Closing waits for what is just being sent."""
    threading.Thread(target=store.close, daemon=True).start()
