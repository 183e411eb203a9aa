"""Where the OutputSets of an Attempt go: here, into the image layout beside the job; ``remote`` has the registries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

from ..models import OutputSet
from ..oci.layout import ImageLayout
from ..oci.outputset import OUTPUTS_TAG, OpenFile, store_output_set
from .resuming import Former

SUPERSEDED_GRACE_S = 120.0

OpenLog = Callable[[], BinaryIO]
T = TypeVar("T")


class Destination(Protocol):
    """Takes OutputSets, each in the place of the one before. Blocking: called from threads, one after the other.

    Raises (every method): StorageError, SnapshotCorruptError.
    """

    @property
    def is_remote(self) -> bool: ...

    def claim(self) -> None:
        """Make sure early that something can be stored."""
        ...

    def with_former(self, work: Callable[[Sequence[Former]], T]) -> T:
        """Do something with what Attempts of this Submission have stored, newest first; this one may be among them."""
        ...

    def put(self, output_set: OutputSet, open_file: OpenFile, open_log_content: OpenLog) -> OutputSet:
        """Store it; returns what was stored, under the number that the Attempt has here. See store_output_set."""
        ...

    def tidy(self) -> None:
        """Free what only earlier OutputSets held, where that is for the runner to do."""
        ...

    def give_up(self) -> None:
        """End what another thread is sending, as far as that can be done; what is put next starts anew."""
        ...


class LayoutDestination:
    """The image layout at ``path``, which whoever started the runner reads."""

    is_remote = False

    def __init__(self, path: Path, *, former: Sequence[Path] = ()) -> None:
        self._store = ImageLayout(path)
        self._former = former

    def claim(self) -> None:
        pass

    def with_former(self, work: Callable[[Sequence[Former]], T]) -> T:
        return work([Former(ImageLayout(path), OUTPUTS_TAG) for path in self._former])

    def put(self, output_set: OutputSet, open_file: OpenFile, open_log_content: OpenLog) -> OutputSet:
        return store_output_set(self._store, output_set, open_file, open_log_content=open_log_content)[0]

    def tidy(self) -> None:
        self._store.collect_garbage(grace_s=SUPERSEDED_GRACE_S)

    def give_up(self) -> None:
        pass
