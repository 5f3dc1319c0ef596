"""Items spread over a pool: each exactly once in the output, in order, whoever dies meanwhile.

One task holds each call in flight. A call whose member died, or was drained before it began, goes
back to the head of the queue and is made on another; its item is yielded once, whoever answered.
An item that has lost a member is tried again alone, so that one that kills whoever takes it is
found out, and those that were beside it are not blamed.

Input is read only as far as there are calls in flight and results waiting for their turn, so that
memory stays bounded whatever the input's length.

The tasks belong to the pool, not to the iterator: an async generator that holds a task group would
break as soon as two tasks took turns at it, or nobody closed it.
"""

from __future__ import annotations

import math
from collections import Counter as Tally
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Literal

import anyio

from pool.dispatch.target import Target, Targets, call
from pool.errors import ConfigError, MemberLost, NotAdmitted, PoolClosed

Errors = Literal["raise", "return"]
WINDOW = 4
"""Results that may wait for an earlier one, as a multiple of the calls in flight."""


class Results(AsyncIterator[Any]):
    """Yield the results of a map, in order. Close it, or let it go, to end the map early."""

    def __init__(self, dispatch: Dispatch) -> None:
        self._dispatch = dispatch

    async def __anext__(self) -> Any:
        result = await self._dispatch.next_result()
        if result is _END:
            raise StopAsyncIteration
        if isinstance(result, _Raised):
            self._dispatch.stop()
            raise result.error
        return result

    async def aclose(self) -> None:
        """End the map; calls that are under way run to their end on their members."""
        self._dispatch.stop()

    def __del__(self) -> None:
        self._dispatch.stop()


_END = object()


class _Raised:
    """Hold an exception that ends the map."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class Dispatch:
    """Hand items to members, and put the results in order.

    Args:
        pool: Whom to send the items to.
        work: The function, or the name of the method.
        items: The input.
        on: Which targets of the pool.
        in_flight: Calls at once per target.
        errors: Whether an item's error ends the map or takes the item's place.
        attempts: How many members an item may lose.

    Raises:
        ConfigError: A value cannot be right.
    """

    def __init__(
        self,
        pool: Targets,
        work: Callable[[Any], Any] | str,
        items: Iterable[Any],
        *,
        on: str,
        in_flight: int,
        errors: Errors,
        attempts: int,
    ) -> None:
        for name, value in (("in_flight", in_flight), ("attempts", attempts)):
            if type(value) is not int or value < 1:
                raise ConfigError(f"{name} is {value!r}; give a whole number, 1 or more", name)
        if errors not in ("raise", "return"):
            raise ConfigError(f"errors is {errors!r}; give 'raise' or 'return'", "errors")
        if not callable(work) and not isinstance(work, str):
            raise ConfigError(f"work is {work!r}; give a function or a method's name", "work")
        pool.targets(on)
        self._pool = pool
        self._work = work
        self._items = enumerate(items)
        self._on = on
        self._in_flight = in_flight
        self._errors = errors
        self._attempts = attempts
        self._again: list[tuple[int, Any]] = []
        self._suspects: list[tuple[int, Any]] = []
        self._lost: Tally[int] = Tally()
        self._busy: Tally[str] = Tally()
        # Actors not to be used: dead ones, long before the pool may know; those that refuse work,
        # until the pool has changed; and those that are kept for a suspect item.
        self._dead: set[str] = set()
        self._refusing: set[str] = set()
        self._alone: set[str] = set()
        self._results: dict[int, Any] = {}
        self._next = 0
        self._handed_out = 0
        self._length: float = math.inf
        self._ready = anyio.Event()
        self._room = anyio.Event()
        self._scope = anyio.CancelScope()
        self._is_running = False
        self._is_over = False

    async def next_result(self) -> Any:
        """Return the next result in order, or `_END` after the last."""
        if not self._is_running:
            self._is_running = True
            self._pool.spawn(self._run)
        while self._next not in self._results:
            if self._next >= self._length:
                return _END
            if self._is_over:
                return _Raised(PoolClosed("the pool was closed, or the map ended, before its end"))
            self._ready = anyio.Event()
            await self._ready.wait()
        result = self._results.pop(self._next)
        self._next += 1
        self._room.set()
        return result

    def stop(self) -> None:
        """End the map."""
        if not self._is_over:
            self._scope.cancel()

    async def _run(self) -> None:
        """Keep every member busy until each item has its result."""
        forget = self._pool.on_change(self._wake)
        try:
            with self._scope:
                async with anyio.create_task_group() as tasks:
                    while self._next + len(self._results) < self._length:
                        self._room = anyio.Event()
                        if not self._hand_out(tasks.start_soon):
                            return
                        await self._room.wait()
        finally:
            forget()
            self._is_over = True
            self._ready.set()

    def _hand_out(self, start_soon: Callable[..., object]) -> bool:
        """Send items to whoever has room; return False when nobody ever will."""
        targets = self._pool.targets(self._on)
        if not targets and self._pool.failed is not None:
            self._finish(self._next, _Raised(self._pool.failed))
            return False
        unusable = self._dead | self._refusing | self._alone
        usable = [target for target in targets if target.actor.id not in unusable]
        usable.sort(key=lambda target: self._busy[target.actor.id])
        # Whoever is to have a suspect item alone takes nothing else until it is idle.
        kept, usable = usable[: len(self._suspects)], usable[len(self._suspects) :]
        for idle in (each for each in kept if not self._busy[each.actor.id]):
            self._alone.add(idle.actor.id)
            self._send(start_soon, idle, *self._suspects.pop())
        try:
            while (target := self._free(usable)) and (task := self._take(len(targets))):
                self._send(start_soon, target, *task)
        except Exception as error:
            # The input itself raised: what was read before it still has its results.
            self._length = self._handed_out + 1
            self._finish(self._handed_out, _Raised(error))
        return True

    def _send(
        self, start_soon: Callable[..., object], target: Target, number: int, item: Any
    ) -> None:
        self._busy[target.actor.id] += 1
        start_soon(self._call, target, number, item)

    def _free(self, usable: list[Target]) -> Target | None:
        """Return the least loaded target with room, or None."""
        target = min(usable, key=lambda target: self._busy[target.actor.id], default=None)
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

    async def _call(self, target: Target, number: int, item: Any) -> None:
        actor = target.actor.id
        try:
            result = await call(self._pool.cluster, target, self._work, (item,))
        except NotAdmitted:
            self._refusing.add(actor)
            self._again.append((number, item))
        except MemberLost as error:
            self._dead.add(actor)
            self._lost[number] += 1
            if self._lost[number] < self._attempts:
                self._suspects.append((number, item))
            else:
                error.add_note(f"item {number} has lost {self._lost[number]} members")
                self._finish(number, error if self._errors == "return" else _Raised(error))
        except Exception as error:
            self._finish(number, error if self._errors == "return" else _Raised(error))
        else:
            self._finish(number, result)
        finally:
            self._busy[actor] -= 1
            self._alone.discard(actor)
            self._room.set()

    def _finish(self, number: int, result: Any) -> None:
        self._results[number] = result
        self._ready.set()

    def _wake(self) -> None:
        self._refusing.clear()
        self._room.set()
