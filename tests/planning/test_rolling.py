"""Rolling replacement: exact sequences of steps, then bounds, resumption and the end as properties.

The choice of who goes next is tested by itself, and through the reconcile planner that carries it
out: a small world in which what was started is ready at the next look, and what was drained is
gone by then. `watch` writes each look down as one line, so that a test shows a roll as it happens.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.errors import ConfigError
from pool.planning.lifecycle import State
from pool.planning.plan import Goal, Plan, Role, SlotView, Verb
from pool.planning.reconcile import reconcile
from pool.planning.rolling import Choice, RollPolicy, choose_outdated
from tests.planning.strategies_reconcile import NOW, apply, goals, let_time_pass, pools
from tests.planning.strategies_supervision import roll_policies


def outdated(size: int) -> list[SlotView]:
    """Return a settled pool whose revision has just been changed."""
    return [SlotView(index=i, rank=i, state=State.READY, outdated=True) for i in range(size)]


def goal(size: int, policy: RollPolicy, **more: int) -> Goal:
    return Goal(desired=size, surge=0, roll=policy, **more)


def step(slots: list[SlotView], plan: Plan) -> list[SlotView]:
    """Carry a plan out, and let what was begun come to its end."""
    slots = apply(slots, plan)
    if plan.may_allow_more:
        return slots
    for _ in range(2):
        slots = let_time_pass(slots)
    return slots


def watch(slots: list[SlotView], towards: Goal) -> list[str]:
    """Roll to the end, and return the members that start, leave and take ranks at each look."""
    lines: list[str] = []
    for _ in range(50):
        plan = reconcile(slots, towards, NOW)
        if plan.is_settled:
            return lines
        told = [
            f"{action.verb} {action.slot}"
            for action in plan.actions
            if action.verb in (Verb.START, Verb.DRAIN, Verb.RANK)
        ]
        if told:
            lines.append(", ".join(told))
        slots = step(slots, plan)
    raise AssertionError(f"no end in sight: {lines}")


# --- exact sequences ------------------------------------------------------------------------------


def test_surge_of_one_replaces_the_highest_first_and_the_new_come_before_the_old_go() -> None:
    assert watch(outdated(2), goal(2, RollPolicy(surge=1))) == [
        "start 2",
        "rank 2, drain 1",
        "start 3",
        "rank 3, drain 0",
    ]


def test_without_surge_one_goes_before_its_successor_comes_in_its_slot() -> None:
    assert watch(outdated(2), goal(2, RollPolicy(surge=0, max_unavailable=1))) == [
        "drain 1",
        "start 1",
        "drain 0",
        "start 0",
    ]


def test_all_may_be_unavailable() -> None:
    assert watch(outdated(2), goal(2, RollPolicy(surge=0, max_unavailable=5))) == [
        "drain 0, drain 1",
        "start 0, start 1",
    ]


def test_a_surge_as_large_as_the_pool_replaces_it_at_once() -> None:
    assert watch(outdated(2), goal(2, RollPolicy(surge=2))) == [
        "start 2, start 3",
        "rank 2, rank 3, drain 0, drain 1",
    ]


def test_spares_of_the_new_revision_take_the_ranks_of_the_outdated() -> None:
    slots = [
        *outdated(2),
        SlotView(index=2, role=Role.SPARE, state=State.READY, outdated=True),
    ]
    lines = watch(slots, goal(2, RollPolicy(surge=0, max_unavailable=1), spares=1))
    assert lines[0] == "drain 1, drain 2", "a spare is no capacity, and leaves at once"
    assert "rank 2, drain 0" in lines


def test_a_member_that_was_drained_is_put_back_when_the_roll_is_turned_back() -> None:
    slots = [replace(slot, state=State.DRAINING, outdated=False) for slot in outdated(1)]
    plan = reconcile(slots, goal(1, RollPolicy()), NOW)
    assert [action.verb for action in plan.actions] == [Verb.RESTORE]


def test_an_outdated_member_that_is_still_coming_is_stopped() -> None:
    slots = [replace(slot, state=State.STARTING) for slot in outdated(1)]
    plan = reconcile(slots, goal(1, RollPolicy()), NOW)
    assert [action.verb for action in plan.actions] == [Verb.STOP]


def test_without_a_roll_outdated_members_are_left_alone_and_that_is_said() -> None:
    plan = reconcile(outdated(1), Goal(desired=1), NOW)
    assert (plan.actions, plan.waiting) == ((), {0: "it is outdated; no roll is under way"})


def test_a_shrink_lets_the_outdated_go_first() -> None:
    slots = [outdated(1)[0], SlotView(index=1, rank=1, state=State.READY)]
    plan = reconcile(slots, goal(1, RollPolicy()), NOW)
    assert plan.actions[0].slot == 0
    assert plan.actions[0].reason == "the pool shrinks to 1: it is outdated"


def test_an_old_member_that_is_not_ready_is_kept_until_enough_others_are() -> None:
    policy = RollPolicy(surge=1)
    few = choose_outdated([0], [1], available=1, replacing=0, desired=2, policy=policy)
    assert few == Choice(replace=(1,))
    more = choose_outdated([0], [1], available=2, replacing=0, desired=2, policy=policy)
    assert more == Choice(drain=(1,), replace=(0,))


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

SLOTS = st.lists(st.integers(0, 9), unique=True, max_size=6)


@given(SLOTS, SLOTS, st.integers(0, 9), st.integers(0, 3), st.integers(0, 9), roll_policies())
def test_no_choice_exceeds_the_surge_nor_takes_a_ready_one_below_the_bound(
    ready: list[int],
    unready: list[int],
    more: int,
    replacing: int,
    desired: int,
    policy: RollPolicy,
) -> None:
    unready = [slot for slot in unready if slot not in ready]
    available = len(ready) + more
    choice = choose_outdated(
        ready, unready, available=available, replacing=replacing, desired=desired, policy=policy
    )
    lost = len(set(choice.drain) & set(ready))
    floor = max(0, desired - policy.max_unavailable)
    assert available - lost >= min(available, floor)
    assert len(choice.replace) <= max(0, policy.surge - replacing)
    assert not set(choice.drain) & set(choice.replace)
    assert {*choice.drain, *choice.replace} <= {*ready, *unready}


@given(pools(), goals)
def test_a_roll_that_is_paused_lets_nobody_go(slots: list[SlotView], towards: Goal) -> None:
    paused = replace(towards, roll=RollPolicy(paused=True), desired=len(slots))
    old = {slot.index for slot in slots if slot.role is Role.HOLDER and slot.outdated}
    for action in reconcile(slots, paused, NOW).actions:
        slot = next((slot for slot in slots if slot.index == action.slot), None)
        asked = slot is not None and (slot.leave_by is not None or slot.fault or slot.lingers)
        ready = slot is not None and slot.state is State.READY
        replaced = any(other.replaces == action.slot for other in slots)
        if action.slot in old and ready and not asked and not replaced:
            assert action.verb is Verb.RANK, action


# --- progress -------------------------------------------------------------------------------------


@given(st.integers(1, 5), roll_policies(), st.integers(0, 8), st.integers(0, 2))
def test_a_roll_keeps_its_bounds_at_every_look_and_ends_in_the_new_revision(
    size: int, policy: RollPolicy, turned_back_after: int, spares: int
) -> None:
    """Also when it is turned back on the way, which is a roll to the earlier revision."""
    towards = goal(size, policy, spares=spares)
    slots = outdated(size)
    for look in range(20 * size + 20):
        if look == turned_back_after:
            slots = [
                replace(slot, outdated=slot.state is not None and not slot.outdated)
                for slot in slots
            ]
        plan = reconcile(slots, towards, NOW)
        if plan.is_settled and look > turned_back_after:
            break
        slots = step(slots, plan)
        serving = sum(slot.rank is not None and slot.state is State.READY for slot in slots)
        assert serving >= size - policy.max_unavailable
        assert sum(slot.state is not None for slot in slots) <= towards.most
    assert reconcile(slots, towards, NOW).is_settled
    assert not [slot for slot in slots if slot.outdated]


@given(st.integers(1, 5), roll_policies())
def test_a_revision_that_never_gets_ready_is_given_nothing_that_is_needed(
    size: int, policy: RollPolicy
) -> None:
    """What is needed is the desired size less what may be unavailable."""
    slots = outdated(size)
    for _ in range(6 * size):
        slots = apply(slots, reconcile(slots, goal(size, policy), NOW))
        slots = [
            slot if slot.state is State.STARTING or not slot.state else passed
            for slot, passed in zip(slots, let_time_pass(slots), strict=True)
        ]
    serving = sum(slot.state is State.READY and slot.outdated for slot in slots)
    assert serving >= size - policy.max_unavailable
