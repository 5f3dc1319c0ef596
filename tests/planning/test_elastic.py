"""Elastic size: examples, then bounds, hysteresis and progress as properties."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.errors import ConfigError
from pool.planning.elastic import ElasticPolicy, ElasticState, Load, plan_size
from tests.planning.strategies_supervision import TOTALS, elastic_policies

POLICY = ElasticPolicy(min_size=1, max_size=8, target=4, down_votes=3, cooldown_s=60)
PERIOD_S = 10.0


def run(
    policy: ElasticPolicy, totals: list[float | None], size: int, *, state: Any = None
) -> list[int]:
    """Give one measurement each period, and do what is decided at once."""
    state, sizes = state or ElasticState(), []
    for number, total in enumerate(totals):
        state, size, reason = plan_size(policy, state, Load(size, total), number * PERIOD_S)
        assert reason
        sizes.append(size)
    return sizes


# --- examples -------------------------------------------------------------------------------------


def test_a_pool_grows_at_once_to_what_the_load_needs() -> None:
    assert run(POLICY, [17.0, 17.0], 1) == [5, 5]


def test_a_pool_shrinks_after_enough_votes_to_the_most_that_one_of_them_asked_for() -> None:
    # 4, 11 and 8 need 2, 4 and 3 members with a tenth of the target free.
    assert run(POLICY, [4.0, 11.0, 8.0], 8) == [8, 8, 4]


def test_a_load_that_suits_the_size_ends_a_row_of_votes() -> None:
    assert run(POLICY, [4.0, 4.0, 30.0, 4.0, 4.0, 4.0], 8) == [8, 8, 8, 8, 8, 2]


def test_a_pool_that_just_grew_does_not_shrink_within_the_cooldown() -> None:
    assert run(POLICY, [30.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], 1) == [8, 8, 8, 8, 8, 8, 1, 1]


def test_votes_for_growing_can_be_asked_for_and_all_must_agree() -> None:
    policy = ElasticPolicy(max_size=8, target=1, up_votes=2, up_cooldown_s=35)
    assert run(policy, [5.0, 3.0, 8.0, 8.0, 8.0, 8.0], 1) == [1, 3, 3, 3, 3, 8]


def test_a_load_that_could_not_be_measured_changes_nothing() -> None:
    totals: list[float | None] = [4.0, None, math.nan, math.inf, -1.0, 4.0, 4.0]
    assert run(POLICY, totals, 8) == [8, 8, 8, 8, 8, 8, 2]


def test_bounds_hold_at_once_whatever_the_load() -> None:
    assert run(POLICY, [None], 99) == [8]
    assert run(POLICY, [None], 0) == [1]


def test_a_pool_without_load_may_go_to_nothing_if_that_is_allowed() -> None:
    policy = ElasticPolicy(min_size=0, max_size=3, down_votes=1)
    assert run(policy, [0.0, 1e-9], 2) == [0, 1]


def test_three_tenths_are_three_times_one_tenth() -> None:
    policy = ElasticPolicy(max_size=9, target=0.1, slack=0)
    assert run(policy, [0.1 + 0.2], 1) == [3]


def test_votes_for_another_size_do_not_count_and_its_change_starts_the_cooldown() -> None:
    state, size, _ = plan_size(POLICY, ElasticState(), Load(8, 4.0), 0)
    state, size, _ = plan_size(POLICY, state, Load(8, 4.0), 10)
    assert (state.votes, size) == (-2, 8)
    # Somebody scales to 6 by hand.
    state, size, reason = plan_size(POLICY, state, Load(6, 4.0), 20)
    assert (state.votes, size, state.changed_at) == (-1, 6, 20)
    assert reason == "a load of 4 asks for 2 member(s); vote 1 of 3"


def test_reasons_read_as_sentences() -> None:
    def reason(load: Load, state: ElasticState, now: float = 0) -> str:
        return plan_size(POLICY, state, load, now)[2]

    assert reason(Load(9, 1.0), ElasticState()) == (
        "9 is out of bounds: the minimum is 1, the maximum 8"
    )
    assert reason(Load(2, 8.0), ElasticState()) == "a load of 8 suits the size, 2 member(s)"
    assert reason(Load(8, 99.0), ElasticState()) == (
        "a load of 99 is more than the maximum carries, 8 member(s)"
    )
    assert reason(Load(2, 9.0), ElasticState()) == (
        "a load of 9 asks for 3 member(s); agreed by 1 vote(s)"
    )
    assert reason(Load(2, None), ElasticState()) == (
        "the load could not be measured; nothing changes"
    )
    assert reason(Load(5, 0.0), ElasticState(-4, 2, 5, 0.0), now=12) == (
        "a load of 0 asks for 2 member(s); not within 48 s more of the last change"
    )


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"min_size": -1}, "min_size"),
        ({"min_size": 1.0}, "min_size"),
        ({"max_size": 0}, "max_size"),
        ({"up_votes": 0}, "up_votes"),
        ({"down_votes": True}, "down_votes"),
        ({"target": 0}, "target"),
        ({"target": "much"}, "target"),
        ({"slack": 1}, "slack"),
        ({"up_cooldown_s": -1}, "up_cooldown_s"),
        ({"cooldown_s": math.inf}, "cooldown_s"),
    ],
)
def test_a_policy_that_cannot_be_right_is_refused_by_name(
    values: dict[str, Any], field: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        ElasticPolicy(**{"max_size": 4, **values})
    assert refused.value.field == field


# --- safety ---------------------------------------------------------------------------------------


@given(elastic_policies(), st.lists(TOTALS, max_size=30), st.integers(0, 20))
def test_the_size_is_never_below_the_minimum_nor_above_the_maximum(
    policy: ElasticPolicy, totals: list[float | None], size: int
) -> None:
    for each in run(policy, totals, size):
        assert policy.min_size <= each <= policy.max_size


@given(elastic_policies(), st.lists(TOTALS, max_size=30), st.integers(0, 20))
def test_a_pool_never_shrinks_below_what_a_load_within_the_votes_needed(
    policy: ElasticPolicy, totals: list[float | None], size: int
) -> None:
    sizes = run(policy, totals, size)
    for index, (before, after) in enumerate(zip([size, *sizes], sizes, strict=False)):
        if policy.max_size >= before > after:
            measured = [each for each in totals[: index + 1] if each is not None]
            usable = [each for each in measured if 0 <= each < math.inf]
            needed = max(usable[-policy.down_votes :]) / policy.target
            assert after >= min(policy.max_size, math.floor(needed))


@given(elastic_policies(), st.lists(TOTALS, max_size=30), st.integers(0, 20))
def test_changes_of_size_keep_the_cooldowns(
    policy: ElasticPolicy, totals: list[float | None], size: int
) -> None:
    changed_at = None
    sizes = run(policy, totals, size)
    for number, (before, after) in enumerate(zip([size, *sizes], sizes, strict=False)):
        if before == after:
            continue
        cooldown_s = policy.up_cooldown_s if after > before else policy.cooldown_s
        if changed_at is not None:
            assert number * PERIOD_S - changed_at >= cooldown_s
        changed_at = number * PERIOD_S


@given(elastic_policies(), st.lists(TOTALS, max_size=10), st.integers(0, 20), TOTALS)
def test_under_a_constant_load_a_pool_changes_its_size_in_one_direction_only(
    policy: ElasticPolicy, before: list[float | None], size: int, total: float | None
) -> None:
    """Hysteresis: no load makes a pool move to and fro."""
    sizes = run(policy, before + [total] * 40, size)[len(before) :]
    rising, falling = sorted(sizes), sorted(sizes, reverse=True)
    assert sizes in (rising, falling)


# --- progress -------------------------------------------------------------------------------------


@given(
    elastic_policies(),
    st.lists(TOTALS, max_size=10),
    st.integers(0, 20),
    st.floats(0, 60, allow_nan=False, allow_subnormal=False),
)
def test_under_a_constant_load_a_pool_reaches_a_size_that_carries_it_and_rests(
    policy: ElasticPolicy, before: list[float | None], size: int, total: float
) -> None:
    sizes = run(policy, before + [total] * 40, size)
    last = sizes[-1]
    assert set(sizes[-10:]) == {last}
    assert last == policy.max_size or last * policy.target >= total * (1 - 1e-9)
    roomy = (last - 1) * policy.target * (1 - policy.slack)
    assert last == policy.min_size or roomy <= total * (1 + 1e-9)
