"""Merging outputs into a home: nothing of either side is ever lost."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jupyterlab_ai_batch.errors import OutputError, SnapshotCorruptError, StorageFullError
from jupyterlab_ai_batch.models import MergeEntry, MergeReport, OutputFile, OutputSet
from jupyterlab_ai_batch.outputs import directories as directories_module
from jupyterlab_ai_batch.outputs import home as home_module
from jupyterlab_ai_batch.outputs.merge import merge_outputs
from jupyterlab_ai_batch.words import FileChange, MergeAction

NOW = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)
SHORT = "1a2b3c4d"
NOTEBOOK = "train.ipynb"

Tree = Mapping[str, bytes]


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def changed_files(base: Tree, job: Tree) -> list[OutputFile]:
    files = [
        OutputFile(
            path=path,
            change=FileChange.CHANGED if path in base else FileChange.NEW,
            size_bytes=len(content),
            sha256=sha(content),
            base_sha256=sha(base[path]) if path in base else None,
            mtime_ns=1_700_000_000_000_000_000,
        )
        for path, content in job.items()
        if base.get(path) != content
    ]
    deleted = [OutputFile(path=path, change=FileChange.DELETED) for path in base if path not in job]
    return sorted(files + deleted, key=lambda file: file.path)


def output_set(files: list[OutputFile], **options: Any) -> OutputSet:
    return OutputSet(
        submission_id=f"{SHORT}ffff",
        attempt=1,
        complete=True,
        stored_at=NOW,
        executed_notebook=NOTEBOOK,
        files=tuple(files),
        **options,
    )


def open_from(*contents: bytes) -> Callable[[str], BinaryIO]:
    blobs = {sha(content): content for content in contents}
    return lambda digest: io.BytesIO(blobs[digest])


def merge(home: Path, base: Tree, job: Tree, **options: Any) -> MergeReport:
    return merge_set(home, output_set(changed_files(base, job)), base, tuple(job.values()), **options)


def merge_set(home: Path, outputs: OutputSet, base: Tree, blobs: tuple[bytes, ...], **options: Any) -> MergeReport:
    return merge_outputs(
        outputs,
        options.pop("open_blob", open_from(*blobs)),
        {path: sha(content) for path, content in base.items()},
        home,
        **{
            "submission_short_id": SHORT,
            "replace_notebook": False,
            "dry_run": False,
            "clock": lambda: NOW,
            **options,
        },
    )


def write_tree(root: Path, tree: Tree) -> None:
    for path, content in tree.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)


def read_tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def action_of(report: MergeReport, path: str) -> MergeEntry:
    return next(entry for entry in report.entries if entry.path == path)


# --- the rule, file by file ---


def test_new_file_comes_home_with_mode_and_time(tmp_path):
    """A file that only the job has is created, without setuid and with its modification time."""
    file = OutputFile(
        path="out/model.bin", change=FileChange.NEW, size_bytes=2, sha256=sha(b"mm"), mode=0o4755, mtime_ns=10**18
    )
    report = merge_set(tmp_path, output_set([file]), {}, (b"mm",))
    found = (tmp_path / "out/model.bin").stat()
    assert report.entries == (
        MergeEntry(path="out/model.bin", action=MergeAction.CREATED, installed_as="out/model.bin"),
    )
    assert (stat.S_IMODE(found.st_mode), found.st_mtime_ns) == (0o755, 10**18)


def test_modification_time_in_the_future_becomes_now(tmp_path):
    """A job with a fast clock leaves no file from the future."""
    file = OutputFile(path="a", change=FileChange.NEW, size_bytes=1, sha256=sha(b"a"), mtime_ns=4 * 10**18)
    merge_set(tmp_path, output_set([file]), {}, (b"a",))
    assert (tmp_path / "a").stat().st_mtime_ns == int(NOW.timestamp()) * 10**9


def test_untouched_file_is_updated(tmp_path):
    """What the user did not touch takes the job's version."""
    write_tree(tmp_path, {"a.txt": b"base"})
    report = merge(tmp_path, {"a.txt": b"base"}, {"a.txt": b"job"})
    assert action_of(report, "a.txt").action is MergeAction.UPDATED
    assert read_tree(tmp_path) == {"a.txt": b"job"}


def test_file_changed_on_both_sides_is_kept_twice(tmp_path):
    """The user's version stays in place, the job's lies beside it."""
    write_tree(tmp_path, {"d/plot.png": b"mine"})
    report = merge(tmp_path, {"d/plot.png": b"base"}, {"d/plot.png": b"job"})
    entry = action_of(report, "d/plot.png")
    assert (entry.action, entry.installed_as) == (MergeAction.KEPT_BOTH, f"d/plot (batch {SHORT}).png")
    assert read_tree(tmp_path) == {"d/plot.png": b"mine", f"d/plot (batch {SHORT}).png": b"job"}
    assert report.conflicts == 1


def test_same_change_on_both_sides_is_nothing(tmp_path):
    """Equal results are not a conflict."""
    write_tree(tmp_path, {"a": b"same"})
    assert action_of(merge(tmp_path, {"a": b"base"}, {"a": b"same"}), "a").action is MergeAction.UNCHANGED
    assert read_tree(tmp_path) == {"a": b"same"}


def test_file_deleted_by_the_job_stays_at_home(tmp_path):
    """A deletion in the job deletes nothing at home."""
    write_tree(tmp_path, {"a": b"base"})
    assert action_of(merge(tmp_path, {"a": b"base"}, {}), "a").action is MergeAction.KEPT_HOME
    assert read_tree(tmp_path) == {"a": b"base"}


def test_file_deleted_at_home_and_changed_by_the_job_comes_under_another_name(tmp_path):
    """The user's deletion is respected and the job's work is not lost."""
    report = merge(tmp_path, {"a.csv": b"base"}, {"a.csv": b"job"})
    assert action_of(report, "a.csv").action is MergeAction.KEPT_BOTH
    assert read_tree(tmp_path) == {f"a (batch {SHORT}).csv": b"job"}


def test_conflict_name_that_is_taken_gets_a_number(tmp_path):
    """An older conflict copy is never overwritten."""
    write_tree(tmp_path, {"a.txt": b"mine", f"a (batch {SHORT}).txt": b"older"})
    report = merge(tmp_path, {"a.txt": b"base"}, {"a.txt": b"job"})
    assert action_of(report, "a.txt").installed_as == f"a (batch {SHORT} 2).txt"
    assert (tmp_path / f"a (batch {SHORT}).txt").read_bytes() == b"older"


def test_very_long_name_has_a_conflict_copy_too(tmp_path):
    """The conflict name is cut to what a file system takes."""
    name = "é" * 125 + ".txt"
    write_tree(tmp_path, {name: b"mine"})
    installed = action_of(merge(tmp_path, {name: b"base"}, {name: b"job"}), name).installed_as
    assert installed is not None
    assert (tmp_path / installed).read_bytes() == b"job"


def test_parent_that_is_a_file_at_home_becomes_a_conflict_directory(tmp_path):
    """A file of the user's where the job has a directory stays."""
    write_tree(tmp_path, {"out": b"a file"})
    report = merge(tmp_path, {}, {"out/a/b.txt": b"job"})
    entry = action_of(report, "out/a/b.txt")
    assert (entry.action, entry.installed_as) == (MergeAction.KEPT_BOTH, f"out (batch {SHORT})/a/b.txt")
    assert read_tree(tmp_path) == {"out": b"a file", f"out (batch {SHORT})/a/b.txt": b"job"}


def test_directory_at_home_where_the_job_has_a_file_stays(tmp_path):
    """The job's file comes beside the directory."""
    write_tree(tmp_path, {"out/mine": b"m"})
    merge(tmp_path, {}, {"out": b"job"})
    assert read_tree(tmp_path) == {"out/mine": b"m", f"out (batch {SHORT})": b"job"}


# --- the notebook ---


def test_executed_notebook_lands_beside_the_original(tmp_path):
    """Whatever happened to the original, the executed one has its own name."""
    write_tree(tmp_path, {NOTEBOOK: b"mine"})
    report = merge(tmp_path, {NOTEBOOK: b"base"}, {NOTEBOOK: b"executed"})
    assert report.executed_notebook == f"train.batch-{SHORT}.ipynb"
    assert report.conflicts == 0
    assert read_tree(tmp_path) == {NOTEBOOK: b"mine", f"train.batch-{SHORT}.ipynb": b"executed"}


def test_executed_notebook_replaces_an_untouched_original_when_asked(tmp_path):
    """replace_notebook puts it in the original's place."""
    write_tree(tmp_path, {NOTEBOOK: b"base"})
    report = merge(tmp_path, {NOTEBOOK: b"base"}, {NOTEBOOK: b"executed"}, replace_notebook=True)
    assert report.executed_notebook == NOTEBOOK
    assert read_tree(tmp_path) == {NOTEBOOK: b"executed"}


def test_executed_notebook_never_replaces_an_edited_original(tmp_path):
    """replace_notebook is three-way too."""
    write_tree(tmp_path, {NOTEBOOK: b"edited"})
    report = merge(tmp_path, {NOTEBOOK: b"base"}, {NOTEBOOK: b"executed"}, replace_notebook=True)
    assert (report.executed_notebook, report.conflicts) == (f"train.batch-{SHORT}.ipynb", 1)
    assert read_tree(tmp_path) == {NOTEBOOK: b"edited", f"train.batch-{SHORT}.ipynb": b"executed"}


# --- links and paths ---


def link(path: str, target: str) -> OutputFile:
    return OutputFile(path=path, change=FileChange.NEW, sha256=sha(target.encode()), link_target=target)


def test_symlink_comes_home_as_it_is(tmp_path):
    """A link of the job's is installed as a link and nothing is written through it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    home = tmp_path / "home"
    home.mkdir()
    files = [
        link("link", str(outside)),
        OutputFile(path="link/x", change=FileChange.NEW, size_bytes=1, sha256=sha(b"x")),
    ]
    merge_set(home, output_set(files), {}, (b"x",))
    assert str((home / "link").readlink()) == str(outside)
    assert list(outside.iterdir()) == []
    assert (home / f"link (batch {SHORT})/x").read_bytes() == b"x"


def test_symlink_planted_at_home_is_not_followed(tmp_path):
    """A directory that became a link at home does not lead a file out of it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    home = tmp_path / "home"
    home.mkdir()
    (home / "out").symlink_to(outside)
    merge(home, {}, {"out/x": b"job"})
    assert list(outside.iterdir()) == []
    assert (home / f"out (batch {SHORT})/x").read_bytes() == b"job"


def test_untouched_symlink_is_retargeted(tmp_path):
    """A link is merged three ways like a file."""
    (tmp_path / "latest").symlink_to("run-1")
    outputs = output_set([link("latest", "run-2")])
    merge_set(tmp_path, outputs, {"latest": b"run-1"}, ())
    assert str((tmp_path / "latest").readlink()) == "run-2"


def test_file_linked_at_home_is_not_written_through(tmp_path):
    """Home's link to somewhere else counts as the user's change."""
    write_tree(tmp_path, {"elsewhere": b"base"})
    (tmp_path / "a").symlink_to("elsewhere")
    merge(tmp_path, {"a": b"base"}, {"a": b"job"})
    assert (tmp_path / "elsewhere").read_bytes() == b"base"
    assert (tmp_path / f"a (batch {SHORT})").read_bytes() == b"job"


@pytest.mark.parametrize(
    "path", ["../x", "/etc/x", "a/../../x", "a//b", "./a", "", "a\0b", "x" * 256, "a/" * 3000 + "b"]
)
def test_path_that_leaves_the_home_is_refused(tmp_path, path):
    """A hostile OutputSet installs nothing at all."""
    good = OutputFile(path="good", change=FileChange.NEW, size_bytes=1, sha256=sha(b"x"))
    bad = OutputFile(path=path, change=FileChange.NEW, size_bytes=1, sha256=sha(b"x"))
    with pytest.raises(SnapshotCorruptError):
        merge_set(tmp_path, output_set([good, bad]), {}, (b"x",))
    assert list(tmp_path.iterdir()) == []


def test_names_that_are_not_text_or_hold_newlines_come_home(tmp_path):
    """Any name that a file system takes is merged."""
    names = ["caf\udce9.txt", "two\nlines", "tab\there", " (batch) ", "-rf"]
    merge(tmp_path, {}, {name: name.encode("utf-8", "surrogateescape") for name in names})
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


# --- failures ---


def test_dry_run_says_the_same_and_writes_nothing(tmp_path):
    """The plan of a merge is its report, and the home stays as it is."""
    base = {"u": b"base", "c.txt": b"base", NOTEBOOK: b"nb", "gone": b"g"}
    home = {"u": b"base", "c.txt": b"mine", NOTEBOOK: b"nb", "gone": b"g"}
    job = {"u": b"job", "c.txt": b"job", NOTEBOOK: b"run", "new/deep": b"n"}
    write_tree(tmp_path, home)
    planned = merge(tmp_path, base, job, dry_run=True)
    assert read_tree(tmp_path) == home
    done = merge(tmp_path, base, job)
    assert planned.entries == done.entries
    assert (planned.dry_run, done.dry_run) == (True, False)


def test_content_that_is_not_what_the_digest_says_is_not_installed(tmp_path):
    """A damaged blob leaves the old file, no leftovers, and the other files come home."""
    write_tree(tmp_path, {"a": b"base"})
    outputs = output_set(changed_files({"a": b"base"}, {"a": b"good", "b": b"fine"}))
    with pytest.raises(OutputError) as caught:
        merge_set(
            tmp_path,
            outputs,
            {"a": b"base"},
            (),
            open_blob=lambda digest: io.BytesIO(b"evil" if digest == sha(b"good") else b"fine"),
        )
    assert read_tree(tmp_path) == {"a": b"base", "b": b"fine"}
    assert caught.value.details["done"] == ["b"]
    assert caught.value.details["failed"][0][0] == "a"


def test_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch):
    """ENOSPC is reported as such, says what is done, and the file that failed is as it was."""
    write_tree(tmp_path, {"b": b"base"})

    def write_all(target: BinaryIO, chunk: bytes) -> None:
        if chunk == b"job b":
            target.write(chunk[:2])
            raise OSError(errno.ENOSPC, "No space left on device")
        target.write(chunk)

    monkeypatch.setattr(home_module, "_write_all", write_all)
    with pytest.raises(StorageFullError) as caught:
        merge(tmp_path, {"b": b"base"}, {"a": b"job a", "b": b"job b", "c": b"job c"})
    assert read_tree(tmp_path) == {"a": b"job a", "b": b"base"}
    assert caught.value.details["done"] == ["a"]


def test_missing_home_is_a_clear_error(tmp_path):
    """A home that was removed is named."""
    with pytest.raises(OutputError, match="cannot be opened"):
        merge(tmp_path / "gone", {}, {"a": b"a"})


def test_skipped_files_are_reported(tmp_path):
    """What the job could not store appears in the report with its reason."""
    report = merge_set(tmp_path, output_set([], skipped=(("sock", "it is not a file"),)), {}, ())
    assert report.entries == (MergeEntry(path="sock", action=MergeAction.REFUSED, reason="it is not a file"),)


# --- races and kills ---


class Killed(BaseException):
    """Stands for SIGKILL: nothing, not even clean-up, has an effect any more."""


MUTATING = ("open", "rename", "link", "unlink", "symlink", "mkdir", "fchmod", "utime", "fsync")


class InterruptedOs:
    """The os module up to a step, then ``act`` happens."""

    def __init__(self, step: int, act: Callable[[int], None]) -> None:
        self.steps = 0
        self._step = step
        self._act = act

    def tick(self) -> None:
        self.steps += 1
        if self.steps >= self._step:
            self._act(self.steps - self._step)

    def __getattr__(self, name: str) -> Any:
        original = getattr(os, name)
        if name not in MUTATING:
            return original

        def call(*args: Any, **kwargs: Any) -> Any:
            self.tick()
            return original(*args, **kwargs)

        return call


@contextmanager
def interrupted(step: int, act: Callable[[int], None], *, exchange: bool = True) -> Iterator[InterruptedOs]:
    proxy = InterruptedOs(step, act)
    real_os, real_rename = home_module.os, home_module._renameat2

    def renameat2(directory: int, old: str, new: str, flags: int) -> None:
        proxy.tick()
        if not exchange:
            raise OSError(errno.EINVAL, "not supported")
        real_rename(directory, old, new, flags)

    directories_module.os = proxy  # type: ignore[attr-defined]
    home_module.os, home_module._renameat2 = proxy, renameat2  # type: ignore[attr-defined,assignment]
    try:
        yield proxy
    finally:
        directories_module.os = real_os  # type: ignore[attr-defined]
        home_module.os, home_module._renameat2 = real_os, real_rename  # type: ignore[attr-defined]


def kill(_: int) -> None:
    raise Killed


def do_nothing(_: int) -> None:
    pass


paths = st.sampled_from(["a.txt", "b", "d/a.txt", "d/e/f.bin", "d/e", "d", NOTEBOOK, ".hidden", "a b.tar.gz"])
contents = st.sampled_from([b"", b"1", b"2", b"three", b"4" * 5000])


def is_consistent(tree: Tree) -> bool:
    return not any(other.startswith(f"{path}/") for path in tree for other in tree)


trees = st.dictionaries(paths, contents, max_size=6).filter(is_consistent)


@st.composite
def edits(draw: Callable[[Any], Any]) -> tuple[dict[str, bytes], dict[str, bytes], dict[str, bytes]]:
    """(base, job, home): both sides edited at random from a common base."""
    base = draw(trees)

    def edit() -> dict[str, bytes]:
        kept = {path: content for path, content in base.items() if draw(st.booleans())}
        edited = {**kept, **draw(trees)}
        return edited if is_consistent(edited) else kept

    return base, edit(), edit()


def assert_nothing_lost(base: Tree, job: Tree, home: Tree, after: Tree) -> None:
    for path, content in home.items():
        if content != base.get(path):
            assert content in after.values(), f"home's {path} is lost"
    for path, content in job.items():
        if content != base.get(path):
            assert content in after.values(), f"the job's {path} is lost"
    for path in home:
        assert path in after, f"{path} was deleted at home"
    assert not [path for path in after if ".ai-batch-" in path], "left over"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(edits(), st.booleans(), st.booleans())
def test_nothing_of_either_side_is_lost(sides, replace_notebook, exchange):
    """After any edits on both sides every version of both exists, and merging again changes nothing."""
    base, job, home = sides
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_tree(root, home)
        with interrupted(10**9, do_nothing, exchange=exchange):
            merge(root, base, job, replace_notebook=replace_notebook)
            after = read_tree(root)
            assert_nothing_lost(base, job, home, after)
            merge(root, base, job, replace_notebook=replace_notebook)
        assert read_tree(root) == after


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(edits(), st.booleans())
def test_dry_run_foretells_any_merge(sides, replace_notebook):
    """Whatever the edits, a dry run reports what the merge then does, and touches nothing."""
    base, job, home = sides
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_tree(root, home)
        planned = merge(root, base, job, replace_notebook=replace_notebook, dry_run=True)
        assert read_tree(root) == home
        done = merge(root, base, job, replace_notebook=replace_notebook)
        assert planned.executed_notebook == done.executed_notebook
        assert planned.conflicts == done.conflicts
        assert [entry.path for entry in planned.entries] == [entry.path for entry in done.entries]
        installed = {entry.installed_as for entry in done.entries if entry.installed_as}
        assert {entry.installed_as for entry in planned.entries if entry.installed_as} == installed


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(edits(), st.integers(1, 60), st.booleans(), st.booleans())
def test_killed_anywhere_and_run_again_is_the_same(sides, step, replace_notebook, exchange):
    """A merge killed at any system call and run again ends in the tree of one that was not."""
    base, job, home = sides
    with tempfile.TemporaryDirectory() as name:
        undisturbed, killed = Path(name, "undisturbed"), Path(name, "killed")
        for root in (undisturbed, killed):
            root.mkdir()
            write_tree(root, home)
        merge(undisturbed, base, job, replace_notebook=replace_notebook)
        with interrupted(step, kill, exchange=exchange), suppress(Killed):
            merge(killed, base, job, replace_notebook=replace_notebook)
        merge(killed, base, job, replace_notebook=replace_notebook)
        assert read_tree(killed) == read_tree(undisturbed)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(1, 25), st.booleans(), st.booleans())
def test_save_during_the_merge_is_not_lost(step, in_place, then_killed):
    """What an editor saves at any moment of an update survives, also when the merge is killed right after."""

    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_tree(root, {"a.txt": b"base"})

        def save(since: int) -> None:
            if since == 0 and in_place:
                (root / "a.txt").write_bytes(b"saved")
            elif since == 0:
                (root / "elsewhere").write_bytes(b"saved")
                (root / "elsewhere").replace(root / "a.txt")
            elif then_killed:
                raise Killed

        with interrupted(step, save) as proxy, suppress(Killed):
            merge(root, {"a.txt": b"base"}, {"a.txt": b"job"})
        merge(root, {"a.txt": b"base"}, {"a.txt": b"job"})
        if proxy.steps >= step:
            assert b"saved" in read_tree(root).values()
        assert not [path for path in read_tree(root) if ".ai-batch-" in path]
