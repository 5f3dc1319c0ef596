"""Single calls, each sent to the least loaded member, with a future for its result."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Hashable
from typing import Any

from pool.dispatch.dispatcher import Dispatcher
from pool.dispatch.job import Job, Limits, Raised, check_key, check_tries, check_work, raisable
from pool.dispatch.source import Mailbox
from pool.dispatch.target import Targets
from pool.errors import PoolClosed
from pool.host.parcel import pack


class Submissions:
    """Take calls for as long as the pool is open.

    Args:
        pool: Whom to send them to.
        on: Which targets of the pool.
        limits: How much may be under way.
    """

    def __init__(self, pool: Targets, on: str, limits: Limits) -> None:
        self._pool = pool
        self._mailbox = Mailbox()
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._dispatcher = Dispatcher(
            pool, on, limits, self._mailbox, self._unexpected, self._ended, self._fail
        )
        self._pool.spawn(self._live)

    @property
    def load(self) -> int:
        """Jobs in flight, and those that wait."""
        return self._dispatcher.in_flight + self._dispatcher.backlog

    def submit(
        self,
        work: Callable[..., Any] | str,
        args: tuple[Any, ...],
        *,
        key: Hashable = None,
        attempts: int = 1,
        timeout_s: float | None = None,
    ) -> asyncio.Future[Any]:
        """Hand in a call; the arguments are those of `ReplicaPool.submit`.

        Raises:
            ConfigError: A value cannot be right.
        """
        check_work(work)
        check_tries(attempts, timeout_s)
        check_key(key)
        carried = work if isinstance(work, str) else pack(self._pool.cluster, work)
        job = Job(next(self._numbers), carried, args, 1, key, attempts, timeout_s)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def told(outcome: Any) -> None:
            self._waiting.pop(job.number, None)
            if future.done():
                return
            if isinstance(outcome, Raised):
                future.set_exception(raisable(outcome.error))
            else:
                future.set_result(outcome)

        def left(future: asyncio.Future[Any]) -> None:
            if future.cancelled():
                self._waiting.pop(job.number, None)
                self._dispatcher.drop(job)

        job.told = told
        future.add_done_callback(left)
        self._waiting[job.number] = future
        self._mailbox.put(job)
        self._dispatcher.send_now()
        return future

    async def _live(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self._dispatcher.close()
            self._fail(PoolClosed("the pool was closed before the call was done"))

    def _unexpected(self, job: Job, outcome: Any) -> None:
        raise AssertionError(f"job {job.number} has nobody to tell {outcome!r}")

    def _ended(self, error: Exception | None) -> None:
        """Hear that there will be no more jobs, which never is."""

    def _fail(self, error: Exception) -> None:
        waiting, self._waiting = self._waiting, {}
        while self._mailbox.take() is not None:
            pass
        for future in waiting.values():
            if not future.done():
                future.set_exception(error)
