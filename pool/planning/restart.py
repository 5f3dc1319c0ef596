"""Decide whether a failed slot is started again, when, or whether the pool gives up.

Purpose: three rules together, which are usually found apart. A *sliding window* over the whole
pool limits how many failures are answered with a restart; a *back-off* per slot spaces the
restarts out and is reset by good running; a *budget per cause* keeps preemptions, which are
nobody's fault, from using up what is meant for crashes. Beyond the limit the level above decides
and is told the cause (INV-6).

Limits: the record of failures is the caller's; `prune` keeps it small without changing an answer.
The window counts each restart at the time of the failure it answers, since when the restart really
happens depends on the cluster, too.

Why not count restarts per slot: ten slots that each fail "only" five times are fifty restarts,
and a cluster that is ill as a whole would never be given up. Why not draw the jitter from a
random number generator: the same record then gives two answers, and neither a plan nor a
simulation can be repeated.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from pool.errors import ConfigError
from pool.planning.notice import Notice, NoticeKind


class Cause(StrEnum):
    """Name why a member ended that was not asked to."""

    CRASH = "crash"
    """Its process or actor died."""
    UNHEALTHY = "unhealthy"
    """Its health checks failed."""
    START = "start"
    """It never got ready."""
    TEMPORARY = "temporary"
    """Its own hook asked to be tried again later."""
    PREEMPTION = "preemption"
    """Its node was taken away, with notice."""
    NODE_LOST = "node_lost"
    """Its node went away, without notice."""
    MAINTENANCE = "maintenance"
    """Its node is being worked on."""
    VERDICT = "verdict"
    """The job itself says that trying again is of no use; never retried."""

    def __repr__(self) -> str:
        # A policy prints as it can be typed; the repr of an enum cannot be.
        return f"Cause.{self.name}"


def cause_of(notices: Iterable[Notice]) -> Cause:
    """Return what a member was lost to whose node had been noticed to go.

    Args:
        notices: What was said of its nodes; at least one.
    """
    kinds = {notice.kind for notice in notices}
    return Cause.MAINTENANCE if kinds == {NoticeKind.MAINTENANCE} else Cause.PREEMPTION


_DEFAULT_BUDGETS: Mapping[Cause, int | None] = {
    Cause.TEMPORARY: None,
    Cause.PREEMPTION: None,
    Cause.NODE_LOST: None,
    Cause.MAINTENANCE: None,
    Cause.VERDICT: 0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """Say how often, and how soon, failed members are started again.

    Args:
        intensity: Failures in `period_s`, over all slots of the pool, that are answered with a
            restart; 0 or more. Shared by every cause that has no budget of its own.
        period_s: Length of the sliding window, in seconds; more than 0.
        delay_s: Seconds before the first restart of a slot; 0 or more.
        delay_max_s: Seconds that no back-off exceeds; `delay_s` or more.
        delay_factor: What each further failure in a row multiplies the delay by; 1 or more.
        jitter: The largest part of a delay that is taken off, so that slots which failed together
            do not come back together; from 0 to 1.
        reset_after_s: Seconds of running after which a failure counts as the first again.
        budgets: Cause to its own limit in `period_s`, counted apart from the intensity; None is
            no limit. A cause that is not named keeps its default: preemption, lost nodes,
            maintenance and what a hook itself puts off have no limit, a verdict has 0, all others
            share the intensity.

    Raises:
        ConfigError: A value is out of its range; `field` names it.
    """

    intensity: int = 5
    period_s: float = 600
    delay_s: float = 0.5
    delay_max_s: float = 60
    delay_factor: float = 2
    jitter: float = 0.1
    reset_after_s: float = 120
    budgets: Mapping[Cause, int | None] = field(default_factory=lambda: _DEFAULT_BUDGETS)

    def __post_init__(self) -> None:
        if not _is_count(self.intensity):
            message = f"intensity is {self.intensity!r}; give a whole number, 0 or more"
            raise ConfigError(message, "intensity")
        for name, least, most, wanted in (
            ("delay_s", 0.0, math.inf, "0 or more seconds"),
            ("delay_max_s", self.delay_s, math.inf, "delay_s or more seconds"),
            ("delay_factor", 1.0, math.inf, "1 or more"),
            ("jitter", 0.0, 1.0, "a part from 0 to 1"),
            ("reset_after_s", 0.0, math.inf, "0 or more seconds"),
            ("period_s", math.ulp(0.0), math.inf, "more than 0 seconds"),
        ):
            value = getattr(self, name)
            if not (_is_finite(value) and least <= value <= most):
                raise ConfigError(f"{name} is {value!r}; give {wanted}", name)
        # A plain dict in a fixed order: it pickles, prints as it can be typed, and is a copy.
        object.__setattr__(self, "budgets", _merged_budgets(self.budgets))


def _is_finite(value: object) -> bool:
    # NB: True and False are ints, and no number of seconds.
    return type(value) is not bool and isinstance(value, int | float) and math.isfinite(value)


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _merged_budgets(given: Mapping[Cause, int | None]) -> dict[Cause, int | None]:
    merged = dict(_DEFAULT_BUDGETS)
    for word, budget in given.items():
        try:
            cause = Cause(word)
        except ValueError:
            known = ", ".join(Cause)
            message = f"budgets names the cause {word!r}; the causes are {known}"
            raise ConfigError(message, "budgets") from None
        if budget is not None and not _is_count(budget):
            message = (
                f"the budget of {cause} is {budget!r}; give a whole number, 0 or more, or None"
            )
            raise ConfigError(message, "budgets")
        if cause is Cause.VERDICT and budget != 0:
            message = f"the budget of verdict is {budget!r}; a verdict is never retried, leave it 0"
            raise ConfigError(message, "budgets")
        merged[cause] = budget
    return {cause: merged[cause] for cause in Cause if cause in merged}


@dataclass(frozen=True, slots=True)
class Failure:
    """Hold one failure of one slot's member.

    Args:
        at: When it failed, in seconds of the caller's clock.
        cause: Why.
        detail: What was seen, in words.
        slot: The slot it happened in.
        ran_s: Seconds that the member had been ready before.
        delay_s: Seconds that the failed hook itself asked for; replaces the back-off, once.
        trace: The last lines of the traceback of what was raised, if something was.
    """

    at: float
    cause: Cause
    detail: str = ""
    slot: int = -1
    ran_s: float = 0
    delay_s: float | None = None
    trace: str = ""


@dataclass(frozen=True, slots=True)
class Restart:
    """Say that the slot is to be started again.

    Args:
        not_before: The earliest time, in seconds of the caller's clock.
        reason: Why, and why then, as a sentence without its full stop.
    """

    not_before: float
    reason: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Say that the pool gives up and the level above decides.

    Args:
        cause: The cause whose limit is used up.
        reason: Why, as a sentence without its full stop.
    """

    cause: Cause
    reason: str


def plan_restart(
    policy: RestartPolicy, failures: Sequence[Failure], *, slot: int, now: float, key: str
) -> Restart | GiveUp:
    """Answer the newest failure of one slot.

    Asked again with the same record it gives the same answer: the delay runs from the failure, not
    from `now`.

    Args:
        policy: The limits.
        failures: Those of the whole pool, oldest first, the one to be answered among them.
        slot: The slot to be answered.
        now: The time, in seconds of the caller's clock; not before the newest failure.
        key: What the jitter is derived from, such as the pool's name.

    Returns:
        A restart with its earliest time, or giving up with the cause.
    """
    return plan_restarts(policy, failures, slots=(slot,), now=now, key=key)[slot]


def plan_restarts(
    policy: RestartPolicy,
    failures: Sequence[Failure],
    *,
    slots: Iterable[int],
    now: float,
    key: str,
) -> dict[int, Restart | GiveUp]:
    """Answer the newest failure of each of many slots, in one pass over the record.

    Args:
        policy: The limits.
        failures: Those of the whole pool, oldest first.
        slots: The slots to be answered.
        now: The time, in seconds of the caller's clock; not before the newest failure.
        key: What the jitter is derived from, such as the pool's name.

    Returns:
        Slot to its answer. A slot without a failure may start at once.
    """
    asked = tuple(slots)
    back_offs = _back_offs(policy)
    streaks = _streaks(policy, failures, set(asked), len(back_offs))
    used = Counter(
        _account(policy, failure.cause)[0]
        for failure in failures
        if failure.at > now - policy.period_s
    )
    answers: dict[int, Restart | GiveUp] = {}
    for slot in asked:
        streak = streaks.get(slot)
        if streak is None:
            answers[slot] = Restart(now, "no failure is on record for this slot")
            continue
        refused = _refusal(policy, streak[0], used)
        answers[slot] = refused or _restart(policy, streak, used, back_offs, f"{key}/{slot}")
    return answers


def _refusal(
    policy: RestartPolicy, failure: Failure, used: Mapping[Cause | None, int]
) -> GiveUp | None:
    """Return why a failure is not answered with a restart, or None."""
    cause = failure.cause
    seen = f" ({failure.detail})" if failure.detail else ""
    if cause is Cause.VERDICT:
        return GiveUp(cause, f"the job said not to try again{seen}")
    account, limit = _account(policy, cause)
    # INV-6. At least 1: a limit of 0 must not turn into a restart because the failure to be
    # answered left the window while nobody asked.
    if limit is not None and max(used.get(account, 0), 1) > limit:
        # "More than", and not the number, since `prune` forgets how many more.
        whose = "by all causes that share them" if account is None else f"for {cause}"
        window = f"{limit} restart(s) in {policy.period_s:g} s {whose}"
        return GiveUp(cause, f"{cause}{seen} is more than the allowed {window}")
    return None


def _restart(
    policy: RestartPolicy,
    streak: Sequence[Failure],
    used: Mapping[Cause | None, int],
    back_offs: Sequence[float],
    key: str,
) -> Restart:
    """Answer the newest failure of a streak with a restart."""
    failure, length = streak[0], len(streak)
    account, limit = _account(policy, failure.cause)
    if failure.delay_s is not None:
        delay_s = failure.delay_s
        why = f"{delay_s:g} s, as the failed hook asked"
    else:
        delay_s = back_offs[length - 1]
        # Jitter only ever takes off, so that `delay_max_s` holds and slots at the cap are spread as
        # well. crc32 and not hash(): the answer must be the same in each process.
        drawn = zlib.crc32(f"{key}/{length}".encode()) / 2**32
        delay_s -= delay_s * policy.jitter * drawn
        more = " or more" if length == len(back_offs) else ""
        why = f"{delay_s:.3g} s of back-off after {length}{more} failure(s) in a row"
    seen = f" ({failure.detail})" if failure.detail else ""
    count = used.get(account, 0)
    spent = "no limit for this cause" if limit is None else f"{count} of {limit} in the window"
    return Restart(failure.at + delay_s, f"{failure.cause}{seen}: {spent}; {why}")


# A factor barely above 1 would need thousands of failures to reach the cap; remembering them all
# only to grow a delay by a hair is not worth it.
_STREAK_MAX = 64


def _back_offs(policy: RestartPolicy) -> list[float]:
    """Return the seconds after 1, 2, … failures in a row; the last holds for all longer ones."""
    back_offs = [policy.delay_s]
    while len(back_offs) < _STREAK_MAX:
        longer = min(back_offs[-1] * policy.delay_factor, policy.delay_max_s)
        if longer == back_offs[-1]:
            break
        back_offs.append(longer)
    return back_offs


def _account(policy: RestartPolicy, cause: Cause) -> tuple[Cause | None, int | None]:
    """Return whose limit a cause draws on (None: the one that is shared), and the limit."""
    if cause in policy.budgets:
        return cause, policy.budgets[cause]
    return None, policy.intensity


def _streaks(
    policy: RestartPolicy, failures: Sequence[Failure], slots: set[int] | None, longest: int
) -> dict[int, list[Failure]]:
    """Return, for each of the slots (None: all), its failures in a row, newest first."""
    streaks: dict[int, list[Failure]] = {}
    ended: set[int] = set()
    for failure in reversed(failures):
        slot = failure.slot
        if slot in ended or (slots is not None and slot not in slots):
            continue
        streak = streaks.setdefault(slot, [])
        streak.append(failure)
        # Every cause counts: a cause without a limit would otherwise be retried without a pause.
        if failure.ran_s >= policy.reset_after_s or len(streak) == longest:
            ended.add(slot)
    return streaks


def prune(policy: RestartPolicy, failures: Sequence[Failure], now: float) -> tuple[Failure, ...]:
    """Drop the failures that no later answer depends on.

    What is left is bounded: for each limit one more than the limit, and for each slot as many as
    its back-off needs (8 with the default policy).

    Args:
        policy: The limits.
        failures: Those of the whole pool, oldest first.
        now: The time, in seconds of the caller's clock.

    Returns:
        Those to be kept, oldest first. Answers at `now` and later are the same as without pruning.
    """
    streaks = _streaks(policy, failures, None, len(_back_offs(policy)))
    keep = {id(failure) for streak in streaks.values() for failure in streak}
    counted: Counter[Cause | None] = Counter()
    for failure in reversed(failures):
        account, limit = _account(policy, failure.cause)
        if limit is not None and failure.at > now - policy.period_s and counted[account] <= limit:
            counted[account] += 1
            keep.add(id(failure))
    return tuple(failure for failure in failures if id(failure) in keep)


def worst_case_restarts(policies: Sequence[RestartPolicy]) -> int:
    """Bound how often one process at the bottom of a tree is started again before the top gives up.

    A level restarts what is below it at most i times in a window (its intensity and the limited
    budgets of its causes together) and gives up at the next failure. Each of its own restarts by
    the level above starts the count anew, so that the levels multiply: (i₁ + 1) · (i₂ + 1) · …
    starts, the first among them. The bound holds within the shortest of the periods; failures
    further apart than that are the rate that the policies allow for ever, and causes without a
    limit are not in it.

    Args:
        policies: One for each level of the tree, in any order.

    Returns:
        The number of restarts; 0 for a tree without levels.
    """
    return math.prod(_allowed(policy) + 1 for policy in policies) - 1


def _allowed(policy: RestartPolicy) -> int:
    return policy.intensity + sum(budget or 0 for budget in policy.budgets.values())
