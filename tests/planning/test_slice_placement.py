"""Replicas on whole slices: their bundles, how many, on which, and why not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.errors import ConfigError, InfeasibleError
from pool.planning.resources import Resources
from pool.planning.shape import ReplicaShape
from pool.planning.slice_placement import Slices
from pool.planning.slices import SliceType
from pool.planning.topology import Node, NodeSelector, Topology
from tests.planning.strategies_slices import host, whole, worlds

V4_16 = Slices(SliceType.parse("v4-16"))
V4_32 = Slices(SliceType.parse("v4-32"))
SHAPE = V4_16.shape()


def of(*nodes: Node) -> Topology:
    return Topology(nodes)


def busy(nodes: list[Node], holder: str = "") -> list[Node]:
    free = Resources({"CPU": 8})
    held_by = {holder: Resources({"TPU": 4})} if holder else {}
    return [replace(node, available=free, held_by=held_by) for node in nodes]


def test_a_bundle_has_all_chips_of_a_host_and_the_first_the_slices_head() -> None:
    plan = V4_16.next_plan(V4_16.shape(cpus_per_chip=2), of(*whole("a")))
    head = Resources({"TPU": 4, "CPU": 8, "TPU-v4-16-head": 1})
    assert plan.bundles == (head, Resources({"TPU": 4, "CPU": 8}))
    assert plan.strategy == "STRICT_SPREAD"
    assert plan.selector.node_ids == frozenset({"a.0", "a.1"})


def test_a_slice_of_one_host_is_packed() -> None:
    alone = Slices(SliceType.parse("v6e-8"))
    topology = of(host("a", 0, kind="v6e-8", chips=8))
    assert alone.next_plan(alone.shape(), topology).strategy == "STRICT_PACK"


def test_nodes_without_the_head_resource_are_not_asked_for_it() -> None:
    nodes = [replace(node, total=host("a", 1).total) for node in whole("a")]
    [first, second] = V4_16.next_plan(SHAPE, of(*nodes)).bundles
    assert first == second


def test_the_layout_that_is_free_is_taken_first_and_then_the_one_of_most_slices() -> None:
    kind = Slices(SliceType.parse("v6e-8"))
    one = host("one", 0, kind="v6e-8", chips=8)
    two = [*whole("p", "q", kind="v6e-8")]
    assert len(kind.next_plan(kind.shape(), of(one, *two)).bundles) == 2
    taken = busy(two)
    assert len(kind.next_plan(kind.shape(), of(one, *taken)).bundles) == 1
    plan = kind.next_plan(kind.shape(), of(*busy([one]), *taken))
    assert len(plan.bundles) == 2
    assert kind.assign(plan, 9, of(one, *taken)) == [("p.0", "p.1"), ("q.0", "q.1")]
    assert kind.capacity(kind.shape(), 9, of(one, *two)).replicas == 3


def test_where_no_slice_is_whole_the_error_says_what_each_lacks() -> None:
    topology = of(host("a", 0), host("b", 0), host("b", 1, draining=True))
    with pytest.raises(InfeasibleError) as caught:
        V4_16.next_plan(SHAPE, topology)
    text = str(caught.value)
    assert "No v4-16 slice can be used: 0 of 2 v4-16 slices are whole" in text
    assert "slice a: worker 1 of 2 is missing" in text
    assert "slice b: worker 1 on b.1 is draining" in text
    assert V4_16.capacity(SHAPE, 1, topology).replicas == 0
    assert "worker 1 of 2 is missing" in V4_16.capacity(SHAPE, 1, topology).reason


@pytest.mark.parametrize("nodes", [[], busy(whole("a")), [host("a", 0)]])
def test_where_slices_may_join_and_none_is_free_the_cluster_is_asked_for_one(
    nodes: list[Node],
) -> None:
    growing = replace(V4_16, grows=True)
    plan = growing.next_plan(SHAPE, of(*nodes))
    assert growing.assign(plan, 1, of(*nodes)) == []
    assert growing.assign(plan, 2, of(*nodes, *whole("b"))) == [("b.0", "b.1")]
    assert plan.bundles[0].get("TPU-v4-16-head") == 1
    assert [bundle.get("TPU") for bundle in plan.bundles] == [4, 4]
    assert plan.selector.labels == {"ray.io/tpu-pod-type": "v4-16"}


def test_a_slice_whose_hosts_are_too_small_is_not_used() -> None:
    shape = V4_16.shape(cpus_per_chip=3)
    assert V4_16.capacity(shape, 1, of(*whole("a"))).reason.endswith(
        "slice a: worker 0 on a.0 is short of 4 CPU, worker 1 on a.1 is short of 4 CPU"
    )


def test_slices_in_use_come_after_free_ones_and_are_waited_for() -> None:
    topology = of(*busy(whole("a"), "pool x"), *whole("b"), *busy(whole("c")))
    plan = V4_16.next_plan(SHAPE, topology)
    assert V4_16.assign(plan, 2, topology) == [("b.0", "b.1"), ("a.0", "a.1")]
    assert V4_16.why_not_now(SHAPE, topology) == ""
    reason = V4_16.why_not_now(SHAPE, of(*busy(whole("a"), "pool x"), *busy(whole("c"))))
    assert reason == (
        "2 of 2 v4-16 slices are whole; slice a is in use by pool x; slice c is in use"
    )


def test_a_slice_that_is_about_to_leave_is_not_given_again() -> None:
    topology = of(*whole("a", "b"))
    leaving = replace(SHAPE, selector=NodeSelector(without=frozenset({"a.0"})))
    plan = V4_16.next_plan(leaving, topology)
    assert V4_16.assign(plan, 2, topology) == [("b.0", "b.1")]


def test_only_all_hosts_of_one_slice_in_order_are_a_slice() -> None:
    topology = of(*whole("a"), host("b", 0), host("b", 1, draining=True))
    assert V4_16.is_slice(["a.0", "a.1"], topology)
    assert V4_16.is_slice(["b.0", "b.1"], topology), "draining or not, it is one"
    for nodes in (["a.1", "a.0"], ["a.0", "b.1"], ["a.0"], []):
        assert not V4_16.is_slice(nodes, topology)


@pytest.mark.parametrize("shape", [ReplicaShape(devices=8), ReplicaShape(devices=4, device="TPU")])
def test_a_shape_that_is_no_slice_is_refused(shape: ReplicaShape) -> None:
    with pytest.raises(ConfigError, match="replicas take whole slices"):
        V4_16.next_plan(shape, of(*whole("a")))


@given(worlds(), st.integers(0, 6))
def test_replicas_share_no_slice_and_no_slice_is_taken_in_part(
    topology: Topology, count: int
) -> None:
    nodes = {node.node_id: node for node in topology.nodes}
    shape = V4_32.shape()
    most = V4_32.capacity(shape, count, topology)
    assert (most.replicas == count) == (most.reason == "")
    try:
        plan = V4_32.next_plan(shape, topology)
    except InfeasibleError:
        assert most.replicas == 0
        return
    assigned = V4_32.assign(plan, count, topology)
    assert len(assigned) == most.replicas
    assert len(set(sum(assigned, ()))) == 4 * len(assigned)
    free = []
    for each in assigned:
        assert V4_32.is_slice(each, topology)
        assert not any(nodes[name].draining for name in each)
        pairs = zip(each, plan.bundles, strict=True)
        free.append(all(bundle.fits_in(nodes[name].available) for name, bundle in pairs))
    assert free == sorted(free, reverse=True), "free ones come first"
    assert not (any(free) and V4_32.why_not_now(shape, topology))
