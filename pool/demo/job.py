"""The job under way: the same library read in several passes, each tallied by itself.

One pass is too short for three faults, so the library is read again until the story is over. Every
pass has to give the serial result; a result that was lost or came twice would show in its pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import anyio

import pool
from pool.demo.corpus import Batch, Census, count, merge

PASSES = 3
"""What is planned; more are made if the pool has not recovered from the last fault by then."""
PASSES_MOST = 60


class Job:
    """Hand out the input, and tally what comes back.

    Args:
        batches: The input of one pass.
        passes: How many passes to make at least.
    """

    def __init__(self, batches: Sequence[Batch], passes: int = PASSES) -> None:
        self._batches = batches
        self._passes = passes
        self._begun = 0
        self._story_is_over = False
        self._moved = anyio.Event()
        self.is_running = False
        self.sent = 0
        self.received = 0
        self.passes: list[Census] = []

    @property
    def planned(self) -> int:
        """How many items there are to be, as far as is known by now."""
        return max(self._passes, self._begun) * len(self._batches)

    @property
    def share(self) -> float:
        """The part of the planned job that is done."""
        return self.received / self.planned

    def let_end(self) -> None:
        """Make no further pass, beyond those that were planned."""
        self._story_is_over = True

    async def run(self, replicas: pool.ReplicaPool) -> None:
        """Do the job on a pool."""
        self.is_running = True
        try:
            async for census in replicas.map(count, self._items(), on="host"):
                number = self.received // len(self._batches)
                if number == len(self.passes):
                    self.passes.append({})
                merge(self.passes[number], census)
                self.received += 1
                self._moved.set()
        finally:
            self.is_running = False
            self._moved.set()

    async def until(self, share: float) -> None:
        """Wait until that part of the planned job is done."""
        items = share * self._passes * len(self._batches)
        while self.received < items:
            self._moved = anyio.Event()
            await self._moved.wait()

    def _items(self) -> Iterator[Batch]:
        # Read item by item, so that whether there is another pass is decided at the last moment.
        while self._begun < self._passes or (not self._story_is_over and self._begun < PASSES_MOST):
            self._begun += 1
            for batch in self._batches:
                self.sent += 1
                yield batch
