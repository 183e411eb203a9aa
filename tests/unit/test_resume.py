"""An Attempt that begins with what a former one has saved: all of it, or the beginning; never anything else."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jupyterlab_ai_batch.errors import RegistryUnreachableError
from jupyterlab_ai_batch.models import OutputFile, OutputSet, RunSpec
from jupyterlab_ai_batch.oci.layout import ImageLayout
from jupyterlab_ai_batch.oci.outputset import outputs_tag, read_output_set, store_output_set
from jupyterlab_ai_batch.oci.work_index import WorkIndexEntry, write_work_index
from jupyterlab_ai_batch.outputs.changes import WorkTree
from jupyterlab_ai_batch.outputs.restoring import restore_outputs
from jupyterlab_ai_batch.runner.checkpoint import Outbox
from jupyterlab_ai_batch.runner.claim import Claim
from jupyterlab_ai_batch.runner.remote import RegistryDestination
from jupyterlab_ai_batch.words import FileChange

SUBMISSION = "0123456789abcdef0123456789abcdef"
AT = datetime(2026, 11, 23, 12, 30, tzinfo=timezone.utc)
NOTEBOOK = "n.ipynb"
SNAPSHOT = {NOTEBOOK: "{}", "data.csv": "1,2", "old/notes.txt": "old", "src/a.py": "a = 1"}


class Repository(ImageLayout):
    """Stands for a registry's."""

    def flush(self):
        pass

    def close(self):
        pass


class Away(Repository):
    """Hands out no content."""

    def open_blob(self, digest):
        raise RegistryUnreachableError("It is away.")


class Run:
    """A pod: a fresh work tree with the Snapshot's files, an Outbox, and what it said."""

    def __init__(self, directory: Path, number: int, repository: type[Repository] = Repository) -> None:
        self.work = directory / f"work-{number}"
        plant(self.work, SNAPSHOT)
        index = directory / "index.gz"
        index.write_bytes(write_work_index(index_of(self.work)))
        spec = RunSpec(
            submission_id=SUBMISSION,
            attempt=1,
            work_root=str(self.work),
            notebook=NOTEBOOK,
            kernel_name="python3",
            base_index=str(index),
            outbox=str(directory / f"outbox-{number}" / "own"),
            environment_prefixes=(str(self.work / ".venv"),),
            resume=True,
        )
        claim = Claim(SUBMISSION, pod_uid=f"pod-{number}", notebook=NOTEBOOK, clock=lambda: AT)
        destination = RegistryDestination(claim, SUBMISSION, lambda: repository(directory / "repository"))
        self.outbox = Outbox(spec, destination, clock=lambda: AT, started_ns=0)
        self.said: list[str] = []

    def begin(self) -> Run:
        self.outbox.claim()
        self.outbox.resume(self.said.append)
        self.outbox.open()
        return self

    def write(self, **files: str) -> None:
        plant(self.work, {name.replace("__", "/"): text for name, text in files.items()})

    def save(self, *, complete: bool = False) -> OutputSet:
        return self.outbox.store_final(b"executed", complete=complete)


class World:
    """Pods of one Submission, one after the other."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = Repository(directory / "repository")
        self._pods = 0

    def run(self, repository: type[Repository] = Repository) -> Run:
        self._pods += 1
        return Run(self.directory, self._pods, repository)

    def stored(self, number: int) -> OutputSet:
        return read_output_set(self.store, outputs_tag(SUBMISSION, number))[0]

    def forge(self, number: int, **fields) -> None:
        """An OutputSet as no runner of ours writes it."""
        output_set = OutputSet(
            **{
                "submission_id": SUBMISSION,
                "attempt": number,
                "complete": False,
                "stored_at": AT,
                "executed_notebook": NOTEBOOK,
                **fields,
            }
        )
        tag = outputs_tag(SUBMISSION, number)
        store_output_set(self.store, output_set, lambda _: io.BytesIO(b"x"), tag=tag)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def plant(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def content(root):
    """Every file and link below: its text, or where it leads."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_file():
            found[name] = path.read_text()
    return found


def index_of(root):
    for name, text in content(root).items():
        found, link = (root / name).lstat(), text.removeprefix("-> ") if text.startswith("-> ") else None
        yield WorkIndexEntry(
            path=name,
            type="file" if link is None else "symlink",
            size=found.st_size if link is None else 0,
            mtime_ns=found.st_mtime_ns,
            sha256=hashlib.sha256((text if link is None else link).encode()).hexdigest(),
            mode=0o644,
            target=link,
        )


def one_file(path, **fields):
    sha256 = hashlib.sha256(b"x").hexdigest()
    return OutputFile(**{"path": path, "change": FileChange.NEW, "size_bytes": 1, "sha256": sha256, **fields})


def interrupted(world):
    """An Attempt that changed, made, linked and removed something, and was told to end."""
    first = world.run().begin()
    first.write(model__epoch="3", data__csv="not this")
    (first.work / "data.csv").write_text("1,2,3")
    (first.work / "model/run.sh").write_text("run")
    (first.work / "model/run.sh").chmod(0o755)
    os.utime(first.work / "model/epoch", ns=(7, 7))
    (first.work / "latest").symlink_to("model/epoch")
    (first.work / "old/notes.txt").unlink()
    first.save()
    return first


def test_it_begins_with_what_was_saved_last(world):
    """Files made, changed, linked and removed, with times and modes; the notebook is the one that was submitted."""
    first = interrupted(world)
    second = world.run().begin()
    assert content(first.work) == content(second.work)
    assert (second.work / NOTEBOOK).read_text() == "{}"
    assert (second.work / "model/epoch").stat().st_mtime_ns == 7
    assert stat.S_IMODE((second.work / "model/run.sh").stat().st_mode) == 0o755
    assert second.said == ["continues with 6 files saved by attempt 1"]
    assert [] == [path for path in second.work.iterdir() if path.name.startswith(".ai-batch")]


def test_the_first_attempt_has_nothing_to_say(world):
    assert world.run().begin().said == []


def test_what_was_resumed_belongs_to_the_outputs(world):
    """Unchanged since, it is still what differs from the Snapshot: of this Attempt, and of all that follow."""
    interrupted(world)
    for _ in range(3):
        world.run().begin().save()
    first, fourth = ({(file.path, file.sha256) for file in world.stored(number).files} for number in (1, 4))
    assert first == fourth
    ended = world.run().begin()
    ended.save(complete=True)
    assert {file.path for file in world.stored(1).files} == {file.path for file in world.stored(5).files}


def test_an_attempt_that_ends_at_once_loses_nothing(world):
    """Told to end right after: what is stored in a hurry has all that it began with."""
    interrupted(world)
    second = world.run().begin()
    second.outbox.store_quickly(b"executed")
    assert {file.path for file in world.stored(1).files} == {file.path for file in world.stored(2).files}
    third = world.run()
    third.outbox.claim()  # and one that ended before it could begin
    fourth = world.run().begin()
    assert fourth.said == ["continues with 6 files saved by attempt 2"]


def test_a_file_that_is_being_written_at_the_first_checkpoint_stays_as_it_was_saved(world, monkeypatch):
    """The checkpoint of an Attempt that goes on has either the new content or the saved one."""
    interrupted(world)
    second = world.run().begin()
    hashed = WorkTree._hash
    monkeypatch.setattr(WorkTree, "_hash", lambda tree, path: None if path == "model/epoch" else hashed(tree, path))
    stored = second.outbox.store(b"executed")
    before = {file.path: file for file in world.stored(1).files}
    assert before["model/epoch"] in stored.files


def corrupt(world):
    """The newest OutputSet names a content that is another's."""
    sha256 = next(file.sha256 for file in world.stored(2).files if file.path == "model/epoch")
    path = world.directory / "repository" / "blobs" / "sha256" / sha256
    path.chmod(0o644)
    path.write_bytes(b"4?")


def missing(world):
    sha256 = next(file.sha256 for file in world.stored(2).files if file.path == "model/epoch")
    (world.directory / "repository" / "blobs" / "sha256" / sha256).unlink()


def damaged(world):
    tag = outputs_tag(SUBMISSION, 2)
    world.store.put_manifest(b'{"schemaVersion": 2}', tag=tag, media_type="application/vnd.oci.image.manifest.v1+json")


@pytest.mark.parametrize("harm", [corrupt, missing, damaged])
def test_what_is_damaged_is_passed_over(world, harm):
    """For what was saved before it; and the work tree has nothing of the damaged one."""
    first = interrupted(world)
    second = world.run().begin()
    second.write(model__epoch="4", extra="x")
    second.save()
    harm(world)
    third = world.run().begin()
    assert third.said[0].startswith("what an earlier attempt saved cannot be used: ")
    assert third.said[1:] == ["continues with 6 files saved by attempt 1"]
    assert content(first.work) == content(third.work)


HOSTILE = [
    {"files": (one_file("../out"),)},
    {"files": (one_file("/etc/out"),)},
    {"files": (one_file("a/../../out"),)},
    {"files": (one_file("src/a.py/x"),)},  # below a file
    {"files": (one_file("away/x"), one_file("away", link_target="/tmp", sha256=hashlib.sha256(b"/tmp").hexdigest()))},
    {"files": (one_file("src"),)},  # in place of a directory that is not empty
    {"files": (one_file("x", size_bytes=3),)},
    {"files": (one_file("x"),), "submission_id": "f" * 32},
]


@pytest.mark.parametrize("fields", HOSTILE)
def test_nothing_is_trusted(world, fields):
    """It begins at the beginning, with the Snapshot as it is, and nothing anywhere else."""
    world.forge(1, **fields)
    run = world.run().begin()
    assert content(run.work) == SNAPSHOT
    assert run.said[0].startswith("what an earlier attempt saved cannot be used: ")
    assert run.said[1:] == ["starts from the beginning: there are no saved files to continue with"]
    assert not (world.directory / "out").exists()
    assert not Path("/etc/out").exists()


def test_a_link_of_the_snapshot_is_not_followed(world, tmp_path):
    """Not even where an OutputSet says that there is a directory."""
    outside = tmp_path / "outside"
    outside.mkdir()
    world.forge(1, files=(one_file("src/deep/x"), one_file("door/x")))
    run = world.run()
    (run.work / "door").symlink_to(outside)
    run.begin()
    assert list(outside.iterdir()) == []
    assert not (run.work / "src/deep/x").exists()


def test_the_environment_and_our_own_files_stay(world):
    """What is left out of OutputSets is left out here too."""
    world.forge(1, files=(one_file(".venv/bin/python"), one_file(NOTEBOOK), one_file("kept")))
    run = world.run().begin()
    assert content(run.work) == {**SNAPSHOT, "kept": "x"}


def test_a_run_that_ended_is_not_gone_on_with(world):
    """The same YAML applied once more is another run."""
    first = interrupted(world)
    first.save(complete=True)
    again = world.run().begin()
    assert content(again.work) == SNAPSHOT
    assert again.said == ["starts from the beginning: there are no saved files to continue with"]


def test_a_registry_that_is_away_is_told(world):
    """Then nothing begins: what was saved would be lost."""
    interrupted(world)
    second = world.run(Away)
    with pytest.raises(RegistryUnreachableError):
        second.begin()
    assert content(second.work) == SNAPSHOT


def test_no_room_means_from_the_beginning(world, monkeypatch):
    """What was put in place until then is taken back."""
    interrupted(world)
    second = world.run()
    renamed, rename = [], os.rename

    def fail(source, target, **where):
        renamed.append(target)
        if target == "latest":
            raise OSError(28, "No space left on device")
        rename(source, target, **where)

    monkeypatch.setattr(os, "rename", fail)
    second.begin()
    assert "epoch" in renamed or "data.csv" in renamed
    assert content(second.work) == SNAPSHOT
    assert "what an earlier attempt saved cannot be used: No space left on device" in second.said


names = st.sampled_from(["a", "b", "c"])
paths = st.lists(names, min_size=1, max_size=3).map("/".join)
trees = st.dictionaries(paths, st.sampled_from(["", "1", "22", "-> a", "-> nowhere"]), max_size=6)


def consistent(tree):
    """Without what lies below a file."""
    return {path: text for path, text in tree.items() if not any(path.startswith(f"{other}/") for other in tree)}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=trees, after=trees)
def test_whatever_a_job_does_to_its_files_is_restored(tmp_path_factory, before, after):
    """Snapshot + what changed = what the job left, for all that becomes something else."""
    directory = tmp_path_factory.mktemp("trees")
    snapshot, job = directory / "snapshot", directory / "job"
    for root, tree in ((snapshot, consistent(before)), (job, consistent(after))):
        root.mkdir()
        for path, text in tree.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            if text.startswith("-> "):
                (root / path).symlink_to(text[3:])
            else:
                (root / path).write_text(text)
    base = {entry.path: entry for entry in index_of(snapshot)}
    changes = WorkTree(job, base, started_ns=0).find_changes()
    blobs = {file.sha256: (job / file.path).read_bytes() for file in changes.files if is_file(file)}
    restore_outputs(changes.files, lambda sha256: io.BytesIO(blobs[sha256]), snapshot)
    assert content(job) == content(snapshot)


def is_file(file):
    return file.change is not FileChange.DELETED and file.link_target is None


def test_the_local_queue_s_outboxes(tmp_path):
    """Beside the job: each Attempt has a layout of its own; the newest that is sound counts."""
    from jupyterlab_ai_batch.queues.local.outbox import find_former
    from jupyterlab_ai_batch.queues.local.paths import QueuePaths

    paths = QueuePaths(tmp_path)
    for number, files in ((1, (one_file("a"),)), (2, ()), (3, (one_file("b"),)), (4, (one_file("c"),))):
        outbox = paths.run(SUBMISSION, number).outbox
        made = OutputSet(
            submission_id=SUBMISSION,
            attempt=number,
            complete=False,
            stored_at=AT,
            executed_notebook=NOTEBOOK,
            files=files,
        )
        store_output_set(ImageLayout(outbox), made, lambda _: io.BytesIO(b"x"))
    (paths.run(SUBMISSION, 4).outbox / "index.json").write_text("{")
    found = [outbox.parent.name for outbox in find_former(paths, SUBMISSION, before=5)]
    assert found == ["3", "1"]
    assert find_former(paths, SUBMISSION, before=1) == []
