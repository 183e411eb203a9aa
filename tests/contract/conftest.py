"""A fresh world for every test of the contract suite."""

import asyncio

import pytest
from queue_worlds import LocalWorld


def _kueue_world(base):
    pytest.importorskip("kubernetes.aio")
    from kueue_world import KueueWorld

    return KueueWorld(base)


WORLDS = {"local": LocalWorld, "kueue": _kueue_world}


@pytest.fixture(params=WORLDS)
def world(request, tmp_path):
    """A fresh world; opened and closed by ``play``."""
    return WORLDS[request.param](tmp_path)


@pytest.fixture
def play(world):
    """Run an async story in the world, and clean up after it."""

    def run(story):
        async def whole():
            await world.open()
            try:
                return await asyncio.wait_for(story(), 120)
            finally:
                await world.close()

        return asyncio.run(whole())

    return run
