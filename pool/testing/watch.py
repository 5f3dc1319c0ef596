"""The invariants of a pool over time, checked from outside: its events, and who was to blame.

`Watch` knows from the simulation what no manager can know: whether a member that was judged ill
was ill. What can be seen at one moment is in `invariants.py`.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

import anyio

from pool.manager.events import Event, EventKind
from pool.manager.manager import ResourcePoolManager
from pool.manager.member import Member
from pool.planning.lifecycle import State
from pool.planning.plan import Role
from pool.planning.restart import Cause
from pool.testing.actors import SimActor
from pool.testing.cluster import SimulatedCluster
from pool.testing.invariants import InvariantBroken, broken_now, is_of, is_unheard, member_of

GUILT_S = 120.0
"""How long after a lost reply, or a silence, a bad verdict on a member may still come of it."""
SLACK_S = 1.0
"""How late a drain may begin: the loop's next round, and a plan or two."""


class Watch:
    """Follow a pool, and remember what broke an invariant. Begin it before the pool is opened.

    Args:
        pool: The pool.
        cluster: The cluster it works in.

    `occasions` counts how often a member was cut off, a rank was taken over by a spare, and a
    member that was ready left for a roll, so that a test can see that they occurred at all.
    """

    def __init__(self, pool: ResourcePoolManager[Any], cluster: SimulatedCluster) -> None:
        self._pool = pool
        self._cluster = cluster
        self._broken: list[str] = []
        self._excused: set[tuple[int | None, int | None]] = set()
        self._retired: set[int] = set()
        self._cut_off: set[tuple[int | None, int | None]] = set()
        self._ranks: dict[int, int] = {}
        self._states: dict[tuple[int | None, int | None], State] = {}
        self._vacant: dict[int, float] = {}
        self._serial = 0
        self._terms: dict[int, tuple[int, str]] = {}
        self._due: dict[tuple[int | None, int | None], float] = {}
        self._restarts: dict[Cause | None, deque[float]] = {}
        self._causes: dict[int | None, Cause] = {}
        self._has_failed = False
        self.restarts = 0
        self.faults: Counter[str] = Counter()
        self.occasions: Counter[str] = Counter()
        pool.follow(self._hear)

    def check(self) -> None:
        """Raise what was seen to break since the beginning, and what is broken now.

        Raises:
            InvariantBroken: Something does not hold.
        """
        self._check_drains()
        self._check_terms()
        self._check_vacant()
        self._check_lapses()
        broken = [*self._broken, *broken_now(self._pool, self._cluster.world)]
        if broken:
            raise InvariantBroken(broken, self._cluster.story())

    def check_closed(self) -> None:
        """Check that a closed pool left nothing (INV-4).

        Raises:
            InvariantBroken: Something does not hold.
        """
        self.check()
        left = [
            text
            for text in self._cluster.left(self._pool.name, self._pool.instance)
            if not self._is_excused(text)
        ]
        if left:
            broken = [f"INV-4: after the pool closed there is still {text}" for text in left]
            raise InvariantBroken(broken, self._cluster.story())

    def _is_excused(self, text: str) -> bool:
        """Whether it is an actor on a node that nobody can reach, which was told to end."""
        return any(
            f"actor {actor}" == text and is_unheard(actor)
            for actor in self._cluster.world.actors.values()
        )

    # -- what is heard ------------------------------------------------------------------------

    def _hear(self, event: Event) -> None:
        self._check_vacant()
        member = (event.slot, event.generation)
        match event.kind:
            case EventKind.MEMBER_STATE:
                self._hear_state(event, member)
            case EventKind.MEMBER_FAULT:
                cause = Cause(event.facts["cause"])
                self.faults[cause] += 1
                self._excused.add(member)
                self._due.pop(member, None)
                self._causes[event.slot] = cause
                if cause is Cause.UNHEALTHY:
                    self._check_guilt(event, "judged unhealthy")
                self._check_drainer(event)
            case EventKind.MEMBER_CUT_OFF:
                self._cut_off.add(member)
                self.occasions["cut off"] += 1
            case EventKind.SLOT_SPARED:
                assert event.slot is not None
                self._ranks.pop(event.slot, None)
                self.occasions["taken over"] += 1
            case EventKind.MEMBER_NOTICE:
                self._hear_notice(event, member)
            case EventKind.RESTART_PLANNED:
                self._hear_restart(event)
            case EventKind.SLOT_RETIRED:
                self._hear_retired(event)
            case EventKind.SLOT_RANKED | EventKind.SLOT_OPENED:
                self._hear_ranked(event)
            case EventKind.POOL_FAILED:
                self._has_failed = True
            case EventKind.SLOT_CLOSED:
                assert event.slot is not None
                self._retired.discard(event.slot)
                self._ranks.pop(event.slot, None)
                self._excused = {who for who in self._excused if who[0] != event.slot}
                self._due = {who: at for who, at in self._due.items() if who[0] != event.slot}
            case _:
                pass

    def _hear_state(self, event: Event, member: tuple[int | None, int | None]) -> None:
        state = State(event.facts["state"])
        before = self._states.get(member)
        self._states[member] = state
        if state is State.PENDING:
            members = self._pool.members()
            self._check_serial(event, members)
            live = len(members) - len(self._cut_off)
            most = self._pool.most
            if live > most:
                self._break(f"INV-2: {live} members live, {most} may, as slot {event.slot} starts")
        elif state is State.SUSPECT:
            self._check_guilt(event, "suspected")
        elif state is State.GONE:
            self._cut_off.discard(member)
            del self._states[member]
        elif state.is_leaving:
            self._due.pop(member, None)
            is_rolled = "outdated" in event.facts["reason"] and self._is_outdated(event.slot)
            is_excused = member in self._excused or is_rolled
            if before is State.READY and is_rolled and member not in self._excused:
                self._check_roll(event)
            if not is_excused and event.slot not in self._retired:
                self._break(
                    f"INV-3: {event.slot}.{event.generation} is {state} without a reason of its "
                    f"own: {event.facts['reason']}"
                )

    def _check_terms(self) -> None:
        for member in self._pool.members():
            if member.rank is None or member.state is not State.READY:
                continue
            term, holder = self._terms.get(member.rank, (0, member.id))
            if member.term < term or (member.term == term and holder != member.id):
                self._break(
                    f"INV-16: {member.id} holds rank {member.rank} in term {member.term}, and "
                    f"{holder} held it in term {term}"
                )
            self._terms[member.rank] = member.term, member.id

    def _check_serial(self, event: Event, members: list[Member[Any]]) -> None:
        [serial] = [member.serial for member in members if member.slot == event.slot]
        if serial <= self._serial:
            self._break(
                f"INV-16: {event.slot}.{event.generation} has serial {serial} after {self._serial}"
            )
        self._serial = max(self._serial, serial)

    def _check_roll(self, event: Event) -> None:
        """Look at a member that was ready, and leaves for no other reason than a roll."""
        self.occasions["rolled"] += 1
        slots = {slot.index: slot for slot in self._pool.snapshot().slots}
        assert event.slot is not None
        if slots[event.slot].rank is None:
            return  # Somebody who is ready has taken it over, or the pool shrinks.
        roll = self._pool.roll_policy
        floor = self._pool.desired - (0 if roll is None else roll.max_unavailable)
        ready = len(self._pool.members(serving=True))
        if ready < floor:
            self._break(
                f"INV-15: the roll takes {event.slot}.{event.generation} away, which leaves "
                f"{ready} ready, {floor} have to be"
            )

    def _check_vacant(self) -> None:
        """Look for ranks that nobody serves although a spare is there (INV-14)."""
        if not self._pool.policies.spares:
            return
        pool, loop = self._pool.snapshot(), self._cluster.world.loop
        # Whoever stands still sees nothing of what happens meanwhile.
        now = anyio.current_time() - loop.stalled_s
        held = {
            slot.rank for slot in pool.slots if slot.member is not None and slot.member.state.is_up
        }
        vacant = set(range(pool.desired)) - held if pool.spares_ready else set()
        self._vacant = {rank: self._vacant.get(rank, now) for rank in sorted(vacant)}
        for rank, since in self._vacant.items():
            if now - since > SLACK_S:
                self._break(f"INV-14: rank {rank} has nobody, and a spare waits")
                self._vacant = {}
                break

    def _check_lapses(self) -> None:
        """Look at those whose lease ended while their owner was there to renew it (INV-17)."""
        world = self._cluster.world
        for actor, at, still_at in world.lapsed:
            if member_of(self._pool, actor.spec.identity) is None:
                continue
            lease = actor.book.lease
            span_s = GUILT_S if lease is None else lease.lasts_s + GUILT_S
            if at - still_at > span_s and not _is_unreachable(actor, at - span_s):
                self._break(f"INV-17: the lease of {actor} ended, and its owner is there")
        world.lapsed.clear()

    def _hear_notice(self, event: Event, member: tuple[int | None, int | None]) -> None:
        if str(event.facts["notice"]).startswith("withdrawn"):
            # Whoever began to leave meanwhile may go on leaving.
            self._due.pop(member, None)
            return
        if event.facts.get("answer") == "none":
            return
        self._excused.add(member)
        left_s = event.facts.get("left_s")
        if left_s is None:
            return  # Its node may well stay.
        ladder_s = self._pool.policies.drain.timeout_s
        due = anyio.current_time() + max(0.0, left_s - ladder_s)
        self._due[member] = min(due, self._due.get(member, due))

    def _check_drains(self) -> None:
        now = anyio.current_time()
        for slot in self._pool.snapshot().slots:
            member = slot.member
            if member is None or not member.state.is_up:
                continue
            due = self._due.get((slot.index, member.generation))
            if due is not None and now > due + SLACK_S:
                self._break(f"INV-7: {member.id} is to leave, and is {now - due:.1f} s late")
                self._due.pop((slot.index, member.generation))

    def _hear_restart(self, event: Event) -> None:
        if self._pool.failed is not None:
            return  # Nothing is started until somebody scales the pool again.
        if self._has_failed:
            # Somebody did, and with that decided to start afresh.
            self._has_failed = False
            self._restarts.clear()
        self.restarts += 1
        policy = self._pool.policies.restart
        cause = self._causes[event.slot]
        account = cause if cause in policy.budgets else None
        limit = policy.intensity if account is None else policy.budgets[account]
        now = anyio.current_time()
        times = self._restarts.setdefault(account, deque())
        times.append(now)
        while times[0] <= now - policy.period_s:
            times.popleft()
        if limit is not None and len(times) > limit:
            self._break(f"INV-6: {len(times)} restarts in {policy.period_s:g} s, {limit} may be")

    def _hear_retired(self, event: Event) -> None:
        assert event.slot is not None
        self._retired.add(event.slot)
        self._ranks.pop(event.slot, None)
        slots = {slot.index: slot for slot in self._pool.snapshot().slots}
        member = slots[event.slot].member
        if member is None or (event.slot, member.generation) in self._excused | self._cut_off:
            return
        if self._is_outdated(event.slot):
            return
        holders = sum(slot.role is Role.HOLDER for slot in slots.values())
        replaced = "replaced" in str(event.facts["reason"])
        if holders < self._pool.desired and not replaced:
            self._break(
                f"INV-3: healthy slot {event.slot} retires with {holders} holders left of "
                f"{self._pool.desired}: {event.facts['reason']}"
            )

    def _is_outdated(self, slot: int | None) -> bool:
        pool = self._pool.snapshot()
        return any(
            each.index == slot and each.member is not None and each.member.revision != pool.revision
            for each in pool.slots
        )

    def _hear_ranked(self, event: Event) -> None:
        rank = event.facts["rank"]
        if rank is None or event.slot is None:
            return
        before = self._ranks.get(event.slot)
        if before is not None and before != rank and before < self._pool.desired:
            self._break(f"INV-3: slot {event.slot} had rank {before}, and gets rank {rank}")
        self._ranks[event.slot] = rank

    def _check_guilt(self, event: Event, verdict: str) -> None:
        """A verdict needs a fault of the member's; that nobody asked is none (INV-9)."""
        for actor in self._actors_of(event):
            if not _is_guilty(actor, self._cluster.world.now):
                self._break(f"INV-9: {actor} was {verdict}, and did nothing")

    def _check_drainer(self, event: Event) -> None:
        """Whoever drains is lost when it dies, and not when it is too busy to answer (INV-9)."""
        if not any(
            (member.slot, member.generation) == (event.slot, event.generation)
            and member.state.is_leaving
            for member in self._pool.members()
        ):
            return
        for actor in self._actors_of(event):
            now = self._cluster.world.now
            hosts_are_heard = all(
                host.place is None or now - host.place.silent_at > GUILT_S
                for host in actor.children.values()
            )
            # One that hangs in `drain` does not know that it is to leave, and judges its hosts.
            judged_itself = "drain" in actor.hung and event.facts["reason"].startswith("host ")
            if not judged_itself and now - actor.hurt_at > GUILT_S and hosts_are_heard:
                self._break(f"INV-9: {actor} was judged while it drained")

    def _actors_of(self, event: Event) -> list[SimActor]:
        return [
            actor
            for actor in self._cluster.world.actors.values()
            if is_of(self._pool, actor.spec.identity)
            and actor.spec.identity.slot == event.slot
            and actor.spec.identity.generation == event.generation
        ]

    def _break(self, sentence: str) -> None:
        self._broken.append(f"{sentence} (at {anyio.current_time():.3f} s)")


def _is_unreachable(actor: SimActor, since: float) -> bool:
    """Whether an actor, or somebody above it, could not be reached, or was dead."""
    if actor.is_cut_off or actor.doomed or actor.died_at > since:
        return True
    if actor.place is not None and (actor.place.silent or actor.place.silent_at > since):
        return True
    return actor.owner is not None and _is_unreachable(actor.owner, since)


def _is_guilty(actor: SimActor, now: float) -> bool:
    """Whether the actor, or one below it, gave a reason for a bad verdict."""
    if actor.hung or actor.is_ill or now - max(actor.spoilt_at, actor.hurt_at) < GUILT_S:
        return True
    if actor.place is not None and now - actor.place.silent_at < GUILT_S:
        return True
    return any(_is_guilty(child, now) for child in actor.children.values())
