"""Waiting: for what streams bring, for work in threads, for something that may never come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Collection, Coroutine
from typing import ParamSpec, TypeVar

from ...tasks import end_tasks

P = ParamSpec("P")
T = TypeVar("T")


class LineTooLongError(Exception):
    """A line is longer than anything that should come."""


async def split_lines(chunks: AsyncIterable[bytes], *, longest: int) -> AsyncGenerator[bytes, None]:
    """Whole lines without their ends; one that breaks off with the stream is dropped.

    Raises:
        LineTooLongError: more than ``longest`` bytes came without an end of line.
    """
    held = bytearray()
    async for chunk in chunks:
        done, looked = 0, len(held)
        held += chunk
        while (end := held.find(b"\n", max(looked, done))) >= 0:
            yield bytes(held[done:end])
            done = end + 1
        del held[:done]
        if len(held) > longest:
            raise LineTooLongError


async def with_silences(chunks: AsyncGenerator[T, None], silence_s: float) -> AsyncGenerator[T | None, None]:
    """The pieces of a stream, and None after each that nothing follows for ``silence_s``."""
    while True:
        piece = asyncio.create_task(_next(chunks))
        try:
            if not (await asyncio.wait({piece}, timeout=silence_s))[0]:
                yield None
            found = await piece
        finally:
            if not piece.done():
                await end_tasks(piece)
        if not found:
            return
        yield found[0]


async def _next(pieces: AsyncIterable[T]) -> list[T]:
    """The next piece alone; nothing at the end."""
    async for piece in pieces:
        return [piece]
    return []


async def wait_shortly(waits: Collection[Coroutine[object, object, object]], limit_s: float) -> None:
    """Wait for all of them, but not for longer than ``limit_s``; what is late is cancelled."""
    if not waits:
        return
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, timeout=limit_s)
    finally:
        for task in tasks:
            task.cancel()


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """As ``to_thread``; but a cancellation comes only when the thread has ended, so that nothing goes on unseen."""
    work = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait({work})
        if not work.cancelled():
            work.exception()  # nobody is there to hear of it
        raise
