"""A manager's slots as users may see them: frozen, and with the reason where one is not ready."""

from __future__ import annotations

from pool.manager.member import Incarnation, InfoT, Slot
from pool.manager.snapshot import MemberSnapshot, NoticeSnapshot, SlotSnapshot
from pool.planning.plan import Plan
from pool.planning.restart import Failure


def reason_of(slot: Slot[InfoT], plan: Plan, last: Failure | None) -> str:
    """Say why a slot is not as it should be; empty when it is.

    Args:
        slot: The slot.
        plan: The pool's last plan.
        last: The slot's last failure, if one is remembered.
    """
    member = slot.incarnation
    if slot.waits_for is not None:
        return slot.waits_for
    if member is not None and member.fault is not None:
        return f"{member.fault.cause}: {member.fault.detail}"
    planned = plan.waiting.get(slot.index, "")
    if not planned and member is not None and member.state.is_coming:
        # The plan that began it has an action for it; the next is made when something happens.
        planned = str(member.state)
    if planned and last is not None and (member is None or member.state.is_coming):
        return f"{planned}; last failure: {last.cause}: {last.detail}"
    return planned


def slot_snapshot(slot: Slot[InfoT], reason: str, now: float) -> SlotSnapshot:
    """Return a frozen picture of a slot."""
    member = slot.incarnation
    return SlotSnapshot(
        index=slot.index,
        role=slot.role,
        rank=slot.rank,
        reason=reason,
        member=None if member is None else _member_snapshot(member, now),
    )


def _member_snapshot(member: Incarnation[InfoT], now: float) -> MemberSnapshot:
    return MemberSnapshot(
        id=member.identity.member,
        generation=member.identity.generation,
        serial=member.identity.serial,
        term=member.term if member.slot.rank is not None else 0,
        revision=member.identity.revision,
        state=member.state,
        age_s=now - member.life.since,
        why=member.life.why,
        actor_id=None if member.actor is None else member.actor.id,
        nodes=member.nodes,
        in_flight=member.in_flight,
        notices=tuple(
            NoticeSnapshot(
                node_id=warned.notice.node_id, text=str(warned.notice), left_s=warned.leave_by - now
            )
            for warned in member.warnings()
        ),
        health=member.news.trouble
        or (member.health.last_detail if member.health.consecutive_failures else ""),
        ends_in_s=None if member.lingers_until is None else member.lingers_until - now,
        info=member.info,
    )
