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
from pool.cluster.culprit import name_culprit
from pool.cluster.interface import Actor
from pool.cluster.trace import with_trace
from pool.errors import Permanent, PoolError
from pool.host.info import RankInfo
from pool.host.worker_body import Portion, WorkerBody
from pool.log import Word, say


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

        try:
            self.subject = await self.in_thread(make)
            start = getattr(self.subject, "start", None)
            extra = None if start is None else await self.run(start)
            self._check_returned(extra)
        except Exception as error:
            member = self.context.identity.member
            if not isinstance(error, PoolError):
                say(Word.START_FAILED, exc_info=True, member=member)
            if (told := with_trace(error, member)) is not error:
                raise told from None
            raise
        return replace(place, extra=extra)

    def _check_returned(self, extra: Any) -> None:
        if extra is not None and (culprit := name_culprit(extra, self.context.cluster.freeze)):
            raise Permanent(
                f"what start() of {type(self.subject).__name__} returned cannot be sent to its "
                f"owner: {culprit}; return what can be pickled, such as names and paths"
            )

    async def shutdown(self, budget_s: float) -> Sequence[str]:
        """Let the object put down what it holds."""
        self.close()
        shutdown = getattr(self.subject, "shutdown", None)
        if shutdown is not None:
            with fail_after(budget_s):
                await self.run(shutdown)
        return ()
