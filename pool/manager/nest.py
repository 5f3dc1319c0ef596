"""A nested pool's place inside a body: opened in a task of its own, brought up, closed with time.

A pool's block is entered and left by one task, and the calls to a body come in many; so the block
has a task, and the calls talk to it.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Generic, TypeVar

import anyio

from pool.errors import PoolClosed, SizeUnreachable, StartFailed
from pool.manager.hooks import RESTORE_TIMEOUT_S
from pool.manager.nested import NestedPool
from pool.planning.drain import child_budget
from pool.planning.restart import Cause

NestedT = TypeVar("NestedT", bound=NestedPool[Any])


class Nest(Generic[NestedT]):
    """Hold a nested pool.

    Args:
        pool: The pool, not yet opened.
    """

    def __init__(self, pool: NestedT) -> None:
        self.pool = pool
        self.is_closing = False
        self._drains = 0
        self._close = asyncio.Event()
        self._open: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._running = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            async with self.pool:
                self._open.set_result(None)
                await self._close.wait()
        except BaseException as error:
            if not self._open.done():
                self._open.set_exception(error)
                return
            raise

    async def bring_up(self, count: int) -> list[Any]:
        """Start every part, and return what they tell of themselves, in order.

        Raises:
            StartFailed: A part did not get ready, with its own reason. The rest are put down.
        """
        await asyncio.shield(self._open)
        # Its failures, which are read below, say more than that there are none.
        with contextlib.suppress(SizeUnreachable):
            try:
                await self.pool.scale(count, timeout_s=None)
            except PoolClosed:
                raise StartFailed(
                    self.pool.name, Cause.START, "it was put down meanwhile"
                ) from None
        infos = [member.info for member in self.pool.members(serving=True) if member.info]
        if len(infos) < count:
            failure = self.pool.failures[0]
            detail = f"{self.pool.part} {failure.slot}: {failure.detail}"
            raise StartFailed(self.pool.name, failure.cause, detail, failure.delay_s, failure.trace)
        return infos

    async def drain(self, budget_s: float) -> None:
        """Let every part finish its work, all at once. Nobody is judged meanwhile (INV-9)."""
        self._drains += 1
        self.pool.is_leaving = True
        await self._tell("drain", budget_s, budget_s=budget_s)

    async def restore(self) -> None:
        """Let every part take work again, all at once, and look after them as before."""
        drains = self._drains
        await self._tell("restore", budget_s=child_budget(RESTORE_TIMEOUT_S))
        # Whoever was told to leave once more while the last part answered is leaving.
        if drains == self._drains:
            self.pool.is_leaving = False

    async def _tell(self, method: str, *args: Any, budget_s: float) -> None:
        """Call a method of every part's body, all at once, for at most `budget_s` seconds."""
        async with anyio.create_task_group() as tasks:
            for part in self.pool.members():
                # Also one that is suspect: it works on, and may answer yet.
                if part.state.is_up and part.actor is not None:
                    tasks.start_soon(self._call, method, args, part.actor, budget_s)

    async def _call(self, method: str, args: tuple[Any, ...], actor: Any, budget_s: float) -> None:
        await self.pool.cluster.call(actor, method, *args, timeout_s=budget_s)

    async def close(self, budget_s: float) -> list[str]:
        """Close the pool: the same ladder, one level down, with less time.

        Returns:
            What went wrong with which part.
        """
        self.is_closing = True
        self.pool.limit_close(child_budget(budget_s))
        self._close.set()
        with anyio.fail_after(budget_s):
            await asyncio.wait([self._running])
        return [
            f"{self.pool.part} {report.slot}: {trouble}"
            for report in self.pool.reports
            for trouble in report.troubles
        ]
