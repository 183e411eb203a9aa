"""Clusters and the machine that they run on: several at once, and nothing stays behind. Runs outside of any."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from testbed.instance import Instance
from testbed.machine import Traces, look
from tests.cluster.reach import unique, wait_for

NODES = ("kubectl", "get", "nodes", "--output=jsonpath={.items[*].status.conditions[?(@.type=='Ready')].status}")


def _testbed(*arguments: str) -> str:
    """Its standard output; what it reports meanwhile goes to the test's."""
    done = subprocess.run([sys.executable, "-m", "testbed", *arguments], stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, arguments
    return done.stdout


@pytest.fixture
def up() -> Iterator[Callable[[str], None]]:
    """Starts a cluster; it is gone after the test."""
    names: list[str] = []

    def start(name: str) -> None:
        names.append(name)
        _testbed("up", "--name", name)

    yield start
    for name in names:
        _testbed("down", "--name", name)


@pytest.fixture
def name() -> str:
    return unique("test")


def _wait_until_dead(name: str, before: Traces) -> None:
    def processes() -> list[str]:
        return look(name).added_since(before).get("processes", [])

    wait_for("every process is gone", processes, until=lambda found: not found)


@pytest.mark.timeout(400)
def test_down_leaves_the_machine_as_it_was(up: Callable[[str], None], name: str):
    before = look(name)
    up(name)
    during = look(name).added_since(before)

    _testbed("down", "--name", name)

    assert look(name).added_since(before) == {}
    # The comparison sees what a cluster cannot hide, and nothing of it is in our network, mounts or /run.
    assert set(during) == {"processes", "cgroups", "directories"}


@pytest.mark.timeout(400)
def test_killed_parent_leaves_nothing_but_empty_directories(up: Callable[[str], None], name: str):
    before = look(name)
    up(name)
    parent = Instance.named(name).parent_pid()
    assert parent is not None

    os.kill(parent, signal.SIGKILL)

    _wait_until_dead(name, before)
    assert set(look(name).added_since(before)) <= {"cgroups", "directories"}
    subprocess.run([sys.executable, "-m", "testbed", "status"], check=False)
    assert look(name).added_since(before) == {}


@pytest.mark.timeout(400)
def test_cluster_of_a_command_dies_with_it(tmp_path: Path, name: str):
    """``run`` is killed, not asked: its cluster and the command inside end all the same."""
    before = look(name)
    ready = tmp_path / "ready"
    command = [sys.executable, "-m", "testbed", "run", "--name", name, "sh", "-c", f"touch {ready}; sleep 600"]
    with subprocess.Popen(command) as process:
        wait_for("the command runs inside", ready.exists, within_s=180)
        process.kill()

    _wait_until_dead(name, before)
    subprocess.run([sys.executable, "-m", "testbed", "status"], check=False)
    assert look(name).added_since(before) == {}


@pytest.mark.timeout(400)
def test_two_clusters_at_once(up: Callable[[str], None], name: str):
    """Same addresses, different clusters: what is made in one is not in the other, and one survives the other."""
    first, second = name, f"{name}-too"
    up(first)
    up(second)

    _testbed("exec", "--name", first, "kubectl", "create", "namespace", "only-in-the-first")

    names = [
        _testbed("exec", "--name", one, "kubectl", "get", "namespaces", "--output=name") for one in (first, second)
    ]
    assert ["only-in-the-first" in one for one in names] == [True, False]
    _testbed("down", "--name", first)
    assert _testbed("exec", "--name", second, *NODES) == "True"


@pytest.mark.timeout(400)
def test_reset_deletes_what_was_made(up: Callable[[str], None], name: str):
    up(name)
    _testbed("exec", "--name", name, "kubectl", "create", "namespace", "made-by-a-test")
    _testbed("exec", "--name", name, "kubectl", "--namespace", "alice", "create", "configmap", "mine")

    _testbed("reset", "--name", name)

    listed = _testbed("exec", "--name", name, "kubectl", "get", "namespaces", "--output=json")
    assert "made-by-a-test" not in {item["metadata"]["name"] for item in json.loads(listed)["items"]}
    mine = _testbed("exec", "--name", name, "kubectl", "--namespace", "alice", "get", "configmaps", "--output=name")
    assert "configmap/mine" not in mine.split()
    assert "localqueue" in _testbed("exec", "--name", name, "kubectl", "-n", "bob", "get", "localqueues", "-o", "name")
