"""The invariants of a pool, checked from outside: against its events, and what the cluster holds.

`validate` looks at one moment. `Watch` follows a pool's events as well, for what can be seen only
over time, and knows from the simulation what no manager can know: whether a member that was judged
ill was ill. The numbers are those of the documentation's page on invariants.

Limits: INV-8 is checked as the cluster's books; whether a plan is right is the planners' own
property. INV-11 is checked by cancelling things and calling this afterwards. INV-12 does not show
in a simulation without ports and devices.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

import anyio

from pool.cluster.lease import RESPITE_S
from pool.errors import PoolError
from pool.manager.events import Event, EventKind
from pool.manager.manager import ResourcePoolManager
from pool.manager.member import Member
from pool.planning.lifecycle import State
from pool.planning.plan import Role
from pool.planning.restart import Cause
from pool.testing.actors import SimActor
from pool.testing.cluster import SimulatedCluster
from pool.testing.world import World

GUILT_S = 120.0
"""How long after a lost reply, or a silence, a bad verdict on a member may still come of it."""
ORPHAN_S = 0.2
"""How long after its owner's death something may still be there."""
SLACK_S = 1.0
"""How late a drain may begin: the loop's next round, and a plan or two."""


class InvariantBroken(PoolError, AssertionError):
    """Say which invariants do not hold, and how it came to that.

    Args:
        broken: A sentence each, beginning with the invariant's number.
        story: The end of the cluster's log.
    """

    def __init__(self, broken: list[str], story: str = "") -> None:
        super().__init__(broken, story)
        self.broken = broken
        self.story = story

    def __str__(self) -> str:
        return "\n".join([*self.broken, "The story so far:", self.story])


def validate(pool: ResourcePoolManager[Any], cluster: SimulatedCluster) -> None:
    """Check all that can be seen of a pool's invariants at this moment.

    Args:
        pool: The pool; a replica pool or one of your own.
        cluster: The cluster it works in.

    Raises:
        InvariantBroken: Something does not hold.
    """
    broken = list(_broken_now(pool, cluster.world))
    if broken:
        raise InvariantBroken(broken, cluster.story())


def _broken_now(pool: ResourcePoolManager[Any], world: World) -> list[str]:
    broken = [*world.room.check(), *world.trespasses]
    slots = {slot.index: slot for slot in pool.snapshot().slots}
    generations = {
        index: slot.member.generation for index, slot in slots.items() if slot.member is not None
    }
    actors = [actor for actor in world.actors.values() if _is_of(pool, actor.spec.identity)]
    live = [actor for actor in actors if not actor.doomed and not _is_unheard(actor)]
    groups = [group for group in world.room.groups.values() if _is_of(pool, group.identity)]
    for word, things in (("member", live), ("placement group", groups)):
        for slot, count in Counter(_identity(thing).slot for thing in things).items():
            if count > 1:
                broken.append(f"INV-1: slot {slot} has {count} live {word}s")
        for thing in things:
            identity = _identity(thing)
            if generations.get(identity.slot) != identity.generation:
                broken.append(f"INV-4: {word} of {identity.member} is there, and nobody's")
    broken += _broken_by_the_cut_off(pool, world, live, generations)
    for actor in world.actors.values():
        owner = actor.owner
        if owner is None or not owner.is_dead or _is_unheard(actor):
            continue
        if world.now - owner.died_at > ORPHAN_S:
            broken.append(f"INV-4: {actor} outlived its owner {owner}")
    ranks = Counter(slot.rank for slot in slots.values() if slot.rank is not None)
    broken += [f"INV-12: rank {rank} is held {n} times" for rank, n in ranks.items() if n > 1]
    broken += _broken_by_ranks(pool)
    broken += _broken_by_leases(pool, world)
    if pool.is_settled:
        ready = sum(
            slot.member is not None and slot.member.state is State.READY
            for slot in slots.values()
            if slot.rank is not None
        )
        if ready != pool.desired:
            broken.append(f"INV-5: settled with {ready} of {pool.desired} ready")
    return broken


def _broken_by_the_cut_off(
    pool: ResourcePoolManager[Any],
    world: World,
    live: list[SimActor],
    generations: dict[int, int],
) -> Iterator[str]:
    """Look at those whom the cluster has given up, and who live on (INV-1, INV-4)."""
    for actor in world.cut_off.values():
        lease = actor.book.lease
        if lease is not None and world.now > actor.book.ends_at() + RESPITE_S + lease.grace_s:
            yield f"INV-4: {actor} is cut off, and its lease was over long ago"
        who = _member_of(pool, actor.spec.identity)
        if who is None or not pool.is_open:
            continue
        slot, generation = who
        others = [other for other in live if other.spec.identity.slot == slot]
        if any(other.spec.identity.generation != generation for other in others):
            yield f"INV-1: slot {slot} has a live member beside {actor}, which is cut off"
        if generations.get(slot) != generation:
            yield f"INV-1: {actor} is cut off, and its slot does not wait for it"


def _broken_by_ranks(pool: ResourcePoolManager[Any]) -> Iterator[str]:
    """Look at who has a rank, and who takes work (INV-13)."""
    snapshot = pool.snapshot()
    holders = set()
    for slot in snapshot.slots:
        if (slot.role is Role.HOLDER) != (slot.rank is not None):
            yield f"INV-13: slot {slot.index} is {slot.role}, and its rank is {slot.rank}"
        member = slot.member
        if slot.role is Role.HOLDER and member is not None and member.state.is_serving:
            holders.add(slot.index)
    serving = {member.slot for member in pool.members(serving=True)}
    if serving != holders or snapshot.ready != len(holders):
        yield (
            f"INV-13: slots {sorted(holders)} hold ranks and are ready, {sorted(serving)} take "
            f"work, and {snapshot.ready} count as ready"
        )


def _broken_by_leases(pool: ResourcePoolManager[Any], world: World) -> Iterator[str]:
    """Look at how long those below a member may live in its name (INV-17)."""
    if world.now - world.stood_still_at < pool.lease.lasts_s + GUILT_S:
        return  # Words that were on their way then count from when they are heard.
    for actor in [*world.actors.values(), *world.cut_off.values()]:
        owner = actor.owner
        if owner is None or _member_of(pool, actor.spec.identity) is None:
            continue
        ends_at = owner.book.ends_at() + pool.patience_s
        if world.now > owner.book.ends_at():
            ends_at += pool.lease.grace_s  # It winds itself up, and them with it.
        if actor.book.ends_at() > ends_at + SLACK_S:
            late_s = actor.book.ends_at() - ends_at
            yield f"INV-17: {actor} may live {late_s:.1f} s longer than {owner} can answer for"


def _member_of(pool: ResourcePoolManager[Any], identity: Any) -> tuple[int, int] | None:
    """Return the slot and generation of the pool's member that an actor is, or belongs to."""
    if _is_of(pool, identity):
        return identity.slot, identity.generation
    if identity.instance != pool.instance or not identity.pool.startswith(f"{pool.name}/"):
        return None
    slot, generation = identity.pool.removeprefix(f"{pool.name}/").split("/")[0].split(".")
    return int(slot), int(generation)


def _identity(thing: Any) -> Any:
    return thing.spec.identity if isinstance(thing, SimActor) else thing.identity


def _is_of(pool: ResourcePoolManager[Any], identity: Any) -> bool:
    return bool(identity.pool == pool.name and identity.instance == pool.instance)


def _is_unheard(actor: SimActor) -> bool:
    return actor.place is not None and actor.place.silent


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
        broken = [*self._broken, *_broken_now(self._pool, self._cluster.world)]
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
            f"actor {actor}" == text and _is_unheard(actor)
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
            if _member_of(self._pool, actor.spec.identity) is None:
                continue
            lease = actor.book.lease
            span_s = GUILT_S if lease is None else lease.lasts_s + GUILT_S
            if at - still_at > span_s and not _is_unreachable(actor, at - span_s):
                self._break(f"INV-17: the lease of {actor} ended, and its owner is there")
        world.lapsed.clear()

    def _hear_notice(self, event: Event, member: tuple[int | None, int | None]) -> None:
        left_s = event.facts.get("left_s")
        if left_s is None:
            # Withdrawn. Whoever began to leave meanwhile may go on leaving.
            self._due.pop(member, None)
            return
        self._excused.add(member)
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
        if member is None or (event.slot, member.generation) in self._excused:
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
            if now - actor.hurt_at > GUILT_S and hosts_are_heard:
                self._break(f"INV-9: {actor} was judged while it drained")

    def _actors_of(self, event: Event) -> list[SimActor]:
        return [
            actor
            for actor in self._cluster.world.actors.values()
            if _is_of(self._pool, actor.spec.identity)
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
