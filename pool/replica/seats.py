"""Where the next replicas go: one look at the nodes for all that wait, and a seat for each.

A look costs as much as there are nodes and groups. So all slots that wait at one moment get their
seats from one look, and one that waits for a while has its seat kept.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import anyio

from pool.cluster.interface import Cluster, Reservation
from pool.errors import InfeasibleError
from pool.planning.capacity import plan_to_come
from pool.planning.placement import Placement, stay
from pool.planning.shape import BundlePlan, ReplicaShape
from pool.planning.topology import Topology

RESERVE_TIMEOUT_S = 60.0
"""After this long a group that is not ready is removed and planned anew from the nodes of then."""
PINNED_TIMEOUT_S = 5.0
"""And after this long one whose nodes were chosen, or that was planned around a notice."""
FRESH_S = 1.0
SHOWN_S = 5.0
"""How long after a group was removed the nodes may still look as if it was there."""


@dataclass(frozen=True, slots=True)
class Seat:
    """Say where a replica is to go.

    Args:
        plan: Its bundles.
        nodes: The node of each; empty where nothing is free now, and it has to wait.
        timeout_s: How long to wait for it before the nodes are looked at again.
        is_return: Whether its nodes are those that the slot's last group was on. They may still be
            giving back what that held.
    """

    plan: BundlePlan
    nodes: tuple[str, ...]
    timeout_s: float
    is_return: bool = False


@dataclass(frozen=True, slots=True)
class _Look:
    at: float
    shape: ReplicaShape
    topology: Topology
    plan: BundlePlan


class Seats:
    """Give seats to the slots of a pool.

    Args:
        cluster: Whose nodes to look at.
        placement: How replicas are laid out.
        usual: The pool's shape; one that differs leaves nodes out for a while.
        grows: Whether nodes may come, so that what fits none of now is asked for all the same.
    """

    def __init__(
        self, cluster: Cluster, placement: Placement, usual: ReplicaShape, *, grows: bool = False
    ) -> None:
        self._cluster = cluster
        self._placement = placement
        self._usual = usual
        self._grows = grows
        self._looking = anyio.Lock()
        self._seen: _Look | None = None
        self._left = Topology(())
        self._seats: dict[int, tuple[str, ...]] = {}
        self._before: dict[int, Reservation] = {}
        self._given_back: dict[str, float] = {}
        self._offered: deque[Seat] = deque()
        self._offered_for: ReplicaShape | None = None

    def offer(
        self, shape: ReplicaShape, seats: Iterable[tuple[BundlePlan, tuple[str, ...]]]
    ) -> None:
        """Have the next slots that ask take these seats, in this order.

        For whoever plans for several pools at once. What was offered before is withdrawn. A seat
        that cannot be had is looked for anew, as any other.

        Args:
            shape: Whom they are for: replicas of this shape.
            seats: The bundles of each, and their nodes.
        """
        self._offered_for = shape
        self._offered = deque(Seat(plan, nodes, PINNED_TIMEOUT_S) for plan, nodes in seats)
        self._seen = None

    async def take(
        self, slot: int, shape: ReplicaShape, waiting: Callable[[], Iterable[int]]
    ) -> Seat:
        """Return the seat of a slot.

        Args:
            slot: The slot.
            shape: What its replica needs.
            waiting: Says which slots wait for a seat now. Not asked for a seat that is kept.

        Raises:
            InfeasibleError: The replica does not fit even nodes that are empty.
        """
        async with self._looking:
            if self._offered and shape == self._offered_for:
                return self._offered.popleft()
            if slot not in self._seats:
                if self._seen is None or self._is_old(FRESH_S) or self._seen.shape != shape:
                    await self._look(shape)
                self._assign([slot, *(each for each in waiting() if each != slot)])
            elif self._seen is None or self._seen.shape != shape:
                await self._look(shape)
                self._assign([slot])
            assert self._seen is not None
            nodes = self._seats.pop(slot, ())
            plan = self._seen.plan
        is_sure = not nodes and shape == self._usual
        timeout_s = RESERVE_TIMEOUT_S if is_sure else PINNED_TIMEOUT_S
        before = self._before.get(slot)
        return Seat(plan, nodes, timeout_s, before is not None and before.nodes == nodes)

    def taken(self, slot: int, reservation: Reservation) -> None:
        """Note where a slot's group is, for its next one."""
        self._before[slot] = reservation

    def given_back(self, reservation: Reservation) -> None:
        """Note that a group was removed, which the nodes may show a little later."""
        self._given_back[reservation.id] = anyio.current_time()

    def not_had(self, slot: int) -> None:
        """Look anew for the next seat: the nodes are not as they were."""
        if (reservation := self._before.pop(slot, None)) is not None:
            self._given_back.pop(reservation.id, None)
        self._seen = None
        self._seats.clear()

    def _stay(self, slot: int, plan: BundlePlan) -> tuple[str, ...] | None:
        before = self._before.get(slot)
        if before is None:
            return None
        given_back_at = self._given_back.get(before.id, -math.inf)
        lately = anyio.current_time() - given_back_at < SHOWN_S
        return stay(plan, before.nodes, self._left, lately=lately)

    async def look(self, shape: ReplicaShape) -> tuple[BundlePlan, Topology]:
        """Return what is planned now, and for which nodes.

        Raises:
            InfeasibleError: A replica does not fit even nodes that are empty.
        """
        async with self._looking:
            if self._seen is None or self._is_old(FRESH_S):
                await self._look(shape)
            assert self._seen is not None
            return self._seen.plan, self._seen.topology

    def _is_old(self, lasts_s: float) -> bool:
        return self._seen is None or anyio.current_time() - self._seen.at > lasts_s

    async def _look(self, shape: ReplicaShape) -> None:
        topology = await self._cluster.topology()
        try:
            plan = self._placement.next_plan(shape, topology)
        except InfeasibleError:
            if not self._grows:
                raise
            plan = plan_to_come(shape, topology)
        self._seen = _Look(anyio.current_time(), shape, topology, plan)
        self._left = topology
        self._seats.clear()

    def _assign(self, slots: list[int]) -> None:
        """Give every slot a seat: where it was before, if it can be, or else the best."""
        assert self._seen is not None
        plan = self._seen.plan
        others = []
        for slot in [each for each in slots if each not in self._seats]:
            nodes = self._stay(slot, plan) if slot in self._before else None
            if nodes is None:
                others.append(slot)
            else:
                self._seat([(slot, nodes)])
        found = self._placement.assign(plan, len(others), self._left)
        self._seat(list(zip(others, found, strict=False)))

    def _seat(self, seats: Sequence[tuple[int, tuple[str, ...]]]) -> None:
        assert self._seen is not None
        bundles = self._seen.plan.bundles
        self._seats.update(seats)
        self._left = self._left.taking(
            pair for _, nodes in seats for pair in zip(nodes, bundles, strict=True)
        )
