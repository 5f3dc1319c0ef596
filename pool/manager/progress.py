"""How far a pool is from its size: what `scale` and rolls wait for."""

from __future__ import annotations

from typing import Any

import anyio

from pool.manager.bring_up import why_it_waits
from pool.manager.member import InfoT, Slot
from pool.manager.vitals import Vitals
from pool.planning.lifecycle import State
from pool.planning.plan import Role

EXPLAIN_TIMEOUT_S = 1.0
"""How much later than its time-out a `scale` may return, to say what it waited for."""


class Progress(Vitals[InfoT]):
    """Tell whether the pool is where it is to be."""

    def _ready(self) -> int:
        return sum(
            slot.rank is not None
            and slot.incarnation is not None
            and slot.incarnation.state.is_serving
            for slot in self._slots.values()
        )

    def _is_at(self, size: int) -> bool:
        """Whether the pool has this size, all ready, and nobody is leaving.

        Asked at every change, so it stops at the first slot that says no.
        """
        if self._goal.desired != size:
            return False
        ready = 0
        for slot in self._slots.values():
            if slot.role is Role.RETIRING and not _lingers(slot):
                return False
            if slot.rank is not None:
                if slot.incarnation is None or not slot.incarnation.is_serving:
                    return False
                ready += 1
        return ready == size

    def _is_hopeless(self) -> bool:
        """Whether the pool gave up and nothing that it has begun can still get ready."""
        return self._failed is not None and not any(
            slot.incarnation is not None and slot.incarnation.state.is_coming
            for slot in self._slots.values()
        )

    def _missing(self) -> dict[int, str]:
        return {
            slot.index: self._reason(slot)
            for slot in self._slots.values()
            if slot.rank is not None
            and (slot.incarnation is None or not slot.incarnation.state.is_serving)
        }

    async def _ask_what_is_missing(self) -> None:
        """Find out why slots wait whose reason is not known yet: it is asked for after seconds."""
        with anyio.move_on_after(EXPLAIN_TIMEOUT_S):
            for slot in list(self._slots.values()):
                member = slot.incarnation
                if member is None or member.state is not State.PENDING or slot.waits_for:
                    continue
                reason = await why_it_waits(self, member.identity)
                if slot.incarnation is member and member.state is State.PENDING:
                    self._say_why_it_waits(slot, reason)


def _lingers(slot: Slot[Any]) -> bool:
    """Whether the slot waits only for a member that is cut off to end by its lease."""
    return slot.incarnation is not None and slot.incarnation.lingers_until is not None
