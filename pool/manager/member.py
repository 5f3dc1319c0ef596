"""A member, as users see it and as its manager holds it.

`Member` is what users get: a frozen picture of one incarnation. `Incarnation` is the manager's
own record of the same, and `Slot` what outlives it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import anyio

from pool.cluster.interface import Actor, Fault, Identity, News, Reservation
from pool.planning.health import HealthRecord
from pool.planning.lifecycle import Lifecycle, State
from pool.planning.notice import Notice
from pool.planning.plan import Role, SlotView
from pool.planning.restart import Cause

InfoT = TypeVar("InfoT")

ANSWERED_WITHIN_S = 0.5
"""How long an answer, or the cluster's own word of the end, may be on its way from who is gone."""


@dataclass(frozen=True, slots=True)
class Member(Generic[InfoT]):
    """Show one member at one moment.

    Args:
        id: `pool/slot.generation`.
        slot: The index of its slot, which outlives it.
        rank: Which of the pool's members it is, 0 to size − 1; None while it has no rank.
        generation: Which incarnation of the slot it is, from 1.
        serial: How many members the pool had begun by then.
        term: A fencing token: whenever a rank passes to another member, that one's term is higher
            than any before it, also under another owner. 0 without a rank.
        revision: Which revision of the pool it was made from.
        state: Its state.
        age_s: Seconds that it has been in that state.
        info: What its start returned; None until then.
        actor: Its actor; None until that is started.
        nodes: The nodes of its reservation.
    """

    id: str
    slot: int
    rank: int | None
    generation: int
    state: State
    age_s: float
    info: InfoT | None
    actor: Actor | None
    nodes: tuple[str, ...] = ()
    serial: int = 0
    term: int = 0
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Warned:
    """Hold a notice of one node, and what follows from it, on the pool's clock.

    Args:
        notice: What was said.
        leave_by: When to be gone by; infinite where the node may well stay.
        begins_at: When the answer to it begins; infinite for one that is not answered.
        replace_first: Whether another is to take the member's place before it leaves.
        is_due: Whether that time has come.
    """

    notice: Notice
    leave_by: float
    begins_at: float = -math.inf
    replace_first: bool = True
    is_due: bool = True

    @property
    def has_deadline(self) -> bool:
        """Whether the source named the time, or names none because the node may stay."""
        return self.notice.deadline is not None or self.leave_by == math.inf


@dataclass(eq=False, slots=True)
class Incarnation(Generic[InfoT]):
    """Hold everything a manager knows and owns of one member."""

    identity: Identity
    life: Lifecycle
    slot: Slot[InfoT]
    reservation: Reservation | None = None
    actor: Actor | None = None
    info: InfoT | None = None
    has_opened: bool = False
    lingers_until: float | None = None
    health: HealthRecord = field(default_factory=HealthRecord)
    ready_since: float = math.inf
    fault: Fault | None = None
    news: News = field(default_factory=News)
    term: int = 0
    notices: dict[str, tuple[Warned, ...]] = field(default_factory=dict)
    in_flight: int = 0
    bring_up: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    brought_up: anyio.Event = field(default_factory=anyio.Event)
    dead: anyio.Event = field(default_factory=anyio.Event)
    idle: anyio.Event | None = None
    drain: anyio.CancelScope | None = None
    on_lost: Callable[[Fault], None] | None = None
    callers: dict[Callable[[Fault], object], None] = field(default_factory=dict)

    @property
    def state(self) -> State:
        """Its state."""
        return self.life.state

    @property
    def is_serving(self) -> bool:
        """Whether new work may be sent to it."""
        return self.state.is_serving

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes of its reservation."""
        return self.reservation.nodes if self.reservation is not None else ()

    def warnings(self) -> list[Warned]:
        """List what every source says of its nodes."""
        return [warned for told in self.notices.values() for warned in told]

    def due(self) -> list[Warned]:
        """List those that are answered now."""
        return [warned for warned in self.warnings() if warned.is_due]

    @property
    def leave_by(self) -> float | None:
        """When the first of its nodes goes away, on the pool's clock; None when all stay."""
        return min((warned.leave_by for warned in self.due()), default=None)

    @property
    def has_deadline(self) -> bool:
        """Whether one of its notices names a deadline."""
        return any(warned.has_deadline for warned in self.due())

    def call_began(self) -> None:
        """Count a call that was sent to the member."""
        self.in_flight += 1

    def call_ended(self) -> None:
        """Count a call that came back, and wake the drain that waits for the last."""
        self.in_flight -= 1
        if self.in_flight == 0 and self.idle is not None:
            self.idle.set()

    def call_lost(self, cause: str, detail: str) -> None:
        """Hear from a caller that the member is dead, before its lifeline says so."""
        if self.on_lost is not None:
            self.on_lost(Fault(Cause(cause), detail))

    @property
    def is_parted(self) -> bool:
        """Whether no answer comes any more: it is gone, or cut off and ends by its lease."""
        return self.lingers_until is not None or self.state is State.GONE

    def on_parted(self, listener: Callable[[Fault], object]) -> Callable[[], object]:
        """Call `listener` when no answer comes any more; returns what ends it."""
        if self.is_parted:
            asyncio.get_running_loop().call_soon(listener, self._parting)
        else:
            self.callers[listener] = None
        return lambda: self.callers.pop(listener, None)

    def part(self) -> None:
        """Tell callers that no answer comes any more.

        Behind a cut link the cluster may tell of an end much later than the pool has replaced who
        was there. So they are told by us, but not before answers on their way are here.
        """
        asyncio.get_running_loop().call_later(ANSWERED_WITHIN_S, self._tell_parted)

    @property
    def _parting(self) -> Fault:
        if self.fault is not None:
            return self.fault
        if self.lingers_until is None:
            return Fault(Cause.CRASH, "it was put down")
        return Fault(Cause.NODE_LOST, "it is beyond reach")

    def _tell_parted(self) -> None:
        for listener in list(self.callers):
            listener(self._parting)

    async def until_idle(self) -> None:
        """Wait until no call that was sent to the member is under way."""
        while self.in_flight:
            self.idle = anyio.Event()
            await self.idle.wait()


@dataclass(eq=False, slots=True)
class Slot(Generic[InfoT]):
    """Hold what outlives a slot's members."""

    index: int
    role: Role = Role.HOLDER
    rank: int | None = None
    replaces: int | None = None
    generation: int = 0
    revision: int = 0
    incarnation: Incarnation[InfoT] | None = None
    not_before: float = -math.inf
    given_up: str | None = None
    retired: str | None = None
    waits_for: str | None = None
    seen: SlotView | None = None

    @property
    def is_outdated(self) -> bool:
        """Whether its member was made from another revision than the pool's present one."""
        member = self.incarnation
        return member is not None and member.identity.revision != self.revision

    def look_anew(self) -> None:
        """Forget the view: something that it shows has changed.

        NB: whoever changes a field of the slot or its member has to call it, except for
        `in_flight`, which planners read only when the size changes.
        """
        self.seen = None

    def view(self) -> SlotView:
        """Return what the planner may see of it."""
        if self.seen is None:
            self.seen = self._look()
        return self.seen

    def _look(self) -> SlotView:
        member = self.incarnation
        if member is None:
            return SlotView(
                index=self.index,
                role=self.role,
                rank=self.rank,
                replaces=self.replaces,
                not_before=self.not_before,
                given_up=self.given_up,
            )
        warned = bool(member.notices)
        return SlotView(
            index=self.index,
            role=self.role,
            rank=self.rank,
            replaces=self.replaces,
            state=member.life.state,
            fault=None if member.fault is None else member.fault.detail,
            lingers=member.lingers_until is not None,
            outdated=self.is_outdated,
            leave_by=member.leave_by if warned else None,
            has_deadline=member.has_deadline if warned else False,
            replace_first=any(each.replace_first for each in member.due()) if warned else True,
            not_before=self.not_before,
            given_up=self.given_up,
            in_flight=member.in_flight,
        )

    def picture(self, now: float) -> Member[InfoT] | None:
        """Return the member as users see it, or None when there is none."""
        member = self.incarnation
        if member is None:
            return None
        return Member(
            id=member.identity.member,
            slot=self.index,
            rank=self.rank,
            generation=self.generation,
            state=member.state,
            age_s=now - member.life.since,
            info=member.info,
            actor=member.actor,
            nodes=member.nodes,
            serial=member.identity.serial,
            term=member.term if self.rank is not None else 0,
            revision=member.identity.revision,
        )


def by_rank(slots: Sequence[Slot[InfoT]]) -> list[Slot[InfoT]]:
    """Order slots by rank; those without come last, by index."""
    return sorted(slots, key=lambda slot: (slot.rank is None, slot.rank or 0, slot.index))
