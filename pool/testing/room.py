"""Nodes and placement groups of a simulated cluster, and who holds how much of what.

The rules are Ray's: STRICT_PACK on one node, STRICT_SPREAD over as many nodes as bundles, all
bundles at once or none; nothing new on a node that drains; and when a node is lost, the bundles
that were on it look for a new place one by one, while the others keep theirs.

Nodes with the same room left stand on one shelf, so that a place is found in the time that there
are kinds of nodes. Nothing here knows of time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pool.cluster.interface import Identity
from pool.errors import ConfigError
from pool.planning.resources import Resources
from pool.planning.shape import BundlePlan
from pool.planning.topology import Node, Topology


@dataclass(frozen=True, slots=True, kw_only=True)
class SimNode:
    """Describe a node: `SimulatedCluster([SimNode(gpus=8)] * 64)`.

    Args:
        gpus: Its GPUs.
        cpus: Its CPUs.
        memory_bytes: Its memory.
        extra: What else it has, by Ray's names.
        labels: Its labels.
        is_head: Whether the cluster's head runs on it.
    """

    gpus: float = 0
    cpus: float = 64
    memory_bytes: int = 0
    extra: Mapping[str, float] = field(default_factory=dict, hash=False)
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    is_head: bool = False

    @property
    def total(self) -> Resources:
        """What it has in all."""
        amounts = {"CPU": self.cpus, "GPU": self.gpus, "memory": self.memory_bytes}
        return Resources({**amounts, **self.extra})


class Place:
    """A node that is there, and what of it is free."""

    def __init__(self, node_id: str, number: int, kind: SimNode) -> None:
        self.node_id = node_id
        self.kind = kind
        self.total = kind.total
        self.free = self.total
        self.address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        self.draining = False
        self.drain_deadline: float | None = None
        self.silent = False
        self.silent_at = -math.inf
        # Insertion-ordered sets of what is here.
        self.groups: dict[str, Group] = {}
        self.actors: dict[str, Any] = {}
        self._seen: Node | None = None

    def picture(self) -> Node:
        """Return the node as planners see it."""
        if self._seen is None:
            self._seen = Node(
                node_id=self.node_id,
                address=self.address,
                total=self.total,
                available=self.free,
                labels=self.kind.labels,
                is_head=self.kind.is_head,
                draining=self.draining,
                held_by=self._holders(),
            )
        return self._seen

    def _holders(self) -> dict[str, Resources]:
        holders: dict[str, Resources] = {}
        for group in self.groups.values():
            name = f"pool {group.identity.pool}"
            for index, node_id in enumerate(group.nodes):
                if node_id == self.node_id:
                    held = group.plan.bundles[index]
                    holders[name] = holders[name] + held if name in holders else held
        return holders

    def changed(self) -> None:
        """Forget the picture: something about the node is different."""
        self._seen = None


class Group:
    """A placement group, with a node for each bundle that is placed."""

    def __init__(self, number: int, plan: BundlePlan, identity: Identity, owner: Any) -> None:
        self.id = f"g{number}"
        self.plan = plan
        self.identity = identity
        self.owner = owner
        self.nodes: list[str | None] = [None] * len(plan.bundles)
        self.pins: tuple[str, ...] = ()
        self.used = [Resources()] * len(plan.bundles)
        self.actors: dict[str, Any] = {}
        self.ready: Any = None
        self.was_ready = False
        self.asked_at = 0.0
        self.detached = False
        self.removed = False

    @property
    def is_placed(self) -> bool:
        """Whether every bundle has a node."""
        return None not in self.nodes

    @property
    def kind(self) -> tuple[Any, ...]:
        """What it takes to place it; equal for groups of which either all or none find a place."""
        taken = tuple(self.nodes) if any(self.nodes) else ()
        return self.plan.bundles, self.plan.strategy, self.plan.selector, self.pins, taken


class Room:
    """Keep the books of nodes and placement groups."""

    def __init__(self) -> None:
        self.places: dict[str, Place] = {}
        self.groups: dict[str, Group] = {}
        self.pending: dict[str, Group] = {}
        self._shelves: dict[Resources, dict[str, Place]] = {}
        self._numbers = {"node": 0, "group": 0}
        self._seen: Topology | None = None

    def _next(self, word: str) -> int:
        self._numbers[word] += 1
        return self._numbers[word]

    # -- nodes --------------------------------------------------------------------------------

    def add(self, kind: SimNode) -> Place:
        """Let a node join."""
        number = self._next("node")
        place = Place(f"n{number}", number, kind)
        self.places[place.node_id] = place
        self._shelve(place)
        self._changed(place)
        return place

    def remove(self, place: Place) -> list[Group]:
        """Take a node away; returns the groups that lost bundles with it."""
        del self.places[place.node_id]
        self._unshelve(place)
        hurt = list(place.groups.values())
        place.groups.clear()
        for group in hurt:
            for index, node_id in enumerate(group.nodes):
                if node_id == place.node_id:
                    group.nodes[index] = None
                    group.used[index] = Resources()
            self.pending[group.id] = group
        self._changed(place)
        return hurt

    def set_draining(self, place: Place, draining: bool, deadline: float | None = None) -> None:
        """Say whether a node takes new work, and until when it is there."""
        place.draining, place.drain_deadline = draining, deadline
        self._changed(place)

    def take(self, place: Place, amount: Resources) -> None:
        """Book an amount on a node. It has to be free."""
        self._move(place, place.free - amount)

    def give(self, place: Place, amount: Resources) -> None:
        """Book an amount back."""
        if self.places.get(place.node_id) is place:
            self._move(place, place.free + amount)
            # INV-8: nothing is ever given back twice.
            assert place.free.fits_in(place.total), f"{place.node_id} has {place.free}"

    def _move(self, place: Place, free: Resources) -> None:
        self._unshelve(place)
        place.free = free
        self._shelve(place)
        self._changed(place)

    def _shelve(self, place: Place) -> None:
        self._shelves.setdefault(place.free, {})[place.node_id] = place

    def _unshelve(self, place: Place) -> None:
        shelf = self._shelves[place.free]
        del shelf[place.node_id]
        if not shelf:
            del self._shelves[place.free]

    def _changed(self, place: Place) -> None:
        place.changed()
        self._seen = None

    def topology(self) -> Topology:
        """Return the nodes as planners see them."""
        if self._seen is None:
            self._seen = Topology(tuple(place.picture() for place in self.places.values()))
        return self._seen

    # -- groups -------------------------------------------------------------------------------

    def ask(self, plan: BundlePlan, identity: Identity, owner: Any) -> Group:
        """Make a group, that waits for its place."""
        group = Group(self._next("group"), plan, identity, owner)
        self.groups[group.id] = self.pending[group.id] = group
        return group

    def drop(self, group: Group) -> None:
        """Remove a group, and give back what it holds. Idempotent."""
        if self.groups.pop(group.id, None) is None:
            return
        group.removed = True
        self.pending.pop(group.id, None)
        for index, node_id in enumerate(group.nodes):
            place = self.places.get(node_id) if node_id is not None else None
            if place is not None:
                place.groups.pop(group.id, None)
                self.give(place, group.plan.bundles[index])

    def settle(self) -> list[Group]:
        """Place what can be placed, the oldest first; returns the groups that are complete now."""
        complete = []
        refused = set()
        for group in list(self.pending.values()):
            if group.kind in refused:
                continue
            if self._place(group):
                del self.pending[group.id]
                complete.append(group)
            else:
                refused.add(group.kind)
        return complete

    def _place(self, group: Group) -> bool:
        plan = group.plan
        if plan.strategy == "STRICT_PACK":
            place = next(self._with_room(group, 0, plan.total, set()), None)
            if place is None:
                return False
            for index in range(len(plan.bundles)):
                self._put(group, index, place)
            return True
        fresh = not group.was_ready
        taken = {node_id for node_id in group.nodes if node_id is not None}
        found: dict[int, Place] = {}
        for index, bundle in enumerate(plan.bundles):
            if group.nodes[index] is not None:
                continue
            place = next(self._with_room(group, index, bundle, taken), None)
            if place is not None:
                found[index] = place
                taken.add(place.node_id)
            elif fresh:
                return False
        # A new group is placed all at once; one that lost a node gets back what it can.
        for index, place in found.items():
            self._put(group, index, place)
        return group.is_placed

    def _with_room(
        self, group: Group, index: int, need: Resources, taken: set[str]
    ) -> Iterator[Place]:
        """Yield the nodes that could take a bundle, the fullest first."""
        selector = group.plan.selector
        for place in self._candidates(group, index, need):
            if place.node_id in taken or place.draining or place.silent:
                continue
            if group.pins or selector.is_any or selector.matches(place.picture()):
                yield place

    def _candidates(self, group: Group, index: int, need: Resources) -> Iterator[Place]:
        if group.pins:
            place = self.places.get(group.pins[index])
            if place is not None and need.fits_in(place.free):
                yield place
            return
        shelves = [free for free in self._shelves if need.fits_in(free)]
        shelves.sort(key=lambda free: sorted((name, free.units(name)) for name in free))
        for free in shelves:
            yield from self._shelves[free].values()

    def _put(self, group: Group, index: int, place: Place) -> None:
        self.take(place, group.plan.bundles[index])
        group.nodes[index] = place.node_id
        place.groups[group.id] = group

    def check(self) -> list[str]:
        """Return what is wrong with the books, as sentences (INV-8)."""
        wrong = []
        for place in self.places.values():
            held = place.free
            for group in place.groups.values():
                for index, node_id in enumerate(group.nodes):
                    if node_id == place.node_id:
                        held = held + group.plan.bundles[index]
            for actor in place.actors.values():
                if actor.held_on_node:
                    held = held + actor.held_on_node
            if held != place.total:
                wrong.append(f"INV-8: {place.node_id} has {place.total}, and {held} is booked")
        for group in self.groups.values():
            for used, bundle in zip(group.used, group.plan.bundles, strict=True):
                if not used.fits_in(bundle):
                    wrong.append(f"INV-8: {group.identity} uses {used} of a bundle of {bundle}")
        return wrong


def node_kinds(nodes: Any) -> list[SimNode]:
    """Check a description of nodes.

    Raises:
        ConfigError: It holds something else than `SimNode`.
    """
    kinds = list(nodes)
    for kind in kinds:
        if not isinstance(kind, SimNode):
            raise ConfigError(f"nodes holds {kind!r}; give SimNode values", "nodes")
    return kinds
