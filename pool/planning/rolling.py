"""Replace members of an old generation by a new one, a few at a time.

Purpose: `plan_roll` looks at the slots as they are and says what to do next. It keeps two bounds:
no more members than the desired size and the surge (INV-2), and no fewer ready ones than the
desired size less what may be unavailable.

Limits: a *generation* here is that of the specification a member was made from; every one that
differs from the target is old, so that rolling back is rolling to the earlier one. The planner
counts, and gives no ranks. The pool's size is the reconcile planner's: of the members of the
target generation none is let go here, however many there are.

Why not a cursor ("slots above 3 are done"): a cursor is a second truth beside the slots. Whoever
crashes in the middle of a roll would have to save it, and a member that is replaced for another
reason makes it lie. Here nothing is remembered, so that pause, crash, roll back and roll on are
the same code.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pool.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class RollPolicy:
    """Say how many members more, and how many ready ones fewer, a roll may have.

    Args:
        surge: Members beyond the desired size; 0 or more.
        max_unavailable: Ready members below the desired size; 0 or more. One of the two is above 0.

    Raises:
        ConfigError: A value is out of its range; `field` names it.
    """

    surge: int = 1
    max_unavailable: int = 0

    def __post_init__(self) -> None:
        for name in ("surge", "max_unavailable"):
            value = getattr(self, name)
            if type(value) is not int or value < 0:
                raise ConfigError(f"{name} is {value!r}; give a whole number, 0 or more", name)
        if self.surge == self.max_unavailable == 0:
            message = (
                "surge and max_unavailable are both 0; give 1 or more to one, or nothing can move"
            )
            raise ConfigError(message, "surge")


@dataclass(frozen=True, slots=True)
class RollSlot:
    """Show one slot to the planner.

    Args:
        slot: The slot's index.
        generation: The generation of its member's specification; None when it has no member.
        ready: Whether its member is ready.
        leaving: Whether its member is on its way out already, for whatever reason.
    """

    slot: int
    generation: int | None
    ready: bool = False
    leaving: bool = False


class RollVerb(StrEnum):
    """Name what is to be done with a slot."""

    START = "start"
    """Start a member of the target generation in it; open the slot first if it is none yet."""
    DRAIN = "drain"
    """Let its member leave."""
    CLOSE = "close"
    """Give the empty slot back."""


@dataclass(frozen=True, slots=True)
class RollStep:
    """Say one thing to do, and why.

    Args:
        verb: What to do.
        slot: The index of the slot to do it with.
        reason: Why, as a sentence without its full stop.
    """

    verb: RollVerb
    slot: int
    reason: str


@dataclass(frozen=True, slots=True)
class RollPlan:
    """Say what to do now, and whether the roll is over.

    Args:
        steps: What to do, in any order or all at once.
        done: Whether only the target generation is left, all of it ready.
        reason: How far the roll is, as a sentence without its full stop.
    """

    steps: tuple[RollStep, ...]
    done: bool
    reason: str


def plan_roll(
    slots: Sequence[RollSlot],
    *,
    desired: int,
    target: int,
    policy: RollPolicy,
    paused: bool = False,
) -> RollPlan:
    """Plan the next steps of a roll.

    Args:
        slots: Every slot of the pool, in any order.
        desired: How many members the pool is meant to have; 0 or more.
        target: The generation to roll to.
        policy: The bounds.
        paused: Whether to hold the roll where it is. What is missing is started all the same, up to
            the desired size, in the target generation.

    Returns:
        The plan. Done once with all its steps and asked again, it goes on from what is observed
        then. A member that never gets ready stops the roll; nothing that works is given up for it.
    """
    census = _Census(slots, target)
    available = len(census.old_ready) + census.new_ready
    floor = max(0, desired - policy.max_unavailable)
    starts = _starts(census, desired, 0 if paused else policy.surge)
    drains = [] if paused else _drains(census, available, floor)
    closes = _closes(census, starts, desired)
    done = census.new == census.new_ready == desired and not census.old and not census.leaving
    held = "paused at " if paused else ""
    reason = (
        f"{held}{census.new_ready} of {desired} ready in generation {target}, "
        f"{census.old} older, {available} ready in all of at least {floor}"
    )
    return RollPlan((*starts, *drains, *closes), done, reason)


class _Census:
    """Sort the slots by what the plan asks about them."""

    def __init__(self, slots: Iterable[RollSlot], target: int) -> None:
        self.target = target
        self.indexes: set[int] = set()
        self.empty: list[int] = []
        self.old_ready: list[int] = []
        self.old_unready: list[int] = []
        self.new = self.new_ready = self.leaving = 0
        for each in sorted(slots, key=lambda each: each.slot):
            self.indexes.add(each.slot)
            if each.generation is None:
                self.empty.append(each.slot)
            elif each.leaving:
                self.leaving += 1
            elif each.generation == target:
                self.new += 1
                self.new_ready += each.ready
            else:
                (self.old_ready if each.ready else self.old_unready).append(each.slot)

    @property
    def old(self) -> int:
        return len(self.old_ready) + len(self.old_unready)


def _starts(census: _Census, desired: int, surge: int) -> list[RollStep]:
    """Start what is missing in the target generation, as far as there is room (INV-2)."""
    live = census.new + census.old + census.leaving
    number = max(0, min(desired - census.new, desired + surge - live))
    # Slots that are there come before new ones: a slot is stable, and so is what is called by it.
    unused = (index for index in itertools.count() if index not in census.indexes)
    return [
        RollStep(RollVerb.START, index, f"generation {census.target} lacks a member here")
        for index in itertools.islice(itertools.chain(census.empty, unused), number)
    ]


def _drains(census: _Census, available: int, floor: int) -> list[RollStep]:
    """Let old members leave, as far as enough stay ready; the highest slot first."""
    # An old member that is not ready costs nothing now, but may yet get ready. Unless enough
    # would be ready even if no new one ever gets so, it is kept: a generation that never works
    # must not use the old one up.
    spare = available + len(census.old_unready) - floor
    broken = census.old_unready[::-1][: max(0, spare)]
    surplus = census.old_ready[::-1][: max(0, available - floor)]
    return [
        *(RollStep(RollVerb.DRAIN, slot, "it is old, and not ready") for slot in broken),
        *(
            RollStep(RollVerb.DRAIN, slot, f"it is old, and {floor} ready ones stay without it")
            for slot in surplus
        ),
    ]


def _closes(census: _Census, starts: Sequence[RollStep], desired: int) -> list[RollStep]:
    """Give back the empty slots that no member is to come for."""
    if census.new + len(starts) < desired:
        return []
    taken = {step.slot for step in starts}
    reason = f"generation {census.target} has all its {desired} member(s) elsewhere"
    return [RollStep(RollVerb.CLOSE, slot, reason) for slot in census.empty if slot not in taken]
