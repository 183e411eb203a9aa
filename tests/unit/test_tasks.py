"""Ending a task: whoever asks can be cancelled too, and is."""

import asyncio

import pytest

from jupyterlab_ai_batch.tasks import end_tasks


async def slow_to_end(began, may_end):
    try:
        began.set()
        await asyncio.Event().wait()
    finally:
        await may_end.wait()


def test_a_cancellation_of_the_caller_is_not_lost():
    """It arrives while the task is still ending; a watcher that lost it would never stop."""

    async def story():
        began, may_end = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(slow_to_end(began, may_end))
        await began.wait()
        caller = asyncio.create_task(end_tasks(task))
        await asyncio.sleep(0)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        may_end.set()
        await end_tasks(task)
        assert task.cancelled()

    asyncio.run(story())


def test_however_it_ends():
    """An error of the task is not the caller's; one that has ended is no trouble."""

    async def fails():
        raise ValueError

    async def story():
        task = asyncio.create_task(fails())
        await asyncio.sleep(0)
        await end_tasks(task)
        assert isinstance(task.exception(), ValueError)

    asyncio.run(story())
