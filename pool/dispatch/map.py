"""Items spread over a pool: each exactly once in the output, whoever dies meanwhile.

Input is read only as far as there are jobs in flight and results waiting to be taken, so that
memory stays bounded whatever the input's length.

What runs belongs to the pool, not to the iterator: an async generator that holds a task group would
break as soon as two tasks took turns at it, or nobody closed it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any

from pool.dispatch.dispatcher import Dispatcher
from pool.dispatch.job import (
    Errors,
    Job,
    Limits,
    check_count,
    check_function,
    check_tries,
    check_work,
)
from pool.dispatch.progress import Progress, ProgressTo, progress_for
from pool.dispatch.results import END, Shelf
from pool.dispatch.source import Reading
from pool.dispatch.target import Targets
from pool.errors import ConfigError, PoolClosed
from pool.host.parcel import pack

WINDOW = 4
"""Results that may wait for an earlier one, as a multiple of the jobs in flight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MapOptions:
    """Say how a map is done. The arguments are those of `ReplicaPool.map`."""

    on: str = "replica"
    in_flight: int = 2
    in_all: int | None = None
    errors: Errors = "raise"
    attempts: int = 3
    timeout_s: float | None = None
    batch: int | None = None
    key: Callable[[Any], Hashable] | None = None
    buffer: int | None = None
    ordered: bool = True
    progress: ProgressTo = False

    def __post_init__(self) -> None:
        check_count("batch", self.batch, optional=True)
        check_count("buffer", self.buffer, optional=True)
        check_tries(self.attempts, self.timeout_s)
        if self.errors not in ("raise", "return"):
            raise ConfigError(f"errors is {self.errors!r}; give 'raise' or 'return'", "errors")
        check_function("key", self.key, "a function that returns the key of an item")
        if self.batch is not None and self.key is not None:
            raise ConfigError("key is given with batch; a batch has items of many keys", "key")

    @property
    def limits(self) -> Limits:
        """How much may be under way."""
        # A time-out is that of one job: nobody may wait for another in the same call. And what
        # must not be done again must not be lost with another's death.
        together = self.timeout_s is None and self.batch is None and self.attempts > 1
        return Limits(self.in_flight, self.in_all, together)


class MapRun:
    """Do a map.

    Args:
        pool: Whom to send the items to.
        work: The function, or the name of the method.
        items: The input, plain or asynchronous.
        options: How.

    Raises:
        ConfigError: A value cannot be right.
    """

    def __init__(
        self,
        pool: Targets,
        work: Callable[..., Any] | str,
        items: Iterable[Any] | AsyncIterable[Any],
        options: MapOptions,
    ) -> None:
        check_work(work)
        self._limits = options.limits
        pool.targets(options.on)
        self._pool = pool
        self._options = options
        self._shelf = Shelf(ordered=options.ordered, batched=options.batch is not None)
        self._source = Reading(
            items,
            work if isinstance(work, str) else pack(pool.cluster, work),
            batch=options.batch,
            key=options.key,
            attempts=options.attempts,
            timeout_s=options.timeout_s,
            ahead=lambda members: options.buffer or WINDOW * options.in_flight * members,
        )
        self._dispatcher: Dispatcher | None = None
        self._ready = asyncio.Event()
        self._over = asyncio.Event()
        self._input_error: Exception | None = None
        self._failure: Exception | None = None
        self._is_read = False
        self._progress: Progress | None = None

    @property
    def counts(self) -> dict[str, int]:
        """How far it is."""
        if self._dispatcher is None:
            return {"in flight": 0}
        return {**self._dispatcher.counts, "in flight": self._dispatcher.in_flight}

    @property
    def is_over(self) -> bool:
        """Whether it has not begun, or has ended."""
        return self._dispatcher is None or self._over.is_set()

    @property
    def load(self) -> int:
        """Jobs in flight, and those that wait."""
        if self._dispatcher is None or self._over.is_set():
            return 0
        return self._dispatcher.in_flight + self._dispatcher.backlog

    async def next_outcome(self) -> Any:
        """Return the next outcome, or `END` after the last.

        Raises:
            Exception: What the input raised, or what ended the map before its end.
        """
        ready = self._shelf.ready
        while not ready:
            if self._is_done():
                self.stop()
                error, self._input_error = self._input_error, None
                if error is not None:
                    raise error
                return END
            if self._failure is not None:
                self.stop()
                raise self._failure
            if self._over.is_set():
                raise PoolClosed("the pool was closed, or the map ended, before its end")
            if self._dispatcher is None:
                self._begin()
            self._ready.clear()
            await self._ready.wait()
        if self._dispatcher is not None:
            self._source.took()
            self._dispatcher.wake()
        return ready.popleft()

    def stop(self) -> None:
        """End the map."""
        if not self._over.is_set():
            self._over.set()
            self._ready.set()
            if self._dispatcher is not None:
                self._dispatcher.close()
            if self._progress is not None:
                self._progress.end(self.counts)

    def _is_done(self) -> bool:
        return self._is_read and self._shelf.jobs == self._source.jobs

    def _begin(self) -> None:
        self._pool.spawn(self._live)
        self._dispatcher = Dispatcher(
            self._pool,
            self._options.on,
            self._limits,
            self._source,
            self._tell,
            self._end,
            self._fail,
        )
        self._progress = progress_for(
            self._options.progress, self._source.length, lambda: self.counts
        )
        self._dispatcher.wake()

    async def _live(self) -> None:
        """Be the pool's task for as long as the map runs: it ends when the pool closes."""
        assert self._dispatcher is not None
        reading = asyncio.ensure_future(self._source.read_on(self._dispatcher.wake))
        try:
            await self._over.wait()
        finally:
            reading.cancel()
            self.stop()
        await asyncio.wait([reading])

    def _tell(self, job: Job, outcome: Any) -> None:
        if self._shelf.put(job, outcome) or self._is_done():
            self._ready.set()

    def _end(self, error: Exception | None) -> None:
        self._is_read = True
        if error is not None:
            self._input_error = error
        if self._is_done():
            self._ready.set()

    def _fail(self, error: Exception) -> None:
        self._failure = error
        self._ready.set()
