"""How the replicas of a role are laid out on nodes: the shape of each, how many, and where.

Purpose: one value that says all of it, so that a role's placement can be chosen, and a new one
written, without touching what carries it out.

Limits: `assign` places on what is free at one moment. Whoever carries it out may find a node taken
meanwhile, and has to ask again.

Why not leave the nodes to Ray: it places groups as they come, and spreads them. Six groups of two
devices leave none of three nodes of eight whole; filled one after the other, they leave one.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush

from pool.errors import ConfigError
from pool.planning import capacity as _capacity
from pool.planning.capacity import Capacity
from pool.planning.packing import ACCELERATORS, Fits, NotNow, Request, pack, pack_equal
from pool.planning.ranks import natural_key
from pool.planning.resources import CPU, MEMORY, Resources, as_whole
from pool.planning.shape import BundlePlan, ReplicaShape
from pool.planning.split import split_request
from pool.planning.topology import Node, Topology


class Placement(ABC):
    """Lay out the replicas of a role. A value: frozen, and pickled with its pool."""

    @abstractmethod
    def next_plan(self, shape: ReplicaShape, topology: Topology) -> BundlePlan:
        """Return the bundles of one more replica.

        Raises:
            InfeasibleError: It does not fit even nodes that are empty.
        """

    @abstractmethod
    def capacity(self, shape: ReplicaShape, wanted: int, topology: Topology) -> Capacity:
        """Say how many of the wanted replicas the nodes could hold, if they were empty."""

    def assign(self, plan: BundlePlan, count: int, topology: Topology) -> list[tuple[str, ...]]:
        """Choose nodes for up to `count` replicas on what is free now.

        Returns:
            For each that found a place, the node of each bundle: as few, and as full, nodes as
            there are, so that whole nodes stay free. Equal bundles are in the order of their nodes'
            addresses, and so are the ranks in them.
        """
        requests = [Request(str(number), plan) for number in range(count)]
        verdict = pack(requests, topology)
        if not isinstance(verdict, Fits | NotNow):
            return []
        placed = (verdict.assignment.get(each.key) for each in requests)
        found = {node.node_id: node for node in topology.nodes}
        return [in_order(plan, nodes, found) for nodes in placed if nodes is not None]

    @property
    def chooses_nodes(self) -> bool:
        """Whether its own `assign` decides, also where several roles are planned together."""
        return type(self).assign is not Placement.assign


@dataclass(frozen=True, slots=True)
class Separate(Placement):
    """Give each replica a group of its own: one node where that holds it, else equal parts.

    This is the usual placement, and that of rollout and serving roles.

    Args:
        spread: Whether replicas keep apart from each other, as far as there are nodes, each on the
            emptiest, so that a node that is lost takes few of them along. By default they fill one
            node after the other, and whole nodes stay free.
    """

    spread: bool = False

    def next_plan(self, shape: ReplicaShape, topology: Topology) -> BundlePlan:
        """Return the bundles that `plan_shape` prefers."""
        return _capacity.next_plan(shape, topology)

    def capacity(self, shape: ReplicaShape, wanted: int, topology: Topology) -> Capacity:
        """Count as many as fill the nodes in the shape that is preferred on each."""
        return _capacity.capacity(shape, wanted, topology)

    def assign(self, plan: BundlePlan, count: int, topology: Topology) -> list[tuple[str, ...]]:
        """Choose nodes as every placement does or, to spread, the emptiest for each in turn.

        Where spreading leaves too little room for the last, they are packed after all.
        """
        packed = Placement.assign(self, plan, count, topology)
        if not self.spread:
            return packed
        apart = list(_apart(plan, count, topology))
        return apart if len(apart) >= len(packed) else packed

    @property
    def chooses_nodes(self) -> bool:
        """Whether it spreads."""
        return self.spread


@dataclass(frozen=True, slots=True)
class Shared(Placement):
    """Put a whole role into one group: full nodes, and what is left on the last.

    For training roles, whose workers are one world: 17 devices on nodes of 8 are 8, 8 and 1. A
    replica is then the whole role, with one rank actor for each device.

    Args:
        devices_per_node: How many of a node's devices it takes; None for all of the largest nodes.

    Raises:
        ConfigError: It is no whole number of 1 or more.
    """

    devices_per_node: int | None = None

    def __post_init__(self) -> None:
        if self.devices_per_node is not None:
            as_whole(self.devices_per_node, "devices_per_node", at_least=1)

    def next_plan(self, shape: ReplicaShape, topology: Topology) -> BundlePlan:
        """Return full bundles, and one with the rest."""
        total, selected = shape.total, topology.select(shape.selector)
        each = self.devices_per_node or _most_devices(selected.nodes, shape.device)
        if not shape.devices or not each or shape.devices <= each:
            return _capacity.next_plan(shape, topology)
        plan = split_request(
            shape.devices,
            each,
            cpus=total.get(CPU, 0),
            memory_bytes=int(total.get(MEMORY, 0)),
            device=shape.device,
            selector=shape.selector,
        )
        extra = Resources(shape.extra)
        return replace(plan, bundles=tuple(bundle + extra for bundle in plan.bundles))

    def capacity(self, shape: ReplicaShape, wanted: int, topology: Topology) -> Capacity:
        """Count how many such groups the nodes hold together, if they were empty."""
        return _most(self.next_plan(shape, topology), wanted, topology)


@dataclass(frozen=True, slots=True)
class Deferred(Placement):
    """Give each replica one group of many small bundles, of which nothing is taken at first.

    Each bundle has a node host, which holds nothing; runs, processes and rank actors claim it when
    they are started, and what nobody has claimed stays free inside the group. All bundles are on
    one node. With one device a bundle it is known before anything runs which workers share a
    device, so that this is the placement for roles of several devices that share them; see
    `ColocatedPool`.

    Args:
        devices_per_bundle: How many devices a bundle has; a replica's devices are a multiple.

    Raises:
        ConfigError: It is no whole number of 1 or more.
    """

    devices_per_bundle: int = 1

    def __post_init__(self) -> None:
        as_whole(self.devices_per_bundle, "devices_per_bundle", at_least=1)

    def next_plan(self, shape: ReplicaShape, topology: Topology) -> BundlePlan:
        """Return equal bundles for one node.

        Raises:
            ConfigError: The replica's devices are no multiple of a bundle's.
        """
        count, rest = divmod(shape.devices, self.devices_per_bundle)
        if rest or not count:
            raise ConfigError(
                f"a replica has {shape.devices} {shape.device}, and a bundle is to have "
                f"{self.devices_per_bundle}; give a multiple of it",
                "devices_per_bundle",
            )
        whole = _capacity.next_plan(replace(shape, min_nodes=1, max_nodes=1), topology)
        first, *others = replace(shape, extra={}).bundles(count)
        bundles = (first + Resources(shape.extra), *others)
        return BundlePlan(bundles, "STRICT_PACK", shape.selector, whole.reason)

    def capacity(self, shape: ReplicaShape, wanted: int, topology: Topology) -> Capacity:
        """Count how many such groups the nodes hold together, if they were empty."""
        return _most(self.next_plan(shape, topology), wanted, topology)


def _most(plan: BundlePlan, wanted: int, topology: Topology) -> Capacity:
    """Find by bisection how many replicas of one plan the nodes hold, if they were empty."""
    empty = emptied(topology)
    low, high, reason = 0, wanted, ""
    while low < high:
        middle = (low + high + 1) // 2
        verdict = pack_equal("replica {}".format, plan, middle, empty)
        if isinstance(verdict, Fits):
            low = middle
        else:
            high, reason = middle - 1, verdict.reason
    return Capacity(low, reason)


def _apart(plan: BundlePlan, count: int, topology: Topology) -> Iterator[tuple[str, ...]]:
    """Yield nodes for one replica after the other, of those that have the fewest the emptiest.

    Each bundle goes to the first node in that order which holds it, the largest bundle first.
    """
    packed = plan.strategy == "STRICT_PACK"
    parts = [plan.total] if packed else list(plan.bundles)
    scarce = max(plan.total, key=lambda name: (name in ACCELERATORS, name != CPU, name))
    by_size = sorted(range(len(parts)), key=lambda index: -parts[index].units(scarce))
    usable = topology.select(plan.selector).without_draining().nodes
    found = {node.node_id: node for node in usable}
    free = {node.node_id: node.available for node in usable}
    order = {node.node_id: number for number, node in enumerate(usable)}
    heap = [(0, -free[name].units(scarce), order[name], name) for name in free]
    heapify(heap)
    for _ in range(count):
        wanted, chosen = list(by_size), dict[int, str]()
        passed, taken = [], []
        while wanted and heap:
            entry = heappop(heap)
            room = free[entry[-1]]
            index = next((each for each in wanted if parts[each].fits_in(room)), None)
            if index is None:
                passed.append(entry)
                continue
            wanted.remove(index)
            chosen[index] = entry[-1]
            taken.append((entry[0] + 1, index, entry[-1]))
        if wanted:
            return
        for has, index, name in taken:
            free[name] = free[name] - parts[index]
            heappush(heap, (has, -free[name].units(scarce), order[name], name))
        for entry in passed:
            # What holds none of them now holds none later.
            if any(part.fits_in(free[entry[-1]]) for part in parts):
                heappush(heap, entry)
        nodes = [chosen[index] for index in range(len(parts))]
        yield in_order(plan, nodes * len(plan.bundles) if packed else nodes, found)


def emptied(topology: Topology) -> Topology:
    """Return the nodes as if nobody held anything of them."""
    nodes = (replace(node, available=node.total, held_by={}) for node in topology.nodes)
    return Topology(tuple(nodes))


def by_address(plan: BundlePlan, nodes: Sequence[str], topology: Topology) -> tuple[str, ...]:
    """Put the nodes of equal bundles in the numeric order of their addresses.

    Neighbours then have neighbouring ranks, whatever order the packing found them in.
    """
    return in_order(plan, nodes, {node.node_id: node for node in topology.nodes})


def in_order(plan: BundlePlan, nodes: Sequence[str], found: Mapping[str, Node]) -> tuple[str, ...]:
    """Do as `by_address`, for whoever asks for many and has the nodes by their ids."""
    if len(nodes) == 1:
        return tuple(nodes)
    kinds: dict[Resources, list[int]] = {}
    for index, bundle in enumerate(plan.bundles):
        kinds.setdefault(bundle, []).append(index)
    ordered = list(nodes)
    for indices in kinds.values():
        chosen = sorted(
            (nodes[index] for index in indices),
            key=lambda name: (natural_key(found[name].address), name),
        )
        for index, name in zip(indices, chosen, strict=True):
            ordered[index] = name
    return tuple(ordered)


def stay(
    plan: BundlePlan, before: Sequence[str], topology: Topology, *, lately: bool = False
) -> tuple[str, ...] | None:
    """Return the nodes that a slot had before, if all of them can be had again.

    Caches and checkpoints on local disks are found again there.

    Args:
        plan: What is to be placed.
        before: The node of each bundle of the slot's last group.
        topology: The nodes there are.
        lately: Whether the slot gave them back so lately that it may not show yet. Then they are
            taken for free; whoever waits for them in vain has to ask again.
    """
    if len(before) != len(plan.bundles):
        return None
    free = {
        node.node_id: node.available
        for node in topology.select(plan.selector).nodes
        if not node.draining
    }
    for name, bundle in zip(before, plan.bundles, strict=True):
        if name not in free or not (lately or bundle.fits_in(free[name])):
            return None
        free[name] = free[name].minus_clamped(bundle)
    return tuple(before)


def _most_devices(nodes: Sequence[Node], device: str) -> int:
    return max((math.floor(node.total.get(device, 0)) for node in nodes), default=0)
