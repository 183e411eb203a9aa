"""In the job: what a former Attempt has stored, back in the restored work tree; all of it, or nothing.

Every content is fetched and verified in a directory of its own first. Then files change places by renames, which are
taken back when one of them fails. Directories are reached from the work root's descriptor, never through a link.
"""

from __future__ import annotations

import errno
import os
import stat
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from ..models import OutputFile
from ..words import FileChange
from .home import OpenBlob, Place
from .naming import TEMPORARY_PREFIX

THREADS = 4

_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def restore_outputs(files: Sequence[OutputFile], open_blob: OpenBlob, root: Path) -> None:
    """Make ``root``, a restored Snapshot, hold what it held when ``files`` were stored.

    Args:
        files: Of an OutputSet that ``read_output_set`` gave, so their paths are plain and relative.
        open_blob: The content of a digest; called from several threads.

    Raises:
        OSError: one cannot be put in place; the work tree is as it was. BlobMismatchError where the content is wrong.
        BatchError: what ``open_blob`` raises; the work tree is as it was.
    """
    top = os.open(root, _DIRECTORY_FLAGS)
    try:
        with _directory_for_a_while(top) as aside:
            wanted = [file for file in files if file.change is not FileChange.DELETED]
            _fetch(wanted, open_blob, aside)
            with _Exchange(top, aside) as exchange:
                for file in files:
                    if file.change is FileChange.DELETED:
                        exchange.remove(file.path)
                for number, file in enumerate(wanted):
                    exchange.install(_fetched(number), file.path)
    finally:
        os.close(top)


def _fetch(files: Sequence[OutputFile], open_blob: OpenBlob, aside: int) -> None:
    def fetch(number: int) -> None:
        place = Place(aside, _fetched(number), short_id="resume", is_durable=False)
        place.create(files[number], open_blob)

    threads = ThreadPoolExecutor(THREADS, thread_name_prefix="resume")
    try:
        for _ in threads.map(fetch, range(len(files))):
            pass
    finally:
        threads.shutdown(cancel_futures=True)


def _fetched(number: int) -> str:
    return f"new-{number}"


@contextmanager
def _directory_for_a_while(top: int) -> Iterator[int]:
    """A private directory on the work tree's file system, so that a rename suffices."""
    name = f"{TEMPORARY_PREFIX}resume-{uuid.uuid4().hex[:8]}"
    os.mkdir(name, 0o700, dir_fd=top)
    directory = os.open(name, _DIRECTORY_FLAGS, dir_fd=top)
    try:
        yield directory
    finally:
        for entry in _names(directory):
            with suppress(OSError):
                os.unlink(entry, dir_fd=directory)
        os.close(directory)
        with suppress(OSError):
            os.rmdir(name, dir_fd=top)


class _Exchange:
    """Changes to the tree below ``top`` that are taken back when one of them fails; a context manager."""

    def __init__(self, top: int, aside: int) -> None:
        self._top = top
        self._aside = aside
        self._undo: list[Callable[[], object]] = []

    def __enter__(self) -> _Exchange:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            for step in reversed(self._undo):
                with suppress(OSError):
                    step()

    def remove(self, path: str) -> None:
        """Take away a file or a link, where it is there."""
        with suppress(FileNotFoundError), self._parent(path, create=False) as (parent, name):
            self._put_aside(parent, name, path)

    def install(self, fetched: str, path: str) -> None:
        """Put what was fetched at ``path``, in place of what is there."""
        with self._parent(path, create=True) as (parent, name):
            with suppress(FileNotFoundError):
                if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                    _remove_empty(parent, name)
                else:
                    self._put_aside(parent, name, path)
            os.rename(fetched, name, src_dir_fd=self._aside, dst_dir_fd=parent)
        self._undo.append(partial(self._remove_again, path))

    def _put_aside(self, parent: int, name: str, path: str) -> None:
        kept = f"old-{len(self._undo)}"
        os.rename(name, kept, src_dir_fd=parent, dst_dir_fd=self._aside)
        self._undo.append(partial(self._put_back, kept, path))

    def _put_back(self, kept: str, path: str) -> None:
        with self._parent(path, create=True) as (parent, name):
            os.rename(kept, name, src_dir_fd=self._aside, dst_dir_fd=parent)

    def _remove_again(self, path: str) -> None:
        with self._parent(path, create=False) as (parent, name):
            os.unlink(name, dir_fd=parent)

    @contextmanager
    def _parent(self, path: str, *, create: bool) -> Iterator[tuple[int, str]]:
        """(descriptor of the directory that ``path`` lies in, its name there)."""
        *parents, name = path.split("/")
        if name in ("", ".", "..") or ".." in parents:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
        directory = os.dup(self._top)
        try:
            for part in parents:
                if create:
                    with suppress(FileExistsError):
                        os.mkdir(part, 0o777, dir_fd=directory)
                below = os.open(part, _DIRECTORY_FLAGS, dir_fd=directory)
                os.close(directory)
                directory = below
            yield directory, name
        finally:
            os.close(directory)


def _remove_empty(parent: int, name: str) -> None:
    """Remove a directory that holds nothing but directories: the job had a file in its place."""
    directory = os.open(name, _DIRECTORY_FLAGS, dir_fd=parent)
    try:
        for entry in _names(directory):
            _remove_empty(directory, entry)
    finally:
        os.close(directory)
    os.rmdir(name, dir_fd=parent)


def _names(directory: int) -> list[str]:
    with os.scandir(directory) as entries:
        return [entry.name for entry in entries]
