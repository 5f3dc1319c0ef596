"""`ReplicaPool`: replicas of one shape, each a gang of node hosts over one placement group.

Longer than most modules here, as it is what users read: the constructor's arguments with their
checks, and the methods with their promises. What they do stands in the modules beside it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, overload

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
from pool.dispatch.switchboard import Switchboard
from pool.errors import ConfigError, InfeasibleError, ReservationFailed
from pool.host.info import ReplicaInfo
from pool.host.node_host import NodeHost
from pool.host.plan import HostPlan
from pool.host.ports import DEFAULT_RANGE, PortRange
from pool.manager.arguments import (
    check_cluster,
    check_flag,
    check_instance_of,
    check_timeout,
    several,
)
from pool.manager.events import EventKind
from pool.manager.manager import ResourcePoolManager
from pool.manager.member import Incarnation, Member
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
from pool.planning.program import RoleRequest, RoleSeat
from pool.planning.restart import RestartPolicy
from pool.planning.rolling import RollPolicy
from pool.planning.shape import ReplicaShape
from pool.planning.shares import Shares
from pool.rendezvous.base import Rendezvous
from pool.replica.host_pool import gang_policy
from pool.replica.inquiry import ask_host
from pool.replica.lodgings import Lodgings, check_cleaner
from pool.replica.ranks import Ranks
from pool.replica.replica import Replica
from pool.replica.revision import Revision
from pool.replica.seats import Seats
from pool.replica.show import show_replica
from pool.replica.solo import describe_solo, is_solo, with_actor
from pool.replica.view import View
from pool.replica.warm import check_warm, keep_warm, wish_for
from pool.replica.work import Served, Work
from pool.replica.workers import Workers
from pool.window import requests

if TYPE_CHECKING:
    from pool.host.cleaner import DeviceCleaner
    from pool.process.spec import Process

LODGERS_LEAVE_S = 5.0
"""How long a group that is to be removed waits for those who live in it beside its own member."""


class ReplicaPool(ResourcePoolManager[ReplicaInfo], Work):
    """Keep replicas of one shape: scale, poll, replace and drain each as a tree.

    Each slot has one placement group: STRICT_PACK with one bundle where a node can hold the
    replica, STRICT_SPREAD with equal bundles, one a node, where it takes several. In it a replica
    actor holds one `NodeHost` for each bundle; a replica of one bundle is its `NodeHost`, in one
    process.

    Args:
        name: The pool's name.
        shape: What one replica needs.
        placement: How replicas are laid out on nodes; `Separate()` when left out.
        shares: How each bundle is divided with pools that live beside this one, on the same
            devices; see `ColocatedPool`. None keeps it whole.
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
            while the rest of its replica waits. By default the whole replica is replaced. It
            costs a replica of one host a second process, which outlives the host.
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
    _info_kind = ReplicaInfo

    def __init__(
        self,
        name: str,
        *,
        shape: ReplicaShape,
        placement: Placement | None = None,
        shares: Shares | None = None,
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
        notices = several(notices, "notices", "sources from pool.notices")
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
        if cluster is not None:
            check_cluster(cluster)
        check_flag(hosts_hold_devices, "hosts_hold_devices")
        check_flag(cluster_grows, "cluster_grows")
        check_flag(detached, "detached")
        check_instance_of(
            host_restart, RestartPolicy, "host_restart", "a RestartPolicy, or leave it out"
        )
        check_instance_of(shares, Shares, "shares", "Peers(...) or MainAndSides(...)")
        check_instance_of(ports, PortRange, "ports", "a PortRange")
        processes = several(processes, "processes", "pool.Process values")
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
            shares_devices=shares is not None,
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
        workers = Workers(ranks=ranks, processes=processes, rendezvous=rendezvous)
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
        if shares is not None and detached:
            raise ConfigError(
                "shares is given with detached=True, and who lives beside a pool ends with this "
                "process; leave one of them out",
                "shares",
            )
        if shares is not None:
            check_cleaner(cleaner, name)
        self._lodgings = Lodgings(name, shares, by_hosts=hosts_hold_devices)
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
        check_timeout(timeout_s)
        revision = self._revisions[self.revision].changed(
            {
                "shape": shape,
                "host_class": host,
                "host_args": host_args,
                "runtime_env": runtime_env,
                "ranks": ranks,
                "processes": (
                    None
                    if processes is None
                    else several(processes, "processes", "pool.Process values")
                ),
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
        check_timeout(timeout_s)
        present = self._revisions[self.revision]
        self._revisions.setdefault(self._newest + 1, present)
        self._forget_revisions()
        return await super().roll(policy, timeout_s=timeout_s)

    # -- work ----------------------------------------------------------------------------------

    def at_work(self) -> Served:
        return [(self, member) for member in self._serving()]

    @overload
    def __getitem__(self, rank: int) -> Member[ReplicaInfo]: ...

    @overload
    def __getitem__(self, rank: slice) -> View: ...

    def __getitem__(self, rank: int | slice) -> Member[ReplicaInfo] | View:
        """Return the member with a rank, or a view of the replicas with several.

        Raises:
            LookupError: No member has that rank now.
        """
        if isinstance(rank, slice):
            return View(((self, range(self.desired)[rank]),))
        return super().__getitem__(rank)

    def view(self) -> View:
        """Return a view of all replicas that the pool is meant to have now; to be split."""
        return self[:]

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
                measured; by default it is `load`, and the policy's target is in calls. One that
                raises, or gives no number, changes nothing, and is told as `source_unavailable`.
            period_s: Seconds between measurements; more than 0.

        Raises:
            ConfigError: A value cannot be right.
        """
        self._check_open()
        autosizer = None if policy is None else Autosizer(self, policy, metric, period_s)
        if self._autosizer is not None:
            self._autosizer.stop()
        self._autosizer = autosizer
        if autosizer is not None:
            self.spawn(autosizer.run)

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

    # -- the steps of a member's life ------------------------------------------------------------

    async def check_size(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        return await self._check_fits(sizes, self.shape)

    async def _check_fits(self, sizes: tuple[int, ...], shape: ReplicaShape) -> tuple[int, ...]:
        if self._grows or sizes == (0,):
            return sizes
        topology = await self.cluster.topology()
        if self._lodgings.shares is not None:
            self._lodgings.check(self._placement.next_plan(shape, topology), shape.device)
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
        seat = await self._seats.take(identity.slot, shape, self._unplaced)
        self._lodgings.check(seat.plan, shape.device)
        if seat.is_return:
            # The nodes take a moment to give back what they held; its process can start meanwhile.
            hosts = self._revisions[identity.revision].hosts
            if hosts.runtime_env is None or not is_solo(hosts, seat.nodes):
                await self.cluster.prestart(seat.nodes[:1])
        try:
            reservation = await self.cluster.reserve(
                seat.plan, identity, seat.timeout_s, detached=self.detached, nodes=seat.nodes
            )
        except ReservationFailed as error:
            self._seats.not_had(identity.slot)
            # That the time was up says less than who holds what it needs.
            if (why := await self._why_not_now(identity)) is not None:
                raise ReservationFailed(why) from error
            raise
        self._seats.taken(identity.slot, reservation)
        return self._lodgings.move_in(reservation, shape.device)

    async def release(self, reservation: Reservation) -> None:
        if self._lodgings.give_up(reservation):
            self._tell_changed()
            await self._lodgings.until_empty(reservation, LODGERS_LEAVE_S)
        await super().release(reservation)
        self._seats.given_back(reservation)

    async def drain_member(self, actor: Actor, budget_s: float) -> None:
        until = anyio.current_time() + budget_s
        for member in self._incarnations():
            if member.actor == actor and member.reservation is not None:
                # Whoever lives beside it goes first, and takes half of the time at the most.
                await self._lodgings.until_empty(member.reservation, budget_s / 2)
        await super().drain_member(actor, until - anyio.current_time())

    def _at_home(self, reservation: Reservation) -> Incarnation[ReplicaInfo] | None:
        """Return the member that holds a reservation; for who lives beside it."""
        for member in self._incarnations():
            if member.reservation is not None and member.reservation.id == reservation.id:
                return member
        return None

    def _room_beside(self, rank: int, share: int) -> Reservation | None:
        """Return the place beside the replica of a rank; None while there is none that lasts."""
        for member in self._incarnations():
            if member.slot.rank == rank and member.reservation is not None:
                lasts = member.fault is None and not member.state.is_leaving
                # Hosts that hold the devices say which they are, once they are ready.
                is_there = member.info is not None or not self._lodgings.by_hosts
                if lasts and is_there and member.leave_by is None:
                    return self._lodgings.room(member.reservation, share)
        return None

    def _unplaced(self) -> list[int]:
        """List the slots whose members wait for their reservations."""
        return [
            slot.index
            for slot in self._slots.values()
            if slot.incarnation is not None
            and slot.incarnation.state is State.PENDING
            and slot.incarnation.reservation is None
        ]

    def _ask_for(self, size: int, *, more: bool) -> RoleRequest:
        """Return what this pool asks a planner of several pools for.

        Args:
            size: The size that it is to have.
            more: Whether to ask only for those replicas that it does not have yet.
        """
        spares = self.policies.spares if size else 0
        has = self._goal.desired + self._goal.spares_now if more else 0
        return RoleRequest(
            role=self.name,
            shape=self.shape,
            placement=self._placement,
            count=max(0, size + spares - has),
            first=has,
            may_wait=self._grows,
        )

    def _take_seats(self, seats: Iterable[RoleSeat]) -> None:
        """Have the next replicas go where a planner of several pools has found room for them."""
        self._seats.offer(self.shape, [(seat.plan, seat.nodes) for seat in seats])

    async def explain_wait(self, identity: Identity) -> str:
        return await self._why_not_now(identity) or "its placement group is being made"

    async def _why_not_now(self, identity: Identity) -> str | None:
        try:
            plan, topology = await self._seats.look(self._shape_now(identity.slot))
        except InfeasibleError as error:
            return str(error)
        verdict = pack([Request(f"slot {identity.slot}", plan)], topology)
        return None if isinstance(verdict, Fits) else verdict.reason

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
        hosts = self._hosts_of(identity, reservation, revision.hosts)
        if is_solo(hosts, reservation.nodes):
            return describe_solo(identity, hosts, reservation, revision.workers)
        if hosts.runtime_env is None:
            # The replica will start the hosts; so their processes start beside its own.
            await self.cluster.prestart(reservation.nodes)
        return ActorSpec(
            body=Replica,
            args=(identity, hosts, reservation, revision.workers),
            label="Replica",
            identity=identity,
            reservation=reservation,
        )

    def _hosts_of(self, identity: Identity, reservation: Reservation, hosts: HostPlan) -> HostPlan:
        """Say what the hosts of a member are, where that depends on where it lives."""
        return hosts

    async def open_member(self, actor: Actor, timeout_s: float) -> ReplicaInfo:
        """Put the actor of a solo, which its own process cannot name, into what it tells."""
        return with_actor(await super().open_member(actor, timeout_s), actor)

    def kill_member(self, actor: Actor, info: ReplicaInfo | None) -> None:
        """Kill all below it too: they would follow, but some thousandths of a second later."""
        super().kill_member(actor, info)
        for part in info.actors if info is not None else ():
            if part != actor:
                self.cluster.kill(part)
