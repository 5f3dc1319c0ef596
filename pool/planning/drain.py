"""Split one deadline over the shutdown ladder, and order the members that must leave.

Purpose: stop admitting → wait for work in flight → `shutdown()` hook → TERM → KILL → kill the
actor, remove its placement group, verify. There is one deadline for all of it. Each rung has a
time *until* which it may run, so that what a rung does not use goes on to the next without any
bookkeeping.

Limits: the ladder is climbed by the manager; this says how long each rung may take and which are
left out. Whether a replacement comes first is decided by the reconcile planner.

Why not a time-out per rung: five time-outs add up to a deadline that nobody chose, and at every
level of the tree again. Why not scale all rungs down in a short drain: 40 ms for a hook is no
hook, while those 40 ms, times the rungs, decide whether anything is left behind (INV-4).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from pool.errors import ConfigError


class Rung(IntEnum):
    """Name the rungs of the ladder, in their order."""

    WORK = 0
    """Admit nothing more and wait for the work in flight."""
    HOOK = 1
    """Run the `shutdown()` hook."""
    TERM = 2
    """Ask the processes to end."""
    KILL = 3
    """End them."""
    RELEASE = 4
    """Kill the actor, remove the placement group, verify that nothing is left."""


# Kept for KILL and RELEASE in the shortest of drains: a placement group takes up to about a
# second to go.
_RESERVE_S = 1.0
# What KILL gets of the time for KILL and RELEASE: a process dies faster than a group is removed.
_KILL_PART = 0.4
# A rung with less is left out: a call to a member and back takes a good part of it.
_LEAST_S = 0.2
# What a parent keeps for its own last rungs when it hands its deadline down.
_KEPT_PART = 0.1
_KEPT_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainPolicy:
    """Say how long a member may take to leave, and for what.

    Args:
        timeout_s: Seconds for the whole ladder; 0 kills at once.
        work_share: Part of it for the work in flight; 0 leaves the rung out.
        hook_share: Part of it for the `shutdown()` hook; 0 leaves the rung out.
        term_share: Part of it between TERM and KILL; 0 leaves the rung out.

    What the three shares leave, more than 0, is for KILL and for release.

    Raises:
        ConfigError: A value is out of its range; `field` names it.
    """

    timeout_s: float = 30
    work_share: float = 0.5
    hook_share: float = 0.25
    term_share: float = 0.15

    def __post_init__(self) -> None:
        if not (_is_finite(self.timeout_s) and self.timeout_s >= 0):
            message = f"timeout_s is {self.timeout_s!r}; give 0 or more seconds"
            raise ConfigError(message, "timeout_s")
        shares = {name: getattr(self, name) for name in ("work_share", "hook_share", "term_share")}
        for name, share in shares.items():
            if not (_is_finite(share) and 0 <= share < 1):
                message = f"{name} is {share!r}; give a part from 0 to less than 1"
                raise ConfigError(message, name)
        if math.fsum(shares.values()) >= 1:
            given = ", ".join(f"{name}={share!r}" for name, share in shares.items())
            message = f"{given} leave nothing for kill and release; give less than 1 in all"
            raise ConfigError(message, max(shares, key=lambda name: float(shares[name])))


def _is_finite(value: object) -> bool:
    # NB: True and False are ints, and no number of seconds.
    return type(value) is not bool and isinstance(value, int | float) and math.isfinite(value)


@dataclass(frozen=True, slots=True)
class Ladder:
    """Hold until when each rung may run, in seconds from the start of the drain.

    Args:
        work_until_s: When the wait for work in flight ends at the latest.
        hook_until_s: When the hook ends at the latest.
        term_until_s: When the wait after TERM ends at the latest.
        kill_until_s: When the wait after KILL ends at the latest.
        release_until_s: When all is gone at the latest: the length of the ladder.
        reason: Why it is as long as it is, as a sentence without its full stop.

    A rung is skipped when it may run no longer than the one before it.
    """

    work_until_s: float
    hook_until_s: float
    term_until_s: float
    kill_until_s: float
    release_until_s: float
    reason: str

    @property
    def work_s(self) -> float:
        """Return the seconds planned for the work in flight."""
        return self.work_until_s

    @property
    def hook_s(self) -> float:
        """Return the seconds planned for the hook."""
        return self.hook_until_s - self.work_until_s

    @property
    def term_s(self) -> float:
        """Return the seconds planned between TERM and KILL."""
        return self.term_until_s - self.hook_until_s

    @property
    def kill_s(self) -> float:
        """Return the seconds planned for the wait after KILL."""
        return self.kill_until_s - self.term_until_s

    @property
    def release_s(self) -> float:
        """Return the seconds planned for actor, placement group and verification."""
        return self.release_until_s - self.kill_until_s

    @property
    def total_s(self) -> float:
        """Return the seconds planned for the whole ladder."""
        return self.release_until_s

    @property
    def skipped(self) -> tuple[Rung, ...]:
        """Return the rungs for which there is no time, in their order."""
        planned = (self.work_s, self.hook_s, self.term_s, self.kill_s, self.release_s)
        return tuple(rung for rung in Rung if planned[rung] <= 0)

    def until_s(self, rung: Rung) -> float:
        """Return when a rung ends at the latest, in seconds from the start of the drain."""
        return (
            self.work_until_s,
            self.hook_until_s,
            self.term_until_s,
            self.kill_until_s,
            self.release_until_s,
        )[rung]

    def left_s(self, rung: Rung, elapsed_s: float) -> float:
        """Return how long a rung that begins now may take.

        Args:
            rung: The rung that begins.
            elapsed_s: Seconds since the start of the drain.

        Returns:
            Seconds, 0 or more: its own time and all that the rungs before it did not use. A rung
            that is skipped gets 0, whatever they left.
        """
        if rung in self.skipped:
            return 0.0
        return max(0.0, self.until_s(rung) - elapsed_s)


def split_deadline(policy: DrainPolicy, budget_s: float) -> Ladder:
    """Split the time there is over the rungs.

    KILL and release get what the shares leave, and a second at least where there is one. The
    gentle rungs share the rest; where that is too little for all of them to be of use, waiting
    for work is left out first, then the hook, then TERM.

    Args:
        policy: The shares, and the longest that a drain takes.
        budget_s: Seconds to the deadline; infinity is no deadline, less than 0 is one that has
            passed.

    Returns:
        The ladder, never longer than `budget_s` nor than the policy's `timeout_s`.

    Raises:
        ConfigError: `budget_s` is not a number.
    """
    if math.isnan(budget_s):
        raise ConfigError("budget_s is not a number; give seconds to the deadline", "budget_s")
    total = max(0.0, min(budget_s, policy.timeout_s))
    shares = {
        Rung.WORK: policy.work_share,
        Rung.HOOK: policy.hook_share,
        Rung.TERM: policy.term_share,
    }
    wanted = [rung for rung, share in shares.items() if share > 0]
    last = min(total, max(_RESERVE_S, total * (1 - math.fsum(shares.values()))))
    kept = _worthwhile(shares, wanted, total - last)
    ends = [0.0, 0.0, 0.0]
    if kept:
        whole = math.fsum(shares[rung] for rung in kept)
        for rung in shares:
            # Summed up to here and then scaled, so that the ends never decrease.
            done = math.fsum(shares[other] for other in kept if other <= rung)
            ends[rung] = (total - last) * (done / whole)
    work, hook, term = ends
    kill = min(total, term + (total - term) * _KILL_PART)
    limit = "the deadline" if budget_s < policy.timeout_s else "the policy's time-out"
    left_out = [rung.name.lower() for rung in wanted if rung not in kept]
    short = f", too short for: {', '.join(left_out)}" if left_out else ""
    return Ladder(work, hook, term, kill, total, f"{total:g} s, set by {limit}{short}")


def _worthwhile(
    shares: Mapping[Rung, float], wanted: Sequence[Rung], gentle_s: float
) -> list[Rung]:
    """Return the gentle rungs that are of use in `gentle_s` seconds, the first left out first."""
    for first in range(len(wanted)):
        kept = list(wanted[first:])
        whole = math.fsum(shares[rung] for rung in kept)
        if min(gentle_s * shares[rung] / whole for rung in kept) >= _LEAST_S:
            return kept
    return []


def child_budget(budget_s: float) -> float:
    """Return what a parent with `budget_s` may give to its children.

    Args:
        budget_s: Seconds that the parent has itself.

    Returns:
        Seconds, strictly less than the parent has, and 0 when it has too little to share.

    Raises:
        ConfigError: `budget_s` is infinite or not a number: there is always a deadline.
    """
    if not math.isfinite(budget_s):
        raise ConfigError(f"budget_s is {budget_s!r}; give a finite number of seconds", "budget_s")
    return max(0.0, min(budget_s * (1 - _KEPT_PART), budget_s - _KEPT_S))


@dataclass(frozen=True, slots=True)
class Leaving:
    """Hold a member that must leave.

    Args:
        slot: Its slot.
        deadline: When its node goes away, in seconds of the caller's clock; None, or infinity, when
            nobody knows.
        ladder_s: Seconds that its ladder takes.
        why: What the notice said.
    """

    slot: int
    deadline: float | None
    ladder_s: float
    why: str = ""


@dataclass(frozen=True, slots=True)
class DrainStep:
    """Say when a member must begin to leave.

    Args:
        slot: Its slot.
        deadline: When it must be gone, in seconds of the caller's clock; None when nobody knows.
        latest_start: When its drain must begin, on the same clock; None when nobody knows.
        reason: Why, as a sentence without its full stop.
    """

    slot: int
    deadline: float | None
    latest_start: float | None
    reason: str

    def is_due(self, now: float) -> bool:
        """Whether the drain can wait no longer, for a replacement or for anything else (INV-7)."""
        return self.latest_start is not None and now >= self.latest_start

    def budget_s(self, now: float) -> float:
        """Return the seconds left to the deadline: 0 or more, infinity without one."""
        return math.inf if self.deadline is None else max(0.0, self.deadline - now)


def drain_order(members: Iterable[Leaving]) -> tuple[DrainStep, ...]:
    """Order the members that must leave, and say when each must begin at the latest (INV-7).

    Args:
        members: Those that must leave, in any order.

    Returns:
        One step for each, nearest deadline first, those without a deadline last; among equals the
        one that must begin first, then the lower slot.
    """
    return tuple(sorted((_step(member) for member in members), key=_urgency))


def _step(member: Leaving) -> DrainStep:
    why = member.why or "it was asked to leave"
    if member.deadline is None or member.deadline == math.inf:
        return DrainStep(member.slot, None, None, f"{why}; no deadline is known")
    latest = member.deadline - member.ladder_s
    reason = f"{why}; gone by {member.deadline:g}, and its ladder takes {member.ladder_s:g} s"
    return DrainStep(member.slot, member.deadline, latest, reason)


def _urgency(step: DrainStep) -> tuple[float, float, int]:
    if step.deadline is None or step.latest_start is None:
        return math.inf, math.inf, step.slot
    return step.deadline, step.latest_start, step.slot
