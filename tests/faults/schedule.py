"""One random schedule: edits, captures with faults in them, and after each a capture that must succeed by itself.

Everything follows from the seed, but for the schedules with real threads or with a kill by the clock.
"""

from __future__ import annotations

import errno
import os
import pickle
import re
import resource
import select
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from jupyterlab_ai_batch.capture_models import CaptureRequest, EnvironmentDescription, SnapshotSummary
from jupyterlab_ai_batch.errors import BatchError, NotebookInvalidError, StorageError, StorageFullError
from jupyterlab_ai_batch.oci.layout import ImageLayout
from jupyterlab_ai_batch.snapshot import making
from jupyterlab_ai_batch.snapshot.capture import capture
from jupyterlab_ai_batch.snapshot.index import SignatureIndex
from jupyterlab_ai_batch.snapshot.reading import FileReader
from jupyterlab_ai_batch.snapshot.restore import restore_work
from jupyterlab_ai_batch.snapshot.roots import resolve_roots
from jupyterlab_ai_batch.snapshot.scout import Scout
from jupyterlab_ai_batch.words import CaptureFrom

from .checker import Snapshot, ViolationError, Window, check_store
from .edits import Editor
from .history import ABSENT, History
from .injection import CALLS, EVERYWHERE, PAUSE, PORT, READ, UNLOCKED, WITHIN, WRITE, Fault, FaultyStore, Points

HUNG_S = 60
AGED_S = 3 * 3600
SHRUNK = {"SMALL_BYTES": 4096, "CHUNK_BYTES": 1024, "MEMBER_BYTES": 8192, "LARGE_BYTES": 16384, "OWN_LAYER_BYTES": 8192}

_KILLED = "killed"
_SUCCEEDED = "succeeded"


class InlineExecutor(Executor):
    """Does the work at once, in the caller's thread: what happens when is the same every time."""

    def __init__(self, *_arguments: Any, **_options: Any) -> None:
        pass

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*arguments, **options))
        except Exception as exc:  # noqa: BLE001 - it belongs to the future
            future.set_exception(exc)
        return future


def prepare_process(points: Points) -> None:
    """Make sizes small and pauses short in every module of the engine, and install the points. Not to be undone."""
    engine = [module for name, module in sys.modules.items() if name.startswith("jupyterlab_ai_batch.snapshot.")]
    for name, value in SHRUNK.items():
        holders = [module for module in engine if hasattr(module, name)]
        assert holders, f"no module of the engine has {name} any more"
        for module in holders:
            setattr(module, name, value)
    making.FileReader = partial(FileReader, pause=lambda _seconds: points.reach(PAUSE))
    points.install()


def use_threads(*, real: bool) -> None:
    """Real threads, or none."""
    from concurrent.futures import ThreadPoolExecutor

    for name, module in list(sys.modules.items()):
        if name.startswith("jupyterlab_ai_batch.snapshot.") and hasattr(module, "ThreadPoolExecutor"):
            module.ThreadPoolExecutor = ThreadPoolExecutor if real else InlineExecutor


@dataclass
class Outcome:
    """How a capture ended: ``succeeded``, an error's code, or ``killed``."""

    word: str
    left_out: tuple[str, ...] = ()


class Schedule:
    """Runs one seed in ``home_base`` (captured files) and ``data_base`` (our own data)."""

    def __init__(self, seed: int, points: Points, *, home_base: Path, data_base: Path) -> None:
        self._random = Random(seed)  # noqa: S311 - to find faults, not to keep secrets
        self._points = points
        self._data = data_base
        self._home = home_base / "home"
        self._prefix = home_base / "env"
        self._journal = data_base / "journal"
        self._offset_s = 0.0
        self._may_jump = self._random.random() < 0.7
        if self._may_jump:
            self._offset_s = self._random.choice((0.0, 7200.0, 7200.0, 7200.0))
        self._tags = 0
        self._copies: list[bytes] = []
        self._windows: dict[str, list[Window]] = {}
        self._others: list[str] = []
        self._typical = {READ: 100, WITHIN: 20, WRITE: 60, PORT: 40, PAUSE: 10}
        self._make_places()
        self._history = History(self._home, self._prefix)
        site = self._prefix / "lib/python3.11/site-packages"
        self._editor = Editor(self._random, self._home, site, self._home / "n.ipynb", self._history)
        self._editor.may_map = not self._may_jump
        self.log: list[str] = []
        points.watch(reads=(str(self._home), str(self._prefix)), writes=(str(data_base),))

    def run(self) -> None:
        """Raises ViolationError, or whatever a capture raises that it must not."""
        use_threads(real=self._random.random() < 0.25)
        self._editor.make_home()
        if self._random.random() < 0.8:
            self._capture_undisturbed()
        for _ in range(self._random.randint(1, 3)):
            self._edit(4)
            self._disturb_between()
            self._capture_with_faults()
            self._check()
            self._edit(2)
            if self._random.random() < 0.3:
                self._disturb_between()
            self._capture_undisturbed()
        self._restore_latest()

    # --- captures ---

    def _capture_undisturbed(self) -> None:
        """It succeeds without help, and holds exactly what is there."""
        tag = self._new_tag()
        self._editor.settle()
        outcome = self._capture(tag, FaultyStore(self._store(), self._points), [])
        self._windows[tag] = [self._window(self._history.now, outcome)]
        if outcome.word != _SUCCEEDED:
            raise ViolationError(f"an undisturbed capture ended with {outcome.word}")
        if tag not in self._check():
            raise ViolationError("a capture that succeeded has left no tag")
        self._typical = {kind: max(count, 10) for kind, count in self._points.counted.items()}
        index = self._data / "index.db"
        self._copies.append(index.read_bytes())

    def _capture_with_faults(self) -> None:
        """In a process of its own: it may be killed."""
        tag = self._new_tag() if self._random.random() < 0.8 else f"t{self._tags}"
        first = self._history.now
        prepare, faults = self._choose_limit()
        exclude = self._random.random() < 0.3
        store = FaultyStore(self._store(), self._points)
        scouted = self._random.random() < 0.3
        action = partial(self._capture, tag, store, faults, exclude=exclude, scouted=scouted)
        outcome = self._in_child(action, prepare)
        self._windows.setdefault(tag, []).append(self._window(first, outcome))
        for other in self._others:
            self._windows[other] = [Window(first, self._history.now)]
        self._others.clear()
        self._editor.settle(skip=1000)
        self.log.append(f"capture {tag}: {outcome.word}")

    def _capture(
        self, tag: str, store: Any, faults: list[Fault], *, exclude: bool = False, scouted: bool = False
    ) -> Outcome:
        try:
            with (
                self._scout() if scouted else nullcontext() as scout,
                self._points.armed(faults),
                SignatureIndex(self._data / "index.db") as index,
            ):
                summary = capture(
                    self._request(),
                    store=store,
                    index=index,
                    tag=tag,
                    progress=lambda _: self._points.reach(PORT),
                    clock=self._clock,
                    on_unstable="exclude" if exclude else "fail",
                    scout=scout,
                )
        except BatchError as exc:
            return Outcome(exc.code)
        except KeyboardInterrupt:
            return Outcome("cancelled")
        return Outcome(_SUCCEEDED, self._left_out(summary))

    def _scout(self) -> Scout:
        """Another process looks at the environment while this one captures, or dies."""
        walk = resolve_roots(self._request(), CaptureFrom.ROOT).environment_walk
        assert walk is not None
        return Scout(walk)

    def _left_out(self, summary: SnapshotSummary) -> tuple[str, ...]:
        text = " ".join(summary.warnings)
        return tuple(path for path in self._history.paths() if "left out" in text and path in text)

    def _in_child(self, action: Callable[[], Outcome], prepare: Callable[[], object]) -> Outcome:
        self._journal.write_bytes(b"")
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            self._be_child(action, prepare)
        status = _wait(child)
        with self._journal.open("rb") as journal:
            self._history.replay(journal)
        if os.WIFSIGNALED(status):
            return Outcome(_KILLED)
        if status:
            raise ViolationError(f"the process of a capture ended with {status}")
        outcome = pickle.loads((self._data / "outcome").read_bytes())  # noqa: S301 - our own
        if isinstance(outcome, str):
            raise ViolationError(f"a capture raised what no caller expects:\n{outcome}")
        return outcome

    def _be_child(self, action: Callable[[], Outcome], prepare: Callable[[], object]) -> None:
        """Never returns."""
        status = 1
        try:
            with self._journal.open("ab") as journal:
                self._history.journal = journal
                self._editor.touch_maps()
                prepare()
                try:
                    answer: Any = action()
                except BaseException:  # noqa: BLE001 - told to the parent
                    answer = traceback.format_exc()
            signal.setitimer(signal.ITIMER_REAL, 0)
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            (self._data / "outcome").write_bytes(pickle.dumps(answer))
            status = 0
        finally:
            os._exit(status)

    # --- faults ---

    def _choose_limit(self) -> tuple[Callable[[], object], list[Fault]]:
        """Mostly faults; or a kill by the clock, or files that cannot grow: real ones, wherever the capture is then."""
        chance = self._random.random()
        if chance < 0.08:
            return partial(signal.setitimer, signal.ITIMER_REAL, self._random.uniform(0.0005, 0.03)), []
        if chance < 0.16:
            size = self._random.choice((0, 512, 4096, 20_000, 60_000))
            return partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY)), []
        return (lambda: None), self._choose_faults()

    def _choose_faults(self) -> list[Fault]:
        makers = [self._kill, self._full, self._broken, self._cancel, self._change, self._change_this]
        makers += [
            self._change_within_read,
            self._change_within_read,
            self._other_capture,
            self._collect_garbage,
            self._tamper,
            self._jump,
        ]
        makers += [self._kill, self._change, self._change_this, self._change_this]  # more often than the others
        return [self._random.choice(makers)() for _ in range(self._random.choice((1, 1, 2, 3)))]

    def _fault(self, name: str, where: frozenset[str], happen: Callable[[str], None]) -> Fault:
        at = self._random.randint(1, max(sum(self._typical[kind] for kind in where), 2))
        self.log.append(f"fault {name} at {at} of {sorted(where)}")
        return Fault(at, where, happen)

    def _kill(self) -> Fault:
        return self._fault("kill", EVERYWHERE, lambda _: os.kill(os.getpid(), signal.SIGKILL))

    def _full(self) -> Fault:
        return self._fault("full", frozenset({WRITE, PORT}), partial(_fail, errno.ENOSPC))

    def _broken(self) -> Fault:
        return self._fault("broken", CALLS, partial(_fail, errno.EIO))

    def _cancel(self) -> Fault:
        return self._fault("cancel", frozenset({PORT}), _interrupt)

    def _change(self) -> Fault:
        return self._fault("change", UNLOCKED, lambda _: self._editor.edit())

    def _change_this(self) -> Fault:
        """The file that is being read."""
        return self._fault("change this", frozenset({READ}), partial(_edit_place, self._editor, self._points))

    def _change_within_read(self) -> Fault:
        """Within a single read of it, and in place: else the reader has another file than the writer."""
        edit = partial(_edit_place, self._editor, self._points, in_place=True)
        return self._fault("change within", frozenset({WITHIN}), edit)

    def _other_capture(self) -> Fault:
        """Another capture of the same home, from its beginning to its end."""
        tag = self._new_tag()
        self._others.append(tag)

        def happen(_kind: str) -> None:
            outcome = self._capture(tag, self._store(), [])
            if outcome.word not in (_SUCCEEDED, NotebookInvalidError.code):
                raise ViolationError(f"another capture at the same time ended with {outcome.word}")

        return self._fault(f"other capture {tag}", UNLOCKED, happen)

    def _collect_garbage(self) -> Fault:
        self._age()
        return self._fault("collect garbage", UNLOCKED, lambda _: self._store().collect_garbage())

    def _tamper(self) -> Fault:
        change = self._choose_tampering()
        return self._fault("tamper", UNLOCKED, lambda _: change())

    def _jump(self) -> Fault:
        return self._fault("jump", UNLOCKED, lambda _: self._jump_clock())

    def _disturb_between(self) -> None:
        chance = self._random.random()
        if chance < 0.15:
            self._choose_tampering()()
        elif chance < 0.3:
            self._age()
            self._store().collect_garbage()
        elif chance < 0.4 and self._windows:
            self._store().delete_tag(self._random.choice(sorted(self._windows)))
        elif chance < 0.6:
            self._jump_clock()

    def _choose_tampering(self) -> Callable[[], object]:
        index = self._data / "index.db"
        random = Random(self._random.random())  # noqa: S311
        older = self._random.choice(self._copies) if self._copies else b""
        ways: list[Callable[[], object]] = [
            lambda: index.unlink(missing_ok=True),
            lambda: index.write_bytes(b""),
            lambda: index.write_bytes(b"no database at all" * 100),
            lambda: index.write_bytes(older),
            lambda: _put_aside(index, older),
            lambda: _damage(index, random),
            lambda: _falsify(index, random),
            lambda: _falsify(index, random),
        ]
        number = self._random.randrange(len(ways))
        self.log.append(f"tamper {number}")
        return ways[number]

    def _jump_clock(self) -> None:
        """Hours on, or back. Not so where files are mapped: readers look twice only while mtimes are fresh."""
        if self._may_jump:
            self._offset_s = self._random.choice((0.0, 3.0, 100.0, 7200.0, -5.0, -7200.0))
        else:
            self._offset_s = self._random.uniform(0, 1)

    def _age(self) -> None:
        """Let every blob be old: what a capture needs, it must ask for."""
        for path in (self._data / "store" / "blobs" / "sha256").glob("*"):
            then = time.time() - AGED_S
            os.utime(path, (then, then))

    # --- the world ---

    def _make_places(self) -> None:
        site = self._prefix / "lib/python3.11/site-packages"
        for path in (self._home, site / "alpha", site / "alpha-1.0.dist-info", self._prefix / "bin", self._data):
            path.mkdir(parents=True, exist_ok=True)
        (site / "alpha/__init__.py").write_text("VALUE = 1\n")
        (site / "alpha-1.0.dist-info/RECORD").write_text("alpha/__init__.py,,\nalpha/core.py,,\nalpha/data.bin,,\n")
        (self._prefix / "bin/python").symlink_to("/usr/bin/env")

    def _request(self) -> CaptureRequest:
        environment = EnvironmentDescription(
            kernel_name="python3",
            executable=self._prefix / "bin/python",
            prefix=self._prefix,
            prefixes=(self._prefix,),
            python_version="3.11.0",
        )
        return CaptureRequest(root_dir=self._home, notebook=self._home / "n.ipynb", environment=environment)

    def _edit(self, most: int) -> None:
        for _ in range(self._random.randint(0, most)):
            self._editor.edit()

    def _new_tag(self) -> str:
        self._tags += 1
        return f"t{self._tags}"

    def _store(self) -> ImageLayout:
        return ImageLayout(self._data / "store")

    def _clock(self) -> datetime:
        return datetime.now(timezone.utc) + timedelta(seconds=self._offset_s)

    def _window(self, first: int, outcome: Outcome) -> Window:
        return Window(first, self._history.now, outcome.left_out)

    def _check(self) -> dict[str, Snapshot]:
        return check_store(self._store(), self._history, self._windows, ignored=_is_ignored)

    def _restore_latest(self) -> None:
        """What the product itself restores is what is there."""
        store, target = self._store(), self._data / "restored"
        target.mkdir()
        restore_work(store, dict(store.tags())[f"t{self._tags}"], target)
        restored = {
            path.replace(str(target), str(self._home), 1): state for path, state in History(target).latest().items()
        }
        expected = {p: s for p, s in self._history.latest().items() if p.startswith(str(self._home))}
        different = [p for p in restored.keys() | expected.keys() if restored.get(p) != expected.get(p)]
        different = [p for p in different if not _is_ignored(p) and expected.get(p, ABSENT)[0] != "other"]
        if different:
            raise ViolationError(f"restored otherwise than captured: {sorted(different)[:3]}")
        shutil.rmtree(target)


def _wait(child: int) -> int:
    """The child's wait status.

    Raises:
        ViolationError: it does not end.
    """
    fd = os.pidfd_open(child)
    try:
        ended, _, _ = select.select([fd], [], [], HUNG_S)
        if not ended:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    finally:
        os.close(fd)
    if not ended:
        raise ViolationError("a capture hangs")
    return status


def _is_ignored(path: str) -> bool:
    return any(part == "secret.key" or part.startswith(".~") for part in path.split("/"))


def _fail(number: int, kind: str) -> None:
    if kind != PORT:
        raise OSError(number, os.strerror(number))
    raise StorageFullError("no space") if number == errno.ENOSPC else StorageError("broken")


def _edit_place(editor: Editor, points: Points, _kind: str, *, in_place: bool = False) -> None:
    editor.edit_this(points.place, in_place=in_place)


def _interrupt(_kind: str) -> None:
    raise KeyboardInterrupt


def _put_aside(index: Path, content: bytes) -> None:
    """Replace the index as a backup does: another file under its name, its journal is not touched."""
    new = index.with_name("restored.db")
    new.write_bytes(content)
    new.replace(index)


def _damage(index: Path, random: Random) -> None:
    """Overwrite a piece in the middle, as a bad disk does."""
    try:
        content = bytearray(index.read_bytes())
    except OSError:
        return
    if len(content) > 200:
        start = random.randrange(100, len(content))
        size = random.choice((1, 16, 512, 4096))
        piece = random.choice((bytes(size), random.randbytes(size)))
        content[start : start + size] = piece[: len(content) - start]
        index.write_bytes(content)


def _falsify(index: Path, random: Random) -> None:
    """Change one digit of a digest or a size: what is there still looks right."""
    try:
        content = bytearray(index.read_bytes())
    except OSError:
        return
    places = [match.start() for match in re.finditer(rb"(?<=[0-9a-f,])[0-9](?=[0-9a-f,])", content)]
    if places:
        content[random.choice(places)] = random.choice(b"0123456789")
        index.write_bytes(content)
