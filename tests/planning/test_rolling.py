"""Rolling replacement: exact sequences of steps, then bounds, resumption and the end as properties.

A small world carries the plans out: what was started is ready at the next look, what was drained is
gone by then. `watch` writes down each look as one line, so that a test shows a roll as it happens.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.errors import ConfigError
from pool.planning.rolling import RollPlan, RollPolicy, RollSlot, RollVerb, plan_roll
from tests.planning.strategies_supervision import roll_policies, rolls_under_way

OLD, NEW = 1, 2


def settled(size: int, generation: int = OLD) -> list[RollSlot]:
    return [RollSlot(slot, generation, ready=True) for slot in range(size)]


def carry_out(slots: list[RollSlot], plan: RollPlan, target: int) -> list[RollSlot]:
    """Begin what the plan says."""
    world = {each.slot: each for each in slots}
    for step in plan.steps:
        if step.verb is RollVerb.START:
            assert step.slot not in world or world[step.slot].generation is None
            world[step.slot] = RollSlot(step.slot, target)
        elif step.verb is RollVerb.DRAIN:
            assert not world[step.slot].leaving
            world[step.slot] = replace(world[step.slot], leaving=True)
        else:
            assert world[step.slot].generation is None
            del world[step.slot]
    return list(world.values())


def settle(each: RollSlot) -> RollSlot:
    """Let what was begun come to its end."""
    if each.leaving:
        return RollSlot(each.slot, None)
    return each if each.generation is None else replace(each, ready=True)


def watch(slots: list[RollSlot], *, desired: int, policy: RollPolicy, looks: int = 50) -> list[str]:
    """Roll to the end, and return each look as a line of steps."""
    lines = []
    for _ in range(looks):
        plan = plan_roll(slots, desired=desired, target=NEW, policy=policy)
        lines.append(", ".join(f"{step.verb} {step.slot}" for step in plan.steps) or "nothing")
        if plan.done and not plan.steps:
            return lines
        slots = [settle(each) for each in carry_out(slots, plan, NEW)]
    raise AssertionError(f"no end in sight after {looks} looks: {lines}")


# --- exact sequences ------------------------------------------------------------------------------


def test_surge_of_one_goes_through_the_slots_from_the_highest() -> None:
    assert watch(settled(3), desired=3, policy=RollPolicy(surge=1)) == [
        "start 3",
        "drain 2",
        "start 2",
        "drain 1",
        "start 1",
        "drain 0",
        "close 0",
        "nothing",
    ]


def test_without_surge_one_goes_before_its_successor_comes() -> None:
    assert watch(settled(3), desired=3, policy=RollPolicy(surge=0, max_unavailable=1)) == [
        "drain 2",
        "start 2",
        "drain 1",
        "start 1",
        "drain 0",
        "start 0",
        "nothing",
    ]


def test_surge_and_unavailability_together_overlap() -> None:
    assert watch(settled(4), desired=4, policy=RollPolicy(surge=2, max_unavailable=1)) == [
        "start 4, start 5, drain 3",
        "start 3, drain 2, drain 1",
        "start 1, drain 0, close 2",
        "close 0",
        "nothing",
    ]


def test_a_surge_as_large_as_the_pool_replaces_it_at_once() -> None:
    assert watch(settled(2), desired=2, policy=RollPolicy(surge=2)) == [
        "start 2, start 3",
        "drain 1, drain 0",
        "close 0, close 1",
        "nothing",
    ]


def test_all_may_be_unavailable() -> None:
    assert watch(settled(2), desired=2, policy=RollPolicy(surge=0, max_unavailable=5)) == [
        "drain 1, drain 0",
        "start 0, start 1",
        "nothing",
    ]


def test_a_pool_of_the_target_generation_needs_nothing() -> None:
    assert watch(settled(3, NEW), desired=3, policy=RollPolicy()) == ["nothing"]


def test_empty_slots_are_filled_before_new_ones_are_opened() -> None:
    slots = [RollSlot(0, OLD, ready=True), RollSlot(1, None), RollSlot(2, OLD, ready=True)]
    plan = plan_roll(slots, desired=3, target=NEW, policy=RollPolicy(surge=1))
    assert [(step.verb, step.slot) for step in plan.steps] == [
        (RollVerb.START, 1),
        (RollVerb.START, 3),
    ]


def test_an_old_member_that_is_not_ready_is_kept_until_enough_others_are() -> None:
    slots = [RollSlot(0, OLD, ready=True), RollSlot(1, OLD, ready=False)]
    policy = RollPolicy(surge=1)
    first = plan_roll(slots, desired=2, target=NEW, policy=policy)
    assert [(step.verb, step.slot) for step in first.steps] == [(RollVerb.START, 2)]
    slots.append(RollSlot(2, NEW, ready=True))
    then = plan_roll(slots, desired=2, target=NEW, policy=policy)
    assert [(step.verb, step.slot) for step in then.steps] == [(RollVerb.DRAIN, 1)]
    assert then.steps[0].reason == "it is old, and not ready"


def test_a_pause_starts_what_is_missing_and_nothing_beyond() -> None:
    slots = [RollSlot(0, OLD, ready=True), RollSlot(1, None), RollSlot(2, NEW, ready=True)]
    plan = plan_roll(slots, desired=3, target=NEW, policy=RollPolicy(surge=2), paused=True)
    assert [(step.verb, step.slot) for step in plan.steps] == [(RollVerb.START, 1)]
    assert plan.reason == (
        "paused at 1 of 3 ready in generation 2, 1 older, 2 ready in all of at least 3"
    )


def test_a_generation_that_never_gets_ready_uses_up_none_that_works() -> None:
    slots = settled(4)
    for _ in range(20):
        plan = plan_roll(slots, desired=4, target=NEW, policy=RollPolicy(surge=1))
        assert not plan.done
        slots = [
            each if each.generation == NEW else settle(each) for each in carry_out(slots, plan, NEW)
        ]
    assert [(each.slot, each.generation) for each in slots if each.ready] == [
        (0, OLD), (1, OLD), (2, OLD), (3, OLD),
    ]  # fmt: skip


def test_rolling_back_is_rolling_to_the_earlier_generation() -> None:
    slots = [*settled(2), RollSlot(2, NEW)]
    plan = plan_roll(slots, desired=2, target=OLD, policy=RollPolicy())
    assert [(step.verb, step.slot) for step in plan.steps] == [(RollVerb.DRAIN, 2)]


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"surge": -1}, "surge"),
        ({"surge": True}, "surge"),
        ({"max_unavailable": 0.5}, "max_unavailable"),
        ({"surge": 0, "max_unavailable": 0}, "surge"),
    ],
)
def test_a_policy_that_cannot_be_right_is_refused_by_name(
    values: dict[str, Any], field: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        RollPolicy(**values)
    assert refused.value.field == field


# --- safety ---------------------------------------------------------------------------------------


def live(slots: list[RollSlot]) -> int:
    return sum(each.generation is not None for each in slots)


def ready(slots: list[RollSlot]) -> int:
    return sum(each.ready and not each.leaving for each in slots if each.generation is not None)


@given(rolls_under_way(), st.integers(0, 6), roll_policies(), st.integers(1, 3), st.booleans())
def test_no_step_adds_a_member_beyond_the_surge_nor_takes_a_ready_one_below_the_bound(
    slots: list[RollSlot], desired: int, policy: RollPolicy, target: int, paused: bool
) -> None:
    """INV-2, from whatever is observed; the steps are done all at once."""
    plan = plan_roll(slots, desired=desired, target=target, policy=policy, paused=paused)
    after = carry_out(slots, plan, target)
    assert live(after) <= max(live(slots), desired + policy.surge)
    assert ready(after) >= min(ready(slots), max(0, desired - policy.max_unavailable))
    assert all(step.reason for step in plan.steps)
    assert plan.reason


@given(rolls_under_way(), st.integers(0, 6), roll_policies(), st.integers(1, 3))
def test_no_member_of_the_target_generation_is_let_go(
    slots: list[RollSlot], desired: int, policy: RollPolicy, target: int
) -> None:
    by_slot = {each.slot: each for each in slots}
    plan = plan_roll(slots, desired=desired, target=target, policy=policy)
    for step in plan.steps:
        if step.verb is RollVerb.DRAIN:
            assert by_slot[step.slot].generation != target


@given(rolls_under_way(), st.integers(0, 6), roll_policies())
def test_a_pause_lets_nobody_go(slots: list[RollSlot], desired: int, policy: RollPolicy) -> None:
    plan = plan_roll(slots, desired=desired, target=NEW, policy=policy, paused=True)
    assert not [step for step in plan.steps if step.verb is RollVerb.DRAIN]


@given(rolls_under_way(), st.integers(0, 6), roll_policies(), st.randoms(use_true_random=False))
def test_a_plan_does_not_depend_on_the_order_of_the_slots(
    slots: list[RollSlot], desired: int, policy: RollPolicy, random: Any
) -> None:
    shuffled = list(slots)
    random.shuffle(shuffled)
    plan = plan_roll(slots, desired=desired, target=NEW, policy=policy)
    assert plan_roll(shuffled, desired=desired, target=NEW, policy=policy) == plan


@given(rolls_under_way(), st.integers(0, 6), roll_policies())
def test_a_plan_that_was_begun_is_not_planned_again(
    slots: list[RollSlot], desired: int, policy: RollPolicy
) -> None:
    """Looking twice before anything has come of it adds nothing."""
    plan = plan_roll(slots, desired=desired, target=NEW, policy=policy)
    begun = carry_out(slots, plan, NEW)
    assert plan_roll(begun, desired=desired, target=NEW, policy=policy).steps == ()


# --- progress -------------------------------------------------------------------------------------


@st.composite
def rolls(draw: st.DrawFn) -> tuple[list[RollSlot], int]:
    """Draw pools with members enough or too few, never too many of the target generation."""
    slots = draw(rolls_under_way())
    new = sum(each.generation == NEW and not each.leaving for each in slots)
    return slots, max(new, draw(st.integers(0, 6)))


@given(rolls(), roll_policies(), st.data())
def test_a_roll_ends_however_slowly_and_in_whatever_order_its_steps_come_about(
    roll: tuple[list[RollSlot], int], policy: RollPolicy, data: st.DataObject
) -> None:
    """With faults off it ends, from anywhere, within a bound; then nothing is planned (INV-5).

    Each member starts once and leaves once, hence the bound. At each look one thing at least has
    come about, since nothing comes about only if nothing is under way.
    """
    slots, desired = roll
    bound = 3 * (len(slots) + desired) + 5
    for _ in range(bound):
        plan = plan_roll(slots, desired=desired, target=NEW, policy=policy)
        slots = carry_out(slots, plan, NEW)
        if plan.done and not plan.steps:
            break
        moving = [
            each.slot
            for each in slots
            if each.generation is not None and (each.leaving or not each.ready)
        ]
        if moving:
            come = data.draw(st.sets(st.sampled_from(moving), min_size=1))
            slots = [settle(each) if each.slot in come else each for each in slots]
    else:
        pytest.fail(f"no end after {bound} looks: {slots}")
    assert sorted(each.generation or 0 for each in slots) == [NEW] * desired


@given(st.integers(1, 6), roll_policies(), st.integers(0, 8))
def test_a_roll_that_is_turned_back_midway_ends_in_the_earlier_generation(
    size: int, policy: RollPolicy, looks: int
) -> None:
    slots = settled(size)
    for _ in range(looks):
        plan = plan_roll(slots, desired=size, target=NEW, policy=policy)
        slots = [settle(each) for each in carry_out(slots, plan, NEW)]
    for _ in range(6 * size + 5):
        plan = plan_roll(slots, desired=size, target=OLD, policy=policy)
        slots = [settle(each) for each in carry_out(slots, plan, OLD)]
    assert [each.generation for each in slots] == [OLD] * size
