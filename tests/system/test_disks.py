"""Disks that are full at every stage, and a home that cannot be written: a code, a hint, and nothing half-written."""

import json
import os
import subprocess
import sys

import pytest

from tests.system.conftest import WAIT_S, cell

NAMESPACE = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]


def can_mount():
    """Whether this system lets the tests mount a file system that nobody else sees."""
    try:
        return subprocess.run([*NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], check=False).returncode == 0
    except FileNotFoundError:
        return False


pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.skipif(not can_mount(), reason="this system allows no mounts of one's own"),
]


def submit(user, mount, *, afterwards=":"):
    """(exit status, stdout, stderr) of submitting big.ipynb and waiting, where ``mount`` was done before."""
    arguments = ["submit", "big.ipynb", "--wait", "--json", "--data-dir", str(user.data_dir)]
    script = f'{mount} && {{ "$@"; status=$?; {afterwards}; exit $status; }}'
    command = [*NAMESPACE, "sh", "-c", script, "sh", sys.executable, "-m", "jupyterlab_ai_batch", *arguments]
    done = subprocess.run(
        command, cwd=user.home, env=user.environ, capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def big(user):
    """A user whose notebook reads 2 MB and writes 2 MB more, and whose data directory is there to be mounted on."""
    (user.home / "old.bin").write_bytes(os.urandom(2 << 20))
    user.write_notebook("big.ipynb", cell("import os; open('new.bin', 'wb').write(os.urandom(2 << 20)); 'written'"))
    user.data_dir.mkdir(mode=0o700)
    return user


@pytest.mark.parametrize(
    ("size", "codes"),
    [
        ("16k", {"storage_full"}),  # the ledger
        ("256k", {"storage_full"}),  # the capture, and then the ledger again
        ("1m", {"storage_full"}),  # the capture
        ("3m", {"storage_full"}),  # the restore
        ("6m", {"cell_failed"}),  # the job itself, and what it stores
        ("7m", {"storage_full"}),  # the outputs
    ],
)
def test_a_full_disk_is_told_and_leaves_the_home_alone(big, size, codes):
    """Whatever stage it is that finds no space, the command ends with a code and a hint; home is as it was."""
    before = {path.name: path.read_bytes() for path in big.home.iterdir()}
    status, out, err = submit(big, f"mount -t tmpfs -o size={size},mode=0700 tmpfs '{big.data_dir}'")
    assert status == 1
    if out:
        told = json.loads(out)["explanation"]
        code, hint = told["code"], told["resolution"]
    else:
        code, hint = err.split(":")[0], err.partition("\nhint: ")[2]
    assert code in codes
    assert hint
    after = {path.name: path.read_bytes() for path in big.home.iterdir()}
    executed = [name for name in after if ".batch-" in name]
    assert before == {name: content for name, content in after.items() if name not in executed}


def test_enough_space_is_enough(big):
    """The same notebook on a disk of 24 MB succeeds: the others did fail for want of space."""
    status, out, _ = submit(big, f"mount -t tmpfs -o size=24m,mode=0700 tmpfs '{big.data_dir}'")
    assert (status, json.loads(out)["state"]) == (0, "succeeded")
    assert (big.home / "new.bin").stat().st_size == 2 << 20


def test_a_home_that_cannot_be_written_keeps_the_files(big):
    """The run succeeds; its files wait in the store, and come home once they can."""
    status, out, _ = submit(big, f"mount --bind '{big.home}' '{big.home}' && mount -o remount,bind,ro '{big.home}'")
    submission = json.loads(out)
    assert (status, submission["state"], submission["explanation"]["code"]) == (0, "succeeded", "collect_failed")
    assert submission["outputs"]["state"] == "available"
    assert sorted(path.name for path in big.home.iterdir()) == ["big.ipynb", "old.bin"]
    big.json("outputs", submission["id"])
    assert (big.home / "new.bin").stat().st_size == 2 << 20
    assert big.json("show", submission["id"])["outputs"]["state"] == "collected"


def test_a_home_that_fills_up_gets_whole_files_or_none(big):
    """The home's disk is full when the files come: nothing half-written, and they wait in the store."""
    kept, listing = big.home.parent / "kept", big.home.parent / "listing"
    big.home.rename(kept)
    big.home.mkdir()
    mount = f"mount -t tmpfs -o size=3m tmpfs '{big.home}' && cp '{kept}'/* '{big.home}' && cd '{big.home}'"
    _, out, _ = submit(big, mount, afterwards=f"ls -A '{big.home}' > '{listing}'")
    submission = json.loads(out)
    assert (submission["state"], submission["explanation"]["code"]) == ("succeeded", "collect_failed")
    names = listing.read_text().split()
    executed = f"big.batch-{submission['id'][:8]}.ipynb"
    assert {"big.ipynb", "old.bin"} <= set(names) <= {"big.ipynb", "old.bin", executed}
    big.home.rmdir()
    kept.rename(big.home)
    big.json("outputs", submission["id"])
    assert (big.home / "new.bin").stat().st_size == 2 << 20
