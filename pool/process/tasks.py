"""Tasks that end with the block they were begun in, and waits that outlast a cancellation.

Why not a task group: one is cancelled as a whole, while here the first task that ends decides what
is asked of the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar

import anyio
import anyio.to_thread

T = TypeVar("T")

_LINGER_S = 1.0


async def in_thread(function: Callable[[], T]) -> T:
    """Run a short function that blocks."""
    # A limiter of its own: functions of users may hold all threads of the common one.
    return await anyio.to_thread.run_sync(function, limiter=anyio.CapacityLimiter(1))


class Begin(Protocol):
    """Begin a task that ends with the block at the latest."""

    def __call__(self, work: Awaitable[T]) -> asyncio.Task[T]:
        """Begin one."""
        ...


@asynccontextmanager
async def tasks() -> AsyncIterator[Begin]:
    """Give a function that begins tasks; those that are left at the end are cancelled."""
    begun: set[asyncio.Task[Any]] = set()

    def begin(work: Awaitable[T]) -> asyncio.Task[T]:
        task = asyncio.create_task(_awaited(work))
        begun.add(task)
        return task

    try:
        yield begin
    finally:
        for task in begun:
            task.cancel()
        if begun:
            # Not for ever: a probe of a user may hold its cancellation off.
            await in_spite_of_cancellation(asyncio.wait(begun, timeout=_LINGER_S))
        for task in begun:
            if task.done() and not task.cancelled():
                # Looked at, so that asyncio does not complain of an error that nobody saw.
                task.exception()


async def _awaited(work: Awaitable[T]) -> T:
    return await work


async def in_spite_of_cancellation(work: Awaitable[T]) -> T:
    """Wait for work that is short, or bounded, even if it is cancelled meanwhile.

    NB: anyio's shield does not hold off the `cancel()` of an asyncio task. A cancellation that
    came meanwhile is raised afterwards.
    """
    task = asyncio.ensure_future(_awaited(work))
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None:
        raise cancelled
    return task.result()
