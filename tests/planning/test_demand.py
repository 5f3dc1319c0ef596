"""Merged demand: examples, then "no pool clobbers another's" as properties (N7)."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.errors import ConfigError
from pool.planning.demand import Demand, MergedDemand, merge
from tests.planning.strategies_supervision import DEMANDS, times


def asked(merged: MergedDemand) -> Counter[tuple[Any, ...]]:
    """Count what is asked for, bundle by bundle, as Ray would see it."""
    pairs = zip(merged.bundles(), merged.label_selectors(), strict=True)
    return Counter((*sorted(one.items()), *sorted(where.items())) for one, where in pairs)


def wanted(demand: Demand) -> Counter[tuple[Any, ...]]:
    kept = [{name: each for name, each in one.items() if each > 0} for one in demand.bundles]
    return Counter((*sorted(one.items()), *sorted(demand.labels.items())) for one in kept if one)


# --- examples -------------------------------------------------------------------------------------


def test_the_wishes_of_two_pools_are_added_up() -> None:
    merged = merge(
        [
            Demand("rollout", ({"GPU": 8, "CPU": 4}, {"CPU": 4, "GPU": 8}), 300.0),
            Demand("trainer", ({"GPU": 8, "CPU": 4}, {"CPU": 1}), 200.0, {"zone": "a"}),
        ],
        now=100,
    )
    assert merged.bundles() == [
        {"CPU": 1},
        {"CPU": 4, "GPU": 8},
        {"CPU": 4, "GPU": 8},
        {"CPU": 4, "GPU": 8},
    ]
    assert merged.label_selectors() == [{"zone": "a"}, {}, {}, {"zone": "a"}]
    assert merged.totals() == {"CPU": 13, "GPU": 24}
    assert merged.expires_at == 200
    assert merged.reasons == {
        "rollout": "2 bundle(s), until 300",
        "trainer": "2 bundle(s), until 200",
    }


def test_a_lease_that_has_ended_is_left_out_with_its_reason() -> None:
    merged = merge([Demand("rollout", ({"CPU": 1},), 100.0)], now=100)
    assert merged == MergedDemand((), None, {"rollout": "left out: its lease ended 0 s ago"})


def test_a_later_wish_replaces_the_earlier_of_the_same_pool_even_by_nothing() -> None:
    first = Demand("rollout", ({"CPU": 1},), math.inf)
    more = Demand("rollout", ({"CPU": 2},), math.inf)
    nothing = Demand("rollout", ({"CPU": 0}, {}), math.inf)
    assert merge([first, more], now=0).bundles() == [{"CPU": 2}]
    assert merge([first, more], now=0).reasons == {"rollout": "1 bundle(s), for ever"}
    assert merge([first, nothing], now=0).bundles() == []
    assert merge([first, nothing], now=0).reasons == {"rollout": "left out: it wants nothing"}


@pytest.mark.parametrize("amount", [-1, math.nan, math.inf])
def test_an_amount_that_cannot_be_right_is_refused(amount: float) -> None:
    with pytest.raises(ConfigError) as refused:
        Demand("rollout", ({"CPU": 1}, {"GPU": amount}), 10.0)
    assert refused.value.field == "bundles"


def test_a_lease_that_ends_at_no_time_is_refused() -> None:
    with pytest.raises(ConfigError) as refused:
        Demand("rollout", (), math.nan)
    assert refused.value.field == "expires_at"


# --- safety ---------------------------------------------------------------------------------------


@given(st.lists(DEMANDS, max_size=6), times())
def test_what_is_asked_for_is_exactly_the_sum_of_the_wishes_that_hold(
    demands: list[Demand], now: float
) -> None:
    """INV-8's "totals exact", for demand: no pool clobbers another's."""
    latest = {demand.pool: demand for demand in demands}
    holding = [demand for demand in latest.values() if demand.expires_at > now]
    merged = merge(demands, now)
    assert asked(merged) == sum((wanted(demand) for demand in holding), Counter())
    assert set(merged.reasons) == set(latest)


@given(st.lists(DEMANDS, max_size=6), times(), st.sampled_from(["rollout", "trainer", "reward"]))
def test_what_one_pool_wishes_changes_nothing_for_the_others(
    demands: list[Demand], now: float, pool: str
) -> None:
    others = [demand for demand in demands if demand.pool != pool]
    mine = [demand for demand in demands if demand.pool == pool]
    apart = asked(merge(others, now)) + asked(merge(mine, now))
    assert asked(merge(demands, now)) == apart


@given(st.lists(DEMANDS, unique_by=lambda demand: demand.pool), times(), st.data())
def test_the_order_of_the_pools_changes_nothing(
    demands: list[Demand], now: float, data: st.DataObject
) -> None:
    """A broker that starts anew asks for the same, and asking for the same makes Ray do nothing."""
    shuffled = data.draw(st.permutations(demands))
    one, other = merge(shuffled, now), merge(demands, now)
    assert one == other
    assert list(one.reasons) == list(other.reasons)


@given(st.lists(DEMANDS, max_size=6), times(), st.floats(0, 1, exclude_max=True))
def test_nothing_changes_before_the_next_lease_ends(
    demands: list[Demand], now: float, part: float
) -> None:
    merged = merge(demands, now)
    end = now + 1e6 if merged.expires_at is None else merged.expires_at
    assert end > now
    soon = min(now + part * (end - now), math.nextafter(end, now))
    assert merge(demands, soon).shapes == merged.shapes


# --- progress -------------------------------------------------------------------------------------


@given(st.lists(DEMANDS.filter(lambda demand: demand.expires_at < math.inf), max_size=6))
def test_when_nobody_renews_a_lease_nothing_is_asked_for_in_the_end(
    demands: list[Demand],
) -> None:
    """N4: a pool that died holds no capacity."""
    looks, now = 0, 0.0
    while (end := merge(demands, now).expires_at) is not None:
        looks, now = looks + 1, end
    assert looks <= len(demands)
    assert merge(demands, now).shapes == ()
