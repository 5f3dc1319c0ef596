"""Placements: shapes by strategy, nodes that stay whole, and slots that stay where they were."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.errors import ConfigError, InfeasibleError
from pool.planning.placement import (
    Deferred,
    Placement,
    Separate,
    Shared,
    by_address,
    emptied,
    stay,
)
from pool.planning.resources import Resources
from pool.planning.shape import BundlePlan, ReplicaShape
from pool.planning.topology import NodeSelector, Topology
from tests.planning.strategies_placement import node

THREE = Topology(tuple(node(f"n{number}", 8) for number in range(3)))
TWO_DEVICES = ReplicaShape(devices=2)
BOTH: list[Placement] = [Separate(), Shared()]


def devices(bundles: tuple[Resources, ...]) -> list[float]:
    return [bundle.get("GPU", 0) for bundle in bundles]


def test_replicas_of_a_separate_role_are_as_plan_shape_prefers_them() -> None:
    plan = Separate().next_plan(ReplicaShape(devices=16), THREE)
    assert devices(plan.bundles) == [8, 8]
    assert Separate().capacity(ReplicaShape(devices=16), 5, THREE).replicas == 1
    assert Separate().capacity(TWO_DEVICES, 20, THREE).replicas == 12


def test_a_shared_role_takes_full_nodes_and_the_rest_of_one() -> None:
    """17 devices on three nodes of 8, where no even split exists."""
    shape = ReplicaShape(devices=17, extra={"disk": 1})
    with pytest.raises(InfeasibleError):
        Separate().next_plan(ReplicaShape(devices=17), THREE)
    plan = Shared().next_plan(shape, THREE)
    assert devices(plan.bundles) == [8, 8, 1]
    assert [bundle["disk"] for bundle in plan.bundles] == [1, 1, 1]
    assert plan.strategy == "STRICT_SPREAD"
    assert devices(Shared(4).next_plan(ReplicaShape(devices=10), THREE).bundles) == [4, 4, 2]
    capacity = Shared().capacity(ReplicaShape(devices=17), 2, THREE)
    assert (capacity.replicas, bool(capacity.reason)) == (1, True)
    assert Shared().capacity(ReplicaShape(devices=10), 1, THREE).replicas == 1


@pytest.mark.parametrize("shape", [TWO_DEVICES, ReplicaShape(cpus=4)])
def test_a_shared_role_that_fits_a_node_is_on_one(shape: ReplicaShape) -> None:
    assert Shared().next_plan(shape, THREE) == Separate().next_plan(shape, THREE)
    no_devices = Topology((node("n0", 0),))
    assert len(Shared().next_plan(ReplicaShape(cpus=4), no_devices).bundles) == 1


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True])
def test_what_no_node_can_give_is_refused(wrong: object) -> None:
    with pytest.raises(ConfigError, match="devices_per_node"):
        Shared(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("placement", [*BOTH, Deferred()])
def test_however_many_are_asked_for_those_that_fit_are_counted(placement: Placement) -> None:
    found = placement.capacity(TWO_DEVICES, 2**40, emptied(THREE))
    assert found.replicas == 12
    assert "together they need" in found.reason


def test_six_replicas_of_two_devices_leave_a_node_of_eight_whole() -> None:
    plan = Separate().next_plan(TWO_DEVICES, THREE)
    assigned = Separate().assign(plan, 6, THREE)
    assert len(assigned) == 6
    assert len({name for [name] in assigned}) == 2


def test_those_that_find_no_place_now_have_none() -> None:
    busy = Topology((node("n0", 8, free=Resources.of(devices=3, cpus=64)),))
    plan = Separate().next_plan(TWO_DEVICES, busy)
    assert Separate().assign(plan, 3, busy) == [("n0",)]
    elsewhere = ReplicaShape(devices=2, selector=NodeSelector(node_ids=frozenset({"n0"})))
    plan = Separate().next_plan(elsewhere, busy)
    assert Separate().assign(plan, 1, Topology((node("n1", 1),))) == []


def test_equal_bundles_are_in_the_numeric_order_of_addresses() -> None:
    nodes = Topology(
        tuple(
            node_at(f"n{number}", address)
            for number, address in enumerate(("10.0.0.10", "10.0.0.9", "10.0.0.2"))
        )
    )
    plan = Shared().next_plan(ReplicaShape(devices=17), nodes)
    assert by_address(plan, ("n0", "n1", "n2"), nodes) == ("n1", "n0", "n2")
    [found] = Shared().assign(plan, 1, nodes)
    first, second, _ = (int(name[1:]) for name in found)
    assert first > second, "10.0.0.9 comes before 10.0.0.10"


def node_at(name: str, address: str):  # type: ignore[no-untyped-def]
    from dataclasses import replace

    return replace(node(name, 8), address=address)


def test_a_slot_stays_where_it_was_if_it_can() -> None:
    plan = Separate().next_plan(ReplicaShape(devices=16), THREE)
    assert stay(plan, ("n2", "n0"), THREE) == ("n2", "n0")
    assert stay(plan, (), THREE) is None
    assert stay(plan, ("n2", "n7"), THREE) is None
    taken = THREE.taking([("n0", Resources.of(devices=1))])
    assert stay(plan, ("n2", "n0"), taken) is None
    leaving = Topology((node("n2", 8), node("n0", 8, draining=True)))
    assert stay(plan, ("n2", "n0"), leaving) is None


def test_emptied_nodes_have_all_that_they_have() -> None:
    taken = THREE.taking([("n0", Resources.of(devices=8)), ("n0", Resources.of(devices=8))])
    assert taken.nodes[0].available.get("GPU", 0) == 0
    assert emptied(taken) == THREE


@given(
    st.sampled_from(BOTH), st.integers(1, 20), st.lists(st.integers(1, 8), min_size=1), st.data()
)
def test_whatever_is_assigned_fits_what_is_free(
    placement: Placement, wanted: int, sizes: list[int], data: st.DataObject
) -> None:
    """INV-8: all replicas together."""
    nodes = Topology(
        tuple(
            node(f"n{i}", size, free=Resources.of(devices=data.draw(st.integers(0, size)), cpus=64))
            for i, size in enumerate(sizes)
        )
    )
    shape = ReplicaShape(devices=wanted)
    try:
        plan = placement.next_plan(shape, nodes)
    except InfeasibleError:
        return
    count = data.draw(st.integers(1, 4))
    free = {each.node_id: each.available for each in nodes.nodes}
    for assigned in placement.assign(plan, count, nodes):
        assert len(assigned) == len(plan.bundles)
        if plan.strategy == "STRICT_SPREAD":
            assert len(set(assigned)) == len(assigned)
        for name, bundle in zip(assigned, plan.bundles, strict=True):
            free[name] = free[name] - bundle


def test_replicas_that_spread_keep_apart_and_take_the_emptiest_nodes() -> None:
    plan = Separate().next_plan(TWO_DEVICES, THREE)
    apart = Separate(spread=True)
    assert {name for [name] in apart.assign(plan, 3, THREE)} == {"n0", "n1", "n2"}
    busy = THREE.taking([("n0", Resources.of(devices=2)), ("n1", Resources.of(devices=1))])
    assert apart.assign(plan, 1, busy) == [("n2",)]
    assert len(apart.assign(plan, 20, THREE)) == 12
    gangs = apart.next_plan(ReplicaShape(devices=4, min_nodes=2), THREE)
    assert all(len(set(nodes)) == 2 for nodes in apart.assign(gangs, 3, THREE))


def test_replicas_that_could_not_all_spread_are_packed() -> None:
    """Kept apart, those of one node take the places that two-node replicas would need."""
    nodes = Topology((node("n0", 5), node("n1", 4)))
    plan = Separate().next_plan(ReplicaShape(devices=2), nodes)
    assert len(Separate(spread=True).assign(plan, 4, nodes)) == 4


def test_a_node_that_is_too_small_for_one_bundle_is_kept_for_another() -> None:
    """Spread, each bundle goes to the emptiest node that holds it, by devices and by CPUs."""
    nodes = Topology(
        (
            node("n0", 8, cpus=1),
            node("n1", 7, cpus=1),
            node("n2", 6, cpus=8),
            node("n3", 5, cpus=8),
            node("n4", 9, cpus=0),
        )
    )
    bundles = (Resources.of(devices=4, cpus=4), Resources.of(devices=1, cpus=1))
    plan = BundlePlan(bundles, "STRICT_SPREAD", NodeSelector(), "large and small")
    assert Separate(spread=True).assign(plan, 2, nodes) == [("n2", "n0"), ("n3", "n1")]
