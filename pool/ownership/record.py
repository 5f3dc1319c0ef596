"""What the owner of a detached pool leaves with the keeper, for whoever comes after it.

Only what cannot be seen in the cluster: members and groups are found by their names, and a record
that is a moment too old costs nothing but a rank given anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pool.planning.plan import Role
from pool.planning.rolling import RollPolicy


@dataclass(frozen=True, slots=True)
class SlotRecord:
    """Hold what a slot was for.

    Args:
        role: Its role.
        rank: Its rank, if it had one.
        replaces: The slot it replaced, for a replacement.
        generation: The incarnation that this was said of.
        term: Its term, if it had a rank.
    """

    role: Role
    rank: int | None
    replaces: int | None
    generation: int
    term: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Hold what the next owner of a pool has to know.

    Args:
        instance: The word that tells pools of one name apart.
        recipe: How to make the pool's manager again, frozen.
        memory: What the manager's class wants remembered beyond that, frozen.
        desired: The size.
        revision: The pool's present revision.
        previous: The one before it.
        newest: The highest there has been.
        roll: How a roll that is under way goes on.
        serial: How many members the pool has begun.
        generations: How many of them in each slot's index.
        slots: Its slots.
    """

    instance: str
    recipe: bytes = field(repr=False)
    memory: bytes = field(repr=False)
    desired: int
    revision: int
    previous: int
    newest: int
    roll: RollPolicy | None
    serial: int
    generations: Mapping[int, int]
    slots: Mapping[int, SlotRecord]
