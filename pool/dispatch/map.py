"""Items spread over a pool: each exactly once in the output, in order, whoever dies meanwhile.

One task holds each call in flight. A call whose member died, or was drained before it began, goes
back to the head of the queue and is made on another; its item is yielded once, whoever answered.
Input is read only as far as there are calls in flight and results waiting for their turn, so that
memory stays bounded whatever the input's length.
"""

from __future__ import annotations

import math
from collections import Counter as Tally
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any, Literal

import anyio

from pool.dispatch.target import Target, Targets, call
from pool.errors import ConfigError, MemberLost, NotAdmitted

Errors = Literal["raise", "return"]
WINDOW = 4
"""Results that may wait for an earlier one, as a multiple of the calls in flight."""


async def map_ordered(
    pool: Targets,
    work: Callable[[Any], Any] | str,
    items: Iterable[Any],
    *,
    on: str,
    in_flight: int,
    errors: Errors,
    attempts: int,
) -> AsyncIterator[Any]:
    """See `ReplicaPool.map`."""
    for name, value in (("in_flight", in_flight), ("attempts", attempts)):
        if type(value) is not int or value < 1:
            raise ConfigError(f"{name} is {value!r}; give a whole number, 1 or more", name)
    if errors not in ("raise", "return"):
        raise ConfigError(f"errors is {errors!r}; give 'raise' or 'return'", "errors")
    pool.targets(on)
    dispatch = _Dispatch(pool, work, iter(items), on, in_flight, errors, attempts)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(dispatch.run)
        try:
            while (result := await dispatch.next_result()) is not _END:
                if isinstance(result, _Raised):
                    raise result.error
                yield result
        finally:
            tasks.cancel_scope.cancel()


_END = object()


class _Raised:
    """Hold an exception that ends the map."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class _Dispatch:
    """Hand items to members, and put the results in order."""

    def __init__(
        self,
        pool: Targets,
        work: Callable[[Any], Any] | str,
        items: Iterator[Any],
        on: str,
        in_flight: int,
        errors: Errors,
        attempts: int,
    ) -> None:
        self._pool = pool
        self._work = work
        self._items = enumerate(items)
        self._on = on
        self._in_flight = in_flight
        self._errors = errors
        self._attempts = attempts
        self._again: list[tuple[int, Any]] = []
        self._lost: Tally[int] = Tally()
        self._busy: Tally[str] = Tally()
        self._results: dict[int, Any] = {}
        self._next = 0
        self._handed_out = 0
        self._length: float = math.inf
        self._ready = anyio.Event()
        self._room = anyio.Event()

    async def next_result(self) -> Any:
        """Return the next result in order, or `_END` after the last."""
        while self._next not in self._results:
            if self._next >= self._length:
                return _END
            self._ready = anyio.Event()
            await self._ready.wait()
        result = self._results.pop(self._next)
        self._next += 1
        self._room.set()
        return result

    async def run(self) -> None:
        """Keep every member busy until each item has its result."""
        async with anyio.create_task_group() as tasks:
            while self._next + len(self._results) < self._length:
                self._room = anyio.Event()
                targets = self._pool.targets(self._on)
                if not targets and self._pool.failed is not None:
                    self._finish(self._next, _Raised(self._pool.failed))
                    return
                while (target := self._free(targets)) and (task := self._take(len(targets))):
                    self._busy[target.actor.id] += 1
                    tasks.start_soon(self._call, target, *task)
                await self._until_room()

    def _free(self, targets: list[Target]) -> Target | None:
        """Return the least loaded target with room, or None."""
        target = min(targets, key=lambda target: self._busy[target.actor.id], default=None)
        if target is None or self._busy[target.actor.id] >= self._in_flight:
            return None
        return target

    def _take(self, targets: int) -> tuple[int, Any] | None:
        """Take an item to be done: one to be done again first, then the next of the input."""
        if self._again:
            self._again.sort(reverse=True)
            return self._again.pop()
        if self._handed_out - self._next >= WINDOW * self._in_flight * targets:
            return None
        try:
            number, item = next(self._items)
        except StopIteration:
            self._length = self._handed_out
            self._ready.set()
            return None
        self._handed_out = number + 1
        return number, item

    async def _until_room(self) -> None:
        """Wait until a call came back, a result was taken, or the pool changed."""
        async with anyio.create_task_group() as tasks:

            async def first(wait: Callable[[], Any]) -> None:
                await wait()
                tasks.cancel_scope.cancel()

            tasks.start_soon(first, self._room.wait)
            tasks.start_soon(first, self._pool.changed)

    async def _call(self, target: Target, number: int, item: Any) -> None:
        try:
            result = await call(self._pool.cluster, target, self._work, (item,))
        except NotAdmitted:
            self._again.append((number, item))
        except MemberLost as error:
            self._lost[number] += 1
            if self._lost[number] < self._attempts:
                self._again.append((number, item))
            else:
                error.add_note(f"item {number} has lost {self._lost[number]} members")
                self._finish(number, error if self._errors == "return" else _Raised(error))
        except Exception as error:
            self._finish(number, error if self._errors == "return" else _Raised(error))
        else:
            self._finish(number, result)
        finally:
            self._busy[target.actor.id] -= 1
            self._room.set()

    def _finish(self, number: int, result: Any) -> None:
        self._results[number] = result
        self._ready.set()
