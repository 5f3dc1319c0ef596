"""Results of many calls, handed over on their loop as they arrive, many at a time.

Awaiting a reference costs a task and several futures. Here Ray's own thread puts what arrived on a
heap and wakes the loop once; the loop then takes all that has come by then.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import ray
from ray import exceptions

from pool.cluster.interface import Done
from pool.cluster.ray.deaths import error_of


class Arrivals:
    """Wait for references, and tell on the loop what came of each."""

    def __init__(self) -> None:
        self._heap: _Heap | None = None

    def expect(self, ref: Any, member: str, done: Done) -> Callable[[], None]:
        """Tell `done` on the running loop when the reference's value, or error, is here.

        Args:
            ref: What a remote call returned.
            member: Whom to name in an error.
            done: Told once.

        Returns:
            What asks Ray to cancel the call.
        """
        loop = asyncio.get_running_loop()
        if self._heap is None or self._heap.loop is not loop:
            self._heap = _Heap(loop)
        heap = self._heap
        ref.future().add_done_callback(lambda future: heap.add(future, member, done))

        def cancel() -> None:
            # What is over, or whose actor is dead, need not be cancelled.
            with contextlib.suppress(Exception):
                ray.cancel(ref)

        return cancel


class _Heap:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._arrived: deque[tuple[Future[Any], str, Done]] = deque()
        self._is_called = False

    def add(self, future: Future[Any], member: str, done: Done) -> None:
        """Note an arrival. Called on a thread of Ray's."""
        self._arrived.append((future, member, done))
        if not self._is_called:
            self._is_called = True
            # A loop that is closed has nobody who waits.
            with contextlib.suppress(RuntimeError):
                self.loop.call_soon_threadsafe(self._hand_over)

    def _hand_over(self) -> None:
        # First this: what is added from here on may be missed below, and then calls again.
        self._is_called = False
        while self._arrived:
            future, member, done = self._arrived.popleft()
            error = future.exception()
            if error is None:
                done(future.result(), None)
            elif isinstance(error, exceptions.RayError):
                done(None, error_of(error, member))
            else:
                done(None, error)
