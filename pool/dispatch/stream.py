"""The values of a generator that runs in a member, as they are made."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pool.dispatch.results import END
from pool.dispatch.target import Target, Targets, within_reach
from pool.dispatch.unattended import Unattended
from pool.errors import MemberLost, MemberUnreachable, NotAdmitted, PoolClosed
from pool.host.parcel import pack


class StreamRun:
    """Read a generator on the least loaded member.

    Args:
        pool: Whom to call.
        on: Which targets of the pool.
        work: A generator function, or the name of such a method.
        args: Its arguments.
        attempts: How many members may be lost, or refuse, before the first value. After it,
            nothing is done again, for nobody could tell which values are doubled.
    """

    def __init__(
        self,
        pool: Targets,
        on: str,
        work: Callable[..., Any] | str,
        args: tuple[Any, ...],
        attempts: int,
    ) -> None:
        self._pool = pool
        self._on = on
        self._work = work if isinstance(work, str) else pack(pool.cluster, work)
        self._args = args
        self._attempts = attempts
        self._values: deque[Any] = deque()
        self._at: tuple[Target, int] | None = None
        self._has_begun = False
        self._is_over = False
        self._is_last = False
        self.read = 0
        self._closing: set[asyncio.Task[Any]] = set()

    @property
    def is_over(self) -> bool:
        """Whether it has not begun, or has ended."""
        return self._is_over or self._at is None

    @property
    def counts(self) -> dict[str, int]:
        """How many values were read."""
        return {"done": self.read, "in flight": int(self._at is not None)}

    async def next_outcome(self) -> Any:
        """Return the next value, or `END`.

        Raises:
            MemberLost: The member died.
            Exception: What the generator raised.
        """
        while self._is_over or not self._values:
            if self._is_over:
                raise PoolClosed("the stream was closed before its end")
            if self._is_last:
                self._leave()
                return END
            await self._fill()
        self.read += 1
        return self._values.popleft()

    async def _fill(self) -> None:
        try:
            if self._at is None:
                self._at = await self._begin()
            target, number = self._at
            with within_reach(target):
                values, self._is_last = await self._pool.cluster.call(
                    target.actor, "read_stream", number
                )
        except MemberLost as error:
            left = self._leave()
            if left is not None and not isinstance(error, MemberUnreachable):
                left.member.call_lost(error.cause, f"{left.where}{error.detail}")
            self._attempts -= 1
            if self._has_begun or self._attempts <= 0:
                self._is_over = True
                raise
            return
        except Exception:
            self._leave()
            self._is_over = True
            raise
        self._has_begun = True
        self._values.extend(values)

    async def _begin(self) -> tuple[Target, int]:
        changed = asyncio.Event()
        forget = self._pool.on_change(changed.set)
        unattended = Unattended(self._pool, self._on)
        try:
            while True:
                changed.clear()
                targets = self._pool.targets(self._on)
                for target in sorted(targets, key=lambda each: each.member.in_flight):
                    target.member.call_began()
                    try:
                        with within_reach(target):
                            number: int = await self._pool.cluster.call(
                                target.actor, "begin_stream", self._work, self._args
                            )
                    except NotAdmitted:
                        target.member.call_ended()
                        continue
                    except BaseException:
                        target.member.call_ended()
                        raise
                    return target, number
                if self._pool.failed is not None:
                    raise self._pool.failed
                unattended.look(waits=not targets)
                await changed.wait()
        finally:
            unattended.end()
            forget()

    def _leave(self) -> Target | None:
        if self._at is None:
            return None
        (target, _), self._at = self._at, None
        target.member.call_ended()
        return target

    def stop(self) -> None:
        """End the stream, also on its member."""
        if self._is_over:
            return
        self._is_over = True
        if self._at is not None:
            target, number = self._at
            self._leave()
            task = asyncio.ensure_future(self._close(target, number))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _close(self, target: Target, number: int) -> None:
        with suppress(Exception):
            await self._pool.cluster.call(target.actor, "close_stream", number)
