"""The record of a pool's failures, and what follows from each.

The policy is a pure function (`pool.planning.restart`); here is what it is asked about.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import anyio

from pool.cluster.interface import Fault
from pool.manager.events import EventKind, EventLog, traced
from pool.manager.member import Incarnation, InfoT
from pool.planning.budgets import Budget, budgets
from pool.planning.restart import (
    Cause,
    Failure,
    GiveUp,
    Restart,
    RestartPolicy,
    cause_of,
    plan_restart,
    prune,
)

_OVERRULED = frozenset({Cause.CRASH, Cause.NODE_LOST, Cause.UNHEALTHY})
"""What Ray says of a member whose node was preempted; it cannot tell the difference."""


class Restarts:
    """Remember failures for as long as the policy asks about them.

    Args:
        policy: The limits.
        pool: The pool's name, from which the back-off's jitter is derived.
        emit: Where to say that a member failed.
    """

    def __init__(self, policy: RestartPolicy, pool: str, emit: EventLog) -> None:
        self.failures: tuple[Failure, ...] = ()
        self._policy = policy
        self._pool = pool
        self._emit = emit

    def record(self, member: Incarnation[InfoT], fault: Fault) -> Restart | GiveUp:
        """Write down why a member failed, and say what follows."""
        if member.leave_by is not None and fault.cause in _OVERRULED:
            warned = [warned.notice for warned in member.due()]
            fault = replace(fault, cause=cause_of(warned))
        member.fault = fault
        slot = member.identity.slot
        now = anyio.current_time()
        ran_s = max(0.0, now - member.ready_since) if member.ready_since < math.inf else 0.0
        failure = Failure(
            now, fault.cause, fault.detail, slot, ran_s, fault.retry_in_s, fault.trace
        )
        self.failures = prune(self._policy, (*self.failures, failure), now)
        self._emit(
            EventKind.MEMBER_FAULT,
            slot,
            member.identity.generation,
            cause=str(fault.cause),
            reason=fault.detail,
            **traced(fault.trace),
        )
        key = f"{self._pool}/{slot}"
        return plan_restart(self._policy, self.failures, slot=slot, now=now, key=key)

    def forget(self) -> None:
        """Start with a clean record."""
        self.failures = ()

    def last_of(self, slot: int) -> Failure | None:
        """Return the slot's last failure that is remembered."""
        return next((f for f in reversed(self.failures) if f.slot == slot), None)

    def budgets(self) -> tuple[Budget, ...]:
        """Say how much of each budget is used up."""
        return budgets(self._policy, self.failures, anyio.current_time())

    def by_cause(self) -> Mapping[str, int]:
        """Count the failures that are remembered."""
        return dict(Counter(str(failure.cause) for failure in self.failures))
