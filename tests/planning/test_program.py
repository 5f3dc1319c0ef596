"""Programs: all roles planned together, what is missing said by role and slot."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.errors import ConfigError
from pool.planning.placement import Deferred, Placement, Separate, Shared
from pool.planning.program import ProgramPlan, RoleRequest, plan_program
from pool.planning.resources import Resources
from pool.planning.shape import BundlePlan, ReplicaShape
from pool.planning.topology import NodeSelector, Topology
from tests.planning.strategies_placement import gpu_nodes, node, shapes, topologies


def role(
    name: str,
    count: int,
    devices: int,
    placement: Placement | None = None,
    *,
    may_wait: bool = False,
    max_nodes: int | None = None,
    first: int = 0,
    selector: NodeSelector | None = None,
) -> RoleRequest:
    shape = ReplicaShape(devices=devices, max_nodes=max_nodes, selector=selector or NodeSelector())
    return RoleRequest(
        role=name,
        shape=shape,
        placement=placement or Separate(),
        count=count,
        may_wait=may_wait,
        first=first,
    )


def nodes_of(plan: ProgramPlan, name: str) -> list[tuple[str, ...]]:
    return [seat.nodes for seat in plan.seats[name]]


def test_the_order_of_roles_does_not_take_a_whole_node_from_the_one_that_needs_it() -> None:
    """Rollouts of 2 and a training of 16 on three nodes of 8, in both orders."""
    rollout, train = role("rollout", 4, 2), role("train", 1, 16, Shared())
    for roles in ([rollout, train], [train, rollout]):
        plan = plan_program(roles, gpu_nodes(8, 8, 8))
        assert plan.is_complete
        [seat] = nodes_of(plan, "train")
        assert len(set(seat)) == 2
        [alone] = set(nodes_of(plan, "rollout"))
        assert alone[0] not in seat
        assert plan.reason.endswith("0 of 3 nodes are not touched")


def test_what_is_missing_is_said_by_role_and_slot_and_holder() -> None:
    held = node(
        "n0",
        8,
        free=Resources.of(devices=6, cpus=62),
        held_by={"train": Resources.of(devices=2, cpus=2)},
    )
    plan = plan_program([role("rollout", 1, 16, first=3)], Topology((held, node("n1", 8))))
    assert not plan.is_complete
    assert not plan.is_final
    [(who, why)] = plan.missing.items()
    assert who == "role rollout, slot 3"
    assert why == (
        "role rollout, slot 3: needs 2 nodes with 8 GPU, 8 CPU each; 1 of 2 nodes can hold 8 GPU, "
        "8 CPU; node n0 has 6 GPU free (train holds 2 GPU); no other node has 8 GPU, 8 CPU"
    )
    assert why in plan.reason


def test_what_can_never_be_is_final() -> None:
    plan = plan_program([role("a", 1, 2), role("b", 1, 16)], gpu_nodes(8))
    assert plan.is_final
    assert list(plan.missing) == ["role b, slot 0"]
    together = plan_program([role("a", 2, 4), role("b", 1, 2)], gpu_nodes(8))
    assert together.is_final
    assert "10 GPU" in together.reason


def test_long_lists_of_what_is_missing_are_shortened() -> None:
    plan = plan_program([role(f"r{n}", 1, 16) for n in range(5)], gpu_nodes(8))
    assert plan.reason.endswith("And 2 more")


def test_two_roles_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="one name"):
        plan_program([role("a", 1, 1), role("a", 1, 2)], gpu_nodes(8))


def test_who_may_wait_is_no_obstacle_and_takes_what_is_left() -> None:
    grows = role("rollout", 5, 2, may_wait=True)
    plan = plan_program([grows, role("train", 1, 8)], gpu_nodes(8, 4))
    assert plan.is_complete
    assert nodes_of(plan, "train") == [("n0",)]
    assert nodes_of(plan, "rollout") == [("n1",), ("n1",)]
    assert "of which 3 wait" in plan.reason
    beyond = plan_program([role("rollout", 1, 16, may_wait=True)], gpu_nodes(8))
    assert beyond.is_complete
    assert beyond.seats["rollout"] == ()
    both = plan_program([grows, role("train", 1, 16)], gpu_nodes(8, 4))
    assert both.is_final


def test_a_role_that_spreads_keeps_apart_where_others_leave_room() -> None:
    apart = role("rollout", 3, 2, Separate(spread=True))
    plan = plan_program([apart, role("train", 1, 8)], gpu_nodes(8, 8, 8))
    [train] = nodes_of(plan, "train")
    has = Counter(name for [name] in nodes_of(plan, "rollout"))
    assert train[0] not in has
    assert sorted(has.values()) == [1, 2]


def test_a_shape_that_may_be_split_is_split_over_what_is_left() -> None:
    plan = plan_program([role("a", 2, 8, max_nodes=2)], gpu_nodes(8, 4, 4))
    assert [len(seat.nodes) for seat in plan.seats["a"]] == [1, 2]
    short = plan_program([role("a", 3, 8, max_nodes=2)], gpu_nodes(8, 4, 4))
    assert not short.is_complete


@dataclass(frozen=True, slots=True)
class OnlyOn(Placement):
    """A user's own: replicas on one named node, and on no other."""

    name: str

    def next_plan(self, shape: ReplicaShape, topology: Topology) -> BundlePlan:
        return Separate().next_plan(shape, topology)

    def capacity(self, shape: ReplicaShape, wanted: int, topology: Topology):  # type: ignore[no-untyped-def]
        return Separate().capacity(shape, wanted, topology)

    def assign(self, plan: BundlePlan, count: int, topology: Topology) -> list[tuple[str, ...]]:
        return [(self.name,) * len(plan.bundles)] * count


def test_a_users_own_placement_decides_and_what_it_chooses_is_held_against_the_nodes() -> None:
    own = role("own", 2, 2, OnlyOn("n1"))
    plan = plan_program([role("other", 1, 4), own], gpu_nodes(4, 8))
    assert nodes_of(plan, "own") == [("n1",), ("n1",)]
    assert nodes_of(plan, "other") == [("n0",)]
    for full in (gpu_nodes(8, 3), gpu_nodes(8, 1), gpu_nodes(8)):
        refused = plan_program([own], full)
        assert not refused.is_complete
        assert not refused.is_final
        assert "finds no place for it now" in refused.reason


def test_a_deferred_role_has_one_bundle_a_device_on_one_node() -> None:
    shape = ReplicaShape(devices=4, cpus=6, extra={"disk": 1})
    nodes = Topology((node("n0", 3), with_disk("n1", 8)))
    plan = Deferred().next_plan(shape, nodes)
    assert (plan.strategy, len(plan.bundles)) == ("STRICT_PACK", 4)
    assert plan.total == shape.total + Resources({"disk": 1})
    assert [bundle["GPU"] for bundle in plan.bundles] == [1, 1, 1, 1]
    assert Deferred().assign(plan, 1, nodes) == [("n1",) * 4]
    assert len(Deferred(2).next_plan(shape, nodes).bundles) == 2
    assert Deferred(2).capacity(shape, 5, nodes).replicas == 1
    for wrong in (0, True, 1.5):
        with pytest.raises(ConfigError, match="devices_per_bundle"):
            Deferred(wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="multiple"):
        Deferred(3).next_plan(shape, nodes)
    with pytest.raises(ConfigError, match="multiple"):
        Deferred().next_plan(ReplicaShape(cpus=2), nodes)
    assert plan_program([role("deferred", 2, 4, Deferred())], gpu_nodes(8)).is_complete


def with_disk(name: str, gpus: int):  # type: ignore[no-untyped-def]
    from dataclasses import replace

    total = Resources({"GPU": gpus, "CPU": 64, "disk": 1})
    return replace(node(name, gpus), total=total, available=total)


placements = st.sampled_from(
    [Separate(), Separate(), Separate(spread=True), Shared(), OnlyOn("n0")]
)


@st.composite
def programs(draw: st.DrawFn) -> list[RoleRequest]:
    return [
        RoleRequest(
            role=f"r{number}",
            shape=draw(shapes()),
            placement=draw(placements),
            count=draw(st.integers(0, 3)),
            may_wait=draw(st.integers(0, 4)) == 4,
        )
        for number in range(draw(st.integers(0, 3)))
    ]


@given(programs(), topologies())
def test_seats_fit_what_is_free_all_roles_together_and_a_plan_is_made_again_alike(
    roles: list[RoleRequest], topology: Topology
) -> None:
    """INV-8, and that who may not wait has a seat or a reason."""
    plan = plan_program(roles, topology)
    assert plan == plan_program(roles, topology)
    free = {each.node_id: each.available for each in topology.nodes}
    nodes = {each.node_id: each for each in topology.nodes}
    for seats in plan.seats.values():
        for seat in seats:
            assert len(seat.nodes) == len(seat.plan.bundles)
            if seat.plan.strategy == "STRICT_SPREAD":
                assert len(set(seat.nodes)) == len(seat.nodes)
            for name, bundle in zip(seat.nodes, seat.plan.bundles, strict=True):
                assert not nodes[name].draining
                free[name] = free[name] - bundle  # It raises where there is less.
    for each in roles:
        if plan.is_complete:
            seated = len(plan.seats[each.role])
            assert seated == each.count or each.may_wait
            for seat in plan.seats[each.role]:
                assert isinstance(each.placement, OnlyOn) or all(
                    each.shape.selector.matches(nodes[name]) for name in seat.nodes
                )


@given(st.integers(1, 4), st.integers(1, 6), st.integers(0, 6))
def test_as_many_whole_nodes_stay_free_as_best_fit_leaves(
    large: int, small: int, spare: int
) -> None:
    """Roles of 8 and of 2 on nodes of 8: together they touch no more nodes than they need."""
    needed = large + -(-small // 4)
    roles = [role("small", small, 2), role("large", large, 8)]
    plan = plan_program(roles, gpu_nodes(*[8] * (needed + spare)))
    assert plan.is_complete
    used = {name for seats in plan.seats.values() for seat in seats for name in seat.nodes}
    assert len(used) == needed
