"""How many replicas fit, and the shape of the next one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.errors import InfeasibleError
from pool.planning.capacity import capacity, next_plan, plan_to_come
from pool.planning.resources import Resources
from pool.planning.shape import ReplicaShape
from pool.planning.topology import Node, Topology


def nodes(*gpus: int, free: tuple[int, ...] | None = None) -> Topology:
    return Topology(
        tuple(
            Node(
                node_id=f"n{number}",
                address=f"10.0.0.{number}",
                total=Resources({"CPU": 64, "GPU": total}),
                available=Resources({"CPU": 64, "GPU": total if free is None else free[number]}),
            )
            for number, total in enumerate(gpus)
        )
    )


@pytest.mark.parametrize(
    ("gpus", "devices", "max_nodes", "most"),
    [
        ((8, 8), 8, None, 2),
        ((8, 4, 4), 8, None, 1),
        ((8, 4, 4), 8, 2, 2),  # one whole, one split
        ((4, 4, 4), 8, None, 1),
        ((3, 3), 2, None, 2),  # C3: three would pass a check of totals
        ((3, 3), 2, 2, 3),
        ((), 1, None, 0),
        ((2, 2), 8, None, 0),
    ],
)
def test_the_most_replicas_of_a_shape(
    gpus: tuple[int, ...], devices: int, max_nodes: int | None, most: int
) -> None:
    found = capacity(ReplicaShape(devices=devices, max_nodes=max_nodes), 5, nodes(*gpus))
    assert found.replicas == most
    assert found.reason


@pytest.mark.parametrize("wanted", [2_000, 2**40])
@pytest.mark.parametrize("max_nodes", [None, 2])
def test_however_many_are_asked_for_those_that_fit_are_found(
    wanted: int, max_nodes: int | None
) -> None:
    found = capacity(ReplicaShape(devices=2, max_nodes=max_nodes), wanted, nodes(3, 3))
    assert found.replicas == (2 if max_nodes is None else 3)
    if max_nodes is None:
        needed = f"together they need {2 * wanted:,} GPU".replace(",", "")
        assert needed in found.reason.replace("_", "").replace(",", "")


def test_all_that_were_asked_for_need_no_reason() -> None:
    assert capacity(ReplicaShape(devices=4), 2, nodes(8)).reason == ""


@given(
    st.lists(st.integers(0, 8), max_size=6), st.sampled_from([1, 2, 4, 8, 16]), st.integers(0, 9)
)
def test_what_is_said_to_fit_is_no_more_than_there_are_devices(
    gpus: list[int], devices: int, wanted: int
) -> None:
    """INV-8."""
    found = capacity(ReplicaShape(devices=devices), wanted, nodes(*gpus)).replicas
    assert found <= wanted
    assert found * devices <= sum(gpus)


@given(st.integers(1, 6), st.sampled_from([1, 2, 4, 8]), st.integers(0, 20))
def test_on_equal_nodes_the_most_are_found(count: int, devices: int, wanted: int) -> None:
    found = capacity(ReplicaShape(devices=devices), wanted, nodes(*[8] * count)).replicas
    assert found == min(wanted, count * (8 // devices))


def test_a_replica_is_split_over_what_is_free_only_when_its_shape_allows_it() -> None:
    busy = nodes(8, 4, 4, free=(2, 4, 4))
    assert next_plan(ReplicaShape(devices=8), busy).n_nodes == 1
    allowed = ReplicaShape(devices=8, max_nodes=2)
    assert next_plan(allowed, busy).n_nodes == 2
    assert next_plan(allowed, nodes(8, 4, 4)).n_nodes == 1


def test_when_nothing_is_free_the_plan_is_one_to_wait_with() -> None:
    assert next_plan(ReplicaShape(devices=8, max_nodes=2), nodes(8, free=(0,))).n_nodes == 1
    with pytest.raises(InfeasibleError):
        next_plan(ReplicaShape(devices=16), nodes(8))


@pytest.mark.parametrize(
    ("gpus", "shape", "bundles"),
    [
        ((8,), ReplicaShape(devices=8), 1),  # it is there
        ((), ReplicaShape(devices=8), 1),  # nothing is known: as few nodes as may be
        ((), ReplicaShape(devices=8, min_nodes=2), 2),
        ((), ReplicaShape(cpus=4, min_nodes=2), 2),
        ((4,), ReplicaShape(devices=16), 4),  # four like the one there is
        ((4, 2), ReplicaShape(devices=16, max_nodes=8), 4),
        ((3,), ReplicaShape(devices=8), 4),
        ((4,), ReplicaShape(devices=16, max_nodes=2), 1),  # another kind has to come
    ],
)
def test_where_nodes_are_yet_to_join_the_plan_is_for_nodes_like_those_there_are(
    gpus: tuple[int, ...], shape: ReplicaShape, bundles: int
) -> None:
    plan = plan_to_come(shape, nodes(*gpus))
    assert len(plan.bundles) == plan.n_nodes == bundles
    assert plan.total == shape.total


@given(st.lists(st.integers(0, 8), max_size=6), st.sampled_from([1, 2, 4, 8, 16]))
def test_a_plan_that_fits_the_nodes_there_are_is_the_same_as_ever(
    gpus: list[int], devices: int
) -> None:
    shape = ReplicaShape(devices=devices)
    try:
        expected = next_plan(shape, nodes(*gpus))
    except InfeasibleError:
        assert "yet to join" in plan_to_come(shape, nodes(*gpus)).reason
    else:
        assert plan_to_come(shape, nodes(*gpus)) == expected
