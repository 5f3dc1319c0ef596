"""The invariants of a pool at one moment: its slots, held against the cluster's books.

What can be seen only over time is in `watch.py`. The numbers are those of the documentation's page
on invariants.

Limits: INV-8 is checked as the cluster's books; whether a plan is right is the planners' own
property. INV-11 is checked by cancelling things and calling this afterwards. INV-12 does not show
in a simulation without ports and devices.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from pool.cluster.lease import RESPITE_S
from pool.errors import PoolError
from pool.manager.manager import ResourcePoolManager
from pool.planning.lifecycle import State
from pool.planning.plan import Role
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
    broken = list(broken_now(pool, cluster.world))
    if broken:
        raise InvariantBroken(broken, cluster.story())


def broken_now(pool: ResourcePoolManager[Any], world: World) -> list[str]:
    """Return what does not hold now, a sentence each."""
    broken = [*world.room.check(), *world.trespasses]
    slots = {slot.index: slot for slot in pool.snapshot().slots}
    generations = {
        index: slot.member.generation for index, slot in slots.items() if slot.member is not None
    }
    actors = [actor for actor in world.actors.values() if is_of(pool, actor.spec.identity)]
    live = [actor for actor in actors if not actor.doomed and not is_unheard(actor)]
    groups = [group for group in world.room.groups.values() if is_of(pool, group.identity)]
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
        if owner is None or not owner.is_dead or is_unheard(actor):
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
        who = member_of(pool, actor.spec.identity)
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
        if owner is None or member_of(pool, actor.spec.identity) is None:
            continue
        ends_at = owner.book.ends_at() + pool.policies.patience_s
        if world.now > owner.book.ends_at():
            ends_at += pool.lease.grace_s  # It winds itself up, and them with it.
        if actor.book.ends_at() > ends_at + SLACK_S:
            late_s = actor.book.ends_at() - ends_at
            yield f"INV-17: {actor} may live {late_s:.1f} s longer than {owner} can answer for"


def member_of(pool: ResourcePoolManager[Any], identity: Any) -> tuple[int, int] | None:
    """Return the slot and generation of the pool's member that an actor is, or belongs to."""
    if is_of(pool, identity):
        return identity.slot, identity.generation
    if identity.instance != pool.instance or not identity.pool.startswith(f"{pool.name}/"):
        return None
    slot, generation = identity.pool.removeprefix(f"{pool.name}/").split("/")[0].split(".")
    return int(slot), int(generation)


def _identity(thing: Any) -> Any:
    return thing.spec.identity if isinstance(thing, SimActor) else thing.identity


def is_of(pool: ResourcePoolManager[Any], identity: Any) -> bool:
    """Whether somebody is a member of a pool itself, and not of one below it."""
    return bool(identity.pool == pool.name and identity.instance == pool.instance)


def is_unheard(actor: SimActor) -> bool:
    """Whether nobody can reach the node that an actor is on."""
    return actor.place is not None and actor.place.silent
