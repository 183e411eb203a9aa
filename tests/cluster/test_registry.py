"""The registry of the cluster: one repository per user, base images for all, tokens by right."""

from collections.abc import Callable

import pytest

from jupyterlab_ai_batch.errors import RegistryDeniedError, StorageError

CONTENT = b"some bytes"


def test_user_writes_and_reads_the_own_repository(registry: Callable):
    with registry("users/alice", user="alice") as repository:
        digest, _ = repository.put_blob(CONTENT)
        repository.flush()
        assert repository.read_blob(digest, limit_bytes=100) == CONTENT


@pytest.mark.parametrize("name", ["users/bob", "base/pause", "somewhere/else"])
def test_user_writes_nowhere_else(registry: Callable, name: str):
    with registry(name, user="alice") as repository:
        repository.put_blob(CONTENT)
        with pytest.raises(RegistryDeniedError):
            repository.flush()


def test_user_cannot_read_what_another_wrote(registry: Callable):
    with registry("users/bob", user="bob") as repository:
        digest, _ = repository.put_blob(CONTENT)
        repository.flush()

    with registry("users/bob", user="alice") as repository, pytest.raises(StorageError):
        repository.read_blob(digest, limit_bytes=100)


def test_everybody_reads_base_images(registry: Callable):
    with registry("base/busybox", user="alice") as repository:
        assert "v1" in dict(repository.tags())


def test_environments_are_shared(registry: Callable):
    with registry("environments", user="alice") as repository:
        digest, _ = repository.put_blob(CONTENT)
        repository.flush()

    with registry("environments", user="bob") as repository:
        assert repository.read_blob(digest, limit_bytes=100) == CONTENT
