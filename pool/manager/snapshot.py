"""A pool at one moment, as frozen values, from which everything that shows a pool is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pool.planning.budgets import Budget
from pool.planning.lifecycle import State
from pool.planning.plan import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeSnapshot:
    """Show a notice: what was said, of which node, and the seconds that are left."""

    node_id: str
    text: str
    left_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberSnapshot:
    """Show a member.

    Args:
        id: `pool/slot.generation`.
        generation: Which incarnation of its slot it is.
        serial: How many members the pool had begun by then.
        term: A fencing token for what it does outside; see `Member`.
        revision: Which revision of the pool it was made from.
        state: Its state.
        age_s: Seconds in that state.
        why: Why it entered that state.
        actor_id: Its actor's id, once it has one.
        nodes: The nodes of its reservation.
        in_flight: Calls sent to it that have not returned.
        notices: What was said of its nodes.
        health: The last complaint of its health polls, or its own; empty when there is none.
        ends_in_s: Seconds until it ends by its lease, if it is cut off.
        info: What its start returned.
    """

    id: str
    generation: int
    serial: int = 0
    term: int = 0
    revision: int = 0
    state: State
    age_s: float
    why: str = ""
    actor_id: str | None
    nodes: tuple[str, ...]
    in_flight: int
    notices: tuple[NoticeSnapshot, ...]
    health: str
    ends_in_s: float | None = None
    info: Any = field(repr=False, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotSnapshot:
    """Show a slot, and say why it is as it is.

    Args:
        index: The slot's stable index.
        role: What it is for.
        rank: Its member's rank, if it has one.
        reason: Why it has no ready member; empty when it has.
        member: Its member, if there is one.
    """

    index: int
    role: Role
    rank: int | None
    reason: str
    member: MemberSnapshot | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSnapshot:
    """Show a pool.

    Args:
        name: The pool's name.
        desired: The size it is meant to have.
        ready: How many of its members are ready and have a rank.
        spares: How many spares it is meant to have.
        spares_ready: How many of them are ready.
        revision: The revision that its members are to be of.
        roll: How far a roll is, in words; empty when there is none.
        settled: Whether there is nothing to do and nothing to wait for.
        failed: Why it gave up; None when it did not.
        slots: Its slots, by rank.
        restarts: Failures by cause, within the restart policy's memory.
        budgets: How much is used up of each restart budget that has a limit.
    """

    name: str
    desired: int
    ready: int
    spares: int = 0
    spares_ready: int = 0
    revision: int = 0
    roll: str = ""
    settled: bool
    failed: str | None
    slots: tuple[SlotSnapshot, ...]
    restarts: Mapping[str, int] = field(default_factory=dict)
    budgets: tuple[Budget, ...] = ()
