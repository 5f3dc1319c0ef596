"""`Slices`: lay out each replica on one whole TPU slice.

A host's bundle has all of its chips, and bundles are in the order of the slice's workers. That of
worker 0 also has the slice's head resource, where Ray gave it one, so that whoever reserves slices
by that, as Ray's own slice groups do, leaves this one alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pool.errors import ConfigError, InfeasibleError
from pool.planning.capacity import Capacity
from pool.planning.placement import Placement
from pool.planning.resources import Resources
from pool.planning.shape import BundlePlan, ReplicaShape, Strategy
from pool.planning.slices import TPU, TYPE_LABEL, Slice, SliceType, describe, find_slices
from pool.planning.topology import Node, NodeSelector, Topology


@dataclass(frozen=True, slots=True)
class Slices(Placement):
    """Give each replica one whole slice, with every host that it has.

    Args:
        kind: The type of slice.
        grows: Whether slices may join. Then what waits for one, as none is free, is shown to the
            cluster as a reservation, from the usual size of such a slice's hosts. Whoever makes it
            has to see with `is_slice` where it came to be.
    """

    kind: SliceType
    grows: bool = False

    def shape(
        self,
        *,
        cpus_per_chip: float = 1,
        memory_bytes_per_chip: int = 0,
        selector: NodeSelector | None = None,
    ) -> ReplicaShape:
        """Return the shape of a replica.

        Args:
            cpus_per_chip: CPUs of its host for each chip.
            memory_bytes_per_chip: Memory of its host for each chip.
            selector: The nodes that may be used; a slice with another one is not.

        Raises:
            ConfigError: An amount cannot be right.
        """
        return ReplicaShape(
            devices=self.kind.chips,
            device=TPU,
            cpus_per_device=cpus_per_chip,
            memory_bytes_per_device=memory_bytes_per_chip,
            selector=NodeSelector() if selector is None else selector,
        )

    def next_plan(self, shape: ReplicaShape, topology: Topology) -> BundlePlan:
        """Return a bundle for each host of a slice, such as most of the free ones have.

        Raises:
            InfeasibleError: No slice is whole; the error says what each one lacks.
            ConfigError: The shape is not that of a slice.
        """
        found = self.find(shape, topology)
        usable = [each for each in found if each.is_whole]
        layouts = Counter(self._bundles(each, shape) for each in usable)
        free = Counter(
            bundles
            for each in usable
            if _is_free(each.hosts, bundles := self._bundles(each, shape))
        )
        if self.grows and not free:
            return self._hoped_for(shape)
        if not usable:
            raise InfeasibleError(
                f"No {self.kind.name} slice can be used: {describe(self.kind, found)}.",
                topology.describe(TPU),
            )
        chosen = max(layouts, key=lambda bundles: (free[bundles], layouts[bundles]))
        nodes = [each.nodes for each in usable if self._bundles(each, shape) == chosen]
        selector = replace(shape.selector, node_ids=frozenset(sum(nodes, ())))
        return _plan(chosen, selector, f"a whole {self.kind.name} slice has such hosts")

    def capacity(self, shape: ReplicaShape, wanted: int, topology: Topology) -> Capacity:
        """Count the whole slices, in use or not."""
        found = self.find(shape, topology)
        most = sum(each.is_whole for each in found)
        return Capacity(min(most, wanted), "" if most >= wanted else describe(self.kind, found))

    def assign(self, plan: BundlePlan, count: int, topology: Topology) -> list[tuple[str, ...]]:
        """Choose whole slices: those that are free, by name, and then those that are in use.

        A replica must not be placed on parts of two slices, so one that has to wait is told for
        which slice. Where slices may join, it waits for whichever is free first.
        """
        free: list[tuple[str, ...]] = []
        taken: list[tuple[str, ...]] = []
        for each in find_slices(self.kind, topology, plan.selector):
            if each.is_whole and _fit(each.hosts, plan.bundles):
                (free if _is_free(each.hosts, plan.bundles) else taken).append(each.nodes)
        return (free if self.grows else [*free, *taken])[:count]

    def find(self, shape: ReplicaShape, topology: Topology) -> tuple[Slice, ...]:
        """Return the slices there are; one whose hosts are too small for a replica is not whole.

        Raises:
            ConfigError: The shape is not that of a slice.
        """
        self._check(shape)
        found = find_slices(self.kind, topology, shape.selector)
        return tuple(self._checked(each, shape) if each.is_whole else each for each in found)

    def why_not_now(self, shape: ReplicaShape, topology: Topology) -> str:
        """Say why no slice can be had now, in words; empty if one can.

        Raises:
            ConfigError: The shape is not that of a slice.
        """
        found = self.find(shape, topology)
        usable = [each for each in found if each.is_whole]
        if any(_is_free(each.hosts, self._bundles(each, shape)) for each in usable):
            return ""
        return "; ".join([describe(self.kind, found), *(_in_use(each) for each in usable)])

    def is_slice(self, nodes: Sequence[str], topology: Topology) -> bool:
        """Say whether these nodes are the hosts of one slice, all of them and in order."""
        return any(
            each.is_whole and each.nodes == tuple(nodes)
            for each in find_slices(self.kind, _undrained(topology))
        )

    def _check(self, shape: ReplicaShape) -> None:
        if (shape.device, shape.devices) != (TPU, self.kind.chips):
            raise ConfigError(
                f"shape asks for {shape.devices} {shape.device}, and a {self.kind.name} slice has "
                f"{self.kind.chips} {TPU}; replicas take whole slices",
                "shape",
            )

    def _bundles(self, each: Slice, shape: ReplicaShape) -> tuple[Resources, ...]:
        first, *others = shape.bundles(len(each.hosts))
        head = min(1, each.hosts[0].total.get(self.kind.head, 0))
        return (first + Resources({self.kind.head: head}), *others)

    def _checked(self, each: Slice, shape: ReplicaShape) -> Slice:
        bundles = self._bundles(each, shape)
        short = tuple(
            f"worker {number} on {host.name} is short of {bundle.shortfall(host.total)}"
            for number, (host, bundle) in enumerate(zip(each.hosts, bundles, strict=True))
            if not bundle.fits_in(host.total)
        )
        return replace(each, troubles=short)

    def _hoped_for(self, shape: ReplicaShape) -> BundlePlan:
        first, *others = shape.bundles(self.kind.usual_hosts)
        bundles = (first + Resources({self.kind.head: 1}), *others)
        labels = {**shape.selector.labels, TYPE_LABEL: self.kind.name}
        selector = replace(shape.selector, labels=labels)
        return _plan(bundles, selector, f"a {self.kind.name} slice usually has such hosts")


def _plan(bundles: tuple[Resources, ...], selector: NodeSelector, reason: str) -> BundlePlan:
    strategy: Strategy = "STRICT_PACK" if len(bundles) == 1 else "STRICT_SPREAD"
    return BundlePlan(bundles, strategy, selector, reason)


def _fit(hosts: Sequence[Node], bundles: Sequence[Resources]) -> bool:
    return len(hosts) == len(bundles) and all(
        bundle.fits_in(host.total) for host, bundle in zip(hosts, bundles, strict=True)
    )


def _is_free(hosts: Sequence[Node], bundles: Sequence[Resources]) -> bool:
    return all(bundle.fits_in(host.available) for host, bundle in zip(hosts, bundles, strict=True))


def _in_use(each: Slice) -> str:
    holders = sorted({holder for host in each.hosts for holder in host.held_by})
    return f"slice {each.name} is in use" + (f" by {', '.join(holders)}" if holders else "")


def _undrained(topology: Topology) -> Topology:
    return Topology(tuple(replace(node, draining=False) for node in topology.nodes))
