"""The ways of working with replicas: with all of a pool, or with those in a view of it.

What a pool gives them to is who serves at the moment; nobody here knows how replicas come and go.
"""

from __future__ import annotations

import asyncio
import secrets
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, Callable, Coroutine, Hashable, Iterable, Sequence
from typing import Any

import anyio

from pool.cluster.interface import Cluster
from pool.dispatch.broadcast import broadcast, in_rows
from pool.dispatch.environments import environments
from pool.dispatch.job import Errors, Limits
from pool.dispatch.map import MapOptions
from pool.dispatch.progress import ProgressTo
from pool.dispatch.results import Results
from pool.dispatch.run import RunOptions, Spawner, finish_runs
from pool.dispatch.stream import StreamRun
from pool.dispatch.switchboard import Switchboard
from pool.dispatch.target import Counter, Target
from pool.dispatch.unattended import nobody
from pool.errors import ConfigError, PoolError, PoolFailed
from pool.host.info import ReplicaInfo
from pool.host.parcel import SharedValue
from pool.manager.arguments import check_timeout
from pool.manager.member import Incarnation
from pool.rendezvous.base import Rendezvous, check_rendezvous
from pool.replica.host import Host

Served = Sequence[tuple[Spawner, Incarnation[ReplicaInfo]]]
"""Replicas that take work, each with its pool."""


class Work(ABC):
    """Work with replicas: call a function on all of them, map it over items, run processes."""

    name: str
    cluster: Cluster
    _switchboard: Switchboard

    @abstractmethod
    def at_work(self) -> Served:
        """List the replicas that take work now, by rank."""

    @abstractmethod
    def on_change(self, listener: Callable[[], object]) -> Callable[[], object]:
        """Call `listener` whenever that may be different; returns what ends it."""

    @abstractmethod
    def spawn(self, task: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a task until it ends or the pool is closed."""

    @property
    @abstractmethod
    def failed(self) -> PoolFailed | None:
        """Why the pool gave up, if it did."""

    @abstractmethod
    def _check_open(self) -> None:
        """Refuse work where there is nobody to do it any more."""

    async def broadcast(
        self,
        work: Callable[..., Any] | str,
        *args: Any,
        on: str = "host",
        env: Rendezvous | None = None,
        flat: bool = False,
        timeout_s: float | None = None,
    ) -> list[Any]:
        """Call a function on every node host, or rank actor, of every ready replica, all at once.

        Args:
            work: A function, or the name of a method of your `NodeHost`; on ranks, of their class.
            *args: Its arguments, the same everywhere.
            on: `host` calls every node host, `rank` every rank actor, `replica` the first host of
                each replica.
            env: Builds the environment variables that each host sets for the call. Rank actors
                have theirs already.
            flat: Return one list instead of one for each replica.
            timeout_s: Seconds for the whole; None waits for ever.

        Returns:
            `[[result per host] per replica]`, by rank; flat, `[result per host]`.

        Raises:
            MemberLost: A host died. Results of others are lost; the call is not repeated.
            TimeoutError: It took longer than `timeout_s`.
            ConfigError: A value cannot be right.
            Exception: What the function raised, on the first host where it did.

        On cancellation, and when the time is up, calls that are under way on hosts run to their end
        there.
        """
        if env is not None and on != "host":
            raise ConfigError(
                f"env is given for on={on!r}; it is for hosts. The rank actors of a replica find "
                "each other by the rendezvous of their Ranks",
                "env",
            )
        check_rendezvous(env, "env")
        check_timeout(timeout_s)
        rows = self._rows_to_call(on)
        hosts = self.hosts() if env is not None else []
        infos = [[host.info for host in row] for row in hosts]
        targets = [target for row in rows for target in row]
        with anyio.move_on_after(timeout_s):
            async with environments(self.cluster, infos, env) as variables:
                results = await broadcast(self.cluster, targets, work, args, variables)
            return results if flat else in_rows(results, rows)
        called = work if isinstance(work, str) else getattr(work, "__qualname__", repr(work))
        raise TimeoutError(
            f"the broadcast of {called} to {len(targets)} {on}s of pool {self.name!r} took longer "
            f"than {timeout_s} s; calls that are under way run to their end there"
        )

    def _rows_to_call(self, on: str) -> list[list[Target]]:
        self._check_open()
        rows = self._rows(on)
        if not any(rows):
            raise PoolError(f"pool {self.name!r} {nobody(on)}")
        return rows

    async def run(
        self,
        function: Callable[..., Any],
        *args: Any,
        options: RunOptions | None = None,
        env: Rendezvous | None = None,
        flat: bool = False,
        timeout_s: float | None = None,
    ) -> list[Any]:
        """Call a function in a fresh process on every node host of every ready replica.

        Each process is in its host's bundle, with its devices, and ends with the call. For calls in
        processes that stand already, see `broadcast`.

        Args:
            function: What to call, plain or async.
            *args: Its arguments, the same everywhere.
            options: What each run gets: devices, environment, hooks, references for results.
            env: Builds the environment variables by which the processes find each other.
            flat: Return one list instead of one for each replica.
            timeout_s: Seconds for the whole, the wait for devices included; None waits for ever.

        Returns:
            `[[result per host] per replica]`, by rank; flat, `[result per host]`.

        Raises:
            MemberLost: A process, a host or its node died. The call is not repeated; see
                `run_resumable`.
            TimeoutError: It took longer than `timeout_s`.
            ConfigError: A value cannot be right, or a bundle does not hold what a run needs.
            Exception: What the function raised, on the first host where it did.

        On cancellation, and with the first error, every process is killed.
        """
        check_rendezvous(env, "env")
        check_timeout(timeout_s)
        self._rows_to_call("host")
        rows = self.hosts()
        infos = [[host.info for host in row] for row in rows]
        hosts = [host for row in rows for host in row]
        async with environments(self.cluster, infos, env) as variables:
            runs = [
                host.begin_run(function, *args, options=options, environment=each)
                for host, each in zip(hosts, variables, strict=True)
            ]
            results = await finish_runs(runs, timeout_s)
        return results if flat else in_rows(results, rows)

    def map(
        self,
        work: Callable[..., Any] | str,
        items: Iterable[Any] | AsyncIterable[Any],
        *,
        on: str = "replica",
        in_flight: int = 2,
        in_all: int | None = None,
        errors: Errors = "raise",
        attempts: int = 3,
        timeout_s: float | None = None,
        batch: int | None = None,
        key: Callable[[Any], Hashable] | None = None,
        buffer: int | None = None,
        progress: ProgressTo = False,
    ) -> Results:
        """Call a function on each item, spread over the pool, and yield the results in order.

        Each item is yielded exactly once. When a member dies or is drained under a call, the call
        is made again on another, so the function has to be idempotent; with `attempts=1` it is
        not made again.

        Args:
            work: A function of one item, plain or async, or the name of such a method of your
                `NodeHost`. A generator's values are returned as a list.
            items: The input, plain or asynchronous; never read further ahead than the calls in
                flight and the results that wait to be taken. A plain one is read on the loop.
            on: `replica` sends items to each replica's first host; `host` to every host; `rank`
                to every rank actor.
            in_flight: Items, or batches, at once per target. Small ones share a call.
            in_all: At once on all targets; None for no further bound.
            errors: `raise` ends the map at the first item whose function raised; `return` yields
                the exception in the item's place.
            attempts: How many members an item may lose before it ends as `MemberLost`.
            timeout_s: Seconds for one call; an item that takes longer ends as `CallTimeout`.
            batch: Give the function lists of so many items, for which it returns lists of as many
                results. They are yielded one by one.
            key: Says for an item what it belongs to: items of one key go to one member, for as
                long as that serves.
            buffer: How many results, or batches of them, may wait to be taken, with those in
                flight; four times those in flight by default.
            progress: True shows a bar in a terminal or notebook, and log lines elsewhere; a word
                does so under that name; a function is called with the counts.

        Returns:
            The results: an async iterator, and an async context manager that ends the map.

        Raises:
            ConfigError: A value cannot be right.
            PoolFailed: From the iterator: the pool gave up and no member is left to work.

        Closing the results, or letting them go, asks members to stop what is in flight: async
        functions are cancelled, plain ones run to their end. While nobody is there to work, items
        wait; after a few seconds the log says so, as `work_waits`.
        """
        return self._map(
            work,
            items,
            MapOptions(
                on=on,
                in_flight=in_flight,
                in_all=in_all,
                errors=errors,
                attempts=attempts,
                timeout_s=timeout_s,
                batch=batch,
                key=key,
                buffer=buffer,
                progress=progress,
            ),
        )

    def map_unordered(
        self,
        work: Callable[..., Any] | str,
        items: Iterable[Any] | AsyncIterable[Any],
        **options: Any,
    ) -> Results:
        """Do as `map`, with its options, and yield each result as soon as it is there."""
        return self._map(work, items, MapOptions(**options, ordered=False))

    def _map(
        self,
        work: Callable[..., Any] | str,
        items: Iterable[Any] | AsyncIterable[Any],
        options: MapOptions,
    ) -> Results:
        self._check_open()
        return self._switchboard.map(work, items, options)

    def submit(
        self,
        work: Callable[..., Any] | str,
        *args: Any,
        on: str = "replica",
        key: Hashable = None,
        idempotent: bool = False,
        attempts: int = 3,
        timeout_s: float | None = None,
        in_flight: int = 100,
        in_all: int | None = None,
    ) -> asyncio.Future[Any]:
        """Send one call to the least loaded member, and return the future of its result.

        Args:
            work: A function, plain or async, or the name of a method of your `NodeHost`.
            *args: Its arguments.
            on: As with `map`.
            key: Calls of one key go to one member, for as long as that serves.
            idempotent: Whether the call may be made again when a member died under it.
            attempts: How many members it may lose then.
            timeout_s: Seconds for the call, from when it is sent; None waits for ever.
            in_flight: Calls at once per target; further ones wait. Calls with other bounds are
                counted by themselves.
            in_all: At once on all targets; None for no further bound.

        Returns:
            A future. Cancelling it stops the call: an async function is cancelled.

        Raises:
            ConfigError: A value cannot be right.

        The future raises `MemberLost`, `CallTimeout`, `PoolFailed`, `PoolClosed`, or what the
        function raised.
        """
        self._check_open()
        submissions = self._switchboard.submissions(on, Limits(in_flight, in_all))
        return submissions.submit(
            work,
            args,
            key=key,
            attempts=attempts if idempotent else 1,
            timeout_s=timeout_s,
        )

    def stream(
        self,
        work: Callable[..., Any] | str,
        *args: Any,
        on: str = "replica",
        attempts: int = 3,
    ) -> Results:
        """Call a generator function on the least loaded member, and yield its values as they come.

        The generator is ahead of its reader by a bounded number of values.

        Args:
            work: A generator function, plain or async, or the name of such a method.
            *args: Its arguments.
            on: As with `map`.
            attempts: How many members may be lost before the first value. After it a loss is the
                stream's end, as `MemberLost`.

        Returns:
            The values: an async iterator. Closing it ends the generator.
        """
        self._check_open()
        self.targets(on)
        return Results(StreamRun(self, on, work, args, attempts))

    def share(self, value: Any) -> SharedValue:
        """Put a large value into the cluster once, to be given to many calls.

        Give what is returned as an item, or an argument, of `map`, `submit` or `stream`: the
        function gets the value, which each member fetches once. It is there for as long as you
        hold what is returned.
        """
        self._check_open()
        return SharedValue(secrets.token_hex(16), self.cluster.share(value))

    @property
    def load(self) -> int:
        """Calls of maps and submissions that are in flight, and those known to wait."""
        return self._switchboard.load

    def targets(self, on: str = "replica") -> list[Target]:
        """List whom work can be sent to now.

        Args:
            on: `replica` for the first host of each replica, `host` for every host, `rank` for
                every rank actor.
        """
        return [target for row in self._rows(on) for target in row]

    def _rows(self, on: str) -> list[list[Target]]:
        """List the targets of each serving replica, by rank."""
        if on not in ("replica", "host", "rank"):
            raise ConfigError(f"on is {on!r}; give 'replica', 'host' or 'rank'", "on")
        return [
            _targets(member, member.info, on)
            for _, member in self.at_work()
            if member.info is not None
        ]

    def hosts(self) -> list[list[Host]]:
        """List the node hosts of every serving replica, by rank, to give work to each by itself."""
        return [
            [Host(pool, member, info) for info in member.info.hosts]
            for pool, member in self.at_work()
            if member.info is not None
        ]


def _targets(member: Counter, info: ReplicaInfo, on: str) -> list[Target]:
    if on == "rank":
        return [Target(rank.actor, member, f"rank {rank.rank}: ") for rank in info.ranks]
    hosts = info.hosts if on == "host" else info.hosts[:1]
    return [Target(host.actor, member, f"host {host.index}: ") for host in hosts]
