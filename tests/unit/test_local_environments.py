"""Restored environments that Attempts share."""

import os
from pathlib import Path

import pytest

from jupyterlab_ai_batch.capture_models import EnvironmentMount, EnvironmentView
from jupyterlab_ai_batch.errors import SnapshotCorruptError, StorageFullError
from jupyterlab_ai_batch.queues.local.environments import EnvironmentCache

A, B, C = ("sha256:" + letter * 64 for letter in "abc")


class CountingRestorer:
    """Makes environments of one file; ``live`` says that they show the live directory."""

    def __init__(self):
        self.made = []
        self.live = False
        self.error = None

    def environment_digest(self, digest):
        return digest

    def materialise_environment(self, digest, target, *, earlier=()):
        if self.error:
            raise self.error
        self.made.append(digest)
        self.earlier = list(earlier)
        (target / "0").mkdir(exist_ok=True)
        return EnvironmentView(mounts=(EnvironmentMount(source=target / "0", path=Path("/e"), live=self.live),))


@pytest.fixture
def restorer():
    return CountingRestorer()


def test_made_once(tmp_path, restorer):
    """The second Submission with the same environment gets the same, mended, after a restart as well."""
    first = EnvironmentCache(tmp_path, restorer).acquire(A)
    second = EnvironmentCache(tmp_path, restorer).acquire(A)
    assert (first, [A, A]) == (second, restorer.made)


def test_those_that_are_there_are_offered(tmp_path, restorer):
    """A new one may take files from the complete ones, the last used first."""
    cache = EnvironmentCache(tmp_path, restorer)
    leases = [cache.acquire(A), cache.acquire(B)]
    os.utime(leases[0].directory / "complete", (1, 1))
    cache.acquire(C)
    assert [leases[1].directory / "tree", leases[0].directory / "tree"] == restorer.earlier


def test_live_ones_are_made_anew(tmp_path, restorer):
    """One that shows live directories is not trusted a second time, and goes when given back."""
    restorer.live = True
    cache = EnvironmentCache(tmp_path, restorer)
    leases = [cache.acquire(A), cache.acquire(A)]
    assert 2 == len({lease.directory for lease in leases})
    for lease in leases:
        cache.give_back(lease)
    assert [] == list(tmp_path.iterdir())


def test_failure_leaves_nothing(tmp_path, restorer):
    """A restore that fails leaves no directory behind."""
    restorer.error = StorageFullError("full")
    with pytest.raises(StorageFullError):
        EnvironmentCache(tmp_path, restorer).acquire(A)
    assert [] == list(tmp_path.iterdir())


def test_digest_is_not_a_path(tmp_path, restorer):
    """What is not a digest never becomes a path."""
    with pytest.raises(SnapshotCorruptError):
        EnvironmentCache(tmp_path, restorer).acquire("sha256:../../x")


def test_prune(tmp_path, restorer):
    """The least recently used goes; what is in use stays."""
    cache = EnvironmentCache(tmp_path, restorer)
    leases = [cache.acquire(digest) for digest in (A, B, C)]
    cache.give_back(leases[1])
    cache.give_back(leases[2])
    cache.prune(0)
    assert [leases[0].directory] == list(tmp_path.iterdir())
