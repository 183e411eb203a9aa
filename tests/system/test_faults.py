"""Faults at random moments: whatever happens, the next capture succeeds by itself, and no Snapshot is ever untrue.

``tests/faults`` has the checker that proves it, and the faults.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jupyterlab_ai_batch.errors import BatchError
from jupyterlab_ai_batch.oci.layout import ImageLayout
from jupyterlab_ai_batch.oci.transport_settings import RetryPolicy
from jupyterlab_ai_batch.snapshot.restore import restore_work
from tests.faults.checker import check_lists, read_snapshot
from tests.faults.described import small_home, version_of
from tests.programs import program
from tests.registries import RegistryServer, Wire, open_registry
from tests.system.conftest import WAIT_S, cell
from tests.system.test_disks import NAMESPACE, can_mount

ROOT = Path(__file__).parents[2]
SCHEDULES = int(os.environ.get("AI_BATCH_SCHEDULES", "1000"))
KILLS = 50
MIB = 1 << 20

pytestmark = pytest.mark.timeout(600)


def start(module, *arguments, before=()):
    command = [*before, sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(children):
    """What the children print, once all have ended well."""
    said = [(child.communicate(timeout=500)[0], child.returncode) for child in children]
    assert all(status == 0 for _, status in said), "\n".join(text for text, _ in said)
    return [text for text, _ in said]


# Simulated faults, thousands of them


def test_random_schedules(record_property):
    """Edits, captures and faults by random schedules; after each a capture succeeds, and the checker holds.

    A failure names its seed: ``python -m tests.faults --schedule SEED`` runs it again.
    """
    workers = min(os.cpu_count() or 1, 8)
    share = -(-SCHEDULES // workers)
    first = int(os.environ.get("AI_BATCH_FIRST_SCHEDULE", "0"))
    arguments = ["--count", share, "--stride", workers]
    children = [start("tests.faults", "--first", first + number, *arguments) for number in range(workers)]
    for number, text in enumerate(finish(children)):
        record_property(f"worker {number}", text.strip())


# Real faults


def test_kills_of_captures_into_a_layout(tmp_path):
    """SIGKILL at 50 random moments while somebody writes into the home."""
    finish([start("tests.faults.killing", tmp_path / "world", "--kills", KILLS)])


@pytest.fixture
def server(tmp_path):
    program("docker-registry")
    with RegistryServer(tmp_path / "registry") as running:
        yield running


@pytest.fixture
def home(tmp_path):
    return small_home(tmp_path / "world")


def change(home, chance, files=6):
    for name in chance.sample(home.names, files):
        home.write(name, in_place=False)


def capture_and_check(home, store, tag):
    home.capture(store, tag)
    home.check(store, latest=tag)


def test_kills_of_captures_into_a_registry(tmp_path, server):
    """The same with a registry at the other end."""
    finish([start("tests.faults.killing", tmp_path / "world", "--kills", KILLS, "--registry", server.host)])


def test_ends_of_the_command(user, server):
    """Killed, terminated and interrupted at random moments, as users start it; then it succeeds."""
    chance = random.Random(6)  # noqa: S311 - not for secrets
    user.write_notebook("n.ipynb", cell("1"))

    def push(tag):
        return user.start("snapshot", "n.ipynb", "--to", f"{server.host}/team/work:{tag}")

    usual_s = 2.0
    for number in range(12):
        content = chance.randbytes(2 * MIB)
        (user.home / f"f{number}").write_bytes(content)
        child = push("ended")
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(chance.uniform(0, usual_s))
        child.send_signal(chance.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGINT)))
        child.communicate(timeout=WAIT_S)
        began = time.monotonic()
        with push("whole") as child:
            said = child.communicate(timeout=WAIT_S)
        usual_s = time.monotonic() - began
        assert child.returncode == 0, said
        with open_registry(server.host) as store:
            found = {tag: read_snapshot(store, digest) for tag, digest in store.tags()}
        for snapshot in found.values():
            check_lists(snapshot)
        assert found["whole"].work[f"{user.home}/f{number}"][3] == content


@pytest.mark.parametrize("direction", ["up", "down"])
def test_connections_cut_in_uploads(home, server, direction):
    """Anywhere, once or often: the capture gets over it or says so, and the next one succeeds."""
    chance = random.Random(direction)  # noqa: S311 - not for secrets
    ends = set()
    for number in range(8):
        change(home, chance)
        cut_after = int(10 ** chance.uniform(0, 6.7 if direction == "up" else 3.5))
        with Wire(server.port, cut_after=cut_after, cuts=chance.choice((1, 3, 40)), direction=direction) as wire:
            try:
                with open_registry(wire.host) as store:
                    home.capture(store, f"cut-{number}")
                ends.add("succeeded")
            except BatchError as exc:
                ends.add(exc.code)
        with open_registry(server.host) as store:
            capture_and_check(home, store, f"whole-{number}")
    assert "succeeded" in ends


def test_connections_cut_in_downloads(home, server, tmp_path):
    """A restore is whole, or it is none."""
    chance = random.Random(3)  # noqa: S311 - not for secrets
    with open_registry(server.host) as store:
        digest = home.capture(store, "latest").digest
    for number in range(10):
        target = tmp_path / f"restored-{number}"
        target.mkdir()
        cut_after = int(10 ** chance.uniform(2, 6.5))
        with Wire(server.port, cut_after=cut_after, cuts=chance.choice((1, 4, 100)), direction="down") as wire:
            try:
                with open_registry(wire.host, retry=RetryPolicy(attempts=3, first_delay_s=0.01)) as store:
                    restore_work(store, digest, target)
            except BatchError:
                assert list(target.iterdir()) == []
            else:
                assert {name: version_of(name, (target / name).read_bytes()) for name in home.names} == dict.fromkeys(
                    home.names, 1
                )


def test_a_registry_restarted_during_captures(home, server):
    """Its memory is gone, the uploads that it had begun too."""
    chance = random.Random(4)  # noqa: S311 - not for secrets

    def restart():
        server.stop()
        server.start()

    for number in range(6):
        change(home, chance)
        cut_after = int(10 ** chance.uniform(2, 6.5))
        with Wire(server.port, cut_after=cut_after, cuts=1, on_cut=restart) as wire, open_registry(wire.host) as store:
            home.capture(store, f"restarted-{number}")
        with open_registry(server.host) as store:
            capture_and_check(home, store, f"whole-{number}")


def test_a_registry_that_loses_blobs_before_the_manifest(home, server):
    """Its garbage collection runs between the last layer and the manifest: nothing untrue, and all is well then."""
    with open_registry(server.host) as store:
        put = store.put_manifest
        calls = iter([server.collect_garbage])

        def put_manifest(manifest, **options):
            next(calls, lambda: None)()
            return put(manifest, **options)

        store.put_manifest = put_manifest
        try:
            home.capture(store, "collected")
        except BatchError as exc:
            if not exc.retryable:
                raise
    with open_registry(server.host) as store:
        home.check(store)
        capture_and_check(home, store, "whole")


def test_a_slow_registry(home, server):
    """Each piece takes its time; the capture only takes longer."""

    class SlowWire(Wire):
        def _must_cut(self, carried):
            time.sleep(0.002)
            return False

    with SlowWire(server.port) as wire, open_registry(wire.host) as store:
        capture_and_check(home, store, "slow")


def test_a_store_that_is_collected_all_the_time(home):
    """Garbage collection of the layout beside captures, one after the other."""
    store, chance = ImageLayout(home.data / "store"), random.Random(5)  # noqa: S311 - not for secrets
    for number in range(5):
        change(home, chance)
        capture_and_check(home, store, f"t{number}")
        for path in (home.data / "store/blobs/sha256").iterdir():
            os.utime(path, (0, 0))
        store.delete_tag(f"t{number - 2}")
        store.collect_garbage()
        home.check(store, latest=f"t{number}")


@pytest.mark.skipif(not can_mount(), reason="this system allows no mounts of one's own")
@pytest.mark.parametrize("what", ["store", "index", "temporary", "registry"])
def test_full_disks(tmp_path, what):
    """The disk of the store, the index, temporary files, the registry: too small, then large enough."""
    if what == "registry":
        program("docker-registry")
    (said,) = finish([start("tests.faults.filling", tmp_path / "world", what, before=NAMESPACE)])
    assert "enough" in said
