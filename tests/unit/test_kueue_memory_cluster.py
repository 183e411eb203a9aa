"""The cluster in memory, by which the Kueue backend is tested, does what a real API server does."""

import asyncio

import pytest

from tests.api_contract import STORIES
from tests.memory_cluster import MemoryApi, MemoryCluster


def make_job(name, **labels):
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "labels": labels}, "spec": {}}


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_contract(story):
    """``tests/cluster/test_kueue_api.py`` runs the same stories."""
    asyncio.run(asyncio.wait_for(story(MemoryApi(MemoryCluster()), make_job), 20))
