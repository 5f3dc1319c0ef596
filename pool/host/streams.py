"""Generators that run in a member and are read from outside, as fast as the reader takes them.

The reader asks for what there is, and waits while there is nothing: each answer holds all that
was produced since the last, so that many small values cost few calls. A generator that is ahead
of its reader by `AHEAD` values waits.

Why not the cluster's own streams: they have no bound that goes by what was read, a value costs a
call's worth, and a simulation would have to have them too.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any

from pool.host.labour import staying

AHEAD = 64
"""Values that may wait for their reader."""
_END = object()


class Streams:
    """Keep the generators that are being read.

    Args:
        in_thread: Runs plain code in a thread.
    """

    def __init__(self, in_thread: Callable[[Callable[[], Any]], Awaitable[Any]]) -> None:
        self._in_thread = in_thread
        self._numbers = itertools.count(1)
        self._open: dict[int, _Stream] = {}

    def begin(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        admitted: AbstractContextManager[None],
    ) -> int:
        """Call a generator function, and return the number by which it is read.

        Args:
            function: The function, plain or async.
            args: Its arguments.
            admitted: Entered for as long as the generator runs.
        """
        number = next(self._numbers)
        self._open[number] = _Stream(self._values(function, args), admitted)
        return number

    async def read(self, number: int) -> tuple[list[Any], bool]:
        """Wait for values, and return all there are, and whether they were the last.

        Raises:
            LookupError: There is no such stream; it was closed.
            Exception: What the generator raised, after its last value was read.
        """
        stream = self._open[number]
        try:
            values, is_over = await stream.read()
        except BaseException:
            self._open.pop(number, None)
            raise
        if is_over:
            self._open.pop(number, None)
        return values, is_over

    async def close(self, number: int) -> None:
        """End a generator where it is. Idempotent."""
        stream = self._open.pop(number, None)
        if stream is not None:
            await stream.close()

    async def _values(
        self, function: Callable[..., Any], args: tuple[Any, ...]
    ) -> AsyncIterator[Any]:
        if inspect.isasyncgenfunction(function):
            async with contextlib.aclosing(function(*args)) as values:
                async for value in values:
                    yield value
            return
        made = await self._in_thread(lambda: function(*args))
        if inspect.isawaitable(made):
            made = await made
        if inspect.isasyncgen(made):
            async with contextlib.aclosing(made) as values:
                async for value in values:
                    yield value
            return
        iterator = iter(made)
        try:
            while (value := await self._in_thread(lambda: next(iterator, _END))) is not _END:
                yield value
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                # A generator that is at work cannot be closed; it ends with its next value.
                with contextlib.suppress(ValueError):
                    close()


class _Stream:
    def __init__(self, values: AsyncIterator[Any], admitted: AbstractContextManager[None]) -> None:
        self._values: deque[Any] = deque()
        self._error: Exception | None = None
        self._is_over = False
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._task = asyncio.create_task(self._produce(values, admitted))

    async def _produce(
        self, values: AsyncIterator[Any], admitted: AbstractContextManager[None]
    ) -> None:
        try:
            with admitted, staying():
                async for value in values:
                    self._values.append(value)
                    self._changed.set()
                    while len(self._values) >= AHEAD:
                        self._room.clear()
                        await self._room.wait()
        except Exception as error:
            self._error = error
        finally:
            self._is_over = True
            self._changed.set()

    async def read(self) -> tuple[list[Any], bool]:
        while not self._values and not self._is_over:
            self._changed.clear()
            await self._changed.wait()
        values = list(self._values)
        self._values.clear()
        self._room.set()
        if not values and self._error is not None:
            raise self._error
        return values, self._is_over and self._error is None

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
