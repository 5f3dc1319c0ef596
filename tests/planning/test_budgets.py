"""How much of each restart budget is used up."""

from __future__ import annotations

from pool.planning.budgets import Budget, budgets
from pool.planning.restart import Cause, Failure, RestartPolicy

POLICY = RestartPolicy(intensity=2, period_s=100, budgets={Cause.CRASH: 1})


def used(*causes: Cause, at: float = 50) -> dict[str, int]:
    rows = budgets(POLICY, [Failure(at, cause) for cause in causes], 100)
    return {row.cause: row.used for row in rows}


def test_causes_without_a_budget_of_their_own_share_one() -> None:
    assert used(Cause.START, Cause.UNHEALTHY, Cause.CRASH) == {
        "shared": 2,
        "crash": 1,
        "verdict": 0,
    }


def test_a_cause_without_a_limit_uses_up_nothing_and_is_not_shown() -> None:
    assert used(Cause.PREEMPTION, Cause.NODE_LOST) == {"shared": 0, "crash": 0, "verdict": 0}


def test_what_left_the_window_does_not_count_and_no_more_than_one_beyond_the_limit_does() -> None:
    assert used(Cause.START, at=0)["shared"] == 0
    assert used(*[Cause.START] * 9)["shared"] == 3


def test_a_budget_says_its_limit_and_window() -> None:
    assert budgets(POLICY, (), 0)[0] == Budget(cause="shared", used=0, limit=2, period_s=100)
