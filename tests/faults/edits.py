"""What people and programs do to files: each edit changes a home or an environment a little, and leaves a trace."""

from __future__ import annotations

import json
import mmap
import os
import shutil
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import IO

from jupyterlab_ai_batch.snapshot.capture import is_notebook

from .history import History

SIZES = (0, 1, 10, 700, 3000, 5000, 20_000, 40_000)
NAMES = ("a", "b", "c.py", "d.csv", "e.bin", "secret.key", "naïve \udcff", "n" * 120)
DIRECTORIES = ("", "one", "one/two", "three")
BLOCK = 32
SILENT_NS = 30 * 10**9
OLD_NS = 1_600_000_000 * 10**9


class Editor:
    """Edits at random, each recorded in the history as one moment; those in several steps as several moments."""

    def __init__(self, random: Random, home: Path, site: Path, notebook: Path, history: History) -> None:
        self._random = random
        self._home = home
        self._site = site
        self._notebook = notebook
        self._history = history
        self._outside = home.parent / "outside"
        self._version = 0
        self._maps: dict[str, mmap.mmap] = {}
        self._mapped: dict[str, IO[bytes]] = {}
        self._chosen: Path | None = None
        self.may_map = False

    def make_home(self) -> None:
        self._outside.mkdir()
        (self._outside / "a").write_text("nobody's file")
        self._write_notebook()
        for _ in range(self._random.randint(2, 8)):
            self._create(self._home)
        for edit in [self._link] + [self._write_through_memory] * 6 * self.may_map:
            with suppress(OSError):
                edit()
        self._history.record()

    def edit(self) -> None:
        """One random edit, of the environment now and then."""
        edit = self._install if self._random.random() < 0.15 else self._pick_edit()
        with suppress(OSError):  # something else is in the way by now
            edit()
        self._history.record()

    def edit_this(self, place: str | int | None, *, in_place: bool = False) -> None:
        """An edit of the very file that is being captured: a path or a descriptor."""
        path = _path_of(place)
        if path is None or self._home not in path.parents or path == self._notebook or not _is_regular(path):
            self.edit()
            return
        edits = [self._rewrite_in_place, self._rewrite_keeping_times, self._append, self._truncate]
        if not in_place:
            edits += [self._write_slowly, self._rewrite_by_rename, self._replace_by_symlink, self._replace_by_directory]
        if self.may_map and str(path.stat().st_ino) in self._maps:
            edits = [self._write_through_memory]
        self._chosen = path
        with suppress(OSError):
            self._random.choice(edits)()
        self._chosen = None
        self._history.record()

    def touch_maps(self) -> None:
        """After a fork the first write to a mapped page is seen again; let the next ones be silent."""
        for key, pages in self._maps.items():
            if os.fstat(self._mapped[key].fileno()).st_size >= len(pages):
                pages[:] = pages[:]
        self._history.record()

    def settle(self, *, skip: int = 0) -> None:
        """Whoever was writing has finished. ``skip`` versions were used up by somebody else."""
        self._version += skip
        if not is_notebook(self._notebook.read_bytes()):
            self._write_notebook()
            self._history.record()

    def content(self, name: str, size: int) -> bytes:
        """Blocks that tell whose and of which version they are: a mix of two versions is seen as such."""
        self._version += 1
        stem = f"{name[:8]}:{self._version}:".encode(errors="replace")
        blocks = (
            stem + f"{number}".encode().rjust(BLOCK - len(stem) - 1, b".") + b"\n"
            for number in range(size // BLOCK + 1)
        )
        return b"".join(blocks)[:size]

    def _pick_edit(self) -> Callable[[], None]:
        edits = [
            lambda: self._create(self._home),
            self._rewrite_in_place,
            self._rewrite_in_place,
            self._rewrite_by_rename,
            self._rewrite_keeping_times,
            self._rewrite_keeping_times,
            self._rewrite_keeping_times,
            self._write_slowly,
            self._append,
            self._truncate,
            self._delete,
            self._move,
            self._exchange,
            self._link,
            self._link,
            self._part_links,
            self._chmod,
            self._touch,
            self._replace_by_symlink,
            self._replace_by_fifo,
            self._replace_by_directory,
            self._delete_directory,
            self._divert_directory,
            self._write_notebook,
            self._begin_to_save_notebook,
        ]
        if self.may_map:
            edits += [self._write_through_memory] * 3
        return self._random.choice(edits)

    # --- files ---

    def _create(self, top: Path) -> None:
        path = top / self._random.choice(DIRECTORIES) / self._random.choice(NAMES)
        if not os.path.lexists(path) and self._make_parents(path):
            path.write_bytes(self.content(path.name, self._random.choice(SIZES)))

    def _make_parents(self, path: Path) -> bool:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError:  # a file or a link to nowhere is in the way
            return False
        return True

    def _rewrite_in_place(self) -> None:
        path = self._file()
        if path is not None:
            self._overwrite(path, self.content(path.name, path.stat().st_size))

    def _rewrite_by_rename(self) -> None:
        path = self._file()
        if path is not None:
            new = path.with_name(".~new")
            new.write_bytes(self.content(path.name, self._random.choice(SIZES)))
            new.replace(path)

    def _rewrite_keeping_times(self) -> None:
        """Same size, same mtime: only the inode change time tells."""
        path = self._file()
        if path is not None:
            found = path.stat()
            self._overwrite(path, self.content(path.name, found.st_size), mtime_ns=found.st_mtime_ns)

    def _write_slowly(self) -> None:
        """In three steps, as a program that saves in place: truncate, one half, the other."""
        path = self._file()
        if path is None:
            return
        content = self.content(path.name, max(path.stat().st_size, 2))
        for part in (b"", content[: len(content) // 2], content):
            self._overwrite(path, part)
            self._history.record()

    def _append(self) -> None:
        path = self._file()
        if path is not None:
            self._overwrite(path, path.read_bytes() + self.content(path.name, 100))

    def _truncate(self) -> None:
        path = self._file()
        if path is not None:
            os.truncate(path, path.stat().st_size // 2)

    def _delete(self) -> None:
        path = self._file()
        if path is not None:
            path.unlink()

    def _move(self) -> None:
        path = self._file()
        target = self._home / self._random.choice(DIRECTORIES) / self._random.choice(NAMES)
        if path is not None and not target.is_dir() and self._make_parents(target):
            path.replace(target)

    def _exchange(self) -> None:
        one, other = self._file(), self._file()
        if one is not None and other is not None and one != other:
            between = one.with_name(".~between")
            for source, target in ((one, between), (other, one), (between, other)):
                source.replace(target)
                self._history.record()

    def _link(self) -> None:
        path = self._file()
        target = self._home / self._random.choice(DIRECTORIES) / self._random.choice(NAMES)
        if path is not None and not os.path.lexists(target) and self._make_parents(target):
            target.hardlink_to(path)

    def _part_links(self) -> None:
        """A name of a file with several gets content of its own, then the others get new content."""
        path = self._file(linked=True)
        others = [other for other in self._files() if path is not None and other != path and other.samefile(path)]
        if path is not None and others:
            new = path.with_name(".~new")
            new.write_bytes(self.content(path.name, path.stat().st_size))
            new.replace(path)
            self._history.record()
            self._overwrite(others[0], self.content(others[0].name, others[0].stat().st_size))

    def _chmod(self) -> None:
        path = self._file()
        if path is not None:
            path.chmod(self._random.choice((0o600, 0o644, 0o755)))

    def _touch(self) -> None:
        path = self._file()
        if path is not None:
            mtime_ns = self._random.choice((OLD_NS, OLD_NS + 1, path.stat().st_mtime_ns + 3600 * 10**9))
            os.utime(path, ns=(mtime_ns, mtime_ns))

    def _replace_by_symlink(self) -> None:
        path = self._file()
        if path is not None:
            path.unlink()
            path.symlink_to(self._random.choice(("a", "/dev/null", "../one", "nowhere", str(self._home))))

    def _replace_by_fifo(self) -> None:
        path = self._file()
        if path is not None:
            path.unlink()
            os.mkfifo(path)

    def _replace_by_directory(self) -> None:
        path = self._file()
        if path is not None:
            path.unlink()
            path.mkdir()
            (path / "inside").write_bytes(self.content("inside", 50))

    def _write_through_memory(self) -> None:
        """A writer whose later changes leave no trace at all until the system writes the page back, soon enough."""
        path = self._file()
        if path is None or path.stat().st_size < BLOCK:
            return
        key = f"{path.stat().st_ino}"
        if key not in self._maps:
            stream = path.open("r+b")
            self._maps[key] = mmap.mmap(stream.fileno(), path.stat().st_size)
            self._mapped[key] = stream
        if path.stat().st_size >= len(self._maps[key]):
            self._maps[key][:] = self.content(path.name, len(self._maps[key]))
        if path.stat().st_mtime_ns < time.time_ns() - SILENT_NS:
            os.utime(path)

    # --- directories, the notebook, the environment ---

    def _delete_directory(self) -> None:
        path = self._home / self._random.choice(DIRECTORIES[1:])
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)

    def _divert_directory(self) -> None:
        """A directory gives way to a link to another one."""
        path = self._home / "three"
        if path.is_dir() and not path.is_symlink():
            path.rename(self._home / f"three-{self._version}")
            self._history.record()
            path.symlink_to(self._random.choice(("one", "nowhere", self._outside)))

    def _begin_to_save_notebook(self) -> None:
        """In place, as Jupyter does: for a while there is only a part of it."""
        content = self._notebook.read_bytes()
        self._overwrite(self._notebook, content[: len(content) // 2])

    def _write_notebook(self) -> None:
        self._version += 1
        cells = [{"cell_type": "code", "source": f"version {self._version}" + "x" * self._random.choice((0, 0, 6000))}]
        content = json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
        if self._notebook.exists():
            self._overwrite(self._notebook, content.encode())
        else:
            self._notebook.write_text(content)

    def _install(self) -> None:
        """As pip does: new files under old names; or only a link more, as caches make; or a package that is removed."""
        package = self._site / self._random.choice(("alpha", "beta"))
        edit = self._random.randrange(4)
        if edit == 0:
            shutil.rmtree(package, ignore_errors=True)
        elif edit == 1 and (package / "core.py").exists():
            linked = self._site.parent / "cache"
            linked.unlink(missing_ok=True)
            linked.hardlink_to(package / "core.py")
            self._history.record()
            linked.unlink()
        else:
            package.mkdir(exist_ok=True)
            for name in ("__init__.py", "core.py", "data.bin"):
                new = package / ".new"
                new.write_bytes(self.content(name, self._random.choice(SIZES)))
                new.chmod(0o755 if name == "core.py" else 0o644)
                new.replace(package / name)
                self._history.record()

    def _file(self, *, linked: bool = False) -> Path | None:
        if self._chosen is not None:
            return self._chosen
        files = [path for path in self._files() if not linked or path.stat().st_nlink > 1]
        return self._random.choice(files) if files else None

    def _files(self) -> list[Path]:
        found = (Path(directory, name) for directory, _, names in os.walk(self._home) for name in names)
        return sorted(path for path in found if path != self._notebook and _is_regular(path))

    def _overwrite(self, path: Path, content: bytes, *, mtime_ns: int | None = None) -> None:
        """Write in place, and make sure that the file system's clock has moved: its ticks may be milliseconds long."""
        before = path.stat().st_ctime_ns
        with path.open("r+b") as stream:
            stream.write(content)
            stream.truncate()
        while path.stat().st_ctime_ns == before:
            os.utime(path)
        if mtime_ns is not None:
            os.utime(path, ns=(path.stat().st_atime_ns, mtime_ns))


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def _path_of(place: str | int | None) -> Path | None:
    if isinstance(place, int):
        try:
            place = os.readlink(f"/proc/self/fd/{place}")  # noqa: PTH115 - it may be no path at all
        except OSError:
            return None
    return Path(place) if isinstance(place, str) and place.startswith("/") else None
