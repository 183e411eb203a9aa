"""The client of the cluster's API obeys on a real API server the contract that the one in memory obeys."""

import asyncio
import os
from contextlib import aclosing
from pathlib import Path

import pytest

from jupyterlab_ai_batch.queues.kueue.api import JOBS, ChangeKind
from jupyterlab_ai_batch.queues.kueue.api_client import KubernetesApi
from jupyterlab_ai_batch.queues.kueue.api_connection import ConnectionSettings
from tests.api_contract import STORIES

from .objects import job, pod_spec
from .reach import Namespace


def kubeconfig() -> Path:
    return Path(os.environ["KUBECONFIG"].split(os.pathsep)[0])


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_contract(namespace: Namespace, shell_image: str, story):
    def make_job(name: str, **labels: str) -> dict:
        """It never starts."""
        body = job(name, pod_spec(shell_image, "true"), labels=labels)
        return {**body, "spec": {**body["spec"], "suspend": True}}

    async def whole() -> None:
        api = KubernetesApi(ConnectionSettings(namespace=namespace.name, kubeconfig=kubeconfig()))
        try:
            await story(api, make_job)
        finally:
            await api.close()

    asyncio.run(asyncio.wait_for(whole(), 100))


def test_a_watch_from_long_ago(namespace: Namespace):
    """A version that the API server no longer has is told as such, or is served in full; never as an error."""

    async def whole() -> ChangeKind:
        api = KubernetesApi(ConnectionSettings(namespace=namespace.name, kubeconfig=kubeconfig()))
        try:
            async with aclosing(api.watch(JOBS, version="1")) as changes:
                async for change in changes:
                    if change.kind is not ChangeKind.OPENED:
                        return change.kind
            return ChangeKind.OPENED
        finally:
            await api.close()

    # A young cluster still has all of its versions.
    assert asyncio.run(asyncio.wait_for(whole(), 100)) in {ChangeKind.EXPIRED, ChangeKind.BOOKMARK, ChangeKind.PRESENT}
