"""What comes of a map: outcomes put in order, or as they come, and the iterator over them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, NoReturn, Protocol, Self

from pool.dispatch.job import Job, Raised, raisable


class Shelf:
    """Hold outcomes until they are wanted.

    Args:
        ordered: Whether an outcome waits for those of the jobs before it.
        batched: Whether a job's outcome is a list, one for each of its items.
    """

    def __init__(self, *, ordered: bool, batched: bool) -> None:
        self._ordered = ordered
        self._batched = batched
        self._early: dict[int, list[Any]] = {}
        self._next = 0
        self.ready: deque[Any] = deque()
        self.jobs = 0

    def put(self, job: Job, outcome: Any) -> bool:
        """Take an outcome; return whether there is something to be had that was not before."""
        self.jobs += 1
        outcomes = _one_each(job, outcome) if self._batched else [outcome]
        if not self._ordered:
            self.ready.extend(outcomes)
            return True
        if job.number != self._next:
            self._early[job.number] = outcomes
            return False
        self.ready.extend(outcomes)
        self._next += 1
        while self._next in self._early:
            self.ready.extend(self._early.pop(self._next))
            self._next += 1
        return True


def _one_each(job: Job, outcome: Any) -> list[Any]:
    if isinstance(outcome, list | tuple) and len(outcome) == job.items:
        return list(outcome)
    if not isinstance(outcome, Raised):
        message = f"a batch of {job.items} items gave {_in_words(outcome)}; return a list of one "
        outcome = Raised(ValueError(f"{message}for each"))
    return [outcome] * job.items


def _in_words(outcome: Any) -> str:
    # NB: len() and repr() are the value's own, and may raise; len() of an array of no dimension.
    with contextlib.suppress(Exception):
        return f"{len(outcome)} results"
    with contextlib.suppress(Exception):
        return repr(outcome)
    return f"an object of {type(outcome).__qualname__}"


class Run(Protocol):
    """Be what results come from."""

    async def next_outcome(self) -> Any:
        """Return the next outcome, or `END`.

        Raises:
            Exception: What ended the run before its end.
        """

    def stop(self) -> None:
        """End the run."""

    @property
    def is_over(self) -> bool:
        """Whether there is nothing to end."""
        ...

    @property
    def counts(self) -> dict[str, int]:
        """How far it is."""
        ...


END = object()


class Results(AsyncIterator[Any]):
    """Yield the results of a map, or the values of a stream.

    Close it, leave its `async with` block, or let it go, to end the work early: what is in flight
    is asked to stop, async functions by cancellation; plain ones run to their end in their threads.
    """

    def __init__(self, run: Run, *, raises: bool = True) -> None:
        self._run = run
        self._raises = raises
        self._loop = asyncio.get_running_loop()

    def __iter__(self) -> NoReturn:
        """Say that they are read otherwise."""
        raise TypeError(
            "results come while the pool works: read them with `async for`, or all at once with "
            "`[each async for each in results]`"
        )

    async def __anext__(self) -> Any:
        outcome = await self._run.next_outcome()
        if type(outcome) is Raised:
            if not self._raises:
                return outcome.error
            self._run.stop()
            raise raisable(outcome.error)
        if outcome is END:
            raise StopAsyncIteration
        return outcome

    @property
    def counts(self) -> dict[str, int]:
        """How far it is: `done`, `failed`, `retried`, `lost`, `in flight`, and so on."""
        return self._run.counts

    async def aclose(self) -> None:
        """End the work."""
        self._run.stop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        # Whoever lets it go may be any thread; and a loop that has ended has nothing under way.
        if not self._run.is_over and self._loop.is_running():
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._run.stop)
