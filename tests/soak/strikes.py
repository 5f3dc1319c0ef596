"""The ledger of what was done to whom, so that what a pool does can be held against it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from tests.soak.script import Kind

GUILT_S = 60.0
"""For so long what a pool does may be the answer to a fault: restarts, leases, starts that wait."""
LATE_S = 5.0
"""So long after it is over a silence may still be told: two polls, one above the other."""
Who = tuple[int, int]
"""Slot and generation."""

_NOTICED = ("suspect", "draining", "stopping")


@dataclass(slots=True, eq=False)
class Strike:
    """Note one fault, as far as it concerns one pool.

    Args:
        kind: Which.
        pool: Whom it struck.
        at: When, in UNIX seconds.
        members: Slot and generation of each member that was struck; None where it may be any.
        cause: The cause that its `member_fault` names, where others may come before it.
        is_timed: Whether the pool could answer at once, so that its time says something.
        is_order: Whether it is something that a user does, which a pool does not notice but do.
        until: When it ended, if it lasts.
        detected_at: When the pool first took note.
        recovered_at: When the pool had settled again.
    """

    kind: Kind
    pool: str
    at: float
    members: frozenset[Who] | None = None
    cause: str | None = None
    is_timed: bool = True
    is_order: bool = False
    until: float = math.inf
    detected_at: float | None = None
    recovered_at: float | None = None

    def meets(self, who: Who) -> bool:
        """Whether a member was struck by it."""
        return self.members is None or who in self.members


@dataclass(slots=True)
class Ledger:
    """Keep all strikes, and find out when each was noticed and overcome."""

    strikes: list[Strike] = field(default_factory=list)

    def add(self, strike: Strike) -> Strike:
        """Write one down."""
        self.strikes.append(strike)
        return strike

    def hear(self, pool: str, event: dict[str, Any]) -> None:
        """Hear an event of a pool."""
        who = (event["slot"], event["generation"])
        facts = event["facts"]
        is_fault = event["kind"] in ("member_fault", "member_notice")
        is_state = event["kind"] == "member_state" and facts["state"] in _NOTICED
        for strike in self.strikes:
            if strike.pool != pool or strike.detected_at is not None or event["at"] < strike.at:
                continue
            if strike.is_order or not strike.meets(who):
                continue
            if strike.kind is Kind.STOPPED_BRIEFLY and event["at"] > strike.until + LATE_S:
                continue  # Nobody noticed, as is right; this is the answer to something else.
            is_it = facts.get("cause") == strike.cause if strike.cause else is_fault or is_state
            if is_it:
                strike.detected_at = event["at"]

    def settled(self, pool: str, at: float) -> None:
        """Hear that a pool is as it is meant to be."""
        for strike in self.strikes:
            if strike.pool != pool or strike.recovered_at is not None:
                continue
            since = strike.until if strike.is_order else strike.detected_at
            if since is not None and since < at:
                strike.recovered_at = at

    def excuses(self, pool: str, who: Who | None, at: float) -> bool:
        """Whether something was done to a member, or with None to the pool, not long ago."""
        return any(
            strike.pool == pool
            and strike.at <= at
            and at - _end_of(strike) < GUILT_S
            and (who is None or strike.meets(who))
            for strike in self.strikes
        )


def _end_of(strike: Strike) -> float:
    """Return when its traces begin to fade: not before the pool has overcome it."""
    overcome = strike.recovered_at if strike.detected_at is not None else strike.at
    if math.isfinite(strike.until):
        return max(strike.until, overcome or math.inf)
    return math.inf if overcome is None else overcome
