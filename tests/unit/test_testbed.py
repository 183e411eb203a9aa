"""The parts of the testbed that need no cluster: who may push what, names and lives of clusters, what Go it wants."""

import os
from pathlib import Path

import pytest

from testbed.binaries import KUBERNETES, KUEUE, MODULES_IN_BUILD_ORDER, check_go
from testbed.errors import BuildError, TestbedError
from testbed.instance import Instance, take_lock
from testbed.isolation import sweep
from testbed.tokens import Access, granted, parse_scope

ALL = ("pull", "push", "delete")


@pytest.mark.parametrize(
    ("user", "repository", "actions"),
    [
        (None, "base/user", ("pull",)),
        (None, "users/alice", ()),
        (None, "environments", ()),
        ("alice", "base/user", ("pull",)),
        ("alice", "users/alice", ALL),
        ("alice", "users/bob", ()),
        ("alice", "users/alice/more", ()),
        ("alice", "users", ()),
        ("alice", "environments", ("pull", "push")),
        ("alice", "base", ()),
        ("admin", "base/user", ALL),
        ("admin", "users/alice", ALL),
    ],
)
def test_what_a_token_grants(user: str | None, repository: str, actions: tuple[str, ...]):
    assert granted(user, Access(repository, ALL)) == Access(repository, actions)


@pytest.mark.parametrize(
    ("scope", "access"),
    [
        ("repository:users/alice:pull,push", Access("users/alice", ("pull", "push"))),
        ("repository:host:5000/name:pull", Access("host:5000/name", ("pull",))),
        ("registry:catalog:*", None),
        ("repository:pull", None),
        ("", None),
    ],
)
def test_scopes_are_read(scope: str, access: Access | None):
    assert parse_scope(scope) == access


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a/b", "..", "a" * 41, "a b"])
def test_names_that_no_cluster_has(name: str):
    with pytest.raises(TestbedError, match="not a name"):
        Instance.named(name)


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path


def test_a_name_is_taken_for_as_long_as_its_cluster_lives(state: Path):
    instance = Instance.named("one")
    lock = take_lock(instance)
    os.pwrite(lock, b"4711", 0)

    with pytest.raises(TestbedError, match="is up already"):
        take_lock(instance)
    assert instance.parent_pid() == 4711

    os.close(lock)
    assert instance.parent_pid() is None
    os.close(take_lock(instance))


def test_sweeping_takes_the_dead_and_leaves_the_living(state: Path):
    dead, living = Instance.named("dead"), Instance.named("living")
    os.close(take_lock(dead))
    lock = take_lock(living)
    os.pwrite(lock, b"4711", 0)

    assert sweep() == ["dead"]

    assert not dead.directory.exists()
    assert living.directory.exists()
    os.close(lock)


@pytest.mark.parametrize("version", [None, "go1.25.7", "go2"])
def test_go_is_asked_for(version: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Where there is none, or an old one, the message says what is needed and where it is."""
    if version is not None:
        (tmp_path / "go").write_text(f"#!/bin/sh\necho {version}\n")
        (tmp_path / "go").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin" if version else str(tmp_path))

    with pytest.raises(BuildError, match=r"https://go\.dev/dl/"):
        check_go()


@pytest.mark.parametrize("version", ["go1.26.0", "go1.30rc1", "go2.0"])
def test_recent_go_will_do(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "go").write_text(f"#!/bin/sh\necho {version}\n")
    (tmp_path / "go").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    check_go()


def test_versions_are_those_of_go_mod():
    """Kueue refuses a Kubernetes that does not say its version."""
    assert f"gitVersion={KUBERNETES.version} " in f"{KUBERNETES.ldflags} "
    assert f"GitVersion={KUEUE.version}" in KUEUE.ldflags
    assert len({module.key for module in MODULES_IN_BUILD_ORDER}) == len(MODULES_IN_BUILD_ORDER)
