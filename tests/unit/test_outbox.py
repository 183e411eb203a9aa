"""What the runner stores, and what it does when a repository changes under it."""

from __future__ import annotations

import io
from datetime import datetime, timezone
from pathlib import Path

import pytest

from jupyterlab_ai_batch.errors import RegistryError, RegistryUnreachableError
from jupyterlab_ai_batch.models import OutputSet, RunSpec
from jupyterlab_ai_batch.oci.layout import ImageLayout
from jupyterlab_ai_batch.oci.outputset import open_log, outputs_tag, read_output_set, store_output_set
from jupyterlab_ai_batch.runner.attempt_log import AttemptLog
from jupyterlab_ai_batch.runner.checkpoint import SMALL_LOG_BYTES, Outbox
from jupyterlab_ai_batch.runner.claim import Claim
from jupyterlab_ai_batch.runner.remote import RegistryDestination

SUBMISSION = "0123456789abcdef0123456789abcdef"
AT = datetime(2026, 11, 22, 12, 30, tzinfo=timezone.utc)


class Repository(ImageLayout):
    """Stands for a registry's; what comes ``before_…`` is called then."""

    def __init__(self, path):
        super().__init__(path)
        self.before_manifest = lambda: None
        self.before_asking = lambda: None

    def has_blob(self, digest):
        self.before_asking()
        return super().has_blob(digest)

    def put_manifest(self, manifest, *, tag, media_type):
        self.before_manifest()
        return super().put_manifest(manifest, tag=tag, media_type=media_type)

    def flush(self):
        pass

    def close(self):
        pass


class World:
    """A work tree, a log, and an Outbox that sends to ``repository``."""

    def __init__(self, directory: Path) -> None:
        self.work = directory / "work"
        self.work.mkdir()
        self.place = directory / "repository"
        self.repositories: list[Repository] = []
        spec = RunSpec(
            submission_id=SUBMISSION,
            attempt=1,
            work_root=str(self.work),
            notebook="n.ipynb",
            kernel_name="python3",
            outbox=str(directory / "scratch" / "outbox"),
        )
        self.log = AttemptLog(io.BytesIO(), directory / "log.txt")
        claim = Claim(SUBMISSION, pod_uid="pod-a", notebook="n.ipynb", clock=lambda: AT)
        self.destination = RegistryDestination(claim, SUBMISSION, self.connect)
        self.outbox = Outbox(spec, self.destination, log=self.log, clock=lambda: AT, started_ns=0)
        self.outbox.open()

    def connect(self):
        self.repositories.append(Repository(self.place))
        return self.repositories[-1]

    def write(self, name, content):
        (self.work / name).write_bytes(content)

    def stored(self, number=1):
        """(OutputSet, contents by path, log)"""
        store = ImageLayout(self.place)
        output_set, blobs = read_output_set(store, outputs_tag(SUBMISSION, number))
        contents = {path: store.read_blob(digest, limit_bytes=1 << 20) for path, digest in blobs.items()}
        with open_log(store, output_set) as log:
            return output_set, contents, log.read()


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    yield made
    made.log.close()


def put_by_another(place, number, uid="pod-b"):
    theirs = OutputSet(
        submission_id=SUBMISSION, attempt=number, complete=False, stored_at=AT, executed_notebook="n.ipynb", pod_uid=uid
    )
    store_output_set(ImageLayout(place), theirs, lambda _: io.BytesIO(), tag=outputs_tag(SUBMISSION, number))


def test_each_output_set_replaces_the_one_before(world):
    """Under the number that the pod has there; with the log as it is."""
    world.write("out", b"1")
    world.log.write(b"first\n")
    world.outbox.store(b"{}")
    world.write("out", b"two")
    world.log.write(b"second\n")
    world.outbox.store_final(b"{...}", complete=True)
    output_set, contents, log = world.stored()
    assert (output_set.attempt, output_set.complete, output_set.pod_uid) == (1, True, "pod-a")
    assert contents == {"n.ipynb": b"{...}", "out": b"two"}
    assert log == b"first\nsecond\n"
    assert list(ImageLayout(world.place).tag_names()) == [outputs_tag(SUBMISSION, 1)]


def test_a_file_that_is_being_written_stays_as_it_was(world):
    """A run that is killed while it saves its model has the one before; a new file is left for the next time."""
    world.write("model", b"epoch 1")
    world.outbox.store(b"{}")
    world.write("model", b"epoch 2")
    world.write("new", b"n")

    def go_on_writing():
        world.write("model", b"epoch 2, and more of it")
        world.write("new", b"n, and more")

    world.repositories[0].before_asking = go_on_writing
    world.outbox.store(b"{...}")
    output_set, contents, _ = world.stored()
    assert contents == {"n.ipynb": b"{...}", "model": b"epoch 1"}
    assert [path for path, _ in output_set.skipped] == ["new"]
    world.repositories[0].before_asking = lambda: None
    world.outbox.store(b"{...}")
    assert world.stored()[1] == {"n.ipynb": b"{...}", "model": b"epoch 2, and more of it", "new": b"n, and more"}


def test_a_long_log_is_sent_again_when_it_has_grown(world):
    """By a quarter; until then a checkpoint keeps the one that was sent. The last OutputSet has all of it."""
    line = b"x" * 1023 + b"\n"
    world.log.write(line * (2 * SMALL_LOG_BYTES // 1024))
    sizes = []
    for more in (0, 100, 100):
        world.log.write(line * more)
        sizes.append(world.outbox.store(b"{}").log_bytes)
    assert sizes == [2 * SMALL_LOG_BYTES, 2 * SMALL_LOG_BYTES, 2 * SMALL_LOG_BYTES + 200 * 1024]
    world.log.write(b"last\n")
    assert world.outbox.store(b"{}").log_bytes == sizes[-1]
    world.outbox.store_final(b"{}", complete=True)
    assert world.stored()[2].endswith(b"last\n")


def test_a_hurried_output_set_keeps_what_was_stored_last(world):
    """Notebook and log of now; of a file that has changed since, the version that is there already."""
    world.write("model", b"epoch 1")
    world.outbox.store(b"{}")
    world.write("model", b"epoch 2")
    world.log.write(b"stopping\n")
    world.outbox.store_quickly(b"{...}")
    output_set, contents, log = world.stored()
    assert output_set.complete is False
    assert contents == {"n.ipynb": b"{...}", "model": b"epoch 1"}
    assert log == b"stopping\n"


def test_a_hurried_output_set_may_be_the_first(world):
    """The notebook alone."""
    world.write("model", b"epoch 1")
    world.outbox.store_quickly(b"{...}")
    assert world.stored()[1] == {"n.ipynb": b"{...}"}


def test_the_end_of_the_log_is_stored_after_the_rest(world):
    """What was said since; everything else stays as it was stored."""
    world.write("out", b"1")
    final = world.outbox.store_final(b"{}", complete=True)
    world.write("out", b"later")
    world.log.write(b"finished\n")
    world.outbox.store_log()
    output_set, contents, log = world.stored()
    assert (output_set.files, output_set.complete) == (final.files, True)
    assert (contents, log) == ({"n.ipynb": b"{}", "out": b"1"}, b"finished\n")


def test_a_run_that_never_began_stores_its_log(world):
    """In an OutputSet without files."""
    world.log.write(b"no such kernel\n")
    world.outbox.store_log()
    output_set, contents, log = world.stored()
    assert (output_set.complete, contents, log) == (False, {}, b"no such kernel\n")


def test_a_number_that_another_pod_has_taken_is_given_up(world):
    """It took the tag between two OutputSets: theirs stays, ours goes to the next number, with all that we had."""
    world.write("out", b"1")
    world.outbox.store(b"{}")
    put_by_another(world.place, 1)
    assert world.outbox.store_final(b"{}", complete=True).attempt == 2
    assert world.stored(1)[0].pod_uid == "pod-b"
    assert (world.stored(2)[0].attempt, world.stored(2)[1]["out"]) == (2, b"1")


def test_garbage_collection_between_blobs_and_manifest(world):
    """What is gone is written again."""
    world.write("out", b"1")
    world.outbox.claim()
    named = set((world.place / "blobs/sha256").iterdir())

    def collect():
        world.repositories[0].before_manifest = lambda: None
        for blob in set((world.place / "blobs/sha256").iterdir()) - named:
            blob.unlink()

    world.repositories[0].before_manifest = collect
    world.outbox.store(b"{}")
    assert world.stored()[1]["out"] == b"1"


def test_a_repository_that_keeps_nothing_is_told(world):
    """After a few tries; it does not go on for ever."""
    world.outbox.claim()

    def collect():
        for blob in (world.place / "blobs/sha256").iterdir():
            blob.unlink()

    world.repositories[0].before_manifest = collect
    with pytest.raises(RegistryError, match="does not keep"):
        world.outbox.store(b"{}")


def test_a_connection_that_failed_is_not_used_again(world):
    """The next OutputSet has a new one, and needs only what is missing."""
    world.outbox.claim()

    def fail():
        raise RegistryUnreachableError("gone")

    world.repositories[0].before_manifest = fail
    with pytest.raises(RegistryUnreachableError):
        world.outbox.store(b"{}")
    world.outbox.store(b"{}")
    assert len(world.repositories) == 2
    assert world.stored()[1] == {"n.ipynb": b"{}"}


def test_what_was_given_up_says_so(world):
    """Whatever the connection does then; what is put afterwards is not disturbed."""
    world.outbox.claim()

    def give_up():
        world.outbox.give_up()
        raise KeyError("anything")

    world.repositories[0].before_manifest = give_up
    with pytest.raises(RegistryUnreachableError, match="given up"):
        world.outbox.store(b"{}")
    world.outbox.store_quickly(b"{...}")
    assert world.stored()[1] == {"n.ipynb": b"{...}"}


def test_a_notebook_lies_in_the_local_outbox_too(world):
    """For whoever looks into the pod when no registry answers."""
    world.outbox.save_notebook(b"{}")
    assert (world.work.parent / "scratch/outbox/executed.ipynb").read_bytes() == b"{}"
