"""`ColocatedPool`: replicas that live beside those of another pool, on the same devices."""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine
from dataclasses import replace
from types import TracebackType
from typing import Any

import anyio

from pool.cluster.interface import ActorSpec, Fault, Identity, Reservation
from pool.errors import ConfigError, InfeasibleError, MemberFailed, ReservationFailed
from pool.host.info import ReplicaInfo
from pool.host.plan import HostPlan
from pool.manager.member import Incarnation, Warned
from pool.planning.lifecycle import State
from pool.planning.notice import Notice, NoticeKind
from pool.planning.restart import Cause
from pool.planning.shape import ReplicaShape
from pool.replica.lodgings import check_cleaner
from pool.replica.replica_pool import ReplicaPool
from pool.replica.seats import RESERVE_TIMEOUT_S

NOT_ITS_OWN = (
    "shape",
    "placement",
    "shares",
    "notices",
    "notice_policy",
    "cluster",
    "cluster_grows",
    "warm",
    "surge",
    "spares",
    "detached",
    "keep_s",
)
"""The options that are the target's to say."""
MOVES = "beside"
"""The source's name for what follows from the target's changes."""
_ENDING = (State.STOPPING, State.GONE)


class ColocatedPool(ReplicaPool):
    """Keep replicas beside those of another pool: replica i lives in the reservation of replica i.

    It has a share of each bundle there, which the other pool's `shares=` leaves it, so that its
    workers see the same devices. There are as many replicas as the other pool has, and their number
    follows. The reservations are the other pool's: draining this one leaves them alone, and when
    one is replaced or given back, the replica in it is drained and started again where the other's
    now is.

    Args:
        name: The pool's name.
        beside: The pool to live beside, made with `shares=`, and open for as long as this one.
        **options: Those of `ReplicaPool`, but for what is the other pool's to say: its shape and
            placement, surge and spares, and the notices of its nodes.

    Raises:
        ConfigError: A value cannot be right, or the other pool has no share left.
    """

    target: ReplicaPool
    """The pool that it lives beside."""

    def __init__(self, name: str, *, beside: ReplicaPool, **options: Any) -> None:
        target: object = beside
        if not isinstance(target, ReplicaPool):
            raise ConfigError(
                f"beside is {target!r}; give the ReplicaPool whose devices it is to share", "beside"
            )
        if isinstance(target, ColocatedPool):
            owner = target.target.name
            raise ConfigError(
                f"pool {target.name!r} lives beside {owner!r} itself; live beside {owner!r} too, "
                "and let that pool share for one more",
                "beside",
            )
        for option in NOT_ITS_OWN:
            if option in options:
                raise ConfigError(
                    f"{option} is given for pool {name!r}, which lives beside {beside.name!r}; it "
                    "is that pool's to say",
                    option,
                )
        check_cleaner(options.get("cleaner"), name)
        super().__init__(name, shape=beside.shape, cluster=beside.cluster, surge=0, **options)
        self.target = beside
        # Its nodes are watched over by the target: where that goes, this one follows.
        self._sources = ()
        self._follows = False
        self._share = beside._lodgings.take_in(self)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        try:
            return await super().__aexit__(kind, error, traceback)
        finally:
            self.target._lodgings.move_out(self._share)

    def _background(self) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        return [*super()._background(), self._follow_forever]

    # -- how many --------------------------------------------------------------------------------

    async def _check_fits(self, sizes: tuple[int, ...], shape: ReplicaShape) -> tuple[int, ...]:
        if shape != self.shape:
            raise ConfigError(
                f"pool {self.name!r} has the shape of {self.target.name!r}; change that one",
                "shape",
            )
        possible = tuple(size for size in sizes if size in (0, self.target.desired))
        if not possible:
            raise InfeasibleError(
                f"Pool {self.name!r} is to have {sizes[0]} replicas beside those of "
                f"{self.target.name!r}, which has {self.target.desired}: there is one of each in "
                "each place. Scale that pool; this one follows.",
                nearest=f"{self.target.desired} replicas",
            )
        return possible

    def _set_desired(self, desired: int, reason: str) -> None:
        self._follows = desired > 0
        super()._set_desired(desired, reason)

    async def _follow_forever(self) -> None:
        news = anyio.Event()

        def tell() -> None:
            news.set()

        # Which rank a replica has may change on either side.
        ends = [each.on_change(tell) for each in (self.target, self)]
        try:
            while True:
                news = anyio.Event()
                self._follow()
                await news.wait()
        finally:
            for end in ends:
                end()

    def _follow(self) -> None:
        size = self.target.desired
        if self._follows and self._closing_by is None and size != self.desired:
            super()._set_desired(size, f"{self.target.name} has {size}")
        for member in self._incarnations():
            if member.reservation is not None and member.state not in _ENDING:
                self._look_after(member, member.reservation)

    # -- where -----------------------------------------------------------------------------------

    def lives_in(self, reservation: Reservation) -> bool:
        """Return whether one of its members is in a reservation."""
        return any(
            member.reservation is not None and member.reservation.id == reservation.id
            for member in self._incarnations()
        )

    def _look_after(self, member: Incarnation[ReplicaInfo], at: Reservation) -> None:
        """Let a member leave when its place goes, or is another's by now."""
        where = self.target._at_home(at)
        lost = None if where is None else where.fault
        if where is None or lost is not None:
            why = "" if lost is None else f": {lost.detail}"
            detail = f"its place beside {self.target.name} is gone{why}"
            self._note_fault(member, Fault(Cause.PREEMPTION, detail))
            return
        is_going = where.state.is_leaving or where.slot.rank != member.slot.rank
        if is_going == (MOVES in member.notices):
            return
        if is_going:
            member.notices[MOVES] = (self._moves(where),)
        else:
            del member.notices[MOVES]
        member.slot.look_anew()
        self._wake()

    def _moves(self, where: Incarnation[ReplicaInfo]) -> Warned:
        """Return the notice that a member is to leave with those whom it lives beside."""
        ladder_s = self.policies.drain.timeout_s
        notice = Notice(
            kind=NoticeKind.MAINTENANCE,
            deadline=self.cluster.unix_time() + ladder_s,
            source=self.target.name,
            reason=f"{where.identity.member} leaves its place",
            node_id=where.nodes[0] if where.nodes else "",
        )
        leave_by = anyio.current_time() + ladder_s
        return Warned(notice, leave_by, begins_at=-math.inf, replace_first=False)

    # -- the steps of a member's life --------------------------------------------------------------

    async def reserve(self, identity: Identity) -> Reservation:
        """Return the place beside the target's replica of the same rank, once there is one.

        Raises:
            ReservationFailed: There is none yet.
        """
        with anyio.move_on_after(RESERVE_TIMEOUT_S):
            while True:
                slot = self._slots.get(identity.slot)
                rank = None if slot is None else slot.rank
                if rank is not None and (room := self.target._room_beside(rank, self._share)):
                    return room
                await self.target.changed()
        raise ReservationFailed(await self.explain_wait(identity))

    async def release(self, reservation: Reservation) -> None:
        """Leave the reservation alone: it is the target's."""

    async def explain_wait(self, identity: Identity) -> str:
        slot = self._slots.get(identity.slot)
        rank = None if slot is None else slot.rank
        return f"{self.target.name} has no replica of rank {rank} that it could live beside"

    async def describe_member(
        self, identity: Identity, reservation: Reservation | None
    ) -> ActorSpec:
        return replace(await super().describe_member(identity, reservation), own_group=False)

    def _hosts_of(self, identity: Identity, reservation: Reservation, hosts: HostPlan) -> HostPlan:
        hosts = replace(hosts, shares_devices=True)
        if not self.target._lodgings.by_hosts:
            return hosts
        home = self.target._at_home(reservation)
        if home is None or home.info is None:
            why = f"its place beside {self.target.name} is gone"
            raise MemberFailed(identity.member, Cause.PREEMPTION, why)
        lent = tuple(host.devices for host in home.info.hosts)
        return replace(hosts, holds_devices=False, lent=lent)

    def take_notices(self, identity: Identity, notices: tuple[Notice, ...]) -> bool:
        """Leave them to the target, which hears of its nodes by itself."""
        return False
