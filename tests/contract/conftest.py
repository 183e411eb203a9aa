"""A fresh world for every test of the contract suite."""

import asyncio

import pytest
from kueue_world import KueueWorld
from queue_worlds import LocalWorld

WORLDS = {"local": LocalWorld, "kueue": KueueWorld}


def pytest_generate_tests(metafunc):
    """Every world, unless the module says which ones it is about."""
    if "world" in metafunc.fixturenames:
        metafunc.parametrize("world", getattr(metafunc.module, "WORLDS", WORLDS), indirect=True)


@pytest.fixture
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
