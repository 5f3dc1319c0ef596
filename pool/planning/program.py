"""Where the new replicas of several roles go: all of them planned together, or none.

Purpose: one look at the nodes for all roles of a program, so that a role that comes first does not
take what the next one needs, and what cannot be had is said, by role and slot, before anything is
created.

The order of the work: what a role needs (its placement says); then all requests of all roles are
packed at once (`pool.planning.packing`); then the roles that choose their nodes themselves (their
placement has an `assign` of its own) choose again, each among what all others leave free.

Limits: a role that chooses for itself has its choice only as far as the others' places allow; it is
not moved before them. Who takes a node between the look and the reservation is not known here.

Why not each role by itself, one after the other: six replicas of 2 devices that came first may be
on all three nodes of 8, and the role that needs a whole node then waits for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from pool.errors import ConfigError, InfeasibleError
from pool.planning.capacity import plan_to_come
from pool.planning.packing import Fits, Never, NotFound, NotNow, Request, pack
from pool.planning.placement import Placement, in_order
from pool.planning.resources import Resources
from pool.planning.shape import BundlePlan, ReplicaShape
from pool.planning.topology import Topology

_SENTENCES_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleRequest:
    """Ask for further replicas of one role.

    Args:
        role: The role's name.
        shape: What one replica needs.
        placement: How its replicas are laid out.
        count: How many further replicas.
        first: How many it has already; for sentences, that speak of slots.
        may_wait: Whether nodes for it may yet join, so that a place that is missing is no obstacle.
    """

    role: str
    shape: ReplicaShape
    placement: Placement
    count: int
    first: int = 0
    may_wait: bool = False

    def key(self, number: int) -> str:
        """Return what the `number`-th further replica is called."""
        return f"role {self.role}, slot {self.first + number}"


@dataclass(frozen=True, slots=True)
class RoleSeat:
    """Say where one replica is to go: the node of each bundle of its plan."""

    plan: BundlePlan
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ProgramPlan:
    """Say where all replicas go, or why they cannot.

    Args:
        seats: Role to the seats of those of its replicas that found one, in order.
        missing: What every replica is called that has to have a place and found none, with the
            reason.
        reason: The whole in a sentence or two.
        is_final: Whether that is so whatever others give back.
    """

    seats: Mapping[str, tuple[RoleSeat, ...]]
    missing: Mapping[str, str]
    reason: str
    is_final: bool = False

    @property
    def is_complete(self) -> bool:
        """Whether every replica that has to have a place has one."""
        return not self.missing


def plan_program(roles: Sequence[RoleRequest], topology: Topology) -> ProgramPlan:
    """Choose nodes for the further replicas of all roles, on what is free now.

    Args:
        roles: What is asked for, each role once.
        topology: The nodes.

    Returns:
        A plan that is complete has a seat for every replica that may not wait; seats never exceed
        what is free on any node, all roles together (INV-8).

    Raises:
        ConfigError: Two roles have one name.
    """
    if len({role.role for role in roles}) < len(roles):
        raise ConfigError("two roles have one name; give each role once", "roles")
    asked: dict[str, tuple[BundlePlan, ...]] = {}
    never: dict[str, str] = {}
    for role in roles:
        try:
            asked[role.role] = _plans(role, topology)
        except InfeasibleError as error:
            never[role.key(0)] = f"{role.key(0)}: {error}"
    if never:
        return ProgramPlan({}, never, _said(never), is_final=True)
    placed, refused = _pack(roles, asked, topology)
    if refused is not None:
        return refused
    seats: dict[str, tuple[RoleSeat, ...]] = {}
    for role in roles:
        nodes = placed.get(role.role, ())
        seats[role.role] = tuple(map(RoleSeat, asked[role.role], nodes))
    missing: dict[str, str] = {}
    for role in roles:
        if role.placement.chooses_nodes or (role.may_wait and role.role not in placed):
            others = (seats[other.role] for other in roles if other is not role)
            left = _without(topology, (seat for each in others for seat in each))
            seats[role.role] = tuple(_chosen(role, asked[role.role], left))
            lacks = range(len(seats[role.role]), 0 if role.may_wait else role.count)
            for key in map(role.key, lacks):
                missing[key] = f"{key}: {role.placement} finds no place for it now"
    if missing:
        return ProgramPlan(seats, missing, _said(missing))
    return ProgramPlan(seats, {}, _summary(roles, seats, topology))


def _plans(role: RoleRequest, topology: Topology) -> tuple[BundlePlan, ...]:
    """Return the bundles of each replica.

    Raises:
        InfeasibleError: One of them does not fit even nodes that are empty.
    """
    if role.shape.max_nodes is None or role.placement.chooses_nodes:
        return (_next_plan(role, topology),) * role.count
    # Such a shape may be split further as nodes fill up, so each looks at what the last one left.
    plans: list[BundlePlan] = []
    for _ in range(role.count):
        plan = _next_plan(role, topology)
        plans.append(plan)
        for nodes in role.placement.assign(plan, 1, topology):
            topology = topology.taking(zip(nodes, plan.bundles, strict=True))
    return tuple(plans)


def _next_plan(role: RoleRequest, topology: Topology) -> BundlePlan:
    try:
        return role.placement.next_plan(role.shape, topology)
    except InfeasibleError:
        if not role.may_wait:
            raise
        return plan_to_come(role.shape, topology)


_Placed = Mapping[str, Sequence[tuple[str, ...]]]
"""Role to the nodes of each of its replicas."""


def _pack(
    roles: Sequence[RoleRequest], asked: Mapping[str, Sequence[BundlePlan]], topology: Topology
) -> tuple[_Placed, ProgramPlan | None]:
    """Place all roles at once; those that may wait are left out where they stand in the way."""
    requests = [
        Request(role.key(number), plan)
        for role in roles
        for number, plan in enumerate(asked[role.role])
    ]
    verdict = pack(requests, topology)
    if isinstance(verdict, Fits):
        found = {node.node_id: node for node in topology.nodes}
        return {
            role.role: [
                in_order(plan, verdict.assignment[role.key(number)], found)
                for number, plan in enumerate(asked[role.role])
            ]
            for role in roles
        }, None
    firm = [role for role in roles if not role.may_wait]
    if len(firm) < len(roles):
        return _pack(firm, asked, topology)
    return {}, _refusal(verdict)


def _refusal(verdict: NotNow | NotFound | Never) -> ProgramPlan:
    is_final = not isinstance(verdict, NotNow)
    return ProgramPlan({}, verdict.blocked, verdict.reason, is_final)


def _chosen(role: RoleRequest, plans: Sequence[BundlePlan], left: Topology) -> Iterator[RoleSeat]:
    """Yield the seats that a role chooses for itself, as long as they are free."""
    free = {node.node_id: node.available for node in left.nodes if not node.draining}
    for plan, same in groupby(plans):
        seats: list[RoleSeat] = []
        for nodes in role.placement.assign(plan, len(list(same)), left):
            if not _take(plan, nodes, free):
                yield from seats
                return
            seats.append(RoleSeat(plan, nodes))
        left = _without(left, seats)
        yield from seats


def _take(plan: BundlePlan, nodes: Sequence[str], free: dict[str, Resources]) -> bool:
    """Take what a replica needs out of what is free, if it is there."""
    after: dict[str, Resources] = {}
    for name, bundle in zip(nodes, plan.bundles, strict=True):
        has = after[name] if name in after else free.get(name, Resources())
        if not bundle.fits_in(has):
            return False
        after[name] = has - bundle
    free.update(after)
    return True


def _without(topology: Topology, seats: Iterable[RoleSeat]) -> Topology:
    return topology.taking(
        pair for seat in seats for pair in zip(seat.nodes, seat.plan.bundles, strict=True)
    )


def _said(missing: Mapping[str, str]) -> str:
    sentences = list(missing.values())
    more = len(sentences) - _SENTENCES_SHOWN
    return ". ".join(sentences[:_SENTENCES_SHOWN]) + (f". And {more} more" if more > 0 else "")


def _summary(
    roles: Sequence[RoleRequest],
    seats: Mapping[str, tuple[RoleSeat, ...]],
    topology: Topology,
) -> str:
    parts = []
    used: set[str] = set()
    for role in roles:
        nodes = {name for seat in seats[role.role] for name in seat.nodes}
        used |= nodes
        waiting = role.count - len(seats[role.role])
        text = f"{role.role} has {role.count} on {len(nodes)} nodes"
        parts.append(text + (f", of which {waiting} wait" if waiting else ""))
    whole = len(topology.nodes) - len(used)
    return f"{'; '.join(parts)}; {whole} of {len(topology.nodes)} nodes are not touched"
