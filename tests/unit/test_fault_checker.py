"""The checker of the fault tests finds what is wrong: else its silence would mean nothing."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from jupyterlab_ai_batch.errors import SnapshotCorruptError
from jupyterlab_ai_batch.oci.layout import REF_NAME, ImageLayout
from tests.faults.checker import ViolationError, Window, check_store, read_snapshot
from tests.faults.described import BLOCK, DescribedHome, describe, version_of
from tests.faults.history import History


@pytest.fixture
def home(tmp_path):
    return DescribedHome(tmp_path / "world", {"a": 2, "b": 1})


@pytest.fixture
def store(home):
    return ImageLayout(home.data / "store")


def put_blob(store: ImageLayout, content: bytes) -> dict:
    digest = hashlib.sha256(content).hexdigest()
    (store.path / "blobs/sha256" / digest).write_bytes(content)
    return {"digest": f"sha256:{digest}", "size": len(content)}


def change_manifest(store: ImageLayout, change) -> None:
    """Store another manifest under the same tag, as something broken would: nothing is checked."""
    index = json.loads((store.path / "index.json").read_bytes())
    (entry,) = index["manifests"]
    manifest = json.loads(store.get_manifest(entry["digest"])[0])
    change(manifest)
    entry |= put_blob(store, json.dumps(manifest).encode())
    assert entry["annotations"][REF_NAME]
    (store.path / "index.json").write_text(json.dumps(index))


def largest_layer(manifest: dict) -> dict:
    return max(manifest["layers"], key=lambda layer: layer["size"])


def lose_blob(store: ImageLayout) -> None:
    change_manifest(store, lambda m: (store.path / "blobs/sha256" / largest_layer(m)["digest"][7:]).unlink())


def damage_blob(store: ImageLayout) -> None:
    def damage(manifest: dict) -> None:
        path = store.path / "blobs/sha256" / largest_layer(manifest)["digest"][7:]
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)

    change_manifest(store, damage)


def misstate_size(store: ImageLayout) -> None:
    change_manifest(store, lambda m: largest_layer(m).update(size=1))


def misstate_diff_id(store: ImageLayout) -> None:
    def change(manifest: dict) -> None:
        config = json.loads(store.read_blob(manifest["config"]["digest"], limit_bytes=1 << 20))
        config["rootfs"]["diff_ids"].reverse()
        manifest["config"] |= put_blob(store, json.dumps(config).encode())

    change_manifest(store, change)


def drop_work_layers(store: ImageLayout) -> None:
    def change(manifest: dict) -> None:
        kept = [
            number for number, layer in enumerate(manifest["layers"]) if "work" not in layer["annotations"].values()
        ]
        config = json.loads(store.read_blob(manifest["config"]["digest"], limit_bytes=1 << 20))
        config["rootfs"]["diff_ids"] = [config["rootfs"]["diff_ids"][number] for number in kept]
        manifest["layers"] = [manifest["layers"][number] for number in kept]
        manifest["config"] |= put_blob(store, json.dumps(config).encode())

    change_manifest(store, change)


@pytest.mark.parametrize("wrong", [lose_blob, damage_blob, misstate_size, misstate_diff_id, drop_work_layers])
def test_a_store_that_is_not_whole_is_found(home, store, wrong):
    """A lost or damaged blob, a wrong size or diff id, a list that names what no layer holds."""
    home.capture(store, "latest")
    home.check(store, latest="latest")
    wrong(store)
    with pytest.raises((ViolationError, SnapshotCorruptError)):
        home.check(store)


def test_a_torn_file_is_found():
    """A mix of versions, a part of one, a part twice."""
    old, new = describe("a", 1, 3), describe("a", 2, 3)
    assert version_of("a", new) == 2
    for torn in (old[:BLOCK] + new[BLOCK:], new[:BLOCK], new + new[:BLOCK], new[:-1], describe("b", 2, 3)):
        with pytest.raises(ViolationError):
            version_of("a", torn)


def history_of(home: DescribedHome) -> History:
    return History(home.home, home.prefix)


def check(store: ImageLayout, history: History, first: int, last: int) -> None:
    check_store(store, history, {"latest": [Window(first, last)]})


def test_content_of_another_time_is_found(home, store):
    """What a file was before the capture began, or after it had ended, is not what it was meanwhile."""
    history = history_of(home)
    home.write("a", in_place=False)
    history.record()
    home.capture(store, "latest")
    home.write("a", in_place=True)
    history.record()
    check(store, history, 2, 2)
    check(store, history, 1, 3)
    for wrong in (1, 3):
        with pytest.raises(ViolationError, match=r"/a is captured as"):
            check(store, history, wrong, wrong)


@pytest.mark.parametrize("change", ["add", "delete", "mode", "mtime", "type"])
def test_every_difference_is_found(home, store, change):
    """A file more or less, another mode, another time, another type."""
    home.capture(store, "latest")
    path = Path(home.home, "b")
    if change == "add":
        (home.home / "c").write_text("new")
    elif change == "delete":
        path.unlink()
    elif change == "mode":
        path.chmod(0o600 if path.stat().st_mode & 0o77 else 0o644)
    elif change == "mtime":
        path.touch()
    else:
        path.unlink()
        path.symlink_to("a")
    history = history_of(home)
    with pytest.raises(ViolationError):
        check(store, history, history.now, history.now)


def test_the_environment_is_checked_too(home, store):
    """Content, and what the list of its files says."""
    history = history_of(home)
    home.capture(store, "latest")
    check(store, history, history.now, history.now)
    site = home.prefix / "lib/python3.11/site-packages/pack"
    (site / "big.so").write_bytes(b"other")
    history.record()
    with pytest.raises(ViolationError, match=r"big\.so is captured as"):
        check(store, history, history.now, history.now)


def test_a_snapshot_is_read_as_any_tool_reads_it(home, store):
    """Whiteouts of a later layer hide what an earlier one holds."""
    home.capture(store, "first")
    Path(home.home, "b").unlink()
    digest = home.capture(store, "second").digest
    assert sorted(path.rpartition("/")[2] for path in read_snapshot(store, digest).work if "/home/" in path) == [
        "a",
        "n.ipynb",
    ]
