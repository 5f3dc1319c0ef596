"""Splitting over nodes of one size: exact totals, nothing negative, close to proportional."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.errors import ConfigError
from pool.planning.resources import Resources, gib
from pool.planning.split import apportion, split_request
from tests.planning.strategies_placement import WORKERS


def test_a_remainder_goes_last_and_cpus_and_memory_follow_the_devices() -> None:
    plan = split_request(24, 16, cpus=1, memory_bytes=1024)
    assert plan.bundles == (
        Resources.of(devices=16, cpus=1, memory_bytes=683),
        Resources.of(devices=8, cpus=0, memory_bytes=341),
    )
    assert plan.strategy == "STRICT_SPREAD"
    assert plan.reason == (
        "24 GPU at 16 a node are 1 full nodes and one with 8; CPUs and memory follow the devices"
    )


def test_few_cpus_over_many_nodes_leave_nothing_negative() -> None:
    plan = split_request(80, 8, cpus=15)
    assert [bundle.get("CPU", 0) for bundle in plan.bundles] == [2] * 5 + [1] * 5


def test_what_fits_one_node_is_one_packed_bundle() -> None:
    plan = split_request(4, 8, cpus=2.5, device="NPU", selector=WORKERS)
    assert plan.bundles == (Resources.of(devices=4, cpus=2.5, device="NPU"),)
    assert plan.strategy == "STRICT_PACK"
    assert plan.selector == WORKERS
    assert plan.reason == "4 NPU fit one node of 8"


def test_without_devices_everything_is_one_bundle() -> None:
    plan = split_request(0, 8, cpus=3, memory_bytes=gib(1))
    assert plan.bundles == (Resources.of(cpus=3, memory_bytes=gib(1)),)


@pytest.mark.parametrize(
    "values",
    [
        {"devices": -1, "devices_per_node": 8},
        {"devices": 1.5, "devices_per_node": 8},
        {"devices": 8, "devices_per_node": 0},
        {"devices": 8, "devices_per_node": 8, "cpus": -1},
        {"devices": 8, "devices_per_node": 8, "memory_bytes": 0.5},
        {"devices": 0, "devices_per_node": 8},
    ],
)
def test_values_that_cannot_be_right_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        split_request(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(("total", "weights"), [(1, []), (1, [0, 0]), (-1, [1]), (1, [-1, 2])])
def test_what_cannot_be_divided_is_refused(total: int, weights: list[int]) -> None:
    with pytest.raises(ConfigError):
        apportion(total, weights)


# --- safety ---------------------------------------------------------------------------------------


@given(st.integers(0, 2**50), st.lists(st.integers(0, 20), min_size=1, max_size=30).filter(any))
def test_parts_add_up_and_lie_within_one_of_their_proportion(
    total: int, weights: list[int]
) -> None:
    parts = apportion(total, weights)
    assert sum(parts) == total
    for part, weight in zip(parts, weights, strict=True):
        assert part >= 0
        assert abs(part - Fraction(total * weight, sum(weights))) < 1


@given(
    st.integers(0, 100),
    st.integers(1, 17),
    st.one_of(st.integers(0, 200), st.integers(0, 10**6).map(lambda units: units / 10_000)),
    st.integers(0, 2**45),
)
def test_bundles_are_exact_in_total_full_first_and_proportional_inv_8(
    devices: int, per_node: int, cpus: float, memory: int
) -> None:
    # INV-8: totals exact, nothing negative (Resources cannot be).
    if not (devices or cpus or memory):
        return
    plan = split_request(devices, per_node, cpus=cpus, memory_bytes=memory)
    assert plan.total == Resources.of(devices=devices, cpus=cpus, memory_bytes=memory)
    sizes = [bundle.get("GPU", 0) for bundle in plan.bundles]
    assert all(size == per_node for size in sizes[:-1])
    assert sizes[-1] <= per_node
    for bundle, size in zip(plan.bundles, sizes, strict=True):
        share = Fraction(int(size), devices) if devices else Fraction(1)
        assert abs(Fraction(bundle.units("CPU"), 10_000) - Fraction(cpus) * share) < 1
        assert abs(Fraction(bundle.units("memory"), 10_000) - memory * share) < 1
