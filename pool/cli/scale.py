"""`pool scale`: bring a pool to a size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pool.cli.running import Address, AsJson, NoWait, Pool, Timeout, Yes, run
from pool.cli.voice import Voice

if TYPE_CHECKING:
    from pool.cluster.interface import Observer


def scale(
    pool: Pool,
    size: Annotated[int, typer.Argument(min=0, help="How many members.")],
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
    voice = Voice(as_json=as_json, yes=yes)
    run(
        address,
        voice,
        lambda observer: scale_pool(
            observer, voice, pool, size, wait=not no_wait, timeout_s=timeout, address=address
        ),
    )


async def scale_pool(
    observer: Observer,
    voice: Voice,
    name: str,
    size: int,
    *,
    wait: bool = True,
    timeout_s: float | None = None,
    address: str | None = None,
) -> None:
    """Scale a pool.

    Raises:
        Stop: It was not confirmed, nobody owns the pool, or fewer were reached.
        PoolUnknown: There is no such pool.
        Refused: The owner did not do it.
    """
    from pool.cli.asking import have_done
    from pool.cli.exits import Exit, Stop
    from pool.cli.targets import as_owner, check_can_be_asked
    from pool.control.window import find
    from pool.window.requests import Verb

    view = await find(observer, name)
    check_can_be_asked(view)
    before = 0 if view.snapshot is None else view.snapshot.desired
    if size < before or not view.can_be_asked:
        deed = f"Pool {name!r} will be scaled from {before} to {size}"
        drained = ": the others are drained." if size < before else "."
        voice.confirm(deed + drained + as_owner(view))
    result = await have_done(
        observer,
        voice,
        view,
        Verb.SCALE,
        {"size": size},
        wait=wait,
        timeout_s=timeout_s,
        address=address,
    )
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
