"""An Attempt that goes on where a former one was interrupted: with the files that this one has stored last.

Nothing here is worth failing for: what is damaged is passed over, for what an earlier Attempt has stored, and in the
end for the beginning; the log says so. Only a registry that is away is worth waiting for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ..errors import BatchError, RegistryDeniedError, RegistryUnreachableError, SnapshotCorruptError
from ..models import OutputFile, OutputSet, RunSpec
from ..oci.outputset import read_output_set
from ..oci.port import BlobStore
from ..outputs.restoring import restore_outputs

MAX_DAMAGED = 5

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Former:
    """Where an Attempt of this Submission has its OutputSet, if it stored one: under ``reference`` in ``store``."""

    store: BlobStore
    reference: str


@dataclass(frozen=True, slots=True)
class Resumed:
    """What the work tree now holds beyond the Snapshot."""

    output_set: OutputSet
    store: BlobStore

    def open_file(self, file: OutputFile) -> BinaryIO:
        """The content of a file of it."""
        return self.store.open_blob(f"sha256:{file.sha256}")


def resume(former: Sequence[Former], spec: RunSpec, *, left_out: Collection[str], say: Say) -> Resumed | None:
    """Put in place what was stored last; None where there is nothing to go on with.

    Args:
        former: Newest first.
        left_out: Relative paths in the work tree that are not the job's; the notebook is one of them.

    Raises:
        RegistryUnreachableError, RegistryDeniedError: it cannot be told; the work tree is as it was.
    """
    damaged = 0
    for one in former:
        try:
            output_set = _read(one, spec)
            if output_set.complete:
                break  # that run came to its end: this is another one, made of the same YAML
            if output_set.files:
                return _put_in_place(output_set, one.store, Path(spec.work_root), left_out, say)
        except (RegistryUnreachableError, RegistryDeniedError):
            raise
        except (BatchError, OSError) as exc:
            say(f"what an earlier attempt saved cannot be used: {_reason(exc)}")
            damaged += 1
            if damaged == MAX_DAMAGED:
                break
    if damaged or len(former) > 1 or spec.attempt > 1:
        say("starts from the beginning: there are no saved files to continue with")
    return None


def _read(one: Former, spec: RunSpec) -> OutputSet:
    output_set, _ = read_output_set(one.store, one.reference)
    if output_set.submission_id != spec.submission_id:
        raise SnapshotCorruptError("It is of another Submission.")
    return output_set


def _put_in_place(output_set: OutputSet, store: BlobStore, root: Path, left_out: Collection[str], say: Say) -> Resumed:
    resumed = Resumed(output_set, store)
    files = [file for file in output_set.files if not _is_under(file.path, left_out)]
    restore_outputs(files, lambda sha256: store.open_blob(f"sha256:{sha256}"), root)
    lost = f"; {len(output_set.skipped)} could not be saved then" if output_set.skipped else ""
    count = "1 file" if len(files) == 1 else f"{len(files)} files"
    say(f"continues with {count} saved by attempt {output_set.attempt}{lost}")
    return resumed


def _is_under(path: str, directories: Collection[str]) -> bool:
    return any(path == directory or path.startswith(f"{directory}/") for directory in directories)


def _reason(error: BatchError | OSError) -> str:
    return error.message if isinstance(error, BatchError) else error.strerror or type(error).__name__
