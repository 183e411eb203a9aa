"""A fresh world for every test of the contract suite."""

import asyncio

import pytest
from queue_worlds import LocalWorld


@pytest.fixture(params=["local"])
def world(request, tmp_path):
    """A fresh world; closed by ``play``."""
    return {"local": LocalWorld}[request.param](tmp_path)


@pytest.fixture
def play(world):
    """Run an async story in the world, and clean up after it."""

    def run(story):
        async def whole():
            try:
                return await asyncio.wait_for(story(), 120)
            finally:
                await world.close()

        return asyncio.run(whole())

    return run
