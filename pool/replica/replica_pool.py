"""`ReplicaPool`: replicas of one shape, each a gang of node hosts over one placement group."""

from __future__ import annotations

import asyncio
import functools
import secrets
from collections.abc import (
    AsyncIterable,
    Callable,
    Coroutine,
    Hashable,
    Iterable,
    Mapping,
    Sequence,
)
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio

from pool.cluster.connect import connect
from pool.cluster.interface import (
    Actor,
    ActorSpec,
    Cluster,
    Identity,
    Reservation,
)
from pool.demand.wishing import NOTHING, Wish
from pool.dispatch.autosize import Autosizer, Metric
from pool.dispatch.broadcast import broadcast, in_rows
from pool.dispatch.environments import environments
from pool.dispatch.job import Errors, Limits
from pool.dispatch.map import MapOptions
from pool.dispatch.progress import ProgressTo
from pool.dispatch.results import Results
from pool.dispatch.run import RunOptions, finish_runs
from pool.dispatch.stream import StreamRun
from pool.dispatch.switchboard import Switchboard
from pool.dispatch.target import Counter, Target
from pool.errors import ConfigError, InfeasibleError, PoolError, ReservationFailed
from pool.host.info import ReplicaInfo
from pool.host.node_host import NodeHost
from pool.host.parcel import SharedValue
from pool.host.plan import HostPlan
from pool.host.ports import DEFAULT_RANGE, PortRange
from pool.manager.events import EventKind
from pool.manager.manager import ResourcePoolManager
from pool.manager.metering import Gauged
from pool.manager.policies import Policies
from pool.manager.results import RollResult
from pool.manager.succession import make_again
from pool.metrics import table
from pool.notices.draining import DrainingNodes
from pool.notices.source import ClusterNoticeSource, NodeNoticeSource, NoticeSource
from pool.planning.drain import DrainPolicy, child_budget
from pool.planning.elastic import ElasticPolicy
from pool.planning.health import HealthPolicy
from pool.planning.lifecycle import State
from pool.planning.notice_policy import NoticePolicy
from pool.planning.packing import Fits, Request, pack
from pool.planning.placement import Placement, Separate
from pool.planning.plan import Role
from pool.planning.restart import RestartPolicy
from pool.planning.rolling import RollPolicy
from pool.planning.shape import ReplicaShape
from pool.rendezvous.base import Rendezvous
from pool.replica.host import Host
from pool.replica.host_pool import gang_policy
from pool.replica.ranks import Ranks
from pool.replica.replica import Replica
from pool.replica.revision import Revision
from pool.replica.seats import Seats
from pool.replica.show import ask_host, show_replica
from pool.replica.warm import check_warm, keep_warm, wish_for
from pool.replica.workers import Workers
from pool.window import requests

if TYPE_CHECKING:
    from pool.host.cleaner import DeviceCleaner
    from pool.process.spec import Process


class ReplicaPool(ResourcePoolManager[ReplicaInfo]):
    """Keep replicas of one shape: scale, poll, replace and drain each as a tree.

    Each slot has one placement group: STRICT_PACK with one bundle where a node can hold the
    replica, STRICT_SPREAD with equal bundles, one a node, where it takes several. In it a replica
    actor holds one `NodeHost` for each bundle.

    Args:
        name: The pool's name.
        shape: What one replica needs.
        placement: How replicas are laid out on nodes; `Separate()` when left out.
        host: Your `NodeHost` class; the plain one runs functions and no more.
        host_args: Its constructor's arguments.
        ranks: What rank actors each replica has: objects of your class, one process for each
            device, that find each other. None by default.
        processes: The processes that every host has: servers, launchers, anything. A replica is
            ready when all of them are, and is lost with any that ends for good.
        rendezvous: Builds the environment by which the processes of one replica find each other.
        hosts_hold_devices: Whether each host sits in its bundle and holds its devices, being its
            own worker. By default hosts hold nothing, and workers take the bundle.
        notices: Who is asked whether a node will go away. Ray's own draining nodes are always
            asked.
        cluster_grows: Whether nodes may join. Then a request that does not fit the nodes of now
            is not refused but waits, as the autoscaler's demand.
        warm: How many replicas more than the pool has are to find room at once: nodes for them are
            kept, where the cluster grows. Nothing of it is reserved; who comes first takes it.
        cluster: The world to work in; by default the Ray cluster this process is connected to.
        health: How replicas, and their hosts, are polled, and when one counts as failed.
        restart: How often, and how soon, a failed replica is started again.
        host_restart: Within which limits a host that died is started again by itself, on its node,
            while the rest of its replica waits. By default the whole replica is replaced.
            Levels multiply: see `pool.planning.restart.worst_case_restarts`.
        drain: How long a replica may take to leave.
        notice_policy: What follows a notice, by its kind.
        surge: How many replicas more than desired may live while replacements come first; 0 saves
            the devices, and a replica that gets a notice leaves before its successor starts.
        spares: How many replicas are kept ready beyond the desired size. One that is lost, or has
            to leave, has its rank taken over by a spare within milliseconds.
        start_timeout_s: Seconds from a replica's actor to ready.
        lease_s: Seconds that replicas and hosts live without hearing from their owner; then they
            drain themselves, give their devices back, and end.
        ports: Which ports of each node may be leased, for rendezvous and processes.
        cleaner: Clears devices, on each node, of what a predecessor left, before a host's own
            `start`; nothing is cleared by default.
        runtime_env: Ray's runtime environment of the hosts. None starts them fastest.
        instance: A word that tells pools of one name apart; drawn at random when left out.
        detached: Whether the pool outlives this process, with all its replicas: see `detach` and
            `pool.attach`.
        keep_s: Seconds that a detached pool is kept without an owner; None keeps it for ever.

    Raises:
        ConfigError: A value cannot be right, or this process is not connected to Ray.
    """

    level = "replica"

    def __init__(
        self,
        name: str,
        *,
        shape: ReplicaShape,
        placement: Placement | None = None,
        host: type[NodeHost] = NodeHost,
        host_args: tuple[Any, ...] = (),
        ranks: Ranks | None = None,
        processes: Sequence[Process] = (),
        rendezvous: Rendezvous | None = None,
        hosts_hold_devices: bool = False,
        notices: Sequence[NoticeSource] = (),
        cluster_grows: bool = False,
        warm: int = 0,
        cluster: Cluster | None = None,
        health: HealthPolicy | None = None,
        restart: RestartPolicy | None = None,
        host_restart: RestartPolicy | None = None,
        drain: DrainPolicy | None = None,
        notice_policy: NoticePolicy | None = None,
        surge: int = 1,
        spares: int = 0,
        start_timeout_s: float = 600.0,
        lease_s: float = 60.0,
        ports: PortRange = DEFAULT_RANGE,
        cleaner: DeviceCleaner | None = None,
        runtime_env: dict[str, Any] | None = None,
        instance: str | None = None,
        detached: bool = False,
        keep_s: float | None = None,
    ) -> None:
        node_sources = tuple(source for source in notices if isinstance(source, NodeNoticeSource))
        sources = [source for source in notices if isinstance(source, ClusterNoticeSource)]
        if len(node_sources) + len(sources) < len(notices):
            raise ConfigError(
                f"notices is {list(notices)!r}; give sources from pool.notices, or subclasses of "
                "NodeNoticeSource or ClusterNoticeSource",
                "notices",
            )
        if not any(isinstance(source, DrainingNodes) for source in sources):
            sources.append(DrainingNodes())
        if not isinstance(placement, Placement | None):
            raise ConfigError(
                f"placement is {placement!r}; give Separate(), Shared(), or an object of your own "
                "subclass of Placement",
                "placement",
            )
        policies = Policies(
            health=HealthPolicy() if health is None else health,
            restart=RestartPolicy() if restart is None else restart,
            drain=DrainPolicy() if drain is None else drain,
            notices=NoticePolicy() if notice_policy is None else notice_policy,
            surge=surge,
            spares=spares,
            start_timeout_s=start_timeout_s,
            lease_s=lease_s,
        )
        hosts = HostPlan(
            host_class=host,
            host_args=host_args,
            holds_devices=hosts_hold_devices,
            notices=node_sources,
            ports=ports,
            cleaner=cleaner,
            policies=replace(
                policies,
                restart=gang_policy(host_restart),
                start_timeout_s=child_budget(start_timeout_s),
            ),
            runtime_env=runtime_env,
        )
        workers = Workers(ranks=ranks, processes=tuple(processes), rendezvous=rendezvous)
        first = Revision(shape, hosts, workers)
        cluster = connect() if cluster is None else cluster
        super().__init__(
            name,
            cluster=cluster,
            policies=policies,
            notices=sources,
            instance=instance,
            detached=detached,
            keep_s=keep_s,
        )
        self._revisions = {self.revision: first}
        self._grows = cluster_grows
        self._placement = Separate() if placement is None else placement
        self._seats = Seats(cluster, self._placement, shape, grows=cluster_grows)
        self._switchboard = Switchboard(self)
        self._autosizer: Autosizer | None = None
        self._warm = check_warm(warm, cluster_grows)

    def _forget_revisions(self) -> None:
        """Keep what a member is made from, what may be rolled back to, and what comes."""
        used = {member.identity.revision for member in self._incarnations()}
        used |= {self.revision, self._newest + 1}
        self._revisions = {number: it for number, it in self._revisions.items() if number in used}

    def recipe(self) -> Callable[[Cluster], Any]:
        policies, present = self.policies, self._revisions[self.revision]
        return functools.partial(
            make_again,
            type(self),
            self.name,
            shape=present.shape,
            placement=self._placement,
            host=present.hosts.host_class,
            host_args=present.hosts.host_args,
            ranks=present.workers.ranks,
            processes=present.workers.processes,
            rendezvous=present.workers.rendezvous,
            hosts_hold_devices=present.hosts.holds_devices,
            notices=(*present.hosts.notices, *self._sources),
            cluster_grows=self._grows,
            warm=self._warm,
            health=policies.health,
            restart=policies.restart,
            host_restart=None if present.workers.is_gang else present.hosts.policies.restart,
            drain=policies.drain,
            notice_policy=policies.notices,
            surge=policies.surge,
            spares=policies.spares,
            start_timeout_s=policies.start_timeout_s,
            lease_s=policies.lease_s,
            ports=present.hosts.ports,
            cleaner=present.hosts.cleaner,
            runtime_env=present.hosts.runtime_env,
            detached=True,
            keep_s=self._keep_s,
        )

    def remember(self) -> dict[int, Revision]:
        return self._revisions

    def recall(self, memory: dict[int, Revision]) -> None:
        self._revisions = memory

    def show_info(self, info: ReplicaInfo) -> Mapping[str, Any]:
        return show_replica(info)

    async def carry_out(self, request: requests.Request) -> Any:
        if request.verb in (requests.Verb.PROCESSES, requests.Verb.READ_LOG):
            return await ask_host(self, request)
        return await super().carry_out(request)

    def can_adopt(self, identity: Identity, reservation: Reservation | None) -> bool:
        return reservation is not None and identity.revision in self._revisions

    @property
    def shape(self) -> ReplicaShape:
        """What one replica needs, in the pool's present revision."""
        return self._revisions[self.revision].shape

    async def change(
        self,
        *,
        shape: ReplicaShape | None = None,
        host: type[NodeHost] | None = None,
        host_args: tuple[Any, ...] | None = None,
        runtime_env: dict[str, Any] | None = None,
        ranks: Ranks | None = None,
        processes: Sequence[Process] | None = None,
        policy: RollPolicy | None = None,
        timeout_s: float | None = None,
    ) -> RollResult:
        """Roll the pool to a revision with another shape, other code, or another environment.

        What is not given stays as it is; `roll()` by itself makes every replica anew from what
        the pool has. The new revision is checked before anybody is let go.

        Args:
            shape: What one replica needs.
            host: Your `NodeHost` class.
            host_args: Its constructor's arguments.
            runtime_env: Ray's runtime environment of the hosts; `{}` for none.
            ranks: What rank actors each replica has.
            processes: The processes that every host has.
            policy: As with `roll`.
            timeout_s: As with `roll`.

        Raises:
            ConfigError: A value cannot be right.
            InfeasibleError: The cluster could never hold as many replicas of the new shape.

        Other errors, result and cancellation are those of `roll`.
        """
        self._check_open()
        revision = self._revisions[self.revision].changed(
            {
                "shape": shape,
                "host_class": host,
                "host_args": host_args,
                "runtime_env": runtime_env,
                "ranks": ranks,
                "processes": None if processes is None else tuple(processes),
            }
        )
        if shape is not None and self.desired:
            await self._check_fits((self.desired,), shape)
        if self.detached:
            self._freeze("the new revision is made from", revision)
        self._revisions[self._newest + 1] = revision
        return await self.roll(policy, timeout_s=timeout_s)

    async def roll(
        self, policy: RollPolicy | None = None, *, timeout_s: float | None = None
    ) -> RollResult:
        present = self._revisions[self.revision]
        self._revisions.setdefault(self._newest + 1, present)
        self._forget_revisions()
        return await super().roll(policy, timeout_s=timeout_s)

    # -- work ----------------------------------------------------------------------------------

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
            Exception: What the function raised, on the first host where it did.

        On cancellation, calls that are under way on hosts run to their end there.
        """
        if env is not None and on != "host":
            raise ConfigError(
                f"env is given for on={on!r}; it is for hosts. The rank actors of a replica find "
                "each other by the rendezvous of their Ranks",
                "env",
            )
        rows = self._rows_to_call(on)
        hosts = self.hosts() if env is not None else []
        infos = [[host.info for host in row] for row in hosts]
        targets = [target for row in rows for target in row]
        with anyio.fail_after(timeout_s):
            async with environments(self.cluster, infos, env) as variables:
                results = await broadcast(self.cluster, targets, work, args, variables)
        return results if flat else in_rows(results, rows)

    def _rows_to_call(self, on: str) -> list[list[Target]]:
        self._check_open()
        rows = self._rows(on)
        if not any(rows):
            has = "rank actor" if on == "rank" else "ready replica"
            raise PoolError(
                f"pool {self.name!r} has no {has} to call; scale it first, as in `await "
                "pool.scale(1)`, and look at its snapshot() for the reasons"
                + ("; rank actors are declared with ranks=" if on == "rank" else "")
            )
        return rows

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
        functions are cancelled, plain ones run to their end.
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

    def autosize(
        self,
        policy: ElasticPolicy | None,
        *,
        metric: Metric | None = None,
        period_s: float = 1.0,
    ) -> None:
        """Let the pool's size follow its load, from now on; with None, no longer.

        It grows at once, and shrinks after votes in a row, the least busy first, each drained. The
        reason for each decision is in the events, as `size_decided`.

        Args:
            policy: Between which sizes, how readily, and which load one member is meant for.
            metric: Returns the load of the whole pool, plain or async, or None when it cannot be
                measured; by default it is `load`, and the policy's target is in calls.
            period_s: Seconds between measurements; more than 0.

        Raises:
            ConfigError: A value cannot be right.
        """
        self._check_open()
        if self._autosizer is not None:
            self._autosizer.stop()
            self._autosizer = None
        if policy is not None:
            self._autosizer = Autosizer(self, policy, metric, period_s)
            self.spawn(self._autosizer.run)

    async def resize(self, size: int, reason: str) -> None:
        """Bring the pool to a size without waiting for it, and say why.

        Raises:
            InfeasibleError: The cluster could never hold that many; nothing is changed.
            PoolClosed: The pool is not open, or began to close meanwhile.
        """
        self._check_open()
        await self._check_fits((size,), self.shape)
        await self._announce(desired=size)
        self._check_open()
        self._set_desired(size, reason)

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
            for member in self._serving()
            if member.info is not None
        ]

    def hosts(self) -> list[list[Host]]:
        """List the node hosts of every serving replica, by rank, to give work to each by itself."""
        return [
            [Host(self, member, info) for info in member.info.hosts]
            for member in self._serving()
            if member.info is not None
        ]

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
            ConfigError: A bundle does not hold what a run needs.
            Exception: What the function raised, on the first host where it did.

        On cancellation, and with the first error, every process is killed.
        """
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

    # -- the steps of a member's life ------------------------------------------------------------

    async def check_size(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        return await self._check_fits(sizes, self.shape)

    async def _check_fits(self, sizes: tuple[int, ...], shape: ReplicaShape) -> tuple[int, ...]:
        if self._grows or sizes == (0,):
            return sizes
        topology = await self.cluster.topology()
        # Our own members are among `sizes`, so the nodes are taken as if they were empty.
        most = self._placement.capacity(shape, sizes[-1], topology)
        possible = tuple(size for size in sizes if size <= most.replicas)
        if possible:
            return possible
        # Shows what one replica misses, where not even one fits.
        self._placement.next_plan(shape, topology)
        raise InfeasibleError(
            f"Pool {self.name!r} can never reach {sizes[0]} replicas on these nodes, "
            f"{most.replicas} fit: {most.reason}.",
            topology.describe(shape.device),
            f"{most.replicas} replicas",
        )

    async def reserve(self, identity: Identity) -> Reservation:
        shape = self._shape_now(identity.slot)
        seat = await self._seats.take(identity.slot, shape, self._unplaced())
        try:
            reservation = await self.cluster.reserve(
                seat.plan, identity, seat.timeout_s, detached=self.detached, nodes=seat.nodes
            )
        except ReservationFailed:
            self._seats.not_had(identity.slot)
            raise
        self._seats.taken(identity.slot, reservation)
        return reservation

    async def release(self, reservation: Reservation) -> None:
        await super().release(reservation)
        self._seats.given_back(reservation)

    def _unplaced(self) -> list[int]:
        """List the slots whose members wait for their reservations."""
        return [
            slot.index
            for slot in self._slots.values()
            if slot.incarnation is not None
            and slot.incarnation.state is State.PENDING
            and slot.incarnation.reservation is None
        ]

    async def explain_wait(self, identity: Identity) -> str:
        try:
            plan, topology = await self._seats.look(self._shape_now(identity.slot))
        except InfeasibleError as error:
            return str(error)
        verdict = pack([Request(f"slot {identity.slot}", plan)], topology)
        return "its placement group is being made" if isinstance(verdict, Fits) else verdict.reason

    def _gauge(self) -> Gauged:
        gauged = super()._gauge()
        return replace(gauged, values={**gauged.values, table.JOBS: self.load})

    def _background(self) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        return [*super()._background(), *([self._keep_warm] if self._warm else [])]

    async def _keep_warm(self) -> None:
        await keep_warm(
            self.cluster,
            f"{self.name}:{self.instance}",
            self.epoch,
            self.policies.lease_s,
            wish=self._wish,
            changed=self.changed,
            say=lambda why: self.emit(EventKind.SOURCE_UNAVAILABLE, source="broker", reason=why),
            is_left=lambda: self._let_go or self._fenced is not None,
        )

    async def _wish(self) -> Wish:
        if self._closing_by is not None:
            return NOTHING
        plan, topology = await self._seats.look(self.shape)
        replicas = self._goal.desired + self._goal.spares_now + self._warm
        return wish_for(replicas, plan, topology)

    def _shape_now(self, slot: int) -> ReplicaShape:
        """Return the shape with the nodes left out that are about to go away.

        A replacement, which would be replaced again there, leaves out those that may go as well.
        """
        is_replacement = slot in self._slots and self._slots[slot].role is Role.REPLACEMENT
        leaving = self._notices.leaving_nodes(advised=is_replacement)
        if not leaving:
            return self.shape
        selector = self.shape.selector
        return replace(self.shape, selector=replace(selector, without=selector.without | leaving))

    async def describe_member(
        self, identity: Identity, reservation: Reservation | None
    ) -> ActorSpec:
        if reservation is None:
            raise ReservationFailed(f"{identity.member} has no placement group")
        revision = self._revisions[identity.revision]
        hosts = revision.hosts
        if hosts.runtime_env is None:
            # The replica will start the hosts; so their processes start beside its own.
            await self.cluster.warm(reservation.nodes)
        return ActorSpec(
            body=Replica,
            args=(identity, hosts, reservation, revision.workers),
            label="Replica",
            identity=identity,
            reservation=reservation,
        )

    def kill_member(self, actor: Actor, info: ReplicaInfo | None) -> None:
        """Kill all below it too: they would follow, but some thousandths of a second later."""
        super().kill_member(actor, info)
        for part in info.actors if info is not None else ():
            self.cluster.kill(part)


def _targets(member: Counter, info: ReplicaInfo, on: str) -> list[Target]:
    if on == "rank":
        return [Target(rank.actor, member, f"rank {rank.rank}: ") for rank in info.ranks]
    hosts = info.hosts if on == "host" else info.hosts[:1]
    return [Target(host.actor, member, f"host {host.index}: ") for host in hosts]
