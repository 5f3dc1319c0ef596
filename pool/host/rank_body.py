"""The body of a rank actor: one process of a world, with an object of the user's class in it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from anyio import fail_after

from pool.cluster.body import Context
from pool.cluster.interface import Actor
from pool.host.info import RankInfo
from pool.host.worker_body import Portion, WorkerBody


class RankBody(WorkerBody):
    """Make an object of the user's class, and call its methods, one after the other, in one thread.

    Its process comes first, and the object once it is known which ranks its devices have: a class
    is loaded after its environment is complete.
    """

    def __init__(self, portion: Portion, variables: Mapping[str, str]) -> None:
        super().__init__(portion, variables)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rank")
        self._info: RankInfo | None = None

    async def in_thread(self, work: Any) -> Any:
        """Run plain code in the one thread, after what waits for it already."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def start(self, context: Context) -> RankInfo:
        """Make the environment, wait for the devices, and tell of them."""
        await self.settle(context)
        self._info = RankInfo(
            node_id=context.node_id,
            address=context.address,
            pid=os.getpid(),
            devices=dict(self.devices),
            actor=Actor("", context.identity),  # The owner, who has the handle, fills it in.
        )
        return self._info

    async def begin(self, frozen: bytes, environment: Mapping[str, str], place: RankInfo) -> Any:
        """Make the object.

        Args:
            frozen: The class and its constructor's arguments.
            environment: What tells the rank of its world.
            place: What the host has found out of this rank.

        Raises:
            Exception: What the constructor, or `start`, raised.
        """
        self.context.environ.update(environment)

        def make() -> Any:
            kind, args, kwargs = self.context.cluster.thaw(frozen)
            return kind(*args, **kwargs)

        self.subject = await self.in_thread(make)
        start = getattr(self.subject, "start", None)
        return replace(place, extra=await self.run(start) if start is not None else None)

    async def shutdown(self, budget_s: float) -> Sequence[str]:
        """Let the object put down what it holds."""
        self.close()
        shutdown = getattr(self.subject, "shutdown", None)
        if shutdown is not None:
            with fail_after(budget_s):
                await self.run(shutdown)
        return ()
