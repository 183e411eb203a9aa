"""Finding what a job changed in its work tree."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from pathlib import Path

import pytest

from jupyterlab_ai_batch.oci.work_index import WorkIndexEntry
from jupyterlab_ai_batch.outputs.changes import BEING_WRITTEN, WorkTree
from jupyterlab_ai_batch.words import FileChange


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def index_of(root: Path) -> dict[str, WorkIndexEntry]:
    entries = {}
    for path in root.rglob("*"):
        found = path.lstat()
        link = str(path.readlink()) if path.is_symlink() else None
        kind = "symlink" if link is not None else "dir" if path.is_dir() else "file"
        content = b"" if kind == "dir" else os.fsencode(link) if link is not None else path.read_bytes()
        name = str(path.relative_to(root))
        entries[name] = WorkIndexEntry(
            path=name,
            type=kind,
            size=found.st_size if kind == "file" else 0,
            mtime_ns=found.st_mtime_ns,
            sha256="" if kind == "dir" else sha(content),
            mode=stat.S_IMODE(found.st_mode),
            target=link,
        )
    return entries


@pytest.fixture
def root(tmp_path):
    """A work tree with a file, a file in a directory, and a link."""
    (tmp_path / "d").mkdir()
    (tmp_path / "a.txt").write_bytes(b"a")
    (tmp_path / "d/b.txt").write_bytes(b"b")
    (tmp_path / "link").symlink_to("a.txt")
    return tmp_path


def tree_of(root: Path, **options) -> WorkTree:
    """Compared with the tree as it is now; every stamp so far counts as before the run."""
    return WorkTree(root, index_of(root), started_ns=time.time_ns() + 10**9, **options)


def found(tree: WorkTree) -> dict[str, FileChange]:
    return {file.path: file.change for file in tree.find_changes().files}


def test_untouched_tree_has_no_changes(root):
    """Nothing done, nothing found."""
    changes = tree_of(root).find_changes()
    assert (changes.files, changes.skipped) == ((), ())


def test_new_changed_and_deleted(root):
    """Each kind of change is told from the others, with digests of both sides."""
    tree = tree_of(root)
    (root / "a.txt").write_bytes(b"aa")
    (root / "d/b.txt").unlink()
    (root / "d/new").write_bytes(b"n")
    (root / "link").unlink()
    (root / "link").symlink_to("d")
    assert found(tree) == {
        "a.txt": FileChange.CHANGED,
        "d/b.txt": FileChange.DELETED,
        "d/new": FileChange.NEW,
        "link": FileChange.CHANGED,
    }
    by_path = {file.path: file for file in tree.find_changes().files}
    assert (by_path["a.txt"].sha256, by_path["a.txt"].base_sha256) == (sha(b"aa"), sha(b"a"))
    assert (by_path["link"].link_target, by_path["link"].sha256) == ("d", sha(b"d"))
    assert by_path["d/new"].base_sha256 is None


def test_rewritten_with_the_same_content_is_not_a_change(root):
    """A new time alone is no change."""
    tree = tree_of(root)
    (root / "a.txt").write_bytes(b"a")
    (root / "a.txt").chmod(0o700)
    os.utime(root / "a.txt")
    assert found(tree) == {}


def test_content_behind_an_old_time_is_found(root):
    """A program that restores size and modification time does not hide its change."""
    before = (root / "a.txt").stat()
    tree = WorkTree(root, index_of(root), started_ns=before.st_ctime_ns)
    (root / "a.txt").write_bytes(b"z")
    os.utime(root / "a.txt", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert found(tree) == {"a.txt": FileChange.CHANGED}


def test_directory_where_a_file_was(root):
    """The file is deleted and the directory's files are new."""
    tree = tree_of(root)
    (root / "a.txt").unlink()
    (root / "a.txt").mkdir()
    (root / "a.txt/x").write_bytes(b"x")
    assert found(tree) == {"a.txt": FileChange.DELETED, "a.txt/x": FileChange.NEW}


def test_noise_is_left_out(root):
    """Caches and notebook checkpoints of the job do not come home."""
    tree = tree_of(root)
    for noise in (".ipynb_checkpoints", "d/__pycache__", ".cache/models", ".local/share/jupyter/runtime"):
        (root / noise).mkdir(parents=True)
        (root / noise / "x").write_bytes(b"x")
    assert found(tree) == {}


def test_empty_directories_make_no_noise(root):
    """IPython makes its directories at home; what a job's kernel puts into them is noise all the same."""
    (root / ".ipython/profile_default/startup").mkdir(parents=True)
    tree = tree_of(root)
    (root / ".ipython/profile_default/startup/README").write_bytes(b"x")
    assert found(tree) == {}


def test_noise_that_was_captured_is_compared(root):
    """What a user took into the Snapshot on purpose is part of the work tree."""
    (root / ".cache").mkdir()
    (root / ".cache/weights").write_bytes(b"w")
    tree = tree_of(root)
    (root / ".cache/weights").write_bytes(b"w2")
    assert found(tree) == {".cache/weights": FileChange.CHANGED}


def test_left_out_paths_are_neither_new_nor_deleted(root):
    """An environment inside the work tree, and the notebook itself, are not looked at."""
    tree = tree_of(root, left_out=["d", ".venv", "a.txt"])
    (root / ".venv").mkdir()
    (root / ".venv/x").write_bytes(b"x")
    (root / "d/b.txt").unlink()
    (root / "a.txt").write_bytes(b"executed")
    assert found(tree) == {}


def test_special_files_are_skipped_with_the_reason(root):
    """A FIFO is never opened and never comes home."""
    tree = tree_of(root)
    os.mkfifo(root / "pipe")
    assert tree.find_changes().skipped == (("pipe", "it is not a file"),)


def test_directory_that_cannot_be_listed_is_not_deleted(root, monkeypatch):
    """Files in a directory without permission are not reported as deleted."""
    tree = tree_of(root)
    real = os.scandir

    def scandir(path):
        if Path(path).name == "d":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr("jupyterlab_ai_batch.outputs.changes.os.scandir", scandir)
    changes = tree.find_changes()
    assert (changes.files, changes.skipped) == ((), (("d", "Permission denied"),))


def test_file_that_moves_while_it_is_read_is_skipped_this_time(root, monkeypatch):
    """fstat before and after: a file that is being written waits for the next scan."""
    tree = tree_of(root)
    (root / "log").write_bytes(b"1")
    real, calls = os.fstat, []

    def fstat(fd):
        calls.append(fd)
        if len(calls) == 2:
            with (root / "log").open("ab") as stream:
                stream.write(b"2")
        return real(fd)

    monkeypatch.setattr("jupyterlab_ai_batch.outputs.changes.os.fstat", fstat)
    assert tree.find_changes().skipped == (("log", BEING_WRITTEN),)
    assert found(tree) == {"log": FileChange.NEW}


def test_second_scan_hashes_only_what_moved(root):
    """A checkpoint of a large unchanged file costs a stat."""
    tree = tree_of(root)
    (root / "big").write_bytes(b"x" * 1000)
    tree.find_changes()
    opened: list[str] = []
    real = os.open

    def count(path, *args, **kwargs):
        opened.append(str(path))
        return real(path, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jupyterlab_ai_batch.outputs.changes.os.open", count)
        (root / "other").write_bytes(b"y")
        assert found(tree) == {"big": FileChange.NEW, "other": FileChange.NEW}
    assert [path for path in opened if path.endswith("big")] == [str(root / "big")]
    assert [path for path in opened if path.endswith("other")] == [str(root / "other")]


def test_names_that_are_not_text(root):
    """Any name is found."""
    tree = tree_of(root)
    (root / os.fsdecode(b"caf\xe9\n.txt")).write_bytes(b"x")
    assert found(tree) == {"caf\udce9\n.txt": FileChange.NEW}


def test_opened_file_is_never_a_link(root):
    """A file that became a link after the scan is refused instead of followed."""
    tree = tree_of(root)
    (root / "a.txt").write_bytes(b"changed")
    (file,) = tree.find_changes().files
    (root / "a.txt").unlink()
    (root / "a.txt").symlink_to("/etc/hostname")
    with pytest.raises(OSError, match=r"[Ss]ymbolic|Too many"):
        tree.open_file(file)
