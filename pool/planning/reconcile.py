"""What a pool should do next, from what is observed and what is desired.

`reconcile(slots, goal, now)` is level-triggered: it looks at every slot as it is, and says what
would bring the pool one step nearer to its goal. It remembers nothing, so it cannot be wrong about
the past; an event that was missed costs time, never correctness. The obvious alternative, a
handler for each event, has to be right for every order in which events may come.

Three words of this module:

- A *holder* has a rank: it is one of the members the pool is meant to have.
- A *replacement* stands in a slot of its own and gets the rank of the slot it replaces as soon as
  it is ready, so that the one who must leave is missed by nobody.
- A *retiring* slot has lost its rank: its member is drained, then the slot is closed.

Limits: health and restarts are judged elsewhere (`health.py`, `restart.py`); here their outcome is
read from the slot as `fault`, `not_before` and `given_up`. Cost: O(n), and O(n log n) when the pool
shrinks or nodes leave.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from pool.errors import ConfigError
from pool.planning.lifecycle import State
from pool.planning.sizes import Candidate, choose_victims


class Role(StrEnum):
    """Name what a slot is for."""

    HOLDER = "holder"
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
        leave_by: When its member's nodes go away, in seconds on the pool's clock; None when they
            stay.
        has_deadline: Whether `leave_by` was named by the notice, and not only assumed.
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
    leave_by: float | None = None
    has_deadline: bool = True
    not_before: float = -math.inf
    given_up: str | None = None
    in_flight: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """Say what the pool is meant to be.

    Args:
        desired: How many members.
        surge: How many more may live for a while, so that replacements can come first.
        ladder_s: How long a drain may take, in seconds; leaving begins that long before a
            deadline (INV-7).
    """

    desired: int
    surge: int = 1
    ladder_s: float = 30.0

    def __post_init__(self) -> None:
        for name in ("desired", "surge"):
            value = getattr(self, name)
            if type(value) is not int or value < 0:
                raise ConfigError(f"{name} is {value!r}; give a whole number, 0 or more", name)
        if not self.ladder_s >= 0:
            raise ConfigError(f"ladder_s is {self.ladder_s!r}; give 0 or more seconds", "ladder_s")


class Verb(StrEnum):
    """Name what is to be done with a slot."""

    OPEN = "open"
    START = "start"
    RANK = "rank"
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
        rank: The rank to give, for `open` (of a holder) and `rank`.
        replaces: The slot to replace, for `open` (of a replacement).
        deadline: When a `drain` has to be over, in seconds on the pool's clock; None when only
            the pool's own policy limits it.
    """

    verb: Verb
    slot: int
    reason: str
    rank: int | None = None
    replaces: int | None = None
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


_RESHAPING = frozenset({Verb.RANK, Verb.RETIRE, Verb.RESTORE, Verb.CLOSE})


def reconcile(slots: Sequence[SlotView], goal: Goal, now: float) -> Plan:
    """Plan the next steps of a pool.

    Args:
        slots: Every slot of the pool, in any order.
        goal: What the pool is meant to be.
        now: Seconds, on the pool's clock.

    Returns:
        The plan. From a settled pool it is empty (INV-5). It never starts a member that would
        bring the number of live members above `desired + surge` (INV-2), and it names no slot
        but those that are not as they should be (INV-3).
    """
    ranks: set[int] = set()
    unsettled = []
    for slot in slots:
        if slot.role is Role.HOLDER and slot.rank is not None and _is_well(slot):
            ranks.add(slot.rank)
        else:
            unsettled.append(slot)
    settled = len(slots) - len(unsettled)
    has_gaps = len(ranks) < settled or max(ranks, default=-1) >= goal.desired
    if not unsettled and settled == goal.desired and not has_gaps:
        return Plan()
    # With whole ranks, none of the settled slots can be concerned but by a smaller pool.
    return _Draft(slots, slots if has_gaps else unsettled, ranks, goal, now).plan()


def _is_well(slot: SlotView) -> bool:
    return slot.state is State.READY and slot.leave_by is None and slot.fault is None


class _Draft:
    """Collect the actions of one plan, with the roles and ranks as they will be after them."""

    def __init__(
        self,
        slots: Sequence[SlotView],
        concerned: Sequence[SlotView],
        ranks: set[int],
        goal: Goal,
        now: float,
    ) -> None:
        self.goal = goal
        self.now = now
        self.slots = {slot.index: slot for slot in slots}
        self.concerned = {slot.index: slot for slot in concerned}
        # The ranks of those that are not concerned, and the roles and ranks that are given anew.
        self.kept_ranks: set[int] = ranks if len(concerned) < len(slots) else set()
        self.new_role: dict[int, Role] = {}
        self.new_rank: dict[int, int | None] = {}
        self.replacement_of: dict[int, int] = {}
        self.actions: list[Action] = []
        self.waiting: dict[int, str] = {}
        self.wake_at = math.inf
        self.startable: list[tuple[float, int, str]] = []

    def role(self, index: int) -> Role:
        return self.new_role.get(index) or self.slots[index].role

    def rank(self, index: int) -> int | None:
        return self.new_rank[index] if index in self.new_rank else self.slots[index].rank

    def plan(self) -> Plan:
        self._settle_replacements()
        self._shrink()
        self._rank_and_grow()
        leaving = []
        for slot in self.concerned.values():
            if _is_well(slot):
                if self.role(slot.index) is Role.RETIRING:
                    self._drain(slot, "the pool does not need it any more")
            elif slot.fault is not None and slot.state is not None:
                self._stop(slot, slot.fault)
            elif self.role(slot.index) is Role.RETIRING:
                self._retire_further(slot)
            elif slot.state is None:
                self._consider_start(slot)
            elif slot.leave_by is not None and slot.state.is_up:
                leaving.append(slot)
            else:
                self._await(slot)
        self._leave(leaving)
        self._start()
        wake_at = None if self.wake_at == math.inf else self.wake_at
        return Plan(tuple(self.actions), self.waiting, wake_at)

    # -- roles and ranks ----------------------------------------------------------------------

    def _settle_replacements(self) -> None:
        found = [slot for slot in self.concerned.values() if slot.role is Role.REPLACEMENT]
        for replacement in sorted(found, key=lambda slot: slot.index):
            index = replacement.index
            replaced = replacement.replaces
            original = None if replaced is None else self.slots.get(replaced)
            if original is None or self.role(original.index) is not Role.HOLDER:
                self._retire(index, f"slot {replaced} is not to be replaced any more")
            elif original.index in self.replacement_of:
                self._retire(index, f"slot {replaced} has a replacement already")
            elif _is_well(original):
                # Also when the replacement is ready: work is at the one that has been serving.
                self._retire(index, f"the notice for slot {replaced} was withdrawn")
            elif replacement.state is not None and replacement.state.is_serving:
                self._hand_over(original.index, index, "its node leaves, its replacement is ready")
            elif original.state is None or original.state is State.STOPPING or original.fault:
                # Somebody is already on the way; starting a second one would take longer.
                self._hand_over(original.index, index, "it is gone; its replacement is coming")
            elif original.leave_by is None:
                self._retire(index, f"the notice for slot {replaced} was withdrawn")
            else:
                self.replacement_of[original.index] = index

    def _hand_over(self, original: int, replacement: int, reason: str) -> None:
        rank = self.rank(original)
        self._retire(original, reason)
        self._give_rank(replacement, rank, f"it takes the place of slot {original}: {reason}")

    def _shrink(self) -> None:
        unconcerned = len(self.slots) - len(self.concerned)
        holders = sum(self.role(index) is Role.HOLDER for index in self.concerned)
        surplus = unconcerned + holders - self.goal.desired
        if surplus <= 0:
            return
        # Anybody may have to go now, and the ranks of those who stay close up.
        self.concerned, self.kept_ranks = self.slots, set()
        candidates = [
            self._candidate(slot)
            for slot in self.slots.values()
            if self.role(slot.index) is Role.HOLDER
        ]
        for index, reason in choose_victims(candidates, surplus, least_busy=True):
            size = f"the pool shrinks to {self.goal.desired}"
            self._retire(index, f"{size}: {reason}" if self.goal.desired else size)
            replacement = self.replacement_of.pop(index, None)
            if replacement is not None:
                self._retire(replacement, f"slot {index} is not to be replaced any more")

    def _candidate(self, slot: SlotView) -> Candidate:
        return Candidate(
            slot=slot.index,
            ready=slot.state is not None and slot.state.is_up,
            healthy=slot.state is State.READY and slot.fault is None,
            leaving=slot.leave_by is not None,
            in_flight=slot.in_flight,
        )

    def _rank_and_grow(self) -> None:
        misplaced = []
        free = set(range(self.goal.desired)) - self.kept_ranks
        for index in self.concerned:
            if self.role(index) is Role.HOLDER:
                rank = self.rank(index)
                if rank in free:
                    free.remove(rank)
                else:
                    misplaced.append(index)
        if not free:
            return
        free_ranks = iter(sorted(free))
        for index, rank in zip(sorted(misplaced), free_ranks, strict=False):
            self._give_rank(index, rank, "ranks stay without gaps")
        unused = self._unused_indexes()
        for rank in free_ranks:
            index = next(unused)
            reason = f"rank {rank} of {self.goal.desired} has no slot"
            self.actions.append(Action(verb=Verb.OPEN, slot=index, rank=rank, reason=reason))
            self.startable.append((-math.inf, index, reason))

    def _unused_indexes(self) -> Iterator[int]:
        index = 0
        while True:
            if index not in self.slots:
                yield index
            index += 1

    def _retire(self, index: int, reason: str) -> None:
        self.new_role[index] = Role.RETIRING
        self.new_rank[index] = None
        self.actions.append(Action(verb=Verb.RETIRE, slot=index, reason=reason))

    def _give_rank(self, index: int, rank: int | None, reason: str) -> None:
        self.new_role[index] = Role.HOLDER
        self.new_rank[index] = rank
        self.actions.append(Action(verb=Verb.RANK, slot=index, rank=rank, reason=reason))

    # -- members ------------------------------------------------------------------------------

    def _retire_further(self, slot: SlotView) -> None:
        if slot.state is None:
            reason = "its member is gone and the pool does not need the slot"
            self.actions.append(Action(verb=Verb.CLOSE, slot=slot.index, reason=reason))
        elif slot.state.is_coming:
            self._stop(slot, "the pool does not need it any more")
        elif slot.state.is_up:
            self._drain(slot, "the pool does not need it any more", slot.leave_by)
        else:
            self.waiting[slot.index] = f"{slot.state} before its slot is closed"

    def _consider_start(self, slot: SlotView) -> None:
        if slot.given_up is not None:
            self.waiting[slot.index] = f"given up: {slot.given_up}"
        elif slot.not_before > self.now:
            self.waiting[slot.index] = f"backs off {slot.not_before - self.now:.1f} s more"
            self.wake_at = min(self.wake_at, slot.not_before)
        else:
            # Holders come before replacements; NB: a replacement may have been promoted above.
            urgency = -math.inf if self.role(slot.index) is Role.HOLDER else 0.0
            self.startable.append((urgency, slot.index, "its slot has no member"))

    def _await(self, slot: SlotView) -> None:
        assert slot.state is not None
        if slot.state is State.DRAINING and slot.leave_by is None:
            reason = "the notice was withdrawn"
            self.actions.append(Action(verb=Verb.RESTORE, slot=slot.index, reason=reason))
        elif slot.state.is_coming and slot.leave_by is not None:
            self._stop(slot, "a node it was to run on is leaving")
        else:
            self.waiting[slot.index] = str(slot.state)

    def _leave(self, leaving: list[SlotView]) -> None:
        """Answer notices, nearest deadline first (INV-7)."""
        replacements = sum(self.role(index) is Role.REPLACEMENT for index in self.concerned)
        unused = self._unused_indexes()
        opened = {action.slot for action in self.actions if action.verb is Verb.OPEN}
        for slot in sorted(leaving, key=lambda slot: (slot.leave_by, slot.index)):
            assert slot.leave_by is not None
            latest = slot.leave_by - self.goal.ladder_s
            replacement = self.replacement_of.get(slot.index)
            if latest <= self.now or not (slot.has_deadline or self.goal.surge):
                if replacement is not None:
                    self._hand_over(slot.index, replacement, "its node leaves before that is ready")
                self._drain(slot, "its node is leaving", slot.leave_by)
                continue
            self.wake_at = min(self.wake_at, latest)
            self.waiting[slot.index] = "its node is leaving; waits for its replacement"
            if replacement is None and replacements < self.goal.surge:
                index = next(index for index in unused if index not in opened)
                replacements += 1
                reason = f"a node of slot {slot.index} is leaving"
                self.actions.append(
                    Action(verb=Verb.OPEN, slot=index, replaces=slot.index, reason=reason)
                )
                self.startable.append((slot.leave_by, index, reason))

    def _start(self) -> None:
        """Start what may live: never more than desired + surge (INV-2)."""
        idle = sum(slot.state is None for slot in self.concerned.values())
        live = len(self.slots) - idle
        room = self.goal.desired + self.goal.surge - live
        for _, index, reason in sorted(self.startable):
            if room > 0:
                room -= 1
                self.actions.append(Action(verb=Verb.START, slot=index, reason=reason))
            else:
                self.waiting[index] = "waits until another member is gone"

    def _drain(self, slot: SlotView, reason: str, deadline: float | None = None) -> None:
        if deadline == math.inf:
            deadline = None
        self.actions.append(
            Action(verb=Verb.DRAIN, slot=slot.index, reason=reason, deadline=deadline)
        )

    def _stop(self, slot: SlotView, reason: str) -> None:
        if slot.state is State.STOPPING:
            self.waiting[slot.index] = f"stopping: {reason}"
        else:
            self.actions.append(Action(verb=Verb.STOP, slot=slot.index, reason=reason))
