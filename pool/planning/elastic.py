"""Decide how large a pool should be for the load it has.

Purpose: up fast, down slow. A measurement *votes* for growing or shrinking; only votes in a row
count, and the size that is taken is the one all of them agree on. A dead band between the sizes
at which a pool grows and shrinks keeps a load at the edge from moving it to and fro.

Limits: the load is a total (calls in flight and queued, tokens, anything that adds up over members)
and a member's share of it is a constant. Who goes when the pool shrinks is decided by the choice of
victims; whether there is room to grow, by the cluster.

Why not scale by the ratio of load per ready member to its target: while new members start, the
ratio stays high, and the pool grows again for the same load. The wanted size here depends on the
load alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from pool.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class ElasticPolicy:
    """Say between which sizes a pool may move, and how readily.

    Args:
        min_size: The smallest size; 0 or more.
        max_size: The largest size; `min_size` or more.
        target: The load that one member is meant to carry; more than 0.
        slack: The part of the target that must stay free after shrinking; from 0 to less than 1.
        up_votes: Measurements in a row that must ask for more before the pool grows; 1 or more.
        down_votes: Measurements in a row that must ask for less before it shrinks; 1 or more.
        up_cooldown_s: Seconds after a change of size in which the pool does not grow; 0 or more.
        cooldown_s: Seconds after a change of size in which the pool does not shrink; 0 or more.

    Raises:
        ConfigError: A value is out of its range; `field` names it.
    """

    min_size: int = 1
    max_size: int
    target: float = 1
    slack: float = 0.1
    up_votes: int = 1
    down_votes: int = 5
    up_cooldown_s: float = 0
    cooldown_s: float = 60

    def __post_init__(self) -> None:
        for name, least, wanted in (
            ("min_size", 0, "a whole number, 0 or more"),
            ("max_size", self.min_size, "a whole number, min_size or more"),
            ("up_votes", 1, "a whole number, 1 or more"),
            ("down_votes", 1, "a whole number, 1 or more"),
        ):
            count = getattr(self, name)
            if type(count) is not int or count < least:
                raise ConfigError(f"{name} is {count!r}; give {wanted}", name)
        for name, right, wanted in (
            ("target", _is_finite(self.target) and self.target > 0, "more than 0"),
            ("slack", _is_finite(self.slack) and 0 <= self.slack < 1, "a part from 0 to below 1"),
            (
                "up_cooldown_s",
                _is_finite(self.up_cooldown_s) and self.up_cooldown_s >= 0,
                "0 or more seconds",
            ),
            (
                "cooldown_s",
                _is_finite(self.cooldown_s) and self.cooldown_s >= 0,
                "0 or more seconds",
            ),
        ):
            if not right:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; give {wanted}", name)


_HAIR = 1e-12


def _is_finite(value: object) -> bool:
    # NB: True and False are ints, and no measure.
    return type(value) is not bool and isinstance(value, int | float) and math.isfinite(value)


@dataclass(frozen=True, slots=True)
class Load:
    """Hold one measurement.

    Args:
        size: The size that the pool is meant to have at present, whether or not it has it yet.
        total: The load of the whole pool, in the unit of the target; None when it could not be
            measured.
    """

    size: int
    total: float | None


@dataclass(frozen=True, slots=True)
class ElasticState:
    """Hold what earlier measurements left behind.

    Args:
        votes: Votes in a row: for growing above 0, for shrinking below 0.
        agreed: The size that all of these votes agree on: the one nearest to the present size.
        size: The size that they were given at.
        changed_at: When the size last changed, in seconds of the caller's clock; None for never.
    """

    votes: int = 0
    agreed: int = 0
    size: int | None = None
    changed_at: float | None = None


def plan_size(
    policy: ElasticPolicy, state: ElasticState, load: Load, now: float
) -> tuple[ElasticState, int, str]:
    """Decide the size for one measurement.

    Args:
        policy: Between which sizes, and how readily.
        state: What the measurement before left behind; `ElasticState()` at first.
        load: The measurement.
        now: The time of it, in seconds of the caller's clock.

    Returns:
        The state to keep, the size to have (from `min_size` to `max_size`, whatever the load), and
        the reason as a sentence without its full stop.
    """
    if load.size != state.size:
        # Somebody else changed the size: votes for another size are no votes for this one.
        at = state.changed_at if state.size is None else now
        state = ElasticState(votes=0, agreed=load.size, size=load.size, changed_at=at)
    # Bounds hold at once: they are what the pool may cost and must be able to do, and no reaction.
    bounded = _clamp(policy, load.size)
    if bounded != load.size:
        which = f"the minimum is {policy.min_size}, the maximum {policy.max_size}"
        return _moved(bounded, now), bounded, f"{load.size} is out of bounds: {which}"
    # INV-9, in its spirit: a load that could not be measured is no load of 0.
    if load.total is None or not math.isfinite(load.total) or load.total < 0:
        return state, load.size, "the load could not be measured; nothing changes"
    # The size the load needs, and the size it needs for the slack to stay free.
    tight, loose = (_needed(policy, load.total, share) for share in (1.0, 1 - policy.slack))
    if tight > load.size:
        voted = _voted(state, +1, tight)
        return _decided(voted, load.total, now, policy.up_votes, policy.up_cooldown_s)
    if loose < load.size:
        voted = _voted(state, -1, loose)
        return _decided(voted, load.total, now, policy.down_votes, policy.cooldown_s)
    full = load.total > load.size * policy.target * (1 + _HAIR)
    suits = "is more than the maximum carries" if full else "suits the size"
    reason = f"a load of {load.total:g} {suits}, {load.size} member(s)"
    return replace(state, votes=0, agreed=load.size), load.size, reason


def _needed(policy: ElasticPolicy, total: float, share: float) -> int:
    members = min(total / policy.target / share, float(policy.max_size))
    # Less a hair: 0.1 + 0.2 is more than three tenths for a computer, and for nobody else.
    return _clamp(policy, math.ceil(members * (1 - _HAIR)))


def _clamp(policy: ElasticPolicy, size: int) -> int:
    return max(policy.min_size, min(size, policy.max_size))


def _voted(state: ElasticState, vote: int, size: int) -> ElasticState:
    """Count a vote; one in the other direction starts the count anew."""
    if state.votes * vote <= 0:
        return replace(state, votes=vote, agreed=size)
    nearest = min(state.agreed, size) if vote > 0 else max(state.agreed, size)
    return replace(state, votes=state.votes + vote, agreed=nearest)


def _decided(
    state: ElasticState, total: float, now: float, votes: int, cooldown_s: float
) -> tuple[ElasticState, int, str]:
    assert state.size is not None
    wish = f"a load of {total:g} asks for {state.agreed} member(s)"
    if abs(state.votes) < votes:
        return state, state.size, f"{wish}; vote {abs(state.votes)} of {votes}"
    if state.changed_at is not None and now - state.changed_at < cooldown_s:
        left_s = cooldown_s - (now - state.changed_at)
        return state, state.size, f"{wish}; not within {left_s:.3g} s more of the last change"
    return _moved(state.agreed, now), state.agreed, f"{wish}; agreed by {abs(state.votes)} vote(s)"


def _moved(size: int, now: float) -> ElasticState:
    return ElasticState(votes=0, agreed=size, size=size, changed_at=now)
