"""The restart policy: examples, then INV-6 and the rest as properties."""

from __future__ import annotations

import math
import pickle
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.errors import ConfigError
from pool.planning.notice import Notice, NoticeKind
from pool.planning.restart import (
    Cause,
    Failure,
    GiveUp,
    Restart,
    RestartPolicy,
    cause_of,
    plan_restart,
    plan_restarts,
    prune,
    worst_case_restarts,
)
from tests.planning.strategies_supervision import failure_records, restart_policies, times

STEADY = RestartPolicy(jitter=0)
KEY = "rollout"


def crashes(*at: float, slot: int = 0, ran_s: float = 0) -> tuple[Failure, ...]:
    return tuple(Failure(each, Cause.CRASH, slot=slot, ran_s=ran_s) for each in at)


def answer(policy: RestartPolicy, *failures: Failure, now: float | None = None) -> Restart | GiveUp:
    """Answer the newest failure, at the time of it."""
    newest = failures[-1]
    at = newest.at if now is None else now
    return plan_restart(policy, failures, slot=newest.slot, now=at, key=KEY)


def delay_s(policy: RestartPolicy, *failures: Failure) -> float:
    given_ = answer(policy, *failures)
    assert isinstance(given_, Restart), given_
    return given_.not_before - failures[-1].at


# --- window and budgets ---------------------------------------------------------------------------


def test_the_intensity_is_answered_and_one_more_is_not() -> None:
    failures = crashes(0, 1, 2, 3, 4)
    assert isinstance(answer(STEADY, *failures), Restart)
    last = answer(STEADY, *failures, Failure(5, Cause.UNHEALTHY, "it hung", slot=7))
    assert last == GiveUp(
        Cause.UNHEALTHY,
        "unhealthy (it hung) is more than the allowed 5 restart(s) in 600 s "
        "by all causes that share them",
    )


def test_a_failure_leaves_the_window_after_the_period() -> None:
    six = crashes(0, 1, 2, 3, 4, 600)
    assert isinstance(answer(STEADY, *six), Restart)
    assert isinstance(answer(STEADY, *crashes(0, 1, 2, 3, 4, 599.75)), GiveUp)


def test_the_window_is_that_of_the_whole_pool() -> None:
    failures = tuple(Failure(slot, Cause.CRASH, slot=slot) for slot in range(6))
    assert isinstance(answer(STEADY, *failures), GiveUp)


@pytest.mark.parametrize("cause", [Cause.PREEMPTION, Cause.NODE_LOST, Cause.MAINTENANCE])
def test_what_is_nobodys_fault_is_restarted_without_limit_and_uses_nothing_up(cause: Cause) -> None:
    taken = tuple(Failure(at, cause, slot=at) for at in range(1000))
    last = answer(STEADY, *taken)
    assert isinstance(last, Restart)
    assert last.reason == (
        f"{cause}: no limit for this cause; 0.5 s of back-off after 1 failure(s) in a row"
    )
    assert isinstance(answer(STEADY, *taken, *crashes(1000)), Restart)


def test_a_verdict_is_never_retried_however_long_ago_it_was() -> None:
    verdict = Failure(10, Cause.VERDICT, "loss is NaN")
    expected = GiveUp(Cause.VERDICT, "the job said not to try again (loss is NaN)")
    assert answer(STEADY, verdict) == expected
    assert answer(STEADY, verdict, now=1e6) == expected


def test_a_cause_with_a_budget_of_its_own_draws_on_that_alone() -> None:
    policy = RestartPolicy(intensity=1, jitter=0, budgets={Cause.PREEMPTION: 2})
    taken = tuple(Failure(at, Cause.PREEMPTION, slot=0) for at in range(3))
    assert isinstance(answer(policy, *taken[:2], *crashes(3)), Restart)
    assert answer(policy, *taken) == GiveUp(
        Cause.PREEMPTION,
        "preemption is more than the allowed 2 restart(s) in 600 s for preemption",
    )


def test_a_limit_of_nought_is_not_turned_into_a_restart_by_waiting() -> None:
    policy = RestartPolicy(intensity=0)
    assert isinstance(answer(policy, *crashes(0), now=0), GiveUp)
    assert isinstance(answer(policy, *crashes(0), now=1e6), GiveUp)


def test_a_slot_without_a_failure_may_start_at_once() -> None:
    given_ = plan_restart(STEADY, crashes(1, 2), slot=3, now=5, key=KEY)
    assert given_ == Restart(5, "no failure is on record for this slot")


# --- back-off -------------------------------------------------------------------------------------


def test_the_back_off_doubles_up_to_its_cap() -> None:
    policy = RestartPolicy(jitter=0, intensity=100)
    failures: tuple[Failure, ...] = ()
    delays = []
    for at in range(10):
        failures += crashes(at)
        delays.append(delay_s(policy, *failures))
    assert delays == [0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_good_running_resets_the_back_off() -> None:
    failures = (*crashes(0, 1, 2), *crashes(200, ran_s=120))
    assert delay_s(STEADY, *failures) == 0.5
    assert delay_s(STEADY, *failures, *crashes(201)) == 1.0


def test_failures_of_other_slots_do_not_slow_a_slot_down() -> None:
    assert delay_s(STEADY, *crashes(0, 1, 2, slot=1), *crashes(3)) == 0.5


def test_the_delay_that_a_hook_asked_for_replaces_the_back_off_once() -> None:
    asked = Failure(1, Cause.START, "data are not there yet", slot=0, delay_s=45)
    assert delay_s(RestartPolicy(), *crashes(0), asked) == 45
    assert delay_s(STEADY, *crashes(0), asked, *crashes(50)) == 2.0


def test_reasons_read_as_sentences() -> None:
    policy = RestartPolicy(jitter=0, delay_max_s=1)
    asked = Failure(1, Cause.START, "not yet", slot=0, delay_s=45)
    assert answer(policy, *crashes(0)).reason == (
        "crash: 1 of 5 in the window; 0.5 s of back-off after 1 failure(s) in a row"
    )
    assert answer(policy, *crashes(0, 1, 2)).reason == (
        "crash: 3 of 5 in the window; 1 s of back-off after 2 or more failure(s) in a row"
    )
    assert answer(policy, asked).reason == (
        "start (not yet): 1 of 5 in the window; 45 s, as the failed hook asked"
    )


def test_slots_that_failed_together_do_not_come_back_together() -> None:
    failures = tuple(Failure(0, Cause.NODE_LOST, slot=slot) for slot in range(200))
    answers = plan_restarts(RestartPolicy(), failures, slots=range(200), now=0, key=KEY)
    times_ = [each.not_before for each in answers.values() if isinstance(each, Restart)]
    assert len(set(times_)) == 200
    tenths = Counter(int((0.5 - each) / 0.005) for each in times_)
    assert max(tenths.values()) < 50  # spread over the whole range, not heaped up


# --- the policy -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"intensity": -1}, "intensity"),
        ({"intensity": 1.0}, "intensity"),
        ({"intensity": True}, "intensity"),
        ({"period_s": 0}, "period_s"),
        ({"period_s": math.inf}, "period_s"),
        ({"delay_s": -1}, "delay_s"),
        ({"delay_s": "soon"}, "delay_s"),
        ({"delay_s": 90}, "delay_max_s"),
        ({"delay_factor": 0.5}, "delay_factor"),
        ({"jitter": 1.5}, "jitter"),
        ({"reset_after_s": math.nan}, "reset_after_s"),
        ({"budgets": {Cause.CRASH: -1}}, "budgets"),
        ({"budgets": {Cause.CRASH: True}}, "budgets"),
        ({"budgets": {"bad luck": 3}}, "budgets"),
        ({"budgets": {Cause.VERDICT: None}}, "budgets"),
    ],
)
def test_a_policy_that_cannot_be_right_is_refused_by_name(
    values: dict[str, Any], field: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        RestartPolicy(**values)
    assert refused.value.field == field


def test_a_cause_that_is_not_named_keeps_its_default_budget() -> None:
    words: dict[Any, int | None] = {"crash": 3, Cause.MAINTENANCE: 1}
    assert RestartPolicy(budgets=words).budgets == {
        Cause.CRASH: 3,
        Cause.TEMPORARY: None,
        Cause.PREEMPTION: None,
        Cause.NODE_LOST: None,
        Cause.MAINTENANCE: 1,
        Cause.VERDICT: 0,
    }


def test_a_policy_is_a_copy_prints_as_it_can_be_typed_and_crosses_processes() -> None:
    budgets: dict[Cause, int | None] = {Cause.CRASH: 3}
    policy = RestartPolicy(budgets=budgets)
    budgets[Cause.CRASH] = 4
    assert policy.budgets[Cause.CRASH] == 3
    assert eval(repr(policy)) == policy
    assert pickle.loads(pickle.dumps(policy)) == policy


# --- safety ---------------------------------------------------------------------------------------


@given(restart_policies(), failure_records())
def test_restarts_in_any_window_never_exceed_the_intensity_nor_a_budget(
    policy: RestartPolicy, failures: tuple[Failure, ...]
) -> None:
    """INV-6: each failure is answered as it happens; giving up ends the pool."""
    granted: list[Failure] = []
    for number, failure in enumerate(failures, start=1):
        if isinstance(answer(policy, *failures[:number]), GiveUp):
            break
        granted.append(failure)
    for last in granted:
        window = [each for each in granted if last.at - policy.period_s < each.at <= last.at]
        shared = [each for each in window if each.cause not in policy.budgets]
        assert len(shared) <= policy.intensity
        for cause, budget in policy.budgets.items():
            if budget is not None:
                assert sum(each.cause is cause for each in window) <= budget


@given(restart_policies(), failure_records(), st.text(max_size=5))
def test_no_back_off_exceeds_its_cap_nor_falls_below_what_jitter_may_take_off(
    policy: RestartPolicy, failures: tuple[Failure, ...], key: str
) -> None:
    newest = {failure.slot: failure for failure in failures}
    now = failures[-1].at if failures else 0.0
    for slot, given_ in plan_restarts(policy, failures, slots=newest, now=now, key=key).items():
        if isinstance(given_, GiveUp):
            continue
        waited_s = given_.not_before - newest[slot].at
        asked_s = newest[slot].delay_s
        if asked_s is not None:
            assert waited_s == pytest.approx(asked_s)
        else:
            assert waited_s <= policy.delay_max_s + 1e-6
            assert waited_s >= policy.delay_s * (1 - policy.jitter) - 1e-6


@given(restart_policies(), failure_records(), times())
def test_asking_again_gives_the_same_time(
    policy: RestartPolicy, failures: tuple[Failure, ...], later_s: float
) -> None:
    """A plan made twice from one record is one plan: the delay does not move with `now`."""
    now = failures[-1].at if failures else 0.0
    for slot in {failure.slot for failure in failures}:
        first = plan_restart(policy, failures, slot=slot, now=now, key=KEY)
        again = plan_restart(policy, failures, slot=slot, now=now + later_s, key=KEY)
        if isinstance(first, Restart):
            assert isinstance(again, Restart)
            assert again.not_before == first.not_before


@given(restart_policies(), failure_records())
def test_answers_for_many_slots_are_those_for_each(
    policy: RestartPolicy, failures: tuple[Failure, ...]
) -> None:
    now = failures[-1].at if failures else 0.0
    together = plan_restarts(policy, failures, slots=range(6), now=now, key=KEY)
    assert together == {
        slot: plan_restart(policy, failures, slot=slot, now=now, key=KEY) for slot in range(6)
    }


@given(restart_policies(), failure_records(), times(), failure_records(max_size=8))
def test_pruning_changes_no_later_answer(
    policy: RestartPolicy,
    failures: tuple[Failure, ...],
    later_s: float,
    more: tuple[Failure, ...],
) -> None:
    now = failures[-1].at if failures else 0.0
    pruned = prune(policy, failures, now)
    shift = now + later_s - (more[0].at if more else 0.0)
    new = tuple(
        Failure(each.at + shift, each.cause, each.detail, each.slot, each.ran_s, each.delay_s)
        for each in more
    )
    then = new[-1].at if new else now + later_s
    kept, whole = (
        plan_restarts(policy, record + new, slots=range(6), now=then, key=KEY)
        for record in (pruned, failures)
    )
    for slot in range(6):
        one, other = kept[slot], whole[slot]
        assert type(one) is type(other)
        if isinstance(one, GiveUp) or isinstance(other, GiveUp):
            assert one.reason == other.reason
        else:
            assert one.not_before == other.not_before


@given(restart_policies(), failure_records())
def test_what_pruning_keeps_is_bounded_in_order_and_pruned_already(
    policy: RestartPolicy, failures: tuple[Failure, ...]
) -> None:
    now = failures[-1].at if failures else 0.0
    pruned = prune(policy, failures, now)
    limited = [policy.intensity, *(each for each in policy.budgets.values() if each is not None)]
    slots = {failure.slot for failure in failures}
    assert len(pruned) <= sum(each + 1 for each in limited) + 64 * len(slots)
    order = iter(failures)
    assert all(any(each is other for other in order) for each in pruned)
    assert prune(policy, pruned, now) == pruned


def test_pruning_keeps_one_more_than_the_limit() -> None:
    policy = RestartPolicy(intensity=2, reset_after_s=0)
    failures = crashes(0, 1, 2, 3)
    pruned = prune(policy, failures, now=3)
    assert pruned == failures[1:]
    assert isinstance(answer(policy, *pruned), GiveUp)


def test_a_pool_that_is_preempted_for_a_year_keeps_a_short_record() -> None:
    failures: tuple[Failure, ...] = ()
    for at in range(3000):
        new = Failure(at * 10_000.0, Cause.PREEMPTION, slot=at % 4)
        failures = prune(RestartPolicy(), (*failures, new), now=new.at)
    assert len(failures) == 4 * 8


# --- progress -------------------------------------------------------------------------------------


@given(restart_policies(), st.sampled_from([Cause.CRASH, Cause.UNHEALTHY, Cause.START]))
def test_a_slot_that_never_runs_is_given_up_after_as_many_tries_as_allowed(
    policy: RestartPolicy, cause: Cause
) -> None:
    limit = policy.budgets.get(cause, policy.intensity)
    tries = 0
    while isinstance(answer(policy, *(Failure(0, cause, slot=0),) * (tries + 1)), Restart):
        tries += 1
        if limit is None and tries == 50:
            return
    assert tries == limit


# --- levels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("intensities", "restarts"), [((), 0), ((5,), 5), ((5, 5), 35), ((3, 0, 1), 7), ((0, 0), 0)]
)
def test_levels_multiply(intensities: tuple[int, ...], restarts: int) -> None:
    policies = [RestartPolicy(intensity=intensity) for intensity in intensities]
    assert worst_case_restarts(policies) == restarts


def test_limited_budgets_are_in_the_product() -> None:
    policy = RestartPolicy(intensity=5, budgets={Cause.PREEMPTION: 4, Cause.NODE_LOST: None})
    assert worst_case_restarts([policy]) == 9


@given(st.lists(st.integers(0, 3), min_size=1, max_size=4))
def test_the_product_is_what_a_tree_that_always_fails_really_does(intensities: list[int]) -> None:
    policies = [RestartPolicy(intensity=intensity) for intensity in intensities]
    starts = 0

    def run(level: int) -> None:
        """Start what is below this level until the level gives up."""
        nonlocal starts
        if level == len(policies):
            starts += 1
            return
        failures: tuple[Failure, ...] = ()
        while True:
            run(level + 1)
            failures += crashes(0)
            if isinstance(answer(policies[level], *failures), GiveUp):
                return

    run(0)
    assert starts - 1 == worst_case_restarts(policies)


def test_a_member_whose_node_was_to_go_was_lost_to_that() -> None:
    works = Notice(kind=NoticeKind.MAINTENANCE)
    preempt = Notice(kind=NoticeKind.PREEMPT)
    assert cause_of([works]) is Cause.MAINTENANCE
    assert cause_of([preempt]) is Cause.PREEMPTION
    assert cause_of([works, preempt]) is Cause.PREEMPTION
