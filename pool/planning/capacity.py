"""How many replicas of one shape the nodes hold, and which shape the next one takes.

As a rule all replicas take as few nodes as the largest nodes allow, in use or not: a replica that
fits on a node is not torn apart because that node is busy. Only a shape that names `max_nodes` may
be split further, up to that many nodes, over what is left. Then the nodes are filled in phases;
each places as many replicas as it can in the shape that `plan_shape` prefers on the nodes as they
then are.

Limits: filling in phases is a heuristic. On nodes of one or two kinds it finds the most; on odd
mixtures it may find fewer than there could be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pool.errors import InfeasibleError
from pool.planning.packing import Fits, Packing, pack_equal
from pool.planning.shape import BundlePlan, ReplicaShape, plan_shape
from pool.planning.topology import Topology


@dataclass(frozen=True, slots=True)
class Capacity:
    """Say how many replicas fit.

    Args:
        replicas: How many of those that were asked about.
        reason: Why no more fit, in words; empty when all did.
    """

    replicas: int
    reason: str


def capacity(shape: ReplicaShape, wanted: int, topology: Topology) -> Capacity:
    """Say how many of the wanted replicas the nodes could hold, by what they have in total.

    Args:
        shape: What one replica needs.
        wanted: How many replicas.
        topology: The nodes there are.

    Returns:
        As many as were found to fit, at most `wanted`.
    """
    found = 0
    left = topology
    while found < wanted:
        try:
            plan = plan_shape(shape, left)
        except InfeasibleError as error:
            return Capacity(found, error.message)
        count, assignment = _most(plan, wanted - found, left)
        found += count
        if found < wanted and (not count or shape.max_nodes is None):
            return Capacity(found, _pack(plan, wanted, topology).reason)
        left = _without(left, plan, assignment)
    return Capacity(found, "")


def next_plan(shape: ReplicaShape, topology: Topology) -> BundlePlan:
    """Choose the bundles of one more replica.

    Args:
        shape: What the replica needs.
        topology: The nodes there are.

    Returns:
        The plan by what the nodes have in total; for a shape that names `max_nodes`, one that fits
        what is free, if there is one.

    Raises:
        InfeasibleError: It does not fit even nodes that are empty.
    """
    if shape.max_nodes is None:
        return plan_shape(shape, topology)
    try:
        return plan_shape(shape, _only_free(topology))
    except InfeasibleError:
        return plan_shape(shape, topology)


def plan_to_come(shape: ReplicaShape, topology: Topology) -> BundlePlan:
    """Choose the bundles of one more replica where nodes are yet to join.

    Args:
        shape: What the replica needs.
        topology: The nodes there are.

    Returns:
        The plan of `next_plan`, if there is one. Otherwise the split over the fewest nodes that
        fits nodes like those there are, were there enough of them; and where none would do, the
        split over the fewest nodes that the shape allows, for nodes of a kind not seen yet.
    """
    try:
        return next_plan(shape, topology)
    except InfeasibleError:
        pass
    counts = list(shape.node_counts(shape.devices or shape.min_nodes))
    kinds = {node.total for node in topology.select(shape.selector).nodes}
    like_these = (n for n in counts if any(shape.bundles(n)[0].fits_in(kind) for kind in kinds))
    n = next(like_these, counts[0])
    bundles = shape.bundles(n)
    reason = f"nodes for {n} bundle(s) of up to {bundles[0]} are yet to join"
    return BundlePlan(bundles, "STRICT_PACK" if n == 1 else "STRICT_SPREAD", shape.selector, reason)


def _only_free(topology: Topology) -> Topology:
    """Return the nodes as if they had no more than what is free of them."""
    return Topology(tuple(replace(node, total=node.available) for node in topology.nodes))


def _most(
    plan: BundlePlan, wanted: int, topology: Topology
) -> tuple[int, Mapping[str, tuple[str, ...]]]:
    """Find by bisection how many replicas of one plan fit, and where."""
    low, high = 0, wanted
    placed: Mapping[str, tuple[str, ...]] = {}
    while low < high:
        # All at first: that is the usual answer, and the bisection's only step then.
        middle = high if high == wanted and not low else (low + high + 1) // 2
        verdict = _pack(plan, middle, topology)
        if isinstance(verdict, Fits):
            low, placed = middle, verdict.assignment
        else:
            high = middle - 1
    return low, placed


def _pack(plan: BundlePlan, count: int, topology: Topology) -> Packing:
    empty = Topology(
        tuple(replace(node, available=node.total, held_by={}) for node in topology.nodes)
    )
    return pack_equal("replica {}".format, plan, count, empty)


def _without(
    topology: Topology, plan: BundlePlan, assignment: Mapping[str, tuple[str, ...]]
) -> Topology:
    """Return the nodes without what the assigned replicas take."""
    total = {node.node_id: node.total for node in topology.nodes}
    for nodes in assignment.values():
        for node_id, bundle in zip(nodes, plan.bundles, strict=True):
            total[node_id] = total[node_id] - bundle
    return Topology(tuple(replace(node, total=total[node.node_id]) for node in topology.nodes))
