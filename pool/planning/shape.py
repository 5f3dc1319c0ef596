"""The bundle shape of one replica: on one node if it fits, otherwise an even split over nodes.

Purpose: turn "16 GPUs, 4 CPUs a GPU" into the bundles of a placement group, given the nodes.
One bundle, packed, if some node holds it all; otherwise the smallest number of nodes n that
divides the devices evenly and of which there are n with room: n bundles, one a node.

Limits: a shape is judged by what nodes have in *total*; whether that is free, and whether many
replicas fit at once, is the question of `pool.planning.packing`. Nodes that drain count as
absent. Devices divide evenly or not at all; CPUs and memory that do not divide evenly leave
some bundles one unit (1e-4 CPU, 1 byte) larger, so that totals stay exact (INV-8).

Why not let Ray pack single-device bundles: it places them by an order that is not the order of
ranks, splits a replica over more nodes than it needs, and says nothing when it never can.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from pool.errors import ConfigError, InfeasibleError
from pool.planning.resources import (
    CPU,
    MEMORY,
    UNITS_PER_ONE,
    Resources,
    amount_text,
    as_name,
    as_whole,
    to_units,
)
from pool.planning.topology import ANY_NODE, NodeSelector, Topology

Strategy = Literal["STRICT_PACK", "STRICT_SPREAD"]

_NEAREST_TRIES: Final = 8
"""Guesses at a nearest shape that are checked; a guess can fail on CPUs or memory alone."""

_SPLITS_SHOWN: Final = 4
"""How many splits an error walks through."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaShape:
    """Say what one replica needs.

    Args:
        devices: Accelerators in all (tensor × pipeline × local data parallel); 0 for none.
        device: Ray's name of the accelerator.
        cpus_per_device: CPUs for each accelerator.
        cpus: CPUs in all; replaces `cpus_per_device`.
        memory_bytes_per_device: Memory for each accelerator.
        memory_bytes: Memory in all; replaces `memory_bytes_per_device`.
        min_nodes: Use at least so many nodes.
        max_nodes: Use at most so many nodes. A number also allows it to be split over what is free
            while the nodes that could hold it are busy; None never splits it further than the
            nodes' totals demand.
        selector: The nodes it may use.
        extra: Further resources, for each node that it uses.

    Raises:
        ConfigError: A value cannot be right; `field` names it.
    """

    devices: int = 0
    device: str = "GPU"
    cpus_per_device: float = 1
    cpus: float | None = None
    memory_bytes_per_device: int = 0
    memory_bytes: int | None = None
    min_nodes: int = 1
    max_nodes: int | None = None
    selector: NodeSelector = ANY_NODE
    extra: Mapping[str, float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        as_whole(self.devices, "devices")
        if as_name(self.device, "device") in (CPU, MEMORY):
            raise ConfigError(
                f"device is {self.device!r}; give an accelerator, and use cpus or memory_bytes "
                "for a replica without one",
                "device",
            )
        to_units(self.cpus_per_device, "cpus_per_device")
        as_whole(self.memory_bytes_per_device, "memory_bytes_per_device")
        if self.cpus is not None:
            to_units(self.cpus, "cpus")
        if self.memory_bytes is not None:
            as_whole(self.memory_bytes, "memory_bytes")
        given: object = self.selector
        if not isinstance(given, NodeSelector):
            raise ConfigError(
                f"selector is {given!r}; give a NodeSelector, such as "
                'NodeSelector(labels={"zone": "a"})',
                "selector",
            )
        further: object = self.extra
        if not isinstance(further, Mapping):
            raise ConfigError(
                f'extra is {further!r}; give amounts by resource, as in {{"TPU-head": 1}}', "extra"
            )
        for name, amount in self.extra.items():
            as_name(name, "extra")
            to_units(amount, f"extra.{name}")
            if name in (CPU, MEMORY, self.device):
                raise ConfigError(f"extra holds {name!r}, which has its own field", "extra")
        as_whole(self.min_nodes, "min_nodes", at_least=1)
        if self.max_nodes is not None:
            as_whole(self.max_nodes, "max_nodes", at_least=self.min_nodes)
        if not self.total and not Resources(self.extra):
            raise ConfigError("the replica asks for nothing; give devices, or cpus", "devices")
        if self.devices and not any(True for _ in self.node_counts(self.devices)):
            upper = "" if self.max_nodes is None else f" to {self.max_nodes}"
            raise ConfigError(
                f"{self.devices} {self.device} cannot be split evenly over "
                f"{self.min_nodes}{upper} nodes; change devices, min_nodes or max_nodes",
                "min_nodes" if self.max_nodes is None else "max_nodes",
            )

    @property
    def total(self) -> Resources:
        """Return what the replica needs over all its nodes, `extra` left out."""
        cpu_units = (
            to_units(self.cpus_per_device, "cpus_per_device") * self.devices
            if self.cpus is None
            else to_units(self.cpus, "cpus")
        )
        memory = (
            self.memory_bytes_per_device * self.devices
            if self.memory_bytes is None
            else self.memory_bytes
        )
        return Resources.from_units(
            {
                self.device: self.devices * UNITS_PER_ONE,
                CPU: cpu_units,
                MEMORY: memory * UNITS_PER_ONE,
            }
        )

    def node_counts(self, n_nodes: int) -> Iterator[int]:
        """Yield the numbers of nodes that it could be split over, ascending.

        Args:
            n_nodes: How many nodes there are.

        Yields:
            Numbers that obey the bounds and divide the devices.
        """
        upper = n_nodes if self.max_nodes is None else min(n_nodes, self.max_nodes)
        if not self.devices:
            yield from range(self.min_nodes, upper + 1)
            return
        for n in _divisors(self.devices):
            if self.min_nodes <= n <= upper:
                yield n

    def bundles(self, n: int) -> tuple[Resources, ...]:
        """Return its bundles if it is split over `n` nodes, largest first.

        Args:
            n: A number of nodes that divides the devices.

        Returns:
            `n` bundles, whose sum is `total` and `n` times `extra`, exactly.
        """
        total = self.total
        device_units = total.units(self.device) // n
        cpus, cpus_left = divmod(total.units(CPU), n)
        # Memory is whole bytes, because Ray takes no part of one.
        memory, memory_left = divmod(total.units(MEMORY) // UNITS_PER_ONE, n)
        extra = Resources(self.extra)
        steps = sorted({0, cpus_left, memory_left})
        bundles: list[Resources] = []
        for start, end in zip(steps, [*steps[1:], n], strict=True):
            each = Resources.from_units(
                {
                    self.device: device_units,
                    CPU: cpus + (start < cpus_left),
                    MEMORY: (memory + (start < memory_left)) * UNITS_PER_ONE,
                }
            )
            bundles += [each + extra] * (end - start)
        return tuple(bundles)


@dataclass(frozen=True, slots=True)
class BundlePlan:
    """Hold the bundles of one reservation.

    Args:
        bundles: One for each node; with STRICT_PACK, all on one node.
        strategy: STRICT_PACK for one node, STRICT_SPREAD for one node a bundle.
        selector: The nodes that it may use.
        reason: Why it has this shape.

    Raises:
        ConfigError: There is no bundle, or one is empty.
    """

    bundles: tuple[Resources, ...]
    strategy: Strategy
    selector: NodeSelector
    reason: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "bundles", tuple(self.bundles))
        if not self.bundles or not all(self.bundles):
            raise ConfigError("a plan needs bundles, and none of them empty", "bundles")
        if self.strategy not in ("STRICT_PACK", "STRICT_SPREAD"):
            raise ConfigError(
                f"strategy is {self.strategy!r}; give STRICT_PACK or STRICT_SPREAD", "strategy"
            )

    @property
    def n_nodes(self) -> int:
        """Return how many nodes it takes."""
        return 1 if self.strategy == "STRICT_PACK" else len(self.bundles)

    @property
    def total(self) -> Resources:
        """Return the sum of its bundles."""
        return sum(self.bundles, Resources())

    @property
    def needs(self) -> str:
        """Return what it needs in words, such as "2 nodes with 8 GPU, 8 CPU each"."""
        if self.n_nodes == 1:
            return f"1 node with {self.total}"
        return _needs(self.bundles)


def _needs(bundles: tuple[Resources, ...]) -> str:
    counts = Counter(bundles)
    if len(counts) == 1:
        return f"{len(bundles)} nodes with {bundles[0]} each"
    parts = [f"{count} with {bundle}" for bundle, count in counts.items()]
    return f"{len(bundles)} nodes ({'; '.join(parts)})"


def plan_shape(shape: ReplicaShape, topology: Topology) -> BundlePlan:
    """Choose the bundles of a replica on a topology, by what its nodes have in total.

    Args:
        shape: What the replica needs.
        topology: The nodes there are.

    Returns:
        One packed bundle if some node holds it and `min_nodes` is 1; otherwise the split over
        the fewest nodes, one bundle a node.

    Raises:
        InfeasibleError: No such split fits, or no node meets the selector; the error says what
            was seen and the nearest shape that would fit.
    """
    device = shape.device if shape.devices else None
    unknown = shape.selector.unknown(topology)
    if unknown is not None:
        raise InfeasibleError(
            f"A replica with {_text(shape)} can have no node: {unknown}.", topology.describe(device)
        )
    selected = topology.select(shape.selector)
    usable = selected.without_draining()
    groups = Counter(node.total for node in usable.nodes)
    n = _fewest_nodes(shape, groups)
    if n is None:
        raise InfeasibleError(
            f"A replica with {_text(shape)} does not fit: {_why_not(shape, groups, selected)}.",
            topology.describe(device),
            _nearest(shape, groups),
        )
    bundles = shape.bundles(n)
    if n == 1:
        return BundlePlan(
            bundles,
            "STRICT_PACK",
            shape.selector,
            f"{_holders(bundles[0], groups)} of {len(usable.nodes)} nodes can hold all of "
            f"{bundles[0]}, so it stays on one node",
        )
    why = (
        f"min_nodes is {shape.min_nodes}"
        if n == shape.min_nodes
        else "no node, and no even split over fewer nodes, holds it"
    )
    return BundlePlan(
        bundles,
        "STRICT_SPREAD",
        shape.selector,
        f"{why}; {_needs(bundles)} is the smallest even split that fits",
    )


def _fewest_nodes(shape: ReplicaShape, groups: Mapping[Resources, int]) -> int | None:
    """Return the smallest number of nodes that holds the shape, or None."""
    # A node can take part in a split over n nodes only from some n on. Sorting the nodes by that
    # n rules most values of n out in log time; what is left is checked exactly.
    total, extra = shape.total, Resources(shape.extra)
    least: list[int] = []
    for resources, count in groups.items():
        if extra.fits_in(resources):
            rest = resources.minus_clamped(extra)
            needed = max((_least_n(name, total, rest) for name in total), default=1)
            least += [needed] * count
    least.sort()
    for n in shape.node_counts(len(least)):
        if bisect_right(least, n) < n:
            continue
        bundles = shape.bundles(n)
        if not bundles[-1]:
            break  # bundles only get smaller from here on, and an empty one is none
        if _fits(bundles, groups):
            return n
    return None


def _least_n(name: str, total: Resources, node: Resources) -> int:
    """Return the smallest n for which an n-th of `total`, rounded down, is on the node."""
    quantum = 1 if name == CPU else UNITS_PER_ONE
    # floor(t / n) <= a  <=>  t / n < a + 1  <=>  n > t / (a + 1)
    return total.units(name) // quantum // (node.units(name) // quantum + 1) + 1


def _fits(bundles: Iterable[Resources], groups: Mapping[Resources, int]) -> bool:
    """Say whether the bundles, each at least as large as the next, fit distinct nodes.

    A node that holds a bundle holds every later one, so counting is exact (Hall's condition on
    nested sets).
    """
    return all(_holders(b, groups) >= n for b, n in _cumulated(bundles))


def _cumulated(bundles: Iterable[Resources]) -> Iterator[tuple[Resources, int]]:
    """Yield each distinct bundle with the number of bundles up to its last."""
    n = 0
    for bundle, count in Counter(bundles).items():
        n += count
        yield bundle, n


def _holders(bundle: Resources, groups: Mapping[Resources, int]) -> int:
    return sum(count for resources, count in groups.items() if bundle.fits_in(resources))


def _divisors(n: int) -> list[int]:
    small = [d for d in range(1, math.isqrt(n) + 1) if n % d == 0]
    return small + [n // d for d in reversed(small) if d * d != n]


# --- what an error says ---------------------------------------------------------------------------


def _text(shape: ReplicaShape) -> str:
    text = str(shape.total)
    if shape.extra:
        text += f" (and {Resources(shape.extra)} on each node)"
    return text if shape.selector.is_any else f"{text} on nodes with {shape.selector}"


def _why_not(shape: ReplicaShape, groups: Mapping[Resources, int], selected: Topology) -> str:
    """Say for each split in turn how many nodes hold a bundle of it."""
    n_nodes = sum(groups.values())
    if not n_nodes:
        if selected.nodes:
            return "every node that it may use is draining"
        return "there is no node that it may use"
    if n_nodes < shape.min_nodes:
        return f"it is to use {shape.min_nodes} nodes or more, and may use {n_nodes}"
    counts = list(shape.node_counts(n_nodes))
    if not counts:
        return (
            f"{shape.devices} {shape.device} cannot be split evenly over {n_nodes} nodes or fewer"
        )
    tried = []
    for n in counts[:_SPLITS_SHOWN]:
        bundle = shape.bundles(n)[0]
        holders = _holders(bundle, groups)
        nodes = "1 node" if n == 1 else f"{n} nodes"
        text = f"{nodes} with {bundle}: {holders or 'none'} of {n_nodes} can hold that"
        if not holders:
            closest = min((bundle.shortfall(r) for r in groups), key=lambda s: _gap(s, bundle))
            text += f" (the closest is short of {closest})"
        tried.append(text)
    if len(counts) > _SPLITS_SHOWN:
        tried.append(f"and so on up to {counts[-1]} nodes")
    return "; ".join(tried)


def _gap(short: Resources, wanted: Resources) -> float:
    return sum(short.units(name) / wanted.units(name) for name in short)


def _nearest(shape: ReplicaShape, groups: Mapping[Resources, int]) -> str | None:
    """Return the nearest shapes that would fit, in words, or None."""
    free = replace(shape, min_nodes=1, max_nodes=None)
    n = _fewest_nodes(free, groups)
    if n is not None:
        return f"the same on {n} node" + ("s" if n > 1 else "")
    if shape.devices:
        below, above = _near_devices(shape, groups)
        found = [
            _first_that_fits(shape, sorted(below, reverse=True), groups),
            _first_that_fits(shape, sorted(above), groups),
        ]
        return ", or ".join(text for text in found if text) or None
    return _near_cpus(shape, groups)


def _near_devices(
    shape: ReplicaShape, groups: Mapping[Resources, int]
) -> tuple[set[int], set[int]]:
    """Return numbers of devices below and above the one asked for that might fit."""
    unit = replace(shape, devices=1, min_nodes=1, max_nodes=None).total
    capacities: list[int] = []
    for resources, count in groups.items():
        # Totals that were given as such are checked afterwards, not here.
        names = [shape.device]
        names += [CPU] if shape.cpus is None else []
        names += [MEMORY] if shape.memory_bytes is None else []
        fits = min(resources.units(r) // unit.units(r) for r in names if unit.units(r))
        capacities += [fits] * count
    capacities.sort(reverse=True)
    upper = len(capacities) if shape.max_nodes is None else shape.max_nodes
    below, above = set(), set()
    for n, capacity in enumerate(capacities[:upper], start=1):
        if n < shape.min_nodes:
            continue
        below.add(n * min(capacity, (shape.devices - 1) // n))
        if capacity > shape.devices // n:
            above.add(n * (shape.devices // n + 1))
    return below - {0}, above


def _first_that_fits(
    shape: ReplicaShape, devices: list[int], groups: Mapping[Resources, int]
) -> str | None:
    for count in devices[:_NEAREST_TRIES]:
        n = _fewest_nodes(replace(shape, devices=count), groups)
        if n == 1:
            return f"{count} {shape.device} on 1 node"
        if n is not None:
            return f"{count} {shape.device} on {n} nodes, {count // n} on each"
    return None


def _near_cpus(shape: ReplicaShape, groups: Mapping[Resources, int]) -> str | None:
    """Return the largest number of CPUs that would fit a replica without devices."""
    per_node = sorted((r.units(CPU) for r in groups for _ in range(groups[r])), reverse=True)
    upper = len(per_node) if shape.max_nodes is None else shape.max_nodes
    wanted = shape.total.units(CPU)
    sums = {
        n * units: n
        for n, units in enumerate(per_node[:upper], start=1)
        if n >= shape.min_nodes and 0 < n * units < wanted
    }
    for units in sorted(sums, reverse=True)[:_NEAREST_TRIES]:
        smaller = replace(shape, cpus=units / UNITS_PER_ONE)
        n = _fewest_nodes(smaller, groups)
        if n is not None:
            return f"{amount_text(CPU, units)} on {n} node" + ("s" if n > 1 else "")
    return None
