from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from snapshot_forgery import END, Forgery, directory, entry
from snapshot_world import OLD_S, World, describe_environment, describe_tree

from jupyterlab_ai_batch.errors import SnapshotCorruptError, StorageError, StorageFullError
from jupyterlab_ai_batch.oci.manifest import LayerRole
from jupyterlab_ai_batch.snapshot import environment_live, restore

PACK = "lib/python3.11/site-packages/pack"


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_newer_layers_hide_older_ones(tmp_path):
    """Whiteouts reach older layers only; a file hides what lay below a directory of its name."""
    forgery = Forgery()
    forgery.add(entry(b"w/gone") + entry(b"w/back") + directory(b"w/d") + entry(b"w/d/x") + END)
    forgery.add(entry(b"w/.wh.gone") + entry(b"w/.wh.back") + entry(b"w/back", b"22") + entry(b"w/d", b"333") + END)
    (tmp_path / "target").mkdir()
    restore.restore_work(forgery.store, forgery.finish(), tmp_path / "target")
    assert {p.name: p.read_text() for p in (tmp_path / "target").iterdir()} == {"back": "22", "d": "333"}


def test_a_damaged_layer_is_refused(world):
    """A flipped byte in a stored layer gives snapshot_corrupt."""
    (world.home / "data").write_bytes(os.urandom(100_000))
    digest = world.capture().digest
    layer = restore.read_image(world.store, digest).with_role(LayerRole.WORK)[0]
    blob = world.store.path / "blobs/sha256" / layer.digest[7:]
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.write_bytes(content)
    with pytest.raises(SnapshotCorruptError):
        world.restore(digest)


def test_a_missing_layer_is_refused(world):
    """So does one that is gone."""
    digest = world.capture().digest
    layer = restore.read_image(world.store, digest).with_role(LayerRole.WORK)[0]
    (world.store.path / "blobs/sha256" / layer.digest[7:]).unlink()
    with pytest.raises(SnapshotCorruptError):
        world.restore(digest)


def test_an_unchanged_environment_is_linked_not_copied(world):
    """No byte is copied, and the tree is the live one's."""
    view = world.materialise(world.capture().digest)
    (mount,) = view.mounts
    assert (view.copied_bytes, mount.path, mount.live) == (0, world.prefix, False)
    made, live = describe_environment(mount.source), describe_environment(world.prefix)
    assert made == live
    assert (mount.source / PACK / "tool.py").stat().st_ino == (world.prefix / PACK / "tool.py").stat().st_ino


def test_what_changed_before_is_taken_from_the_layers(world):
    """Upgraded, edited, touched and removed files come out as captured; .pyc files fit their sources."""
    expected = describe_environment(world.prefix)
    digest = world.capture().digest
    package = world.prefix / PACK
    (package / "tool.py").unlink()
    (package / "tool.py").write_text("def use():\n    return 3\n")
    (package / "__init__.py").write_text("VALUE = 9\n")
    (package / "__pycache__/tool.cpython-311.pyc").unlink()
    (world.prefix / "bin/tool").chmod(0o600)
    view = world.materialise(digest)
    made = view.mounts[0].source
    assert describe_environment(made) == expected
    assert view.copied_bytes > 0


@pytest.mark.parametrize("gone", ["tool.py", "__pycache__/tool.cpython-311.pyc"])
def test_bytecode_is_valid_beside_a_source_that_came_another_way(world, gone):
    """One of the two is linked, the other comes from its layer: nothing is compiled again."""
    expected = describe_environment(world.prefix)
    digest = world.capture().digest
    (world.prefix / PACK / gone).unlink()
    assert describe_environment(world.materialise(digest).mounts[0].source) == expected


def test_an_upgrade_after_does_not_reach_the_job(world):
    """Installers replace files: the linked one stays as it was."""
    view = world.materialise(world.capture().digest)
    tool = world.prefix / PACK / "tool.py"
    tool.with_suffix(".new").write_text("changed")
    tool.with_suffix(".new").replace(tool)
    assert "return 2" in (view.mounts[0].source / PACK / "tool.py").read_text()


def test_an_edit_in_place_is_repaired_at_the_next_use(world):
    """The link is dropped, the captured file extracted, the user's edit stays in the live environment."""
    digest = world.capture().digest
    view = world.materialise(digest)
    tool = world.prefix / PACK / "tool.py"
    with tool.open("r+") as stream:
        stream.write("EDIT")
    os.utime(tool, (OLD_S, OLD_S))
    assert world.materialise(digest).mounts == view.mounts
    assert (view.mounts[0].source / PACK / "tool.py").read_text() == "def use():\n    return 2\n"
    assert tool.read_text().startswith("EDIT")


def test_linking_does_not_make_the_next_capture_read_everything(world, monkeypatch):
    """The index learns the ctimes that linking moved."""
    first = world.capture()
    world.materialise(first.digest)
    progress = []
    second = world.capture(progress=progress.append)
    assert (second.digest, second.new_bytes) == (first.digest, 0)


@pytest.mark.parametrize("code", [1, 18])
def test_where_links_are_refused_files_are_copied(world, monkeypatch, code):
    """EPERM and EXDEV mean a copy from the layers, as long as the user can write to the prefix."""
    digest = world.capture().digest

    def refuse(*_args, **_kwargs):
        raise OSError(code, "refused")

    monkeypatch.setattr(os, "link", refuse)
    view = world.materialise(digest)
    assert (view.linked_files, view.mounts[0].live) == (0, False)
    assert describe_environment(view.mounts[0].source) == describe_environment(world.prefix)


def test_a_prefix_that_nobody_can_change_is_used_as_it_is(world, monkeypatch):
    """Not linkable, not writable, unchanged: mounted live, and said so."""
    digest = world.capture().digest

    def refuse(*_args, **_kwargs):
        raise OSError(18, "refused")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(environment_live.os, "access", lambda *_args: False)
    view = world.materialise(digest)
    assert (view.mounts[0].live, view.mounts[0].source, len(view.warnings)) == (True, world.prefix, 1)


def test_editable_sources_are_always_copied(world):
    """An editor writes in place: a shared inode would let the edit through."""
    source = world.base / "src"
    (source / "__pycache__").mkdir(parents=True)
    (source / "mod.py").write_text("x = 1\n")
    digest = world.capture(editable_sources=(source,)).digest
    view = world.materialise(digest)
    mount = next(mount for mount in view.mounts if mount.path == source)
    (source / "mod.py").write_text("x = 2\n")
    assert (mount.source / "mod.py").read_text() == "x = 1\n"
    assert not (mount.source / "__pycache__").exists()


def test_callers_at_the_same_time_get_one_environment(world):
    """Several threads ask for one target; all get the same view."""
    digest = world.capture().digest
    with ThreadPoolExecutor(4) as pool:
        views = list(pool.map(lambda _: world.materialise(digest), range(4)))
    assert [view.mounts for view in views] == [views[0].mounts] * 4


def test_a_full_disk_leaves_no_half_made_environment(world, monkeypatch):
    """ENOSPC gives storage_full; the next call succeeds."""
    digest = world.capture().digest
    real = os.fsync
    monkeypatch.setattr(os, "link", lambda *_a, **_k: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(StorageFullError):
        world.materialise(digest)
    assert [path.name for path in world.base.glob("*made*") if path.is_dir()] == []
    monkeypatch.undo()
    assert os.fsync is real
    assert world.materialise(digest).linked_files > 0


def test_the_environment_digest_depends_on_content_only(world):
    """Editing the work tree keeps it; installing something changes it."""
    first = restore.environment_digest(world.store, world.capture().digest)
    (world.home / "new").write_text("x")
    second = restore.environment_digest(world.store, world.capture().digest)
    (world.prefix / PACK / "extra.py").write_text("x")
    third = restore.environment_digest(world.store, world.capture().digest)
    assert first == second
    assert third != first


def test_layers_are_what_other_tools_expect(world):
    """GNU tar unpacks base and delta to the same tree, applying whiteouts by hand."""
    (world.home / "gone").write_text("x")
    (world.home / "ballast").write_bytes(os.urandom(50_000))
    world.capture()
    (world.home / "gone").unlink()
    (world.home / "new").write_text("y")
    image = restore.read_image(world.store, world.capture().digest)
    out = world.base / "out"
    out.mkdir()
    for layer in image.with_role(LayerRole.WORK):
        blob = world.store.path / "blobs/sha256" / layer.digest[7:]
        subprocess.run(["tar", "-xzpf", str(blob), "-C", str(out)], check=True)
    root = out / str(world.home).lstrip("/")
    for mark in root.rglob(".wh.*"):
        (mark.parent / mark.name[4:]).unlink()
        mark.unlink()
    os.utime(root, ns=(world.home.stat().st_mtime_ns,) * 2)
    assert describe_tree(root) == describe_tree(world.home)


def test_pyc_files_in_the_layers_are_valid_beside_their_sources(world):
    """A job that runs the image as it is compiles nothing anew."""
    image = restore.read_image(world.store, world.capture().digest)
    out = world.base / "out"
    out.mkdir()
    for layer in image.with_role(LayerRole.ENVIRONMENT):
        blob = world.store.path / "blobs/sha256" / layer.digest[7:]
        subprocess.run(["tar", "-xzpf", str(blob), "-C", str(out)], check=True)
    site = out / str(world.prefix).lstrip("/") / PACK
    for pyc in Path(site).glob("__pycache__/*.pyc"):
        source = site / f"{pyc.name.split('.')[0]}.py"
        assert int.from_bytes(pyc.read_bytes()[8:12], "little") == int(source.stat().st_mtime)


def test_a_copied_file_that_is_damaged_is_repaired_at_the_next_use(world):
    """Not only links are looked at."""
    digest = world.capture().digest
    away = world.prefix.with_name("away")
    world.prefix.rename(away)
    view = world.materialise(digest)
    made = view.mounts[0].source
    expected = describe_environment(made)
    (made / PACK / "tool.py").unlink()
    (made / PACK / "__init__.py").write_text("VALUE = 7\n")
    assert world.materialise(digest) == view
    assert describe_environment(made) == expected == describe_environment(away)


@pytest.mark.parametrize("name", ["view.json", "files.json.gz"])
def test_a_damaged_note_is_said_so(world, name):
    """With what to remove."""
    digest = world.capture().digest
    world.materialise(digest)
    (world.base / "made" / name).write_bytes(b"\x1f\x8bgarbage")
    with pytest.raises(StorageError, match="damaged") as caught:
        world.materialise(digest)
    assert str(world.base / "made") in caught.value.hint
