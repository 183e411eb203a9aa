"""The directories at home: reached one by one from an open descriptor, never through a link."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from .home import Place, join
from .naming import conflict_names

_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NOT_A_DIRECTORY = frozenset({errno.ENOTDIR, errno.ELOOP})


class HomeTree:
    """The directories below the home that a merge installs into. Everything is reached from one open descriptor."""

    def __init__(self, root: int, *, short_id: str) -> None:
        self._root = root
        self._short_id = short_id
        self._touched: set[str] = set()

    @contextmanager
    def place(self, path: str, *, create: bool) -> Iterator[Place]:
        """The place for ``path``; its directories are made where they are missing and ``create`` is True.

        A parent that is not a directory at home is replaced by a conflict name beside it, so the place's path may
        differ from ``path``.
        """
        *parents, name = path.split("/")
        directory: int | None = os.dup(self._root)
        actual = ""
        try:
            for parent in parents:
                entered, actual = self._enter(directory, actual, parent, create=create)
                if directory is not None:
                    os.close(directory)
                directory = entered
            if create:
                self._touched.add(actual)
            yield Place(directory, join(actual, name), short_id=self._short_id)
        finally:
            if directory is not None:
                os.close(directory)

    def sync(self) -> None:
        """Make the names in all directories that were written to durable."""
        for path in sorted(self._touched):
            with suppress(OSError), self.place(f"{path}/." if path else ".", create=False) as place:
                place.sync_directory()

    def _enter(self, directory: int | None, actual: str, name: str, *, create: bool) -> tuple[int | None, str]:
        """(descriptor, path) of the subdirectory ``name``, or of its conflict name; None where there is none."""
        if directory is None:
            return None, join(actual, name)
        for candidate in (name, *conflict_names(name, self._short_id)):
            path = join(actual, candidate)
            try:
                if create:
                    self._make(directory, actual, candidate)
                return os.open(candidate, _DIRECTORY_FLAGS, dir_fd=directory), path
            except FileNotFoundError:
                return None, path
            except OSError as exc:
                if exc.errno not in _NOT_A_DIRECTORY:
                    raise
        raise FileExistsError(errno.EEXIST, "too many copies of this directory")

    def _make(self, directory: int, actual: str, name: str) -> None:
        with suppress(FileExistsError):
            os.mkdir(name, 0o777, dir_fd=directory)
            self._touched.add(actual)
