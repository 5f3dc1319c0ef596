"""`pool explain`: why a pool, or a slot, is as it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pool.cli.running import Address, AsJson, Target, run
from pool.cli.voice import Voice

if TYPE_CHECKING:
    from rich.text import Text

    from pool.cluster.interface import Observer
    from pool.control.window import NumberedEvent, PoolView

EVENTS_SHOWN = 12


def explain(target: Target, address: Address = None, as_json: AsJson = False) -> None:
    """Say why a pool, or a slot of it, is as it is: the planners' reasons, and what happened."""
    voice = Voice(as_json=as_json)
    run(address, voice, lambda observer: explain_target(observer, voice, target))


async def explain_target(observer: Observer, voice: Voice, target: str) -> None:
    """Explain a pool, or a slot of it.

    Raises:
        PoolUnknown: There is no such pool.
        Stop: There is no such slot.
    """
    from pool.cli.targets import find_target, slot_of
    from pool.control.window import document, events_of

    view, index = await find_target(observer, target)
    slot = None if index is None else slot_of(view, index)
    story = [
        each
        for each in await events_of(observer, view.name, view.instance)
        if (each.event.slot == index if slot is not None else each.event.slot is None)
    ][-EVENTS_SHOWN:]
    if voice.as_json:
        voice.document(
            pool=document(view),
            slot=slot,
            events=[{"number": e.number, "event": e.event} for e in story],
        )
        return
    for line in _pool_lines(view) if slot is None else _slot_lines(view, slot.index):
        voice.show(line)
    if story:
        voice.show("what happened:")
    for line in _story_lines(story):
        voice.show(line)


def _pool_lines(view: PoolView) -> Iterator[Text | str]:
    from pool.cli.tree import facts, headline, member_notes, since, slot_line
    from pool.cli.words import duration
    from pool.planning.budgets import SHARED

    yield headline(view)
    yield from facts(view)
    if view.snapshot is None:
        return
    if not view.snapshot.restarts:
        answered = "".join(
            f"; {budget.limit} in {duration(budget.period_s)} are answered with a restart"
            for budget in view.snapshot.budgets
            if budget.cause == SHARED
        )
        yield f"failures: none is remembered{answered}"
    well = 0
    for slot in view.snapshot.slots:
        notes = [] if slot.member is None else list(member_notes(slot.member, since(view)))
        if not slot.reason and not notes and (slot.member is None or not slot.member.health):
            well += 1
            continue
        yield slot_line(slot, since(view))
        yield from notes
    if view.snapshot.slots:
        yield f"{well} of {len(view.snapshot.slots)} slots are as they should be"
    elif view.snapshot.desired == 0:
        yield "it is meant to have no members"


def _slot_lines(view: PoolView, index: int) -> Iterator[Text | str]:
    from pool.cli.targets import slot_of
    from pool.cli.tree import headline, host_line, host_notes, member_notes, since, slot_line
    from pool.cli.words import duration
    from pool.control.window import hosts_of

    slot = slot_of(view, index)
    yield headline(view)
    yield slot_line(slot, since(view))
    member = slot.member
    if member is not None:
        why = member.why or "it is the first of its states"
        yield f"it has been {member.state} for {duration(member.age_s + since(view))}: {why}"
        yield from member_notes(member, since(view))
        for host in hosts_of(member):
            yield host_line(host)
            yield from host_notes(host)
    waits = slot.reason and (member is None or slot.reason != str(member.state))
    yield f"it waits: {slot.reason}" if waits else "it waits for nothing"


def _story_lines(story: list[NumberedEvent]) -> Iterator[Text]:
    from pool.cli.events import line

    for each in story:
        yield line(each.event)
