from __future__ import annotations

import json
import os
import random
import socket
import sqlite3
import stat
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from snapshot_world import NOTEBOOK, OLD_S, World, describe_tree, make_environment, now

from jupyterlab_ai_batch.errors import (
    FileUnreadableError,
    FileUnstableError,
    NotebookInvalidError,
    NotebookMissingError,
    SnapshotTooLargeError,
    StorageFullError,
)
from jupyterlab_ai_batch.oci.manifest import LayerRole
from jupyterlab_ai_batch.oci.work_index import read_work_index
from jupyterlab_ai_batch.snapshot import making, restore
from jupyterlab_ai_batch.snapshot.reading import FileReader, VanishedFileError
from jupyterlab_ai_batch.words import CaptureFrom


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_every_file_type_comes_back_as_it_was(world):
    """Links, hard links, empty directories, odd names, holes, modes and nanoseconds survive a capture."""
    project = world.notebook.parent
    (project / "empty").mkdir(mode=0o750)
    (project / "ünï\ncode").write_text("x")
    Path(os.fsdecode(os.fsencode(project) + b"/raw\xff\xfe")).write_bytes(b"raw")
    (project / ("long" * 50)).write_text("long")
    deep = project / "/".join(["d" * 40] * 8)
    deep.mkdir(parents=True)
    (deep / "leaf").write_bytes(os.urandom(1000))
    (project / "link").symlink_to("n.ipynb")
    (project / "dangling").symlink_to("nowhere/" * 20)
    (project / "script").write_text("#!")
    (project / "script").chmod(0o711)
    os.link(project / "script", project / "twin")
    with (project / "holes").open("wb") as stream:
        stream.truncate(20 << 20)
    os.utime(project / "script", ns=(5, 1_234_567_890_123_456_789))
    os.utime(project / "holes", ns=(5, -1_500_000_000))
    assert describe_tree(world.restore(world.capture().digest)) == describe_tree(world.home)


def test_sockets_and_fifos_are_skipped_and_said_so(world):
    """What cannot be captured is named in the warnings."""
    os.mkfifo(world.home / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(world.home / "sock"))
        summary = world.capture()
    assert any("is skipped" in warning for warning in summary.warnings)
    assert not (world.restore(summary.digest) / "pipe").exists()


def test_an_unchanged_capture_gives_the_same_snapshot_and_writes_nothing(world):
    """Capturing twice gives one digest; the second writes no layer."""
    first = world.capture()
    second = world.capture(tag="snapshot-2")
    assert (second.digest, second.new_bytes) == (first.digest, 0)


def test_a_lost_index_gives_the_same_snapshot(world):
    """Without the signature index everything is read again, with the same result."""
    first = world.capture()
    (world.data / "index.db").unlink()
    assert world.capture().digest == first.digest


def test_a_damaged_index_is_replaced(world):
    """An index that is no database is thrown away."""
    first = world.capture()
    (world.data / "index.db").write_bytes(b"garbage" * 1000)
    assert world.capture().digest == first.digest


def test_layers_that_the_store_lost_are_written_again(world):
    """The index is not trusted about what the store holds."""
    first = world.capture()
    world.store.delete_tag("snapshot-1")
    world.store.collect_garbage(grace_s=-10)
    assert describe_tree(world.restore(world.capture().digest)) == describe_tree(world.home)
    assert world.store.has_blob(first.digest)


def test_deletions_and_replacements_travel_as_deltas(world):
    """Deleted, retyped and changed files come back right from a base and deltas."""
    home = world.home
    (home / "base").write_bytes(os.urandom(500_000))
    for name in ("gone", "kept", "to-file/inner/x", "to-dir", "to-link/y"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(name)
    world.capture()
    (home / "gone").unlink()
    for path in ("to-file/inner/x", "to-link/y", "to-dir"):
        (home / path).unlink()
    (home / "to-file/inner").rmdir()
    (home / "to-file").rmdir()
    (home / "to-file").write_text("now a file")
    (home / "to-dir").mkdir()
    (home / "to-dir/z").write_text("z")
    (home / "to-link").rmdir()
    (home / "to-link").symlink_to("kept")
    summary = world.capture()
    image = restore.read_image(world.store, summary.digest)
    assert [layer.name for layer in image.with_role(LayerRole.WORK)] == ["base", "delta"]
    assert describe_tree(world.restore(summary.digest)) == describe_tree(home)


def test_far_too_many_deltas_become_a_new_base(world):
    """Where nothing compacts behind the user's back, the number of layers stays bounded all the same."""
    (world.home / "base").write_bytes(os.urandom(500_000))
    for number in range(19):
        (world.home / "note").write_text(str(number))
        summary = world.capture()
    image = restore.read_image(world.store, summary.digest)
    assert len(image.with_role(LayerRole.WORK)) < 9
    assert describe_tree(world.restore(summary.digest)) == describe_tree(world.home)


_NAMES = st.sampled_from(["a", "b", "c", "d/x", "d/y", "e/f/z"])
_EDITS = st.lists(
    st.tuples(_NAMES, st.sampled_from(["write", "remove", "link", "hardlink", "mkdir", "chmod"])), max_size=8
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_EDITS, min_size=1, max_size=4), st.integers(0, 2**32))
def test_any_sequence_of_edits_restores_exactly(tmp_path_factory, rounds, seed):
    """Whatever happens between captures, the newest Snapshot is the tree as it is."""
    world = World(tmp_path_factory.mktemp("world"))
    (world.home / "ballast").write_bytes(bytes(200_000))
    chance = random.Random(seed)  # noqa: S311 - edits, not secrets
    for number, edits in enumerate(rounds):
        for name, action in edits:
            _edit(world.home, name, action, chance)
        digest = world.capture().digest
        assert describe_tree(world.restore(digest, f"r{number}")) == describe_tree(world.home)


def _edit(home: Path, name: str, action: str, chance: random.Random) -> None:
    path = home / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if action == "write":
            path.write_bytes(chance.randbytes(chance.randrange(3000)))
        elif action == "remove":
            path.rmdir() if path.is_dir() else path.unlink()
        elif action == "link":
            path.symlink_to(chance.choice(["a", "../b", "/etc/passwd"]))
        elif action == "hardlink":
            os.link(home / "ballast" if chance.random() < 0.3 else home / "a", path, follow_symlinks=False)
        elif action == "mkdir":
            path.mkdir()
        else:
            path.chmod(chance.choice([0o600, 0o755, 0o700]))
    except (OSError, NotImplementedError):
        return


def test_a_hundred_gigabyte_sparse_file_is_refused_at_once(world):
    """The apparent size counts, and nothing of it is read."""
    with (world.home / "huge.bin").open("wb") as stream:
        stream.truncate(100 << 30)
    began = time.monotonic()
    with pytest.raises(SnapshotTooLargeError) as caught:
        world.capture(capture_from=CaptureFrom.ROOT)
    assert time.monotonic() - began < 2
    assert caught.value.details["limit_bytes"] == 2 * 1024**3


def test_a_root_that_is_too_large_falls_back_to_the_folder(world):
    """With auto, the notebook's folder is captured when the root is over the limit."""
    with (world.home / "huge.bin").open("wb") as stream:
        stream.truncate(100 << 30)
    assert world.capture().work_root == str(world.notebook.parent)


def test_an_unreadable_file_is_named_with_a_hint(world, monkeypatch):
    """A file that the user may not read is named, and how to leave it out."""
    locked = world.home / "locked"
    locked.write_text("x")
    real = os.open

    def refuse(path, *args, **kwargs):
        if path == str(locked):
            raise PermissionError(13, "Permission denied")
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(FileUnreadableError) as caught:
        world.capture()
    assert str(locked) in caught.value.message
    assert ".batchignore" in caught.value.hint


def test_a_file_that_never_holds_still_is_named(world, monkeypatch):
    """A file that is rewritten all the time is named; or left out, and said so."""
    busy = world.home / "busy.log"
    busy.write_bytes(b"0" * 4000)

    def scribble(_seconds: float) -> None:
        busy.write_bytes(os.urandom(4000))

    monkeypatch.setattr(making, "FileReader", partial(FileReader, pause=scribble))
    with pytest.raises(FileUnstableError) as caught:
        world.capture()
    busy.write_bytes(b"1" * 4000)
    summary = world.capture(on_unstable="exclude")
    assert caught.value.details["paths"] == [str(busy)]
    assert any("busy.log" in warning for warning in summary.warnings)
    assert not (world.restore(summary.digest) / "busy.log").exists()


def test_young_files_are_waited_for_together(world, monkeypatch):
    """Each is read twice, some time apart, but many of them take no longer than one."""
    for number in range(50):
        (world.home / f"young-{number}").write_text(str(number))
        (world.prefix / f"lib/young-{number}").write_text(str(number))
    waited = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        time.sleep(seconds)

    monkeypatch.setattr(making, "FileReader", partial(FileReader, pause=wait))
    digest = world.capture().digest
    assert describe_tree(world.restore(digest)) == describe_tree(world.home)
    assert len(waited) < 20


def test_a_young_file_that_changes_after_the_first_look_is_read_as_it_is(world):
    """What was seen first is only compared with, never captured."""
    young = world.home / "young"
    young.write_text("before")
    reader = FileReader(pause=lambda _seconds: None)
    reader.glance(str(young), young.stat())
    young.write_text("behind")
    assert reader.read(str(young)).data == b"behind"
    reader.glance(str(young), young.stat())
    young.unlink()
    with pytest.raises(VanishedFileError):
        reader.read(str(young))


def test_a_large_file_that_changes_while_streamed_is_read_again(tmp_path):
    """A change in the middle of a large file is noticed, and the layer holds one moment's content."""
    world = World(tmp_path)
    large = world.home / "large.bin"
    large.write_bytes(bytes(20 << 20))
    os.utime(large, (OLD_S, OLD_S))
    changed = []

    def meddle(progress) -> None:
        if progress.phase == "work" and not changed and progress.new_bytes:
            changed.append(True)
            with large.open("r+b") as stream:
                stream.seek(19 << 20)
                stream.write(b"changed")

    digest = world.capture(progress=meddle).digest
    assert (world.restore(digest) / "large.bin").read_bytes() == large.read_bytes()


def test_a_notebook_that_is_being_saved_is_read_again(world):
    """A truncated autosave is not captured: the reader waits for a whole notebook."""
    states = iter([NOTEBOOK[:20], NOTEBOOK])

    def save(_seconds: float) -> None:
        for content in states:
            world.notebook.write_text(content)
            return

    world.notebook.write_text(NOTEBOOK[:10])
    reading = FileReader(pause=save).read(str(world.notebook), accept=lambda data: data.endswith(b"}"))
    assert reading.data == NOTEBOOK.encode()


@pytest.mark.parametrize("content", ["", "not json", "[]"])
def test_a_file_that_is_no_notebook_is_refused(world, content):
    """An empty or malformed notebook gives notebook_invalid."""
    world.notebook.write_text(content)
    with pytest.raises(NotebookInvalidError):
        world.capture()


def test_a_missing_notebook_is_refused(world):
    """A notebook that is not there gives notebook_missing."""
    world.notebook.unlink()
    with pytest.raises(NotebookMissingError):
        world.capture()


def test_a_live_database_is_captured_with_its_journal(world):
    """Rows that are still in the write-ahead log are in the Snapshot."""
    connection = sqlite3.connect(world.home / "live.db")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("CREATE TABLE t(x)")
    connection.commit()
    connection.executemany("INSERT INTO t VALUES (?)", [(i,) for i in range(1000)])
    connection.commit()
    restored = world.restore(world.capture().digest)
    connection.close()
    copy = sqlite3.connect(restored / "live.db")
    assert copy.execute("SELECT count(*) FROM t").fetchone() == (1000,)
    copy.close()
    assert not (restored / "live.db-wal").exists()


def test_a_backdated_change_of_the_same_size_is_noticed(world):
    """Size and mtime may be forged; the signature still differs."""
    path = world.home / "data"
    path.write_text("one")
    os.utime(path, (OLD_S, OLD_S))
    world.capture()
    path.write_text("two")
    os.utime(path, (OLD_S, OLD_S))
    assert (world.restore(world.capture().digest) / "data").read_text() == "two"


def test_progress_is_told_and_ends_with_finish(world):
    """The phases come in order."""
    world.capture()
    phases = list(dict.fromkeys(report.phase for report in world.progress))
    assert phases == ["plan", "environment", "work", "finish"]


def test_names_that_mean_deletions_are_refused_visibly(world):
    """A file called .wh.x is left out with a warning, and does not hide x."""
    (world.home / ".wh.x").write_text("")
    (world.home / "x").write_text("x")
    summary = world.capture()
    assert any(".wh.x" in warning for warning in summary.warnings)
    assert (world.restore(summary.digest) / "x").read_text() == "x"


def test_secrets_are_reported_every_time_and_never_shown(world):
    """A token in a notebook is warned about, also when the file did not change; the token is in no warning."""
    token = "ghp_" + "A1b2" * 10
    world.notebook.write_text(json.dumps({"cells": [{"source": token}], "nbformat": 4}))
    for _ in range(2):
        warnings = world.capture().warnings
        assert any("GitHub token" in warning for warning in warnings)
        assert not any(token in warning for warning in warnings)


def test_a_full_disk_at_any_stage_leaves_nothing_half_written(world, monkeypatch):
    """Whichever write fails, there is no tag, no temporary file, and the next capture succeeds."""
    real = os.fsync
    failures = 0
    for allowed in range(100):
        calls = iter(range(10_000))

        def fsync(fd, allowed=allowed, calls=calls):
            if stat.S_ISREG(os.fstat(fd).st_mode) and next(calls) == allowed:
                raise OSError(28, "No space left on device")
            real(fd)

        (world.home / "data").write_text(str(allowed))
        monkeypatch.setattr(os, "fsync", fsync)
        try:
            world.capture(tag=f"t{allowed}")
        except StorageFullError:
            failures += 1
            assert f"t{allowed}" not in dict(world.store.tags())
            assert list((world.data / "store/tmp").iterdir()) == []
        else:
            break
    monkeypatch.setattr(os, "fsync", real)
    assert failures > 3
    assert describe_tree(world.restore(world.capture().digest)) == describe_tree(world.home)


_KILLED = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from snapshot_world import World
world = World.__new__(World)
world.__dict__.update(base=Path(sys.argv[1]), progress=[])
from jupyterlab_ai_batch.oci.layout import ImageLayout
base = world.base
world.home, world.data, world.prefix = base / "home", base / "data", base / "env"
world.notebook, world.store = world.home / "project/n.ipynb", ImageLayout(base / "data/store")
seen = []
def die(progress):
    seen.append(progress)
    if len(seen) >= int(sys.argv[3]):
        os.kill(os.getpid(), 9)
world.capture(progress=die)
"""


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_after_a_kill_the_next_capture_succeeds(world, step):
    """A capture that is killed at any phase leaves nothing in the way of the next."""
    (world.home / "data").write_bytes(os.urandom(3 << 20))
    root = str(Path(__file__).parent)
    done = subprocess.run([sys.executable, "-c", _KILLED, str(world.base), root, str(step)], check=False)
    assert done.returncode == -9
    assert dict(world.store.tags()) == {}
    assert describe_tree(world.restore(world.capture().digest)) == describe_tree(world.home)
    assert list((world.data / "store/tmp").iterdir()) == []


def test_equal_environments_give_equal_layers_whenever_they_were_installed(tmp_path):
    """Two installations at one path, at different times, give the same environment layers."""
    digests = []
    for mtime_s in (OLD_S, OLD_S + 86_400):
        world = World(tmp_path / "world")
        subprocess.run(["rm", "-rf", str(world.prefix)], check=True)
        make_environment(world.prefix, mtime_s=mtime_s)
        image = restore.read_image(world.store, world.capture().digest)
        digests.append([layer.digest for layer in image.with_role(LayerRole.ENVIRONMENT)])
        subprocess.run(["rm", "-rf", str(tmp_path / "world")], check=True)
    assert digests[0] == digests[1]


def test_an_environment_inside_the_work_root_is_an_empty_directory_there(tmp_path):
    """A .venv in the project is captured as environment, not twice."""
    world = World(tmp_path)
    (world.home / "keep").write_text("x")
    world.prefix.rename(world.home / "venv")
    world.prefix = world.home / "venv"
    summary = world.capture()
    restored = world.restore(summary.digest)
    assert list((restored / "venv").iterdir()) == []
    assert restore.read_image(world.store, summary.digest).content.prefixes == (str(world.prefix),)


def test_the_base_index_lists_the_work_tree(world):
    """Each captured file is in the index that travels with the Snapshot."""
    (world.home / "a").write_text("a")
    entries = list(read_work_index(restore.read_base_index(world.store, world.capture().digest)))
    assert [entry.path for entry in entries] == ["a", "project", "project/n.ipynb"]
    assert entries[0].size == 1


def test_the_user_is_told_when_reading_began_and_ended(world):
    """The summary brackets the capture."""
    before = now()
    summary = world.capture()
    assert before <= summary.captured_from <= summary.captured_until <= now()


def test_bytecode_that_its_source_has_outlived_is_not_stored_as_valid(world):
    """The source gets another content of the same size; its layer and the bytecode's must not be mixed."""
    pack = "lib/python3.11/site-packages/pack"
    world.capture()
    tool = world.prefix / pack / "tool.py"
    tool.write_text(tool.read_text().replace("2", "3"))
    made = world.materialise(world.capture().digest).mounts[0].source
    header = (made / pack / "__pycache__/tool.cpython-311.pyc").read_bytes()[:16]
    assert int.from_bytes(header[8:12], "little") != int((made / pack / "tool.py").stat().st_mtime)
