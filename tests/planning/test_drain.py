"""The shutdown ladder and the order of leaving: examples, then INV-7 and the rest as properties."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.errors import ConfigError
from pool.planning.drain import (
    DrainPolicy,
    Ladder,
    Leaving,
    Rung,
    child_budget,
    drain_order,
    split_deadline,
)
from tests.planning.strategies_supervision import BUDGETS_S, LEAVING, drain_policies, times

POLICY = DrainPolicy()


def planned(ladder: Ladder) -> tuple[float, ...]:
    return (ladder.work_s, ladder.hook_s, ladder.term_s, ladder.kill_s, ladder.release_s)


# --- ladder ---------------------------------------------------------------------------------------


def test_an_unhurried_drain_takes_the_whole_time_out() -> None:
    ladder = split_deadline(POLICY, math.inf)
    assert planned(ladder) == pytest.approx((15, 7.5, 4.5, 1.2, 1.8))
    assert ladder.total_s == 30
    assert ladder.skipped == ()
    assert ladder.reason == "30 s, set by the policy's time-out"


@pytest.mark.parametrize(
    ("budget_s", "skipped", "reason"),
    [
        (3.0, (), "3 s, set by the deadline"),
        (2.0, (Rung.WORK,), "2 s, set by the deadline, too short for: work"),
        (1.4, (Rung.WORK, Rung.HOOK), "1.4 s, set by the deadline, too short for: work, hook"),
        (
            1.1,
            (Rung.WORK, Rung.HOOK, Rung.TERM),
            "1.1 s, set by the deadline, too short for: work, hook, term",
        ),
        (-5.0, tuple(Rung), "0 s, set by the deadline, too short for: work, hook, term"),
    ],
)
def test_a_hurried_drain_leaves_out_the_gentle_rungs_first(
    budget_s: float, skipped: tuple[Rung, ...], reason: str
) -> None:
    ladder = split_deadline(POLICY, budget_s)
    assert ladder.skipped == skipped
    assert ladder.reason == reason


def test_a_rung_without_a_share_is_left_out_without_a_word() -> None:
    policy = DrainPolicy(work_share=0, hook_share=0.5, term_share=0)
    ladder = split_deadline(policy, 10)
    assert planned(ladder) == pytest.approx((0, 5, 0, 2, 3))
    assert ladder.reason == "10 s, set by the deadline"


def test_what_a_rung_did_not_use_goes_on_to_the_next() -> None:
    ladder = split_deadline(POLICY, 30)
    assert ladder.left_s(Rung.WORK, 0) == pytest.approx(15)
    assert ladder.left_s(Rung.HOOK, 1) == pytest.approx(21.5)
    assert ladder.left_s(Rung.RELEASE, 2) == pytest.approx(28)
    # Nor does a rung that overran take anything from the deadline.
    assert ladder.left_s(Rung.HOOK, 25) == 0
    assert ladder.left_s(Rung.KILL, 29) == 0


def test_a_skipped_rung_gets_nothing_of_what_is_left() -> None:
    ladder = split_deadline(DrainPolicy(term_share=0), 30)
    assert ladder.until_s(Rung.TERM) == ladder.until_s(Rung.HOOK)
    assert ladder.left_s(Rung.TERM, 1) == 0


def test_a_deadline_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(ConfigError) as refused:
        split_deadline(POLICY, math.nan)
    assert refused.value.field == "budget_s"


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"timeout_s": -1}, "timeout_s"),
        ({"timeout_s": math.inf}, "timeout_s"),
        ({"timeout_s": True}, "timeout_s"),
        ({"work_share": -0.1}, "work_share"),
        ({"hook_share": 1.0}, "hook_share"),
        ({"term_share": "a bit"}, "term_share"),
        ({"work_share": 0.2, "hook_share": 0.7, "term_share": 0.1}, "hook_share"),
    ],
)
def test_a_policy_that_cannot_be_right_is_refused_by_name(
    values: dict[str, Any], field: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        DrainPolicy(**values)
    assert refused.value.field == field


# --- safety of the ladder -------------------------------------------------------------------------


@given(drain_policies(), BUDGETS_S)
def test_a_ladder_never_outlasts_its_deadline_nor_its_policy(
    policy: DrainPolicy, budget_s: float
) -> None:
    ladder = split_deadline(policy, budget_s)
    assert ladder.total_s == max(0.0, min(budget_s, policy.timeout_s))
    ends = [ladder.until_s(rung) for rung in Rung]
    assert ends == sorted(ends)
    assert ends[0] >= 0
    assert ends[-1] == ladder.total_s
    assert all(seconds >= 0 for seconds in planned(ladder))


@given(drain_policies(), BUDGETS_S)
def test_there_is_always_time_to_kill_and_to_release(policy: DrainPolicy, budget_s: float) -> None:
    """INV-4: what is left behind is decided by the last rungs."""
    ladder = split_deadline(policy, budget_s)
    last = ladder.kill_s + ladder.release_s
    assert last >= min(1.0, ladder.total_s) - 1e-9
    if ladder.total_s > 0:
        assert ladder.kill_s > 0
        assert ladder.release_s > 0


@given(drain_policies(), BUDGETS_S)
def test_a_gentle_rung_gets_a_useful_time_or_none(policy: DrainPolicy, budget_s: float) -> None:
    ladder = split_deadline(policy, budget_s)
    shares = (policy.work_share, policy.hook_share, policy.term_share)
    for seconds, share in zip(planned(ladder), shares, strict=False):
        assert seconds == 0 or seconds >= 0.2 - 1e-9
        assert share > 0 or seconds == 0


@given(drain_policies(), BUDGETS_S, st.lists(st.floats(0, 2), min_size=5, max_size=5))
def test_a_climb_ends_by_the_deadline_however_each_rung_goes(
    policy: DrainPolicy, budget_s: float, parts: list[float]
) -> None:
    """INV-7: each rung may end early or run into its limit; the last ends in time."""
    ladder = split_deadline(policy, budget_s)
    elapsed_s = 0.0
    for rung, part in zip(Rung, parts, strict=True):
        elapsed_s += min(1.0, part) * ladder.left_s(rung, elapsed_s)
        assert elapsed_s <= ladder.until_s(rung) + 1e-9


@given(drain_policies(), BUDGETS_S, BUDGETS_S)
def test_more_time_never_skips_more_rungs(policy: DrainPolicy, one: float, other: float) -> None:
    less, more = sorted((one, other))
    # Nothing at all skips the last two as well, hence subsets and not lengths.
    assert set(split_deadline(policy, more).skipped) <= set(split_deadline(policy, less).skipped)


# --- going down -----------------------------------------------------------------------------------


@given(st.floats(-1e3, 1e9, allow_nan=False))
def test_a_child_gets_less_than_its_parent_has(budget_s: float) -> None:
    child = child_budget(budget_s)
    assert child >= 0
    assert child < budget_s or (budget_s <= 0 and child == 0)


@given(st.floats(0, 1e6, allow_nan=False))
def test_the_deadline_shrinks_to_nothing_within_finitely_many_levels(budget_s: float) -> None:
    """Progress: even a tree without an end would be given up."""
    for _ in range(200):
        budget_s = child_budget(budget_s)
    assert budget_s == 0


@pytest.mark.parametrize("budget_s", [math.inf, -math.inf, math.nan])
def test_a_parent_without_a_deadline_is_refused(budget_s: float) -> None:
    with pytest.raises(ConfigError) as refused:
        child_budget(budget_s)
    assert refused.value.field == "budget_s"


# --- order ----------------------------------------------------------------------------------------


def test_the_nearest_deadline_comes_first_and_none_last() -> None:
    steps = drain_order(
        [
            Leaving(0, None, 30),
            Leaving(1, 500.0, 30, "maintenance"),
            Leaving(2, 120.0, 10),
            Leaving(3, 120.0, 40),
            Leaving(4, math.inf, 30),
        ]
    )
    assert [step.slot for step in steps] == [3, 2, 1, 0, 4]
    assert [step.latest_start for step in steps] == [80.0, 110.0, 470.0, None, None]
    assert steps[2].reason == "maintenance; gone by 500, and its ladder takes 30 s"
    assert steps[3].reason == "it was asked to leave; no deadline is known"


@given(st.lists(LEAVING, max_size=12))
def test_every_member_that_must_leave_is_named_once(members: list[Leaving]) -> None:
    steps = drain_order(members)
    assert sorted(step.slot for step in steps) == sorted(member.slot for member in members)
    assert all(step.reason for step in steps)


@given(st.lists(LEAVING, max_size=12))
def test_no_later_deadline_comes_before_a_nearer_one(members: list[Leaving]) -> None:
    """INV-7."""
    deadlines = [
        math.inf if step.deadline is None else step.deadline for step in drain_order(members)
    ]
    assert deadlines == sorted(deadlines)


@given(LEAVING, times())
def test_a_drain_that_begins_when_it_is_due_has_time_for_its_ladder(
    member: Leaving, now: float
) -> None:
    """INV-7: a member is drained before its notice's deadline minus the ladder's time."""
    (step,) = drain_order([member])
    if step.latest_start is None:
        assert step.budget_s(now) == math.inf
        assert not step.is_due(now)
    elif not step.is_due(now):
        assert step.budget_s(now) > member.ladder_s - 1e-9
    else:
        assert step.budget_s(now) <= member.ladder_s + 1e-9
