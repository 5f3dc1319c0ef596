from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.errors import ConfigError
from pool.planning.lifecycle import State
from pool.planning.plan import Goal, Plan, Role, SlotView, Verb
from pool.planning.reconcile import reconcile
from pool.planning.rolling import RollPolicy
from tests.planning.strategies_reconcile import NOW, apply, goals, let_time_pass, pools


def ready(count: int, **changes: object) -> list[SlotView]:
    slots = [SlotView(index=i, rank=i, state=State.READY) for i in range(count)]
    return [replace(slots[0], **changes), *slots[1:]] if changes else slots  # type: ignore[arg-type]


def verbs(plan: Plan) -> list[tuple[Verb, int]]:
    return [(action.verb, action.slot) for action in plan.actions]


# -- safety: something bad never happens -------------------------------------------------------


@given(pools(), goals)
def test_a_start_never_brings_the_live_above_desired_and_surge(
    slots: list[SlotView], goal: Goal
) -> None:
    """INV-2."""
    live = sum(slot.state is not None and not slot.lingers for slot in slots)
    starts = sum(action.verb is Verb.START for action in reconcile(slots, goal, NOW).actions)
    assert not starts or live + starts <= goal.most


@given(pools(), goals)
def test_a_plan_can_be_carried_out_and_opens_and_starts_nothing_twice(
    slots: list[SlotView], goal: Goal
) -> None:
    """INV-1: the model asserts it at every action."""
    apply(slots, reconcile(slots, goal, NOW))


@given(pools(), goals)
def test_ranks_are_unique_after_every_plan(slots: list[SlotView], goal: Goal) -> None:
    after = apply(slots, reconcile(slots, goal, NOW))
    ranks = sorted(
        slot.rank for slot in after if slot.role is Role.HOLDER and slot.rank is not None
    )
    assert ranks == list(range(goal.desired))


@given(pools(), goals)
def test_a_healthy_holder_without_a_notice_is_left_alone_unless_the_pool_shrinks(
    slots: list[SlotView], goal: Goal
) -> None:
    """INV-3."""
    holders = [slot for slot in slots if slot.role is Role.HOLDER]
    if len(holders) > goal.desired:
        return
    well = {slot.index for slot in holders if slot.is_well}
    for action in reconcile(slots, goal, NOW).actions:
        if action.slot in well:
            assert action.verb is Verb.RANK, action


@given(pools(), goals)
def test_a_member_whose_ladder_would_end_late_is_drained_now(
    slots: list[SlotView], goal: Goal
) -> None:
    """INV-7."""
    draining = {a.slot for a in reconcile(slots, goal, NOW).actions if a.verb is Verb.DRAIN}
    for slot in slots:
        if slot.fault is None and slot.state in (State.READY, State.SUSPECT):
            late = slot.leave_by is not None and slot.leave_by - goal.ladder_s <= NOW
            assert slot.index in draining or not late


@given(pools(), goals)
def test_every_action_and_every_wait_has_its_reason(slots: list[SlotView], goal: Goal) -> None:
    """Row N5."""
    plan = reconcile(slots, goal, NOW)
    assert all(action.reason for action in plan.actions)
    assert all(plan.waiting.values())


@given(pools(), goals, st.randoms(use_true_random=False))
def test_the_order_in_which_slots_are_seen_changes_nothing_that_matters(
    slots: list[SlotView], goal: Goal, random: st.DataObject
) -> None:
    mixed = list(slots)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    plain, other = reconcile(slots, goal, NOW), reconcile(mixed, goal, NOW)
    assert sorted(verbs(plain)) == sorted(verbs(other))


@given(pools(), goals)
def test_a_plan_that_only_begins_or_ends_things_leaves_nothing_to_be_done_at_once(
    slots: list[SlotView], goal: Goal
) -> None:
    """So a manager plans once for a death, and need not plan again to see what it has done."""
    plan = reconcile(slots, goal, NOW)
    if not plan.may_allow_more:
        assert reconcile(apply(slots, plan), goal, NOW).actions == ()


@given(pools(), goals)
def test_a_rank_is_with_a_spare_that_is_ready_rather_than_with_somebody_who_is_not(
    slots: list[SlotView], goal: Goal
) -> None:
    """Row N11: in the very plan that sees the loss."""
    after = apply(slots, reconcile(slots, goal, NOW))
    needy = [
        slot
        for slot in after
        if slot.role is Role.HOLDER
        and (
            slot.state is None
            or not slot.state.is_up
            or slot.fault
            or (slot.leave_by and slot.replace_first)
        )
    ]
    well = {slot.index for slot in slots if slot.is_well}
    idle = [slot for slot in after if slot.role is Role.SPARE and slot.index in well]
    assert not (needy and idle), (needy, idle)


@given(pools(), goals)
def test_spares_are_as_many_as_wanted_and_never_have_a_rank(
    slots: list[SlotView], goal: Goal
) -> None:
    after = apply(slots, reconcile(slots, goal, NOW))
    spares = [slot for slot in after if slot.role is Role.SPARE]
    assert len(spares) == goal.spares_now
    assert all(slot.rank is None for slot in spares)


@given(pools(), goals)
def test_a_slot_whose_member_may_live_on_cut_off_is_left_until_it_is_gone(
    slots: list[SlotView], goal: Goal
) -> None:
    """INV-1: its rank goes elsewhere, and no second member comes into it."""
    lingering = {slot.index for slot in slots if slot.lingers}
    plan = reconcile(slots, goal, NOW)
    for action in plan.actions:
        assert action.slot not in lingering or action.verb is Verb.RETIRE
    assert all(slot.rank is None for slot in apply(slots, plan) if slot.index in lingering)


# -- progress: it finishes ---------------------------------------------------------------------


@given(pools(), goals)
def test_with_faults_off_a_pool_reaches_its_size_and_then_plans_nothing(
    slots: list[SlotView], goal: Goal
) -> None:
    """INV-5, in at most six rounds per slot: drain, stop, close, start, get ready, take a rank."""
    slots = [replace(slot, given_up=None) for slot in slots]
    if goal.roll is None or goal.roll.paused:
        goal = replace(goal, roll=RollPolicy(surge=1))
    now = NOW
    for _ in range(6 * (len(slots) + goal.most + 1)):
        plan = reconcile(slots, goal, now)
        if plan.is_settled:
            break
        slots = let_time_pass(apply(slots, plan))
        # Time passes: back-offs end, and those who must leave by a deadline have to.
        now += 1000.0
        slots = [
            replace(slot, leave_by=now) if slot.leave_by == math.inf else slot for slot in slots
        ]
    assert reconcile(slots, goal, now) == Plan()
    holders = [slot for slot in slots if slot.role is Role.HOLDER]
    assert sorted((slot.rank, slot.state) for slot in holders) == [
        (rank, State.READY) for rank in range(goal.desired)
    ]
    spares = [slot for slot in slots if slot.role is Role.SPARE]
    assert [slot.state for slot in spares] == [State.READY] * goal.spares_now
    assert len(slots) == len(holders) + len(spares)


# -- the sequences that matter, step by step -----------------------------------------------------


def test_a_new_pool_opens_and_starts_every_slot_at_once() -> None:
    plan = reconcile([], Goal(desired=3), NOW)
    assert sorted(verbs(plan)) == sorted((v, i) for v in (Verb.OPEN, Verb.START) for i in range(3))


def test_a_settled_pool_plans_nothing() -> None:
    assert reconcile(ready(3), Goal(desired=3), NOW) == Plan()


def test_a_fault_stops_that_member_and_nobody_else() -> None:
    assert verbs(reconcile(ready(3, fault="died"), Goal(desired=3), NOW)) == [(Verb.STOP, 0)]


def test_a_slot_backs_off_before_it_is_filled_again() -> None:
    slots = ready(2, state=None, not_before=NOW + 3)
    plan = reconcile(slots, Goal(desired=2), NOW)
    assert (plan.actions, plan.wake_at) == ((), NOW + 3)
    assert verbs(reconcile(slots, Goal(desired=2), NOW + 3)) == [(Verb.START, 0)]


def test_a_notice_brings_the_replacement_first_and_then_hands_the_rank_over() -> None:
    """Row P10."""
    goal = Goal(desired=2, surge=1, ladder_s=30)
    slots = ready(2, leave_by=NOW + 100)
    plan = reconcile(slots, goal, NOW)
    assert verbs(plan) == [(Verb.OPEN, 2), (Verb.START, 2)]
    assert plan.wake_at == NOW + 70
    slots = apply(slots, plan)
    assert reconcile(slots, goal, NOW).actions == ()
    slots = [replace(slot, state=State.READY) for slot in slots]
    plan = reconcile(slots, goal, NOW)
    assert verbs(plan) == [(Verb.RETIRE, 0), (Verb.RANK, 2), (Verb.DRAIN, 0)]
    assert plan.actions[-1].deadline == NOW + 100
    assert plan.actions[1].rank == 0


def test_a_notice_whose_time_is_up_is_answered_without_waiting_for_the_replacement() -> None:
    goal = Goal(desired=2, surge=1, ladder_s=30)
    slots = apply(ready(2, leave_by=NOW + 100), reconcile(ready(2, leave_by=NOW + 100), goal, NOW))
    plan = reconcile(slots, goal, NOW + 70)
    assert verbs(plan) == [(Verb.RETIRE, 0), (Verb.RANK, 2), (Verb.DRAIN, 0)]


def test_a_withdrawn_notice_retires_the_replacement_and_keeps_the_member() -> None:
    goal = Goal(desired=2, surge=1)
    slots = apply(ready(2, leave_by=NOW + 100), reconcile(ready(2, leave_by=NOW + 100), goal, NOW))
    slots = [replace(slot, leave_by=None) for slot in slots]
    assert verbs(reconcile(slots, goal, NOW)) == [(Verb.RETIRE, 2), (Verb.STOP, 2)]


def test_a_withdrawn_notice_keeps_the_member_even_when_its_replacement_is_ready() -> None:
    slots = [*ready(1), SlotView(index=1, role=Role.REPLACEMENT, replaces=0, state=State.READY)]
    assert verbs(reconcile(slots, Goal(desired=1), NOW)) == [(Verb.RETIRE, 1), (Verb.DRAIN, 1)]


def test_nothing_is_handed_over_to_a_replacement_that_has_just_failed() -> None:
    faulty = SlotView(
        index=1, role=Role.REPLACEMENT, replaces=0, state=State.READY, fault="it crashed"
    )
    plan = reconcile([*ready(1, leave_by=NOW + 500), faulty], Goal(desired=1), NOW)
    assert verbs(plan) == [(Verb.STOP, 1)]


def test_a_replacement_that_a_slower_roll_has_no_room_for_makes_way_for_the_roll() -> None:
    """A roll with a surge was overtaken by one that takes away first."""
    slots = [
        *ready(2, outdated=True),
        SlotView(index=2, role=Role.REPLACEMENT, replaces=0),
    ]
    goal = Goal(desired=2, surge=0, roll=RollPolicy(surge=0, max_unavailable=1))
    plan = reconcile(slots, goal, NOW)
    assert verbs(plan) == [(Verb.RETIRE, 2), (Verb.CLOSE, 2), (Verb.DRAIN, 0)]


def test_a_second_replacement_of_one_slot_is_one_too_many() -> None:
    slots = [
        *ready(1, leave_by=NOW + 500),
        SlotView(index=1, role=Role.REPLACEMENT, replaces=0, state=State.STARTING),
        SlotView(index=2, role=Role.REPLACEMENT, replaces=0, state=State.STARTING),
    ]
    assert verbs(reconcile(slots, Goal(desired=1), NOW)) == [(Verb.RETIRE, 2), (Verb.STOP, 2)]


def test_a_draining_member_is_restored_when_its_notice_is_withdrawn() -> None:
    slots = ready(2, state=State.DRAINING)
    assert verbs(reconcile(slots, Goal(desired=2), NOW)) == [(Verb.RESTORE, 0)]


def test_the_nearest_deadline_gets_the_only_replacement() -> None:
    slots = [replace(slot, leave_by=NOW + 900 - 100 * slot.index) for slot in ready(3)]
    plan = reconcile(slots, Goal(desired=3, surge=1), NOW)
    assert verbs(plan) == [(Verb.OPEN, 3), (Verb.START, 3)]
    assert plan.actions[0].replaces == 2


def test_without_surge_a_member_leaves_at_the_latest_and_is_restarted_in_place() -> None:
    goal = Goal(desired=1, surge=0, ladder_s=30)
    slots = ready(1, leave_by=NOW + 100)
    assert reconcile(slots, goal, NOW).wake_at == NOW + 70
    assert verbs(reconcile(slots, goal, NOW + 70)) == [(Verb.DRAIN, 0)]


def test_without_surge_and_without_a_deadline_there_is_nothing_to_wait_for() -> None:
    slots = ready(1, leave_by=NOW + 100, has_deadline=False)
    assert verbs(reconcile(slots, Goal(desired=1, surge=0), NOW)) == [(Verb.DRAIN, 0)]
    assert verbs(reconcile(slots, Goal(desired=1, surge=1), NOW))[0] == (Verb.OPEN, 1)


def test_a_member_that_is_to_drain_without_a_replacement_works_on_until_it_has_to() -> None:
    """Row P10: the policy's answer, whatever room there is."""
    goal = Goal(desired=1, surge=1, spares=1, ladder_s=30)
    slots = [
        *ready(1, leave_by=NOW + 100, replace_first=False),
        SlotView(index=1, role=Role.SPARE, state=State.READY),
    ]
    plan = reconcile(slots, goal, NOW)
    assert plan.actions == ()
    assert plan.wake_at == NOW + 70
    assert (Verb.DRAIN, 0) in verbs(reconcile(slots, goal, NOW + 70))
    at_once = ready(1, leave_by=NOW + 100, replace_first=False, has_deadline=False)
    assert verbs(reconcile(at_once, Goal(desired=1, surge=1), NOW)) == [(Verb.DRAIN, 0)]


def test_a_member_whose_node_may_stay_goes_only_if_another_takes_its_place() -> None:
    """Row P10: an advisory notice."""
    alone = ready(1, leave_by=math.inf)
    assert reconcile(alone, Goal(desired=1, surge=0), NOW + 1e9).actions == ()
    goal = Goal(desired=1, surge=1)
    plan = reconcile(alone, goal, NOW)
    assert verbs(plan) == [(Verb.OPEN, 1), (Verb.START, 1)]
    both = apply(alone, plan)
    assert reconcile(both, goal, NOW + 1e9).actions == (), "it waits, for as long as it takes"
    both = [both[0], replace(both[1], state=State.READY)]
    assert verbs(reconcile(both, goal, NOW)) == [(Verb.RETIRE, 0), (Verb.RANK, 1), (Verb.DRAIN, 0)]


def test_a_member_that_starts_on_a_node_that_may_stay_goes_on_and_a_spare_there_stays() -> None:
    goal = Goal(desired=1, surge=0)
    coming = ready(1, state=State.STARTING, leave_by=math.inf)
    assert reconcile(coming, goal, NOW).actions == ()
    slots = [*ready(1), SlotView(index=1, role=Role.SPARE, state=State.READY, leave_by=math.inf)]
    assert reconcile(slots, replace(goal, spares=1), NOW).actions == ()


def test_a_member_that_drains_stays_when_only_advice_is_left() -> None:
    slots = ready(1, state=State.DRAINING, leave_by=math.inf)
    assert verbs(reconcile(slots, Goal(desired=1, surge=0), NOW)) == [(Verb.RESTORE, 0)]


def test_a_lost_member_hands_over_to_the_replacement_that_is_already_coming() -> None:
    goal = Goal(desired=1, surge=1)
    slots = apply(ready(1, leave_by=NOW + 500), reconcile(ready(1, leave_by=NOW + 500), goal, NOW))
    slots = [replace(slots[0], state=None, leave_by=None), *slots[1:]]
    assert verbs(reconcile(slots, goal, NOW)) == [
        (Verb.RETIRE, 0),
        (Verb.RANK, 1),
        (Verb.CLOSE, 0),
    ]


def test_a_replacement_ends_when_the_one_it_replaces_is_not_needed_any_more() -> None:
    slots = apply(
        ready(1, leave_by=NOW + 500),
        reconcile(ready(1, leave_by=NOW + 500), Goal(desired=1), NOW),
    )
    after = reconcile(slots, Goal(desired=0), NOW)
    assert sorted(verbs(after)) == sorted(
        [(Verb.RETIRE, 0), (Verb.RETIRE, 1), (Verb.DRAIN, 0), (Verb.STOP, 1)]
    )


def test_a_member_that_is_still_coming_to_a_leaving_node_is_stopped() -> None:
    slots = ready(1, state=State.STARTING, leave_by=NOW + 500)
    assert verbs(reconcile(slots, Goal(desired=1), NOW)) == [(Verb.STOP, 0)]


def test_shrinking_takes_the_unhealthy_first_and_closes_the_gap_in_the_ranks() -> None:
    """Row E5."""
    slots = ready(3, state=State.SUSPECT)
    plan = reconcile(slots, Goal(desired=2), NOW)
    assert verbs(plan) == [(Verb.RETIRE, 0), (Verb.RANK, 2), (Verb.DRAIN, 0)]
    assert plan.actions[1].rank == 0


def test_a_spare_takes_the_rank_of_the_lost_at_once_and_the_slot_is_filled_as_the_new_spare() -> (
    None
):
    """Row N11."""
    goal = Goal(desired=2, spares=1)
    slots = [
        *ready(2, state=State.STOPPING, fault="died"),
        SlotView(index=2, role=Role.SPARE, state=State.READY),
    ]
    plan = reconcile(slots, goal, NOW)
    assert verbs(plan) == [(Verb.SPARE, 0), (Verb.RANK, 2)]
    assert plan.actions[1].rank == 0
    slots = [replace(slot, state=slot.state if slot.index else None) for slot in apply(slots, plan)]
    assert verbs(reconcile(slots, goal, NOW)) == [(Verb.START, 0)]


def test_a_spare_is_there_before_a_replacement_would_be() -> None:
    goal = Goal(desired=1, surge=1, spares=1)
    slots = [
        *ready(1, leave_by=NOW + 500),
        SlotView(index=1, role=Role.REPLACEMENT, replaces=0, state=State.STARTING),
        SlotView(index=2, role=Role.SPARE, state=State.READY),
    ]
    assert verbs(reconcile(slots, goal, NOW)) == [
        (Verb.SPARE, 0),
        (Verb.RANK, 2),
        (Verb.RETIRE, 1),
        (Verb.STOP, 1),
        (Verb.DRAIN, 0),
    ]


def test_a_pool_that_grows_takes_its_spares_and_fills_them_up_again() -> None:
    goal = Goal(desired=2, spares=1)
    slots = [*ready(1), SlotView(index=1, role=Role.SPARE, state=State.READY)]
    assert verbs(reconcile(slots, goal, NOW)) == [
        (Verb.RANK, 1),
        (Verb.OPEN, 2),
        (Verb.START, 2),
    ]


def test_a_pool_of_nothing_keeps_no_spares() -> None:
    slots = [SlotView(index=0, role=Role.SPARE, state=State.READY)]
    assert verbs(reconcile(slots, Goal(desired=0, spares=1), NOW))[0] == (Verb.RETIRE, 0)


def test_who_is_cut_off_loses_its_rank_to_a_new_slot_that_takes_over_its_back_off() -> None:
    slots = ready(2, state=State.STOPPING, fault="silent", lingers=True, not_before=NOW + 3)
    plan = reconcile(slots, Goal(desired=2, surge=0), NOW)
    assert verbs(plan) == [(Verb.RETIRE, 0), (Verb.OPEN, 2)]
    assert (plan.actions[1].rank, plan.wake_at) == (0, NOW + 3)
    slots = apply(slots, plan)
    # It is dead to the cluster, and does not count among the live ones.
    assert verbs(reconcile(slots, Goal(desired=2, surge=0), NOW + 3)) == [(Verb.START, 2)]


@pytest.mark.parametrize(
    ("field", "value"), [("desired", -1), ("desired", True), ("surge", 1.5), ("ladder_s", -1.0)]
)
def test_a_goal_that_cannot_be_is_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(ConfigError) as caught:
        Goal(**{"desired": 1, field: value})  # type: ignore[arg-type]
    assert caught.value.field == field


def test_a_member_with_a_notice_that_is_not_ready_yet_makes_way_for_its_replacement() -> None:
    coming = SlotView(index=0, rank=0, state=State.STARTING, leave_by=NOW + 500)
    other = SlotView(index=1, role=Role.REPLACEMENT, replaces=0, state=State.STARTING)
    plan = reconcile([coming, other], Goal(desired=1, surge=1), NOW)
    assert verbs(plan) == [(Verb.RETIRE, 0), (Verb.RANK, 1), (Verb.STOP, 0)]
    assert plan.actions[0].reason == "it leaves before it was ready"
