"""The same step for several at once, whose first error arrives as itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio


async def at_once(step: Callable[[int], Awaitable[object]], count: int) -> None:
    """Do a step for the numbers 0 to `count` - 1, all at once, and wait for all of them.

    Raises:
        BaseException: The first error of any, as itself; the others are cancelled.
    """

    async def do(number: int) -> None:
        await step(number)

    try:
        async with anyio.create_task_group() as tasks:
            for number in range(count):
                tasks.start_soon(do, number)
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None
