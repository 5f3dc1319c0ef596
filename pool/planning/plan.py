"""What the reconcile planner sees of a pool, what it is to bring about, and what it answers.

Four words of these modules:

- A *holder* has a rank: it is one of the members the pool is meant to have.
- A *spare* is kept ready beyond the desired size, has no rank, and takes one over when a holder is
  lost or has to leave.
- A *replacement* stands in a slot of its own and gets the rank of the slot it replaces as soon as
  it is ready, so that the one who must leave is missed by nobody.
- A *retiring* slot has lost its rank: its member is drained, then the slot is closed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pool.errors import ConfigError
from pool.planning.lifecycle import State
from pool.planning.rolling import RollPolicy


class Role(StrEnum):
    """Name what a slot is for."""

    HOLDER = "holder"
    SPARE = "spare"
    REPLACEMENT = "replacement"
    RETIRING = "retiring"


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotView:
    """Show one slot to the planner.

    Args:
        index: The slot's stable index.
        role: What the slot is for.
        rank: Which of the pool's members it is, 0 to desired − 1; None unless it is a holder.
        replaces: The index of the slot it replaces, for a replacement.
        state: The state of its member; None when it has no member.
        fault: Why its member has to be stopped now; None when there is no reason.
        lingers: Whether its member is lost to the cluster, but may live on, cut off, until its
            lease ends. It is on its way out then, and cannot be hurried.
        outdated: Whether its member was made from another revision than the pool's present one.
        leave_by: When its member's nodes go away, in seconds on the pool's clock; None when they
            stay; infinite when they may well stay, and it goes only if another takes its place.
        has_deadline: Whether `leave_by` was named by the notice, and not only assumed.
        replace_first: Whether another is to take its place before it leaves.
        not_before: The end of its restart back-off, in seconds on the pool's clock.
        given_up: Why its member is not started again; None when it may be.
        in_flight: Calls that the pool has sent to its member and that have not returned.
    """

    index: int
    role: Role = Role.HOLDER
    rank: int | None = None
    replaces: int | None = None
    state: State | None = None
    fault: str | None = None
    lingers: bool = False
    outdated: bool = False
    leave_by: float | None = None
    has_deadline: bool = True
    replace_first: bool = True
    not_before: float = -math.inf
    given_up: str | None = None
    in_flight: int = 0

    @property
    def must_leave(self) -> bool:
        """Whether its member's nodes go away for sure."""
        return self.leave_by is not None and self.leave_by < math.inf

    @property
    def is_well(self) -> bool:
        """Whether nothing about its member asks for anything."""
        return (
            self.state is State.READY
            and self.leave_by is None
            and self.fault is None
            and not self.outdated
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """Say what the pool is meant to be.

    Args:
        desired: How many members.
        surge: How many more may live for a while, so that replacements can come first.
        spares: How many are kept ready beyond the desired size; none while that is 0.
        ladder_s: How long a drain may take, in seconds; leaving begins that long before a
            deadline (INV-7).
        roll: How fast members of another revision are replaced; None holds them as they are.
    """

    desired: int
    surge: int = 1
    spares: int = 0
    ladder_s: float = 30.0
    roll: RollPolicy | None = None

    def __post_init__(self) -> None:
        for name in ("desired", "surge", "spares"):
            value = getattr(self, name)
            if type(value) is not int or value < 0:
                raise ConfigError(f"{name} is {value!r}; give a whole number, 0 or more", name)
        if not self.ladder_s >= 0:
            raise ConfigError(f"ladder_s is {self.ladder_s!r}; give 0 or more seconds", "ladder_s")

    @property
    def spares_now(self) -> int:
        """How many spares the pool is to have at this size."""
        return self.spares if self.desired else 0

    @property
    def most(self) -> int:
        """How many members may live at once (INV-2)."""
        surge = self.surge if self.roll is None else max(self.surge, self.roll.surge)
        return self.desired + self.spares_now + surge


class Verb(StrEnum):
    """Name what is to be done with a slot."""

    OPEN = "open"
    START = "start"
    RANK = "rank"
    SPARE = "spare"
    RETIRE = "retire"
    DRAIN = "drain"
    RESTORE = "restore"
    STOP = "stop"
    CLOSE = "close"


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """Say one thing to do, and why.

    Args:
        verb: What to do.
        slot: The index of the slot to do it with.
        reason: Why, in a sentence.
        role: What to open the slot for, for `open`.
        rank: The rank to give, for `open` (of a holder) and `rank`.
        replaces: The slot to replace, for `open` (of a replacement).
        not_before: The back-off that a slot takes over from the one it is opened for.
        deadline: When a `drain` has to be over, in seconds on the pool's clock; None when only
            the pool's own policy limits it.
    """

    verb: Verb
    slot: int
    reason: str
    role: Role = Role.HOLDER
    rank: int | None = None
    replaces: int | None = None
    not_before: float = -math.inf
    deadline: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Say what to do now, what is waited for, and when to look again.

    Args:
        actions: What to do, in this order.
        waiting: For each slot that is not as it should be and cannot be helped now, the reason.
        wake_at: When time alone will change this plan, in seconds on the pool's clock.
    """

    actions: tuple[Action, ...] = ()
    waiting: Mapping[int, str] = field(default_factory=dict)
    wake_at: float | None = None

    @property
    def is_settled(self) -> bool:
        """Whether there is nothing to do and nothing to wait for (INV-5)."""
        return not self.actions and not self.waiting

    @property
    def may_allow_more(self) -> bool:
        """Whether carrying it out may at once allow what it could not plan yet.

        Members that only begin or end something change nothing more until they have done so.
        """
        return any(action.verb in _RESHAPING for action in self.actions)


_RESHAPING = frozenset({Verb.RANK, Verb.SPARE, Verb.RETIRE, Verb.RESTORE, Verb.CLOSE})
