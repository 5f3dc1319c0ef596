"""`pool scale`: bring a pool to a size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pool.cli.running import Address, AsJson, NoWait, Pool, Timeout, Yes, run
from pool.cli.voice import Voice

if TYPE_CHECKING:
    from pool.cli.asking import Asking
    from pool.cluster.interface import Observer


def scale(
    pool: Pool,
    size: Annotated[int, typer.Argument(min=0, metavar="SIZE", help="How many members.")],
    yes: Yes = False,
    no_wait: NoWait = False,
    timeout: Timeout = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Ask a pool's owner to bring it to a size, and wait until it is there.

    Shrinking drains members, the highest ranks first, and asks before. Ctrl-C ends the wait; the
    size stays in force.
    """
    from pool.cli.asking import Asking

    voice = Voice(as_json=as_json, yes=yes)

    async def main(observer: Observer) -> None:
        await scale_pool(Asking(observer, voice, not no_wait, timeout, address), pool, size)

    run(address, voice, main)


async def scale_pool(asking: Asking, name: str, size: int) -> None:
    """Scale a pool.

    Raises:
        Stop: It was not confirmed, nobody owns the pool, or fewer were reached.
        PoolUnknown: There is no such pool.
        Refused: The owner did not do it.
    """
    from pool.cli.exits import Exit, Stop
    from pool.control.window import find
    from pool.window.requests import Verb

    voice = asking.voice
    view = asking.check(await find(asking.observer, name))
    before = 0 if view.snapshot is None else view.snapshot.desired
    deed = ""
    if size < before or not view.can_be_asked:
        drained = ": the others are drained." if size < before else "."
        deed = f"Pool {name!r} will be scaled from {before} to {size}{drained}"
    result = await asking.have_done(view, Verb.SCALE, {"size": size}, deed)
    if voice.as_json:
        voice.document(pool=name, before=before, result=result)
    if result is None:
        return
    if not voice.as_json:
        voice.show(f"pool {name!r}: {result['reached']} of {result['requested']} ready")
    if result["superseded"]:
        raise Stop(Exit.FAILED, f"Another size was asked for meanwhile: {result['desired']}.")
    if result["reached"] < result["requested"]:
        missing = "; ".join(f"slot {slot}: {why}" for slot, why in result["missing"].items())
        raise Stop(Exit.FAILED, f"The pool goes on trying. Missing: {missing}.")
