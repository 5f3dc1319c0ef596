"""What a pool's manager leaves for its successor, and what the successor makes of it.

Members and groups are what the cluster says is there; the record says what they were for. So a
record that is a moment too old gives a rank anew at the worst, and restarts nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic

from pool.cluster.interface import Found, Identity, Reservation
from pool.manager.member import Incarnation, InfoT, Slot
from pool.ownership.record import Record, SlotRecord
from pool.planning.lifecycle import Lifecycle, State


def slot_records(slots: Iterable[Slot[Any]]) -> dict[int, SlotRecord]:
    """Return what the slots are for."""
    return {
        slot.index: SlotRecord(
            slot.role,
            slot.rank,
            slot.replaces,
            slot.generation,
            0 if slot.incarnation is None else slot.incarnation.term,
        )
        for slot in slots
    }


@dataclass(slots=True)
class Estate(Generic[InfoT]):
    """Hold what a successor starts with.

    Args:
        slots: Its slots, with the members that it adopts.
        generations: How many members there were in each slot's index.
        serial: How many members there were in all.
        unfit: What is there and cannot be adopted; it is to be taken away.
    """

    slots: dict[int, Slot[InfoT]] = field(default_factory=dict)
    generations: Mapping[int, int] = field(default_factory=dict)
    serial: int = 0
    unfit: list[Found] = field(default_factory=list)


def take_stock(
    record: Record,
    found: Iterable[Found],
    fits: Callable[[Identity, Reservation | None], bool],
    now: float,
) -> Estate[InfoT]:
    """Sort what was found into what is adopted and what is not.

    Args:
        record: What the predecessor left.
        found: The members, and groups, that are there.
        fits: Whether a member with this group can be adopted.
        now: Seconds, on the pool's clock.
    """
    slots: dict[int, Slot[InfoT]] = {}
    for index, said in record.slots.items():
        slots[index] = Slot(index, said.role, said.rank, said.replaces, said.generation)
        slots[index].revision = record.revision
    estate = Estate(slots, dict(record.generations), record.serial)
    generations = dict(record.generations)
    for one in sorted(found, key=lambda one: one.identity.serial, reverse=True):
        identity = one.identity
        estate.serial = max(estate.serial, identity.serial)
        generations[identity.slot] = max(generations.get(identity.slot, 0), identity.generation)
        slot = slots.get(identity.slot)
        is_taken = slot is not None and slot.incarnation is not None
        if one.actor is None or is_taken or not fits(identity, one.reservation):
            estate.unfit.append(one)
            continue
        if slot is None:
            slot = slots[identity.slot] = Slot(identity.slot, revision=record.revision)
        slot.generation = identity.generation
        slot.incarnation = _member(slot, one, now)
        said_of = record.slots.get(identity.slot)
        if said_of is not None and said_of.generation == identity.generation:
            slot.incarnation.term = said_of.term
    estate.generations = generations
    return estate


def _member(slot: Slot[InfoT], one: Found, now: float) -> Incarnation[InfoT]:
    life = Lifecycle(one.identity.member, now)
    life.advance(State.STARTING, "its pool has a new owner", now)
    member = Incarnation[InfoT](one.identity, life, slot)
    member.actor, member.reservation = one.actor, one.reservation
    return member
