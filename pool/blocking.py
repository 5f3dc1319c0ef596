"""The same pool, from a script without asyncio.

The pool lives on an event loop in a thread of its own; each call here is handed over to it and
waited for. Ctrl-C interrupts the wait, and leaving the `with` block drains the pool as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from anyio.from_thread import BlockingPortal, start_blocking_portal

from pool.dispatch.map import Errors
from pool.errors import PoolClosed, PoolFailed
from pool.host.info import ReplicaInfo
from pool.manager.events import Event
from pool.manager.ladder import MemberReport
from pool.manager.member import Member
from pool.manager.results import ScaleResult
from pool.manager.snapshot import PoolSnapshot
from pool.rendezvous import Rendezvous
from pool.replica.replica_pool import ReplicaPool as AsyncReplicaPool

__all__ = ["ReplicaPool"]


class ReplicaPool:
    """Keep replicas of one shape, from code that blocks.

    Args:
        name: The pool's name.
        **options: Those of `pool.ReplicaPool`.

    Raises:
        ConfigError: A value cannot be right. Raised when the `with` block is entered.
    """

    def __init__(self, name: str, **options: Any) -> None:
        self.name = name
        self._options = options
        self._stack = ExitStack()
        self._portal: BlockingPortal | None = None
        self._pool: AsyncReplicaPool | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._portal = stack.enter_context(start_blocking_portal())
            made = self._portal.call(lambda: AsyncReplicaPool(self.name, **self._options))
            self._pool = stack.enter_context(self._portal.wrap_async_context_manager(made))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        try:
            return self._stack.__exit__(kind, error, traceback)
        finally:
            self._portal = None

    def scale(self, size: int | Iterable[int], *, timeout_s: float | None = 600.0) -> ScaleResult:
        """Bring the pool to a size and wait; see `pool.ReplicaPool.scale`."""
        pool, portal = self._open()
        return portal.call(lambda: pool.scale(size, timeout_s=timeout_s))

    def drain(self, *, timeout_s: float | None = None) -> tuple[MemberReport, ...]:
        """Scale to nothing and report; see `pool.ReplicaPool.drain`."""
        pool, portal = self._open()
        return portal.call(lambda: pool.drain(timeout_s=timeout_s))

    def wait_settled(self, timeout_s: float | None = None) -> None:
        """Wait until the pool is as it is meant to be; see `pool.ReplicaPool.wait_settled`."""
        pool, portal = self._open()
        portal.call(lambda: pool.wait_settled(timeout_s))

    def broadcast(
        self,
        work: Callable[..., Any] | str,
        *args: Any,
        env: Rendezvous | None = None,
        flat: bool = False,
        timeout_s: float | None = None,
    ) -> list[Any]:
        """Call a function on every node host; see `pool.ReplicaPool.broadcast`."""
        pool, portal = self._open()
        return portal.call(
            lambda: pool.broadcast(work, *args, env=env, flat=flat, timeout_s=timeout_s)
        )

    def map(
        self,
        work: Callable[[Any], Any] | str,
        items: Iterable[Any],
        *,
        on: str = "replica",
        in_flight: int = 2,
        errors: Errors = "raise",
        attempts: int = 3,
    ) -> Iterator[Any]:
        """Call a function on each item and yield the results; see `pool.ReplicaPool.map`.

        The input is read on the pool's thread: an iterable that blocks, blocks the pool.
        """
        pool, portal = self._open()
        results = portal.call(
            lambda: pool.map(
                work, items, on=on, in_flight=in_flight, errors=errors, attempts=attempts
            )
        )
        try:
            while True:
                try:
                    result = portal.call(results.__anext__)
                except StopAsyncIteration:
                    return
                yield result
        finally:
            portal.call(results.aclose)

    def members(self, *, serving: bool = False) -> list[Member[ReplicaInfo]]:
        """List the members as they are now, by rank; with `serving`, those that take work."""
        pool, portal = self._open()
        return portal.call(lambda: pool.members(serving=serving))

    def __getitem__(self, rank: int) -> Member[ReplicaInfo]:
        pool, portal = self._open()
        return portal.call(lambda: pool[rank])

    def snapshot(self) -> PoolSnapshot:
        """Return the pool as it is now, with the reason for each slot that is not ready."""
        pool, portal = self._open()
        return portal.call(pool.snapshot)

    def events(self) -> tuple[Event, ...]:
        """Return the last events, oldest first."""
        pool, portal = self._open()
        return portal.call(pool.events)

    @property
    def desired(self) -> int:
        """The size that the pool is meant to have."""
        pool, portal = self._open()
        return portal.call(lambda: pool.desired)

    @property
    def failed(self) -> PoolFailed | None:
        """Why the pool gave up; None while it has not."""
        pool, portal = self._open()
        return portal.call(lambda: pool.failed)

    def _open(self) -> tuple[AsyncReplicaPool, BlockingPortal]:
        if self._pool is None or self._portal is None:
            raise PoolClosed(
                f"pool {self.name!r} is not open; use it inside `with pool.blocking.ReplicaPool"
                "(...) as replicas:`"
            )
        return self._pool, self._portal
