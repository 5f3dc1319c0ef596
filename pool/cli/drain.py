"""`pool drain`: let members finish their work and leave."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pool.cli.running import Address, AsJson, NoWait, Target, Timeout, Yes, run
from pool.cli.voice import Voice

if TYPE_CHECKING:
    from pool.cli.asking import Asking
    from pool.cluster.interface import Observer


def drain(
    target: Target,
    yes: Yes = False,
    no_wait: NoWait = False,
    timeout: Timeout = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Let a slot's member, or a whole pool, finish its work and leave.

    A slot's rank goes to a spare or to a new slot, so that the pool keeps its size. A whole pool is
    scaled to 0. It asks before.
    """
    from pool.cli.asking import Asking

    voice = Voice(as_json=as_json, yes=yes)

    async def main(observer: Observer) -> None:
        await drain_target(Asking(observer, voice, not no_wait, timeout, address), target)

    run(address, voice, main)


async def drain_target(asking: Asking, target: str) -> None:
    """Drain a pool, or a slot of it.

    Raises:
        Stop: It was not confirmed, or nobody owns the pool.
        PoolUnknown: There is no such pool.
        Refused: The owner did not do it.
    """
    from pool.cli.targets import find_target, slot_of
    from pool.window.requests import Verb

    voice = asking.voice
    view, index = await find_target(asking.observer, target)
    asking.check(view)
    if index is None:
        size = 0 if view.snapshot is None else view.snapshot.desired
        deed = f"Pool {view.name!r} will be scaled from {size} to 0: all members are drained."
    else:
        slot = slot_of(view, index)
        who = "nobody" if slot.member is None else f"{slot.member.id}, {slot.member.state}"
        deed = f"Slot {index} of pool {view.name!r} ({who}) will be drained, and its rank refilled."
    args = {} if index is None else {"slot": index}
    result = await asking.have_done(view, Verb.DRAIN, args, deed)
    if voice.as_json:
        voice.document(pool=view.name, slot=index, reports=result)
    elif asking.wait:
        for report in result or ():
            took = f"{report['member']}: {report['rung']}, {report['took_s']:.1f} s"
            voice.show("; ".join((took, *report["troubles"])))
        voice.show(f"{target} is drained")
