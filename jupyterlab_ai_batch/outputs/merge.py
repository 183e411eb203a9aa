"""At home: bring an OutputSet in, three ways, so that nothing of either side is lost.

Per file, with B what the Snapshot held, J what the job left, H what lies at home now: H equal to B becomes J; J equal
to B or to H changes nothing; else H stays and J comes beside it as ``name (batch <short id>).ext``. A file that the
job deleted stays at home. The executed notebook comes beside the original unless it is to replace it. Running the same
merge again, also after it was killed, ends in the same tree.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from ..errors import BatchError, OutputConflictError, OutputError, StorageFullError
from ..models import MergeEntry, MergeReport, OutputFile, OutputSet
from ..oci.outputset_checks import check_output_set
from ..words import FileChange, MergeAction
from .directories import HomeTree
from .home import Content, OpenBlob, Place, content_of
from .naming import conflict_names, executed_names

MAX_TRIES = 5
MAX_LISTED = 1000

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def decide(base: str | None, job: Content | None, home: Content | None) -> MergeAction:
    """The three-way rule for one path; ``base`` is a digest, None means that there is nothing."""
    if job is None:
        return MergeAction.UNCHANGED if home is None else MergeAction.KEPT_HOME
    if home == job or job.digest == base:
        return MergeAction.UNCHANGED
    if home is None:
        return MergeAction.CREATED if base is None else MergeAction.KEPT_BOTH
    return MergeAction.UPDATED if home.digest == base and base else MergeAction.KEPT_BOTH


def merge_outputs(
    output_set: OutputSet,
    open_blob: OpenBlob,
    base: Mapping[str, str],
    home: Path,
    *,
    submission_short_id: str,
    replace_notebook: bool,
    dry_run: bool,
    clock: Callable[[], datetime],
) -> MergeReport:
    """Install an OutputSet below ``home``.

    ``open_blob`` gives the content that belongs to a sha256, ``base`` the digests of the Snapshot's files and links by
    path. Modification times that lie after ``clock()`` become that time. One merge into a home at a time.

    Raises:
        SnapshotCorruptError: the OutputSet is not sound; nothing was touched.
        StorageFullError: no space at home.
        OutputError: some files could not be installed. As with a full disk, each file is either as it was or whole;
            ``details`` says which are done and which failed, and running it again continues.
    """
    check_output_set(output_set)
    merge = _Merge(open_blob, base, output_set, short_id=submission_short_id, dry_run=dry_run, latest=clock())
    with _locked_home(home) as root:
        return merge.run(HomeTree(root, short_id=submission_short_id), replace_notebook=replace_notebook)


class _Merge:
    """One merge on its way."""

    def __init__(
        self,
        open_blob: OpenBlob,
        base: Mapping[str, str],
        output_set: OutputSet,
        *,
        short_id: str,
        dry_run: bool,
        latest: datetime,
    ) -> None:
        self._open_blob = open_blob
        self._base = base
        self._output_set = output_set
        self._short_id = short_id
        self._dry_run = dry_run
        self._latest_ns = int(latest.timestamp() * 1_000_000_000)
        self._entries: list[MergeEntry] = []
        self._failed: list[tuple[str, str]] = []
        self._notebook: str | None = None

    def run(self, tree: HomeTree, *, replace_notebook: bool) -> MergeReport:
        try:
            for file in sorted(self._output_set.files, key=lambda file: file.path):
                self._merge_or_note(tree, file, replace_notebook=replace_notebook)
        finally:
            if not self._dry_run:
                tree.sync()
        if self._failed:
            raise self._failure(OutputError, f"{len(self._failed)} of your files could not be brought home.")
        self._entries.extend(_refused(self._output_set.skipped))
        return MergeReport(entries=tuple(self._entries), executed_notebook=self._notebook, dry_run=self._dry_run)

    def _merge_or_note(self, tree: HomeTree, file: OutputFile, *, replace_notebook: bool) -> None:
        """Merge one file; a failure that concerns only this file is noted and the others go on."""
        is_notebook = file.path == self._output_set.executed_notebook and file.change is not FileChange.DELETED
        try:
            if is_notebook:
                self._entries.append(self._merge_notebook(tree, file, replace_original=replace_notebook))
            else:
                self._entries.append(self._merge_file(tree, file))
        except OSError as exc:
            self._failed.append((file.path, exc.strerror or type(exc).__name__))
            if exc.errno in _FULL:
                raise self._failure(StorageFullError, "There is no space left in your home.") from exc
            if exc.errno == errno.EROFS:
                raise self._failure(OutputError, "Your home cannot be written to.") from exc
        except BatchError as exc:
            self._failed.append((file.path, exc.message))

    def _failure(self, error: type[BatchError], message: str) -> BatchError:
        details: dict[str, Any] = {
            "failed": [list(failed) for failed in self._failed[:MAX_LISTED]],
            "done": [entry.path for entry in self._entries[:MAX_LISTED]],
        }
        path, reason = self._failed[-1]
        hint = f"The last one was {path} ({reason}). Nothing is lost: put that right, then collect the results again."
        return error(message, hint=hint, details=details)

    def _merge_file(self, tree: HomeTree, file: OutputFile) -> MergeEntry:
        file = replace(file, mtime_ns=min(file.mtime_ns, self._latest_ns))
        job = None if file.change is FileChange.DELETED else content_of(file)
        with tree.place(file.path, create=not self._dry_run and job is not None) as place:
            moved = place.path != file.path
            base = None if moved else self._base.get(file.path)
            if job is None:
                home = None if moved else place.content()
                return MergeEntry(path=file.path, action=decide(base, job, home))
            return self._install(place, file, base, moved=moved)

    def _install(self, place: Place, file: OutputFile, base: str | None, *, moved: bool) -> MergeEntry:
        job = content_of(file)
        if not self._dry_run:
            place.recover(base=base, job=job)
        for _ in range(MAX_TRIES):
            home = place.content()
            action = decide(base, job, home)
            installed = True
            if action is MergeAction.KEPT_BOTH:
                return self._install_copy(place, file)
            if action is MergeAction.CREATED and not self._dry_run:
                installed = place.create(file, self._open_blob)
            elif action is MergeAction.UPDATED and home is not None and not self._dry_run:
                installed = place.replace(file, self._open_blob, expected=home)
            if installed and moved:
                reason = "there is something else of that name in its path at home"
                return MergeEntry(path=file.path, action=MergeAction.KEPT_BOTH, installed_as=place.path, reason=reason)
            if installed:
                is_there = action is not MergeAction.UNCHANGED or home == job
                return MergeEntry(path=file.path, action=action, installed_as=place.path if is_there else None)
        raise OutputConflictError("It changed at home at every try to install it.")

    def _install_copy(self, place: Place, file: OutputFile) -> MergeEntry:
        lying = self._lay_beside(place, file, conflict_names(place.name, self._short_id))[0]
        return MergeEntry(
            path=file.path, action=MergeAction.KEPT_BOTH, installed_as=lying, reason="changed on both sides"
        )

    def _lay_beside(self, place: Place, file: OutputFile, names: Iterable[str]) -> tuple[str, bool]:
        """(path under which the job's version lies, whether it was installed now) of the first name that is free."""
        job = content_of(file)
        for name in names:
            candidate = place.sibling(name)
            if not self._dry_run:
                candidate.recover(base=None, job=job)
            present = candidate.content()
            if present == job:
                return candidate.path, False
            if present is None and (self._dry_run or candidate.create(file, self._open_blob)):
                return candidate.path, True
        raise OutputConflictError("There are too many copies of it at home already.")

    def _merge_notebook(self, tree: HomeTree, file: OutputFile, *, replace_original: bool) -> MergeEntry:
        base = self._base.get(file.path)
        with tree.place(file.path, create=not self._dry_run) as place:
            if replace_original and self._replace_original(place, file, base):
                self._notebook = file.path
                return MergeEntry(path=file.path, action=MergeAction.UPDATED, installed_as=file.path)
            self._notebook, is_new = self._lay_beside(place, file, executed_names(place.name, self._short_id))
            action = MergeAction.CREATED if is_new else MergeAction.UNCHANGED
            reason = ""
            if replace_original:
                action, reason = MergeAction.KEPT_BOTH, "the original changed at home"
            return MergeEntry(path=file.path, action=action, installed_as=self._notebook, reason=reason)

    def _replace_original(self, place: Place, file: OutputFile, base: str | None) -> bool:
        """Whether the executed notebook now lies in place of the untouched original."""
        if place.path != file.path:
            return False
        job = content_of(file)
        if not self._dry_run:
            place.recover(base=base, job=job)
        home = place.content()
        if home == job:
            return True
        if home is None or home.digest != base:
            return False
        return self._dry_run or place.replace(file, self._open_blob, expected=home)


def _refused(skipped: Iterable[tuple[str, str]]) -> Iterator[MergeEntry]:
    for path, reason in skipped:
        yield MergeEntry(path=path, action=MergeAction.REFUSED, reason=reason)


@contextmanager
def _locked_home(home: Path) -> Iterator[int]:
    """The home's descriptor, locked against other merges where the file system can."""
    try:
        root = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise OutputError(
            f"The folder {home} cannot be opened: {exc.strerror}.", hint="Make it again, then collect the results."
        ) from exc
    try:
        with suppress(OSError):
            fcntl.flock(root, fcntl.LOCK_EX)
        yield root
    finally:
        os.close(root)
