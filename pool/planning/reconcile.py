"""What a pool should do next, from what is observed and what is desired.

`reconcile(slots, goal, now)` is level-triggered: it looks at every slot as it is, and says what
would bring the pool one step nearer to its goal. It remembers nothing, so it cannot be wrong about
the past; an event that was missed costs time, never correctness. The obvious alternative, a
handler for each event, has to be right for every order in which events may come.

Limits: health and restarts are judged elsewhere (`health.py`, `restart.py`); here their outcome is
read from the slot as `fault`, `not_before` and `given_up`. Who of a roll's outdated members goes
next is chosen in `rolling.py`. Cost: O(n), and O(n log n) when the pool shrinks or nodes leave.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from pool.planning.lifecycle import State
from pool.planning.plan import Action, Goal, Plan, Role, SlotView, Verb
from pool.planning.rolling import choose_outdated
from pool.planning.sizes import Candidate, choose_victims


def reconcile(slots: Sequence[SlotView], goal: Goal, now: float) -> Plan:
    """Plan the next steps of a pool.

    Args:
        slots: Every slot of the pool, in any order.
        goal: What the pool is meant to be.
        now: Seconds, on the pool's clock.

    Returns:
        The plan. From a settled pool it is empty (INV-5). It never starts a member that would
        bring the number of live members above `goal.most` (INV-2), and it names no slot but those
        that are not as they should be, and the spares that help them (INV-3).
    """
    ranks: set[int] = set()
    spares = []
    unsettled = []
    settled = 0
    for slot in slots:
        if not slot.is_well:
            unsettled.append(slot)
        elif slot.role is Role.HOLDER and slot.rank is not None:
            ranks.add(slot.rank)
            settled += 1
        elif slot.role is Role.SPARE:
            spares.append(slot)
        else:
            unsettled.append(slot)
    has_gaps = len(ranks) < settled or max(ranks, default=-1) >= goal.desired
    is_whole = settled == goal.desired and len(spares) == goal.spares_now
    if not unsettled and is_whole and not has_gaps:
        return Plan()
    # With whole ranks, none of the settled slots can be concerned but by a smaller pool.
    concerned = slots if has_gaps else [*unsettled, *spares]
    return _Draft(slots, concerned, ranks, goal, now).plan()


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
        self.owed: dict[int, float] = {}
        self.unused = self._unused_indexes()

    def role(self, index: int) -> Role:
        return self.new_role.get(index) or self.slots[index].role

    def rank(self, index: int) -> int | None:
        return self.new_rank[index] if index in self.new_rank else self.slots[index].rank

    def plan(self) -> Plan:
        self._set_apart()
        self._settle_replacements()
        self._shrink()
        self._promote_spares()
        self._rank_and_grow()
        self._count_spares()
        leaving, outdated = [], []
        for slot in self.concerned.values():
            if slot.is_well:
                if self.role(slot.index) is Role.RETIRING:
                    self._drain(slot, "the pool does not need it any more")
            elif slot.lingers:
                self.waiting[slot.index] = "it is cut off, and may live until its lease ends"
            elif slot.fault is not None and slot.state is not None:
                self._stop(slot, slot.fault)
            elif self.role(slot.index) is Role.RETIRING:
                self._retire_further(slot)
            elif slot.state is None:
                self._consider_start(slot)
            elif slot.leave_by is not None and slot.state.is_up:
                leaving.append(slot)
            elif slot.outdated and slot.state.is_up:
                outdated.append(slot)
            else:
                self._await(slot)
        self._leave(leaving)
        self._roll(outdated)
        self._start()
        wake_at = None if self.wake_at == math.inf else self.wake_at
        return Plan(tuple(self.actions), self.waiting, wake_at)

    # -- roles and ranks ----------------------------------------------------------------------

    def _set_apart(self) -> None:
        """Take the rank from whoever is cut off: it cannot be told, nor waited for (INV-1)."""
        for slot in self.concerned.values():
            if slot.lingers and slot.role is not Role.RETIRING:
                if slot.rank is not None:
                    self.owed[slot.rank] = slot.not_before
                self._retire(slot.index, "it is cut off; its successor gets a slot of its own")

    def _settle_replacements(self) -> None:
        found = [s for s in self.concerned.values() if self.role(s.index) is Role.REPLACEMENT]
        begun = sum(slot.state is not None and self._is_rolled(slot.replaces) for slot in found)
        for replacement in sorted(found, key=lambda slot: slot.index):
            index = replacement.index
            replaced = replacement.replaces
            original = None if replaced is None else self.slots.get(replaced)
            if original is None or self.role(original.index) is not Role.HOLDER:
                self._retire(index, f"slot {replaced} is not to be replaced any more")
            elif original.index in self.replacement_of:
                self._retire(index, f"slot {replaced} has a replacement already")
            elif original.is_well:
                # Also when the replacement is ready: work is at the one that has been serving.
                self._retire(index, f"slot {replaced} stays after all")
            elif replacement.state is State.READY and replacement.fault is None:
                why = "its node leaves" if original.leave_by is not None else "it is outdated"
                self._hand_over(original.index, index, f"{why}, its replacement is ready")
            elif original.state is None or original.state is State.STOPPING or original.fault:
                # Somebody is already on the way; starting a second one would take longer.
                self._hand_over(original.index, index, "it is gone; its replacement is coming")
            elif original.leave_by is None and not original.outdated:
                self._retire(index, f"slot {replaced} stays after all")
            elif original.state.is_coming:
                self._hand_over(original.index, index, "it leaves before it was ready")
            elif (
                (roll := self.goal.roll) is not None
                and self._is_rolled(original.index)
                and replacement.state is None
                and begun >= roll.surge
            ):
                # It might never start, and for as long as it waits the other one would stay.
                self._retire(index, f"the roll has no surge for a replacement of slot {replaced}")
            else:
                begun += replacement.state is None and self._is_rolled(original.index)
                self.replacement_of[original.index] = index

    def _is_rolled(self, index: int | None) -> bool:
        """Whether a slot's member leaves for no other reason than that it is outdated."""
        slot = None if index is None else self.slots.get(index)
        return (
            slot is not None
            and slot.outdated
            and slot.leave_by is None
            and slot.state is not None
            and slot.state.is_up
        )

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
            _candidate(slot) for slot in self.slots.values() if self.role(slot.index) is Role.HOLDER
        ]
        for index, reason in choose_victims(candidates, surplus, least_busy=True):
            size = f"the pool shrinks to {self.goal.desired}"
            self._retire(index, f"{size}: {reason}" if self.goal.desired else size)
            replacement = self.replacement_of.pop(index, None)
            if replacement is not None:
                self._retire(replacement, f"slot {index} is not to be replaced any more")

    def _promote_spares(self) -> None:
        """Give the ranks of the lost, and of those who must leave, to spares that are ready.

        The two change places, so that the slot of the lost one is filled again as the new spare.
        """
        spares = self._ready_spares()
        if not spares:
            return
        needy = [slot for slot in self.concerned.values() if self._needs_spare(slot)]
        needy.sort(key=lambda slot: (slot.state is not None and slot.state.is_up, slot.index))
        for slot, spare in zip(needy, spares, strict=False):
            rank = self.rank(slot.index)
            self.new_role[slot.index], self.new_rank[slot.index] = Role.SPARE, None
            reason = f"slot {spare} is ready and takes its rank"
            self.actions.append(Action(verb=Verb.SPARE, slot=slot.index, reason=reason))
            self._give_rank(spare, rank, f"it is a spare, and takes the place of slot {slot.index}")
            replacement = self.replacement_of.pop(slot.index, None)
            if replacement is not None:
                self._retire(replacement, f"slot {slot.index} has a spare in its place")

    def _ready_spares(self) -> list[int]:
        return sorted(
            slot.index
            for slot in self.concerned.values()
            if slot.is_well and self.role(slot.index) is Role.SPARE
        )

    def _needs_spare(self, slot: SlotView) -> bool:
        if self.role(slot.index) is not Role.HOLDER:
            return False
        if slot.state is None or not slot.state.is_up or slot.fault is not None:
            return True
        rolls = self.goal.roll is not None and not self.goal.roll.paused
        return self._leaves_its_rank(slot) or (slot.outdated and rolls)

    def _leaves_its_rank(self, slot: SlotView) -> bool:
        """Whether its node leaves, and somebody is to take its place before, or it goes now."""
        if slot.leave_by is None:
            return False
        goes_now = slot.leave_by - self.goal.ladder_s <= self.now
        return slot.replace_first or goes_now or not slot.has_deadline

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
        for index, rank in zip(self._ready_spares(), free_ranks, strict=False):
            self._give_rank(index, rank, "it is a spare, and the pool grows")
        for rank in free_ranks:
            reason = f"rank {rank} of {self.goal.desired} has no slot"
            self._open(reason, Role.HOLDER, rank=rank, not_before=self.owed.get(rank, -math.inf))

    def _count_spares(self) -> None:
        spares = [s for s in self.concerned.values() if self.role(s.index) is Role.SPARE]
        missing = self.goal.spares_now - len(spares)
        for number in range(missing):
            of = f"{len(spares) + number} of {self.goal.spares_now}"
            self._open(f"the pool has {of} spares", Role.SPARE, urgency=math.inf)
        spares.sort(key=lambda slot: (slot.is_well, -slot.index))
        for slot in spares[: max(0, -missing)]:
            self._retire(slot.index, f"{self.goal.spares_now} spares are enough")

    def _unused_indexes(self) -> Iterator[int]:
        index = 0
        while True:
            if index not in self.slots:
                yield index
            index += 1

    def _open(
        self,
        reason: str,
        role: Role,
        *,
        rank: int | None = None,
        replaces: int | None = None,
        not_before: float = -math.inf,
        urgency: float = -math.inf,
    ) -> None:
        index = next(self.unused)
        self.actions.append(
            Action(
                verb=Verb.OPEN,
                slot=index,
                reason=reason,
                role=role,
                rank=rank,
                replaces=replaces,
                not_before=not_before,
            )
        )
        if not_before <= self.now:
            self.startable.append((urgency, index, reason))
        else:
            self._back_off(index, not_before)

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
            self._back_off(slot.index, slot.not_before)
        else:
            # Holders come before replacements, and these before spares; NB: a replacement may
            # have been promoted above.
            urgency = {Role.HOLDER: -math.inf, Role.SPARE: math.inf}
            first = urgency.get(self.role(slot.index), 0.0)
            self.startable.append((first, slot.index, "its slot has no member"))

    def _back_off(self, index: int, until: float) -> None:
        self.waiting[index] = f"backs off {until - self.now:.1f} s more"
        self.wake_at = min(self.wake_at, until)

    def _await(self, slot: SlotView) -> None:
        assert slot.state is not None
        if slot.state is State.DRAINING and not slot.must_leave and not slot.outdated:
            reason = "what it was to leave for was withdrawn"
            self.actions.append(Action(verb=Verb.RESTORE, slot=slot.index, reason=reason))
        elif slot.state.is_coming and slot.must_leave:
            self._stop(slot, "a node it was to run on is leaving")
        elif slot.state.is_coming and slot.outdated:
            self._stop(slot, "it is outdated before it was ready")
        else:
            self.waiting[slot.index] = str(slot.state)

    def _leave(self, leaving: list[SlotView]) -> None:
        """Answer notices, nearest deadline first (INV-7)."""
        replacements = self._under_way(slot for slot in leaving)
        for slot in sorted(leaving, key=lambda slot: (slot.leave_by, slot.index)):
            assert slot.leave_by is not None
            if self.role(slot.index) is Role.SPARE and not slot.must_leave:
                self.waiting[slot.index] = "its node may leave; as a spare it stays"
                continue
            if self.role(slot.index) is Role.SPARE:
                self._drain(slot, "its node is leaving", slot.leave_by)
                continue
            latest = slot.leave_by - self.goal.ladder_s
            replacement = self.replacement_of.get(slot.index)
            is_replaced = slot.replace_first and self.goal.surge > 0
            if latest <= self.now or not (slot.has_deadline or is_replaced):
                if replacement is not None:
                    self._hand_over(slot.index, replacement, "its node leaves before that is ready")
                self._drain(slot, "its node is leaving", slot.leave_by)
                continue
            self.wake_at = min(self.wake_at, latest)
            if not slot.replace_first:
                self.waiting[slot.index] = "its node is leaving; works on until it has to go"
                continue
            self.waiting[slot.index] = "its node is leaving; waits for its replacement"
            if replacement is None and replacements < self.goal.surge:
                replacements += 1
                reason = f"a node of slot {slot.index} is leaving"
                self._open(reason, Role.REPLACEMENT, replaces=slot.index, urgency=slot.leave_by)

    def _roll(self, outdated: list[SlotView]) -> None:
        """Let outdated members go, a few at a time."""
        if not outdated:
            return
        policy = self.goal.roll
        choice = None
        if policy is not None:
            free = [
                slot
                for slot in outdated
                if self.role(slot.index) is Role.HOLDER and slot.index not in self.replacement_of
            ]
            choice = choose_outdated(
                [slot.index for slot in free if slot.state is State.READY],
                [slot.index for slot in free if slot.state is not State.READY],
                available=self._available(),
                replacing=self._under_way(outdated),
                desired=self.goal.desired,
                policy=policy,
            )
        for slot in outdated:
            if choice is None or (policy is not None and policy.paused):
                self.waiting[slot.index] = "it is outdated; no roll is under way"
            elif self.role(slot.index) is not Role.HOLDER or slot.index in choice.drain:
                self._drain(slot, "it is outdated")
            else:
                self.waiting[slot.index] = "it is outdated; waits for its turn"
                if slot.index in choice.replace:
                    reason = f"slot {slot.index} is outdated"
                    self._open(reason, Role.REPLACEMENT, replaces=slot.index, urgency=math.inf)

    def _available(self) -> int:
        """Count the holders that are ready and stay."""
        return (
            len(self.slots)
            - len(self.concerned)
            + sum(
                slot.state is State.READY
                and slot.fault is None
                and slot.leave_by is None
                and self.role(slot.index) is Role.HOLDER
                for slot in self.concerned.values()
            )
        )

    def _under_way(self, originals: Iterable[SlotView]) -> int:
        return sum(slot.index in self.replacement_of for slot in originals)

    def _start(self) -> None:
        """Start what may live: never more than the goal allows (INV-2)."""
        # Whoever is cut off is dead to the cluster, and holds nothing of it.
        idle = sum(slot.state is None or slot.lingers for slot in self.concerned.values())
        room = self.goal.most - (len(self.slots) - idle)
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


def _candidate(slot: SlotView) -> Candidate:
    return Candidate(
        slot=slot.index,
        ready=slot.state is not None and slot.state.is_up,
        healthy=slot.state is State.READY and slot.fault is None,
        leaving=slot.leave_by is not None,
        outdated=slot.outdated,
        in_flight=slot.in_flight,
    )
