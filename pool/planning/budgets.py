"""Say how much of each restart budget is used up, for whoever looks at a pool.

Limits: only budgets that have a limit. How many failures of the others there were is not a question
that a restart depends on, and `prune` forgets it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pool.planning.restart import Failure, RestartPolicy

SHARED = "shared"
"""The name of the budget of all causes without one of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Show one restart budget.

    Args:
        cause: Whose it is; `shared` for that of all causes without one of their own.
        used: How many failures in the window count against it; one more than `limit` at the most.
        limit: How many of them are answered with a restart.
        period_s: The window, in seconds.
    """

    cause: str
    used: int
    limit: int
    period_s: float


def budgets(policy: RestartPolicy, failures: Sequence[Failure], now: float) -> tuple[Budget, ...]:
    """Return the budgets that have a limit, the shared one first.

    Args:
        policy: The limits.
        failures: Those of the whole pool that are remembered.
        now: The time, in seconds of the caller's clock.
    """
    recent = [failure.cause for failure in failures if failure.at > now - policy.period_s]
    shared = sum(cause not in policy.budgets for cause in recent)
    rows: list[tuple[str, int, int]] = [(SHARED, shared, policy.intensity)]
    rows += [
        (str(cause), recent.count(cause), limit)
        for cause, limit in policy.budgets.items()
        if limit is not None
    ]
    return tuple(
        Budget(cause=cause, used=min(used, limit + 1), limit=limit, period_s=policy.period_s)
        for cause, used, limit in rows
    )
