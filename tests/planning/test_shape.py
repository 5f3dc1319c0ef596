"""Bundle shapes: the smallest even split that fits, and errors that say what would."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given

from pool.errors import ConfigError, InfeasibleError
from pool.planning.resources import Resources, gib
from pool.planning.shape import BundlePlan, ReplicaShape, plan_shape
from pool.planning.topology import ANY_NODE, Node, NodeSelector, Topology
from tests.planning.strategies_placement import gpu_nodes, node, shapes, topologies

# --- examples -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("devices", "nodes", "n", "each"),
    [
        (4, (8,), 1, 4),
        (8, (5, 8), 1, 8),
        (8, (4, 4), 2, 4),
        (12, (4, 4, 4), 3, 4),
        (8, (3, 3, 2, 2, 2), 4, 2),
        (1, (1,), 1, 1),
    ],
)
def test_one_node_if_it_can_be_else_the_smallest_even_split(
    devices: int, nodes: tuple[int, ...], n: int, each: int
) -> None:
    plan = plan_shape(ReplicaShape(devices=devices), gpu_nodes(*nodes))
    assert plan.bundles == (Resources.of(devices=each, cpus=each),) * n
    assert plan.strategy == ("STRICT_PACK" if n == 1 else "STRICT_SPREAD")
    assert plan.n_nodes == n
    assert plan.reason


@pytest.mark.parametrize(
    ("devices", "nodes", "nearest"),
    [
        (4, (1, 3), "3 GPU on 1 node"),
        (6, (2, 2), "4 GPU on 2 nodes, 2 on each"),
        (4, (), None),
        (7, (4, 4), "6 GPU on 2 nodes, 3 on each, or 8 GPU on 2 nodes, 4 on each"),
        (5, (0,), None),
    ],
)
def test_what_no_even_split_holds_is_refused_with_the_nearest_that_would_fit(
    devices: int, nodes: tuple[int, ...], nearest: str | None
) -> None:
    topology = gpu_nodes(*nodes)
    with pytest.raises(InfeasibleError) as caught:
        plan_shape(ReplicaShape(devices=devices), topology)
    assert caught.value.nearest == nearest
    assert caught.value.topology == topology.describe("GPU")


def test_a_replica_without_devices_splits_into_equal_bundles() -> None:
    plan = plan_shape(ReplicaShape(cpus=2, min_nodes=2), gpu_nodes(0, 0, 0))
    assert plan.bundles == (Resources.of(cpus=1),) * 2
    assert plan.strategy == "STRICT_SPREAD"
    assert plan.needs == "2 nodes with 1 CPU each"
    assert "min_nodes is 2" in plan.reason


def test_totals_stay_exact_where_they_do_not_divide() -> None:
    shape = ReplicaShape(cpus=1, memory_bytes=5, min_nodes=3)
    topology = Topology(tuple(node(f"n{i}", memory_bytes=10) for i in range(3)))
    plan = plan_shape(shape, topology)
    assert plan.total == Resources.of(cpus=1, memory_bytes=5)
    assert plan.bundles[0] == Resources.of(cpus=0.3334, memory_bytes=2)
    assert plan.bundles[1] == Resources.of(cpus=0.3333, memory_bytes=2)
    assert plan.bundles[2] == Resources.of(cpus=0.3333, memory_bytes=1)
    assert plan.needs.startswith("3 nodes (1 with 0.3334 CPU, 2 B memory; 1 with ")


def test_no_bundle_is_left_empty() -> None:
    with pytest.raises(InfeasibleError):
        plan_shape(ReplicaShape(cpus=0.0002, min_nodes=3), gpu_nodes(1, 1, 1))


def test_a_larger_first_bundle_is_counted_when_nodes_are_tight() -> None:
    # 3 CPUs in halves of 1e-4 do not divide: one bundle needs 1.0001, and only n0 has that.
    tight = Topology((node("n0", cpus=1.0001), node("n1", cpus=1), node("n2", cpus=1)))
    assert plan_shape(ReplicaShape(cpus=3.0001), tight).n_nodes == 3
    full = Topology(tuple(node(f"n{i}", cpus=1) for i in range(3)))
    with pytest.raises(InfeasibleError):
        plan_shape(ReplicaShape(cpus=3.0001), full)


def test_cpus_memory_and_custom_resources_are_part_of_the_fit() -> None:
    shape = ReplicaShape(
        devices=8, cpus_per_device=4, memory_bytes_per_device=gib(1), extra={"slot": 1}
    )
    slots = Resources({"slot": 1})
    total = Resources.of(devices=8, cpus=16, memory_bytes=gib(64)) + slots
    nodes = tuple(Node(node_id=f"n{i}", address="", total=total, available=total) for i in range(2))
    plan = plan_shape(shape, Topology(nodes))
    assert plan.bundles == (Resources.of(devices=4, cpus=16, memory_bytes=gib(4)) + slots,) * 2
    with pytest.raises(InfeasibleError, match="1 slot on each node") as caught:
        plan_shape(shape, gpu_nodes(8, 8))
    assert caught.value.nearest is None


def test_a_shortage_of_cpus_is_named() -> None:
    short = Topology((node("n0", 8, cpus=4),))
    with pytest.raises(InfeasibleError, match="the closest is short of 4 CPU") as caught:
        plan_shape(ReplicaShape(devices=8), short)
    assert caught.value.nearest == "4 GPU on 1 node"


@pytest.mark.parametrize(
    ("shape", "nearest"),
    [
        (ReplicaShape(cpus=40), "32 CPU on 2 nodes"),
        (ReplicaShape(cpus=40, max_nodes=1), "the same on 3 nodes"),
        (ReplicaShape(cpus=400, max_nodes=1), "16 CPU on 1 node"),
        (ReplicaShape(memory_bytes=1), None),
        (ReplicaShape(cpus=40, memory_bytes=1), None),
    ],
)
def test_the_nearest_number_of_cpus_is_named(shape: ReplicaShape, nearest: str | None) -> None:
    count = 3 if shape.max_nodes else 2
    topology = Topology(tuple(node(f"n{i}", cpus=16) for i in range(count)))
    with pytest.raises(InfeasibleError) as caught:
        plan_shape(shape, topology)
    assert caught.value.nearest == nearest


def test_bounds_on_nodes_are_kept() -> None:
    three = gpu_nodes(8, 8, 8)
    assert plan_shape(ReplicaShape(devices=6, min_nodes=2), three).n_nodes == 2
    with pytest.raises(InfeasibleError, match="16 nodes or more, and may use 3") as caught:
        plan_shape(ReplicaShape(devices=16, min_nodes=16), three)
    assert caught.value.nearest == "the same on 2 nodes"
    with pytest.raises(InfeasibleError) as caught:
        plan_shape(ReplicaShape(devices=10, max_nodes=1), three)
    assert caught.value.nearest == "the same on 2 nodes"
    with pytest.raises(InfeasibleError) as caught:
        plan_shape(ReplicaShape(devices=26, min_nodes=2), three)
    assert caught.value.nearest == "24 GPU on 3 nodes, 8 on each"
    with pytest.raises(InfeasibleError, match="cannot be split evenly over 3 nodes or fewer"):
        plan_shape(ReplicaShape(devices=25, min_nodes=2), three)


def test_many_splits_are_not_all_listed() -> None:
    with pytest.raises(InfeasibleError, match="and so on up to 16 nodes"):
        plan_shape(ReplicaShape(devices=240), gpu_nodes(*[1] * 16))


def test_draining_nodes_count_as_absent() -> None:
    drained = Topology((node("n0", 8, draining=True), node("n1", 4), node("n2", 4)))
    assert plan_shape(ReplicaShape(devices=8), drained).n_nodes == 2
    with pytest.raises(InfeasibleError, match="every node that it may use is draining"):
        plan_shape(ReplicaShape(devices=1), Topology((node("n0", 8, draining=True),)))


def test_a_head_that_is_left_out_is_not_used() -> None:
    topology = Topology((node("n0", 16, is_head=True), node("n1", 4), node("n2", 4)))
    workers = NodeSelector(exclude_head=True)
    plan = plan_shape(ReplicaShape(devices=8, selector=workers), topology)
    assert plan.n_nodes == 2
    assert plan.selector == workers
    only_head = Topology((node("n0", 16, is_head=True),))
    with pytest.raises(InfeasibleError, match="no node that it may use"):
        plan_shape(ReplicaShape(devices=8, selector=workers), only_head)


def test_a_label_that_no_node_has_is_refused_up_front_and_named() -> None:
    selector = NodeSelector(labels={"ray.io/node-type": "worker"})
    with pytest.raises(InfeasibleError, match=r"no node has the label ray\.io/node-type=worker"):
        plan_shape(ReplicaShape(devices=1, selector=selector), gpu_nodes(8))


# --- safety ---------------------------------------------------------------------------------------


def _fits_some_way(plan: BundlePlan, topology: Topology) -> bool:
    nodes = topology.select(plan.selector).without_draining().nodes
    return any(
        all(b.fits_in(n.total) for b, n in zip(plan.bundles, chosen, strict=True))
        for chosen in itertools.permutations(nodes, len(plan.bundles))
    )


def _all_splits(shape: ReplicaShape, topology: Topology) -> list[int]:
    """The oracle: try every number of nodes and every choice of nodes."""
    counts = range(shape.min_nodes, (shape.max_nodes or len(topology.nodes)) + 1)
    return [
        n
        for n in counts
        if shape.devices % n == 0
        and all(shape.bundles(n))
        and _fits_some_way(
            BundlePlan(shape.bundles(n), "STRICT_SPREAD", shape.selector, ""), topology
        )
    ]


@given(shapes(), topologies(5))
def test_bundles_fit_the_nodes_and_totals_are_exact_inv_8(
    shape: ReplicaShape, topology: Topology
) -> None:
    # INV-8: bundles of a plan fit the nodes it was made for, totals exact, nothing negative.
    try:
        plan = plan_shape(shape, topology)
    except InfeasibleError:
        return
    assert plan.total == shape.total + Resources(shape.extra).scaled(plan.n_nodes)
    assert _fits_some_way(plan, topology)
    gpus = {bundle.units("GPU") for bundle in plan.bundles}
    assert len(gpus) == 1
    for a, b in itertools.pairwise(plan.bundles):
        assert 0 <= a.units("CPU") - b.units("CPU") <= 1


# --- progress -------------------------------------------------------------------------------------


@given(shapes(), topologies(5))
def test_a_shape_is_refused_exactly_if_no_split_fits_and_the_smallest_is_chosen(
    shape: ReplicaShape, topology: Topology
) -> None:
    splits = _all_splits(shape, topology)
    if splits:
        assert plan_shape(shape, topology).n_nodes == splits[0]
    else:
        with pytest.raises(InfeasibleError):
            plan_shape(shape, topology)


# --- configuration --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"devices": 1.5}, "devices"),
        ({"devices": "4"}, "devices"),
        ({"devices": True}, "devices"),
        ({"devices": -1}, "devices"),
        ({"devices": 0}, "devices"),
        ({"devices": 4, "device": ""}, "device"),
        ({"devices": 4, "device": "CPU"}, "device"),
        ({"devices": 4, "cpus_per_device": -1}, "cpus_per_device"),
        ({"devices": 4, "cpus": "2"}, "cpus"),
        ({"devices": 4, "memory_bytes": 1.5}, "memory_bytes"),
        ({"devices": 4, "memory_bytes_per_device": -1}, "memory_bytes_per_device"),
        ({"devices": 4, "min_nodes": 0}, "min_nodes"),
        ({"devices": 4, "min_nodes": 3, "max_nodes": 2}, "max_nodes"),
        ({"devices": 7, "min_nodes": 2, "max_nodes": 3}, "max_nodes"),
        ({"devices": 2, "min_nodes": 3}, "min_nodes"),
        ({"devices": 2, "extra": {"CPU": 1}}, "extra"),
        ({"devices": 2, "extra": {"x": -1}}, "extra.x"),
        ({"devices": 2, "extra": ["x"]}, "extra"),
        ({"devices": 2, "extra": {1: 1}}, "extra"),
        ({"devices": 2, "selector": {"zone": "a"}}, "selector"),
        ({"devices": 2, "selector": None}, "selector"),
    ],
)
def test_a_value_that_cannot_be_right_is_refused_by_field(
    values: dict[str, object], field: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        ReplicaShape(**values)  # type: ignore[arg-type]
    assert caught.value.field == field
    assert isinstance(caught.value, ValueError)


def test_a_plan_without_bundles_is_refused() -> None:
    one = Resources.of(cpus=1)
    for bundles in ((), (one, Resources())):
        with pytest.raises(ConfigError):
            BundlePlan(bundles, "STRICT_PACK", ANY_NODE, "")
    with pytest.raises(ConfigError, match="PACK"):
        BundlePlan((one,), "PACK", ANY_NODE, "")  # type: ignore[arg-type]
    assert BundlePlan((one, one), "STRICT_PACK", ANY_NODE, "").needs == "1 node with 2 CPU"
