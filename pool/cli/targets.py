"""What is meant by `POOL` and `POOL/SLOT`. No pool's name ends like the second."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pool.cli.exits import Exit, Stop
from pool.errors import PoolUnknown

if TYPE_CHECKING:
    from pool.cluster.interface import Observer
    from pool.control.window import PoolView
    from pool.manager.snapshot import SlotSnapshot

_SLOT = re.compile(r"(.+)/(\d+)(?:\.\d+)?")


async def find_target(observer: Observer, target: str) -> tuple[PoolView, int | None]:
    """Return the pool that is meant, and the index of its slot, if one is.

    Raises:
        PoolUnknown: There is no such pool.
    """
    from pool.control.window import find

    try:
        return await find(observer, target), None
    except PoolUnknown:
        match = _SLOT.fullmatch(target)
        if match is None:
            raise
        return await find(observer, match[1]), int(match[2])


def slot_of(view: PoolView, index: int) -> SlotSnapshot:
    """Return a slot of a pool.

    Raises:
        Stop: It has none of this index.
    """
    slots = () if view.snapshot is None else view.snapshot.slots
    for slot in slots:
        if slot.index == index:
            return slot
    there = ", ".join(str(index) for index in sorted(slot.index for slot in slots)) or "none"
    raise Stop(Exit.UNKNOWN, f"pool {view.name!r} has no slot {index}; there are: {there}.")


def check_can_be_asked(view: PoolView) -> None:
    """Refuse a pool that nobody owns, and that nobody can own.

    Raises:
        Stop: There is nobody who could do what is asked.
    """
    if view.can_be_asked or (view.keeper and view.picture is not None):
        return
    name = view.name
    if view.picture is None:
        why = "it shows nothing of itself"
    else:
        ended = "it was left" if view.picture.owner is None else "its owner ended"
        why = f"{ended}, and its keeper is gone, too; `pool reap {name}` clears away what is left"
        if not view.picture.detached:
            why = f"it ended with its owner, {view.picture.owner}; `pool reap {name}` forgets it"
    raise Stop(Exit.NO_OWNER, f"pool {name!r} cannot be asked: {why}.")
