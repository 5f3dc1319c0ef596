"""The same pool, from a script without asyncio.

The pool lives on an event loop in a thread of its own; each call here is handed over to it and
waited for. Ctrl-C interrupts the wait and cancels the call, and leaving the `with` block drains the
pool as ever. A second Ctrl-C, while that goes on, hurries it.
"""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, AbstractContextManager, ExitStack
from types import TracebackType
from typing import Any, Self, TypeVar, overload

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal

from pool.control.attach import attach as _attach
from pool.control.listing import PoolListing
from pool.control.listing import list_pools as _list_pools
from pool.control.reap import ReapReport
from pool.control.reap import reap as _reap
from pool.dispatch.results import Results
from pool.errors import ConfigError, PoolClosed, PoolFailed
from pool.host.info import ReplicaInfo
from pool.host.parcel import SharedValue
from pool.manager.events import Event
from pool.manager.haste import announce
from pool.manager.ladder import MemberReport
from pool.manager.member import Member
from pool.manager.results import RollResult, ScaleResult
from pool.manager.snapshot import PoolSnapshot
from pool.planning.elastic import ElasticPolicy
from pool.planning.rolling import RollPolicy
from pool.rendezvous import Rendezvous
from pool.replica.replica_pool import ReplicaPool as AsyncReplicaPool
from pool.signals import stop_script_on as stop_on

__all__ = ["ReplicaPool", "attach", "list_pools", "reap", "stop_on"]

T = TypeVar("T")


class ReplicaPool:
    """Keep replicas of one shape, from code that blocks.

    Args:
        name: The pool's name.
        **options: Those of `pool.ReplicaPool`.

    Raises:
        ConfigError: A value cannot be right, or an event loop runs in this thread. Raised when the
            `with` block is entered.
    """

    def __init__(self, name: str, **options: Any) -> None:
        self.name = name
        self._make: Callable[[], AbstractAsyncContextManager[AsyncReplicaPool]]
        self._make = functools.partial(AsyncReplicaPool, name, **options)
        self._stack = ExitStack()
        self._portal: BlockingPortal | None = None
        self._pool: AsyncReplicaPool | None = None

    def __enter__(self) -> Self:
        _check_no_loop()
        announce()  # On the main thread, where a block that catches signals can act on it.
        with ExitStack() as stack:
            self._portal = stack.enter_context(start_blocking_portal())
            inside = self._portal.wrap_async_context_manager(self._portal.call(self._make))
            self._pool = stack.enter_context(_Opened(inside, self._portal))
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

    @overload
    def _call(self, ask: Callable[[AsyncReplicaPool], Coroutine[Any, Any, T]]) -> T: ...

    @overload
    def _call(self, ask: Callable[[AsyncReplicaPool], T]) -> T: ...

    def _call(self, ask: Callable[[AsyncReplicaPool], Any]) -> Any:
        """Have the pool's loop do something, and wait for it; what breaks the wait cancels it."""
        pool, portal = self._open()
        future = portal.start_task_soon(ask, pool)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

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

    def _open(self) -> tuple[AsyncReplicaPool, BlockingPortal]:
        if self._pool is None or self._portal is None:
            raise PoolClosed(
                f"pool {self.name!r} is not open; use it inside `with pool.blocking.ReplicaPool"
                "(...) as replicas:`"
            )
        return self._pool, self._portal


def attach(name: str, *, takeover: bool = False) -> ReplicaPool:
    """Own a detached pool, in a `with` block; see `pool.attach`.

    Args:
        name: The pool's name.
        takeover: Whether to take the pool from an owner that lives.

    Raises:
        PoolUnknown, PoolHeld, Fenced, ConfigError: As `pool.attach`, when the block is entered.
    """
    attached = ReplicaPool(name)
    attached._make = functools.partial(_attach, name, takeover=takeover)
    return attached


def list_pools() -> list[PoolListing]:
    """List the pools in the cluster; see `pool.list_pools`."""
    return anyio.run(_list_pools)


def reap(name: str | None = None, *, dry_run: bool = False) -> ReapReport:
    """Take away what is left of pools whose owners are gone; see `pool.reap`."""
    return anyio.run(functools.partial(_reap, name, dry_run=dry_run))


def _check_no_loop() -> None:
    """Refuse to hold an event loop up, and with it all that runs on it.

    Raises:
        ConfigError: One runs in this thread.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    if "ipykernel" in sys.modules:
        return  # A notebook's cell holds the loop of its kernel up, whatever it does.
    raise ConfigError(
        "an event loop runs in this thread, and a pool that blocks would hold it up; use "
        "`async with pool.ReplicaPool(...) as replicas:` here, or call what blocks in a thread, as "
        "with `await asyncio.to_thread(...)`"
    )


class _Opened:
    """Leave the pool's block, and hurry when the wait for that is broken, as by Ctrl-C."""

    def __init__(
        self,
        inside: AbstractContextManager[AsyncReplicaPool],
        portal: BlockingPortal,
    ) -> None:
        self._made: AsyncReplicaPool | None = None
        self._inside = inside
        self._portal = portal

    def __enter__(self) -> AsyncReplicaPool:
        self._made = self._inside.__enter__()
        return self._made

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        ended_well = error is None

        def leave() -> bool | None:
            return self._inside.__exit__(kind, error, traceback)

        try:
            return leave()
        except BaseException:
            # The wait was broken off; or it is the pool's own error, and raised again below.
            self._wait_on(leave, run_hooks=ended_well)
            raise

    def _wait_on(self, leave: Callable[[], bool | None], *, run_hooks: bool) -> None:
        made = self._made
        assert made is not None
        self._portal.call(lambda: made.hurry(run_hooks=run_hooks))
        try:
            leave()
        except BaseException:
            if run_hooks:
                self._wait_on(leave, run_hooks=False)
            raise
