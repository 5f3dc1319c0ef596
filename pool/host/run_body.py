"""The body of a run: one function, in a fresh process, and then no more."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import anyio

from pool.cluster.body import Context
from pool.errors import RunCancelled
from pool.host.worker_body import Portion, WorkerBody

Hook = Callable[[], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Hold what a run is to do.

    Args:
        function: What is called.
        args: Its arguments.
        before: Called before it, in order.
        after: Called after it, in order, whatever came of it.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...] = ()
    before: tuple[Hook, ...] = ()
    after: tuple[Hook, ...] = ()


AT_WORK = "it is at work"
DONE = "it is done"


class RunBody(WorkerBody):
    """Run one function.

    Whoever asked for the run calls `perform` at once, and the host calls `start`: the first waits
    for the second.
    """

    def __init__(self, portion: Portion, variables: Mapping[str, str]) -> None:
        super().__init__(portion, variables)
        self._settled = asyncio.Event()
        self._trouble: Exception | None = None
        self._asked_to_end: anyio.CancelScope | None = None
        self._over = asyncio.Event()

    async def start(self, context: Context) -> None:
        """Make the environment, and wait for the devices."""
        try:
            await self.settle(context)
        except Exception as error:
            self._trouble = error
            raise
        finally:
            self._settled.set()

    async def perform(self, frozen: bytes) -> Any:
        """Do the work.

        Raises:
            Exception: What the function raised, or one of its hooks; or what went wrong before.
        """
        await self._settled.wait()
        if self._trouble is not None:
            raise self._trouble
        work: Work = self.context.cluster.thaw(frozen)
        self.bulletin.tell(AT_WORK)
        try:
            with self.admit():
                for hook in work.before:
                    await self.run(hook)
                async with contextlib.AsyncExitStack() as after:
                    for hook in reversed(work.after):
                        after.push_async_callback(self.run, hook)
                    return await self._call(work)
        finally:
            # The host ends this process, in case whoever asked for the run does not.
            self._over.set()
            self.bulletin.tell(DONE)

    async def _call(self, work: Work) -> Any:
        if not inspect.iscoroutinefunction(work.function):
            return await self.run(work.function, *work.args)
        with anyio.CancelScope() as self._asked_to_end:
            return await self.run(work.function, *work.args)
        raise RunCancelled(self.context.identity.member, "it was asked to end")

    async def stop(self) -> bool:
        """Cancel an async function, and return when it has ended; False for a plain function."""
        if self._asked_to_end is None:
            return False
        self._asked_to_end.cancel()
        await self._over.wait()
        return True

    async def shutdown(self, budget_s: float) -> tuple[str, ...]:
        """Put nothing down: what the function holds goes with the process."""
        self.close()
        return ()
