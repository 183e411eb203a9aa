from __future__ import annotations

import ast
import fcntl
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from snapshot_world import World, make_environment

from jupyterlab_ai_batch.snapshot.listing import seal_of
from jupyterlab_ai_batch.snapshot.roots import resolve_roots, walk_environment
from jupyterlab_ai_batch.words import CaptureFrom

_SENT = """
import ast, sys
from jupyterlab_ai_batch.snapshot.scout import Scout, Walk
walk = Walk(*ast.literal_eval(sys.argv[1]))
with Scout(walk) as scout:
    other = scout.seal(Walk(("/elsewhere",), (), ()))
    print(repr((other, scout.seal(walk), scout.seal(walk))))
"""

_UNASKED = """
import errno, os
from jupyterlab_ai_batch.snapshot.scout import Scout, Walk
walk = Walk(("/",), (), ())
with Scout(walk):
    pass
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print(0)
def fork():
    raise OSError(errno.EAGAIN, "no")
os.fork = fork
with Scout(walk) as scout:
    print(scout.seal(walk))
"""


@pytest.fixture
def roots(tmp_path):
    world = World(tmp_path)
    (world.prefix / "lib/.wh.x").touch()
    return resolve_roots(world.request(), CaptureFrom.ROOT)


def test_a_scout_sees_roots_inside_of_roots_once(tmp_path):
    """A prefix in a prefix is an entry of the outer one, and has its own."""
    world = World(tmp_path)
    inner = world.prefix / "inner"
    make_environment(inner)
    request = world.request()
    environment = replace(request.environment, prefixes=(world.prefix, inner))
    roots = resolve_roots(replace(request, environment=environment), CaptureFrom.ROOT)
    assert len(roots.prefixes) == 2
    assert _send(roots.environment_walk)[1] == seal_of(walk_environment(roots))


def _send(walk) -> tuple:
    arguments = repr((walk.roots, walk.never, walk.hollow))
    done = subprocess.run([sys.executable, "-c", _SENT, arguments], capture_output=True, text=True, check=True)
    return ast.literal_eval(done.stdout)


def test_a_scout_sees_what_a_capture_sees(roots):
    """Its seal is the seal of the environment as the capture would walk it; it answers once, and for its walk only."""
    assert _send(roots.environment_walk) == (None, seal_of(walk_environment(roots)), None)


def test_a_scout_that_cannot_walk_says_nothing(roots, tmp_path):
    """The capture then walks itself, and says what is wrong."""
    walk = roots.environment_walk
    missing = type(walk).of((str(tmp_path / "none"),), (), ())
    assert _send(missing) == (None, None, None)


def test_a_scout_that_nobody_asks_is_called_back():
    """It does not outlive the command that sent it, and a machine without a process to spare is no error."""
    done = subprocess.run([sys.executable, "-c", _UNASKED], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "None"]


def test_ignore_rules_keep_the_scout_at_home(tmp_path):
    """An editable source is walked by rules that a scout does not know."""
    world = World(tmp_path)
    source = tmp_path / "source"
    source.mkdir()
    roots = resolve_roots(world.request(editable_sources=(Path(source),)), CaptureFrom.ROOT)
    assert roots.environment_walk is None


def test_the_seal_tells_every_change(tmp_path):
    """Content, time, mode, name, link: each gives another seal; nothing gives the same."""
    world = World(tmp_path)
    roots = resolve_roots(world.request(), CaptureFrom.ROOT)
    file = world.prefix / "bin/tool"
    seals = [seal_of(walk_environment(roots))]
    assert seal_of(walk_environment(roots)) == seals[0]
    for change in (
        lambda: file.write_text("#!/bin/sg\n"),
        lambda: file.chmod(0o700),
        lambda: file.rename(file.with_name("other")),
        lambda: file.with_name("more").symlink_to("other"),
        lambda: file.with_name("other").touch(),
    ):
        change()
        seals.append(seal_of(walk_environment(roots)))
    assert len(set(seals)) == len(seals)


ORPHANING = """
import fcntl, os, sys, time
from jupyterlab_ai_batch.snapshot.scout import Scout, Walk

class Endless(Walk):
    def seal(self):
        time.sleep(600)

fcntl.flock(os.open(sys.argv[1], os.O_RDWR), fcntl.LOCK_EX)
scout = Scout(Endless((), (), ()))
print(scout._pid, flush=True)
os._exit(0)
"""


def test_a_scout_holds_no_lock_of_who_sent_it_out(tmp_path):
    """A capture that is killed is seen to be dead, even while its scout still walks."""
    lock = tmp_path / "lock"
    lock.touch()
    said = tmp_path / "said"
    with said.open("wb") as stdout:  # a pipe would not end before the scout does
        subprocess.run([sys.executable, "-c", ORPHANING, lock], stdout=stdout, check=True)
    scout = int(said.read_text())
    os.kill(scout, 0)
    try:
        with lock.open() as stream:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and not is_free(stream):
                time.sleep(0.01)
            assert is_free(stream)
    finally:
        os.kill(scout, signal.SIGKILL)


def is_free(stream) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
