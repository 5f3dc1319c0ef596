"""Where jobs come from: an iterable, an asynchronous one, or what is handed in one by one.

A source reads no further than it is allowed to, so that memory stays bounded whatever the length
of the input. It never waits: what it has not got yet it says by None, and tells when that changes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterable, Callable, Hashable, Iterable, Iterator, Sized
from typing import Any, Protocol

from pool.dispatch.job import Job, check_key
from pool.host.parcel import Parcel


class Source(Protocol):
    """Be where a dispatcher takes its jobs from."""

    def take(self) -> Job | None:
        """Return the next job; None when there is none now, or the bound is reached.

        Raises:
            Exception: What the input raised. It is at its end then.
        """
        ...

    def resize(self, members: int) -> None:
        """Hear how many members there are now."""

    @property
    def is_exhausted(self) -> bool:
        """Whether there will never be another job."""
        ...

    @property
    def waiting(self) -> int:
        """How many jobs could be taken now, as far as is known."""
        ...


class Mailbox:
    """Be a source of jobs that are handed in."""

    def __init__(self) -> None:
        self._jobs: deque[Job] = deque()
        self.is_exhausted = False

    def put(self, job: Job) -> None:
        """Hand a job in."""
        self._jobs.append(job)

    def take(self) -> Job | None:
        """Return the next job; None when there is none."""
        return self._jobs.popleft() if self._jobs else None

    def resize(self, members: int) -> None:
        """Hear how many members there are, which is of no matter here."""

    @property
    def waiting(self) -> int:
        """How many jobs were handed in and not taken."""
        return len(self._jobs)


class Reading:
    """Make jobs of the items of an input.

    Args:
        items: The input, plain or asynchronous.
        work: What is to be done with each.
        batch: How many items make a job; None gives the function each item by itself.
        key: Which member an item belongs to.
        attempts: How many members a job may lose.
        timeout_s: Seconds for each call; None waits for ever.
        ahead: How many jobs may be ahead of what was taken of the results, by members.
    """

    def __init__(
        self,
        items: Iterable[Any] | AsyncIterable[Any],
        work: Parcel | str,
        *,
        batch: int | None = None,
        key: Callable[[Any], Hashable] | None = None,
        attempts: int = 1,
        timeout_s: float | None = None,
        ahead: Callable[[int], int],
    ) -> None:
        self._attempts = attempts
        self._ahead_of = ahead
        self._timeout_s = timeout_s
        self._work = work
        self._batch = batch
        self._key = key
        self._later = items if isinstance(items, AsyncIterable) else None
        self._now: Iterator[Any] | None = None if self._later is not None else iter(items)  # type: ignore[arg-type]
        self.length = len(items) if isinstance(items, Sized) else None
        self._ahead: deque[Any] = deque()
        self._is_over = False
        self._error: Exception | None = None
        self._wanted = asyncio.Event()
        self._part: list[Any] = []
        self.jobs = 0
        self.read = 0
        self.taken = 0
        self._window = 0

    @property
    def is_exhausted(self) -> bool:
        """Whether there will never be another job."""
        return self._is_over and not self._ahead and not self._part and self._error is None

    @property
    def waiting(self) -> int:
        """How many jobs may still be read, as far as is known."""
        if self.is_exhausted or self.read >= self.allowed:
            return 0
        # An input that does not tell its length may have as much again as could be read now.
        left = self.allowed - self.read if self.length is None else self.length - self.read
        return -(-max(0, left) // (self._batch or 1))

    @property
    def allowed(self) -> int:
        """How many items may be read in all, by now."""
        return self.taken + self._window

    def resize(self, members: int) -> None:
        """Hear how many members there are now."""
        self._window = self._ahead_of(max(1, members)) * (self._batch or 1)
        self._look()

    def took(self) -> None:
        """Hear that a result was taken."""
        self.taken += 1
        self._look()

    def _look(self) -> None:
        if self._later is not None and self.read < self.allowed:
            self._wanted.set()

    def take(self) -> Job | None:
        """Return the next job; None when there is none now, or the bound is reached.

        Raises:
            Exception: What the input raised.
        """
        size = self._batch or 1
        while len(self._part) < size:
            if self._ahead:
                self._part.append(self._ahead.popleft())
            elif self._is_over:
                break
            elif self._now is None or self.read >= self.allowed:
                return None
            else:
                try:
                    self._part.append(next(self._now))
                except StopIteration:
                    self._is_over = True
                except Exception as error:
                    self._is_over, self._error = True, error
                else:
                    self.read += 1
        if self._part:
            try:
                return self._make()
            except Exception as error:
                # Its key, which is as much the input as the item is.
                self._is_over, self._error = True, error
                self._ahead.clear()
        if self._error is not None:
            raised, self._error = self._error, None
            raise raised
        return None

    def _make(self) -> Job:
        items, self._part = self._part, []
        key = None
        if self._key is not None:
            key = self._key(items[0])
            check_key(key)
        number = self.jobs
        self.jobs += 1
        job = Job(number, self._work, (items[0],), key=key)
        job.attempts, job.timeout_s = self._attempts, self._timeout_s
        if self._batch is not None:
            job.args, job.items = (items,), len(items)
        return job

    async def read_on(self, tell: Callable[[], object]) -> None:
        """Read an asynchronous input as far as it is allowed; `tell` is called with each item."""
        if self._later is None:
            return
        iterator = aiter(self._later)
        try:
            while not self._is_over:
                while self.read >= self.allowed:
                    self._wanted.clear()
                    await self._wanted.wait()
                try:
                    item = await anext(iterator)
                except StopAsyncIteration:
                    self._is_over = True
                except Exception as error:
                    self._is_over, self._error = True, error
                else:
                    if not self._is_over:  # Meanwhile a key may have been wrong.
                        self.read += 1
                        self._ahead.append(item)
                tell()
        finally:
            close = getattr(iterator, "aclose", None)
            if close is not None:
                with contextlib.suppress(Exception):
                    await close()
