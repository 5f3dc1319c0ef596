"""One pool, from a script without asyncio."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any

from pool.blocking.block import Block
from pool.dispatch.results import Results
from pool.errors import PoolFailed
from pool.host.info import ReplicaInfo
from pool.host.parcel import SharedValue
from pool.manager.events import Event
from pool.manager.ladder import MemberReport
from pool.manager.member import Member
from pool.manager.results import RollResult, ScaleResult
from pool.manager.snapshot import PoolSnapshot
from pool.planning.elastic import ElasticPolicy
from pool.planning.rolling import RollPolicy
from pool.rendezvous import Rendezvous
from pool.replica.replica_pool import ReplicaPool as AsyncReplicaPool


class ReplicaPool(Block[AsyncReplicaPool]):
    """Keep replicas of one shape, from code that blocks.

    Args:
        name: The pool's name.
        **options: Those of `pool.ReplicaPool`.

    Raises:
        ConfigError: A value cannot be right, or an event loop runs in this thread. Raised when the
            `with` block is entered.
    """

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(
            functools.partial(AsyncReplicaPool, name, **options),
            f"pool {name!r} is not open; use it inside `with pool.blocking.ReplicaPool(...) as "
            "replicas:`",
        )
        self.name = name

    def scale(self, size: int | Iterable[int], *, timeout_s: float | None = 600.0) -> ScaleResult:
        """Bring the pool to a size and wait; see `pool.ReplicaPool.scale`."""
        return self._call(lambda pool: pool.scale(size, timeout_s=timeout_s))

    def drain(self, *, timeout_s: float | None = None) -> tuple[MemberReport, ...]:
        """Scale to nothing and report; see `pool.ReplicaPool.drain`."""
        return self._call(lambda pool: pool.drain(timeout_s=timeout_s))

    def drain_slot(self, index: int, reason: str = "it was asked to leave") -> None:
        """Let one slot's member leave in good order; see `pool.ReplicaPool.drain_slot`."""
        self._call(lambda pool: pool.drain_slot(index, reason))

    def roll(
        self, policy: RollPolicy | None = None, *, timeout_s: float | None = None
    ) -> RollResult:
        """Replace every replica by one of a new revision; see `pool.ReplicaPool.roll`."""
        return self._call(lambda pool: pool.roll(policy, timeout_s=timeout_s))

    def change(self, **changes: Any) -> RollResult:
        """Roll to another shape, other code, or another environment; see `pool.ReplicaPool`."""
        return self._call(lambda pool: pool.change(**changes))

    def roll_back(
        self, policy: RollPolicy | None = None, *, timeout_s: float | None = None
    ) -> RollResult:
        """Roll to the revision before the last; see `pool.ReplicaPool.roll_back`."""
        return self._call(lambda pool: pool.roll_back(policy, timeout_s=timeout_s))

    def pause_roll(self) -> None:
        """Let nobody else go; see `pool.ReplicaPool.pause_roll`."""
        self._call(lambda pool: pool.pause_roll())

    def resume_roll(self) -> None:
        """Go on with a roll that was paused; see `pool.ReplicaPool.resume_roll`."""
        self._call(lambda pool: pool.resume_roll())

    def detach(self) -> None:
        """Leave the pool as it is, without an owner; see `pool.ReplicaPool.detach`."""
        self._call(lambda pool: pool.detach())

    def wait_settled(self, timeout_s: float | None = None) -> None:
        """Wait until the pool is as it is meant to be; see `pool.ReplicaPool.wait_settled`."""
        self._call(lambda pool: pool.wait_settled(timeout_s))

    def broadcast(
        self,
        work: Callable[..., Any] | str,
        *args: Any,
        env: Rendezvous | None = None,
        flat: bool = False,
        timeout_s: float | None = None,
    ) -> list[Any]:
        """Call a function on every node host; see `pool.ReplicaPool.broadcast`."""
        return self._call(
            lambda pool: pool.broadcast(work, *args, env=env, flat=flat, timeout_s=timeout_s)
        )

    def map(
        self, work: Callable[..., Any] | str, items: Iterable[Any], **options: Any
    ) -> Iterator[Any]:
        """Call a function on each item and yield the results; see `pool.ReplicaPool.map`.

        The input is read on the pool's thread: an iterable that blocks, blocks the pool.
        """
        return self._iterate(lambda pool: pool.map(work, items, **options))

    def map_unordered(
        self, work: Callable[..., Any] | str, items: Iterable[Any], **options: Any
    ) -> Iterator[Any]:
        """Do as `map`, and yield each result as soon as it is there."""
        return self._iterate(lambda pool: pool.map_unordered(work, items, **options))

    def stream(self, work: Callable[..., Any] | str, *args: Any, **options: Any) -> Iterator[Any]:
        """Yield a generator's values as they come; see `pool.ReplicaPool.stream`."""
        return self._iterate(lambda pool: pool.stream(work, *args, **options))

    def _iterate(self, begin: Callable[[AsyncReplicaPool], Results]) -> Iterator[Any]:
        results = self._call(begin)
        try:
            while True:
                try:
                    result = self._call(lambda _: results.__anext__())
                except StopAsyncIteration:
                    return
                yield result
        finally:
            self._call(lambda _: results.aclose())

    def submit(self, work: Callable[..., Any] | str, *args: Any, **options: Any) -> Future[Any]:
        """Send one call, and return the future of its result; see `pool.ReplicaPool.submit`."""
        pool, portal = self._open()

        async def call() -> Any:
            return await pool.submit(work, *args, **options)

        return portal.start_task_soon(call)

    def share(self, value: Any) -> SharedValue:
        """Put a large value into the cluster once; see `pool.ReplicaPool.share`."""
        return self._call(lambda pool: pool.share(value))

    def autosize(self, policy: ElasticPolicy | None, **options: Any) -> None:
        """Let the pool's size follow its load; see `pool.ReplicaPool.autosize`."""
        self._call(lambda pool: pool.autosize(policy, **options))

    @property
    def load(self) -> int:
        """Calls that are in flight, and those known to wait."""
        return self._call(lambda pool: pool.load)

    def members(self, *, serving: bool = False) -> list[Member[ReplicaInfo]]:
        """List the members as they are now, by rank; with `serving`, those that take work."""
        return self._call(lambda pool: pool.members(serving=serving))

    def __getitem__(self, rank: int) -> Member[ReplicaInfo]:
        return self._call(lambda pool: pool[rank])

    def snapshot(self) -> PoolSnapshot:
        """Return the pool as it is now, with the reason for each slot that is not ready."""
        return self._call(lambda pool: pool.snapshot())

    def events(self) -> tuple[Event, ...]:
        """Return the last events, oldest first."""
        return self._call(lambda pool: pool.events())

    @property
    def desired(self) -> int:
        """The size that the pool is meant to have."""
        return self._call(lambda pool: pool.desired)

    @property
    def failed(self) -> PoolFailed | None:
        """Why the pool gave up; None while it has not."""
        return self._call(lambda pool: pool.failed)
