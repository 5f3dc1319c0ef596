"""`pool roll`: replace every member by a new one, a few at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pool.cli.running import Address, AsJson, NoWait, Pool, Timeout, Yes, run
from pool.cli.voice import Voice

if TYPE_CHECKING:
    from pool.cli.asking import Asking
    from pool.cluster.interface import Observer
    from pool.window.requests import Verb


def roll(
    pool: Pool,
    surge: Annotated[
        int | None, typer.Option(min=0, help="So many more members at once. By default 1.")
    ] = None,
    max_unavailable: Annotated[
        int | None, typer.Option(min=0, help="So many fewer ready members at once. By default 0.")
    ] = None,
    back: Annotated[bool, typer.Option("--back", help="To the revision before.")] = False,
    pause: Annotated[bool, typer.Option("--pause", help="Hold a roll.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a roll.")] = False,
    yes: Yes = False,
    no_wait: NoWait = False,
    timeout: Timeout = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Ask a pool's owner to replace every member by a new one, a few at a time.

    Members are made anew from what the pool has: to roll to other code, use `change` in the
    pool's program. It asks before. Ctrl-C ends the wait; the roll goes on.
    """
    from pool.cli.asking import Asking

    voice = Voice(as_json=as_json, yes=yes)
    if back + pause + resume > 1:
        raise typer.BadParameter("give one of --back, --pause and --resume")
    if pause + resume and (surge, max_unavailable) != (None, None):
        raise typer.BadParameter("--surge and --max-unavailable are for a roll that begins")
    bounds = {"surge": surge, "max_unavailable": max_unavailable}
    args = {name: value for name, value in bounds.items() if value is not None}

    async def main(observer: Observer) -> None:
        from pool.window.requests import Verb

        verb = Verb.ROLL_BACK if back else Verb.ROLL
        verb = Verb.PAUSE_ROLL if pause else Verb.RESUME_ROLL if resume else verb
        await roll_pool(Asking(observer, voice, not no_wait, timeout, address), pool, verb, args)

    run(address, voice, main)


async def roll_pool(asking: Asking, name: str, verb: Verb, args: dict[str, int]) -> None:
    """Roll a pool, or pause, resume or reverse its roll.

    Raises:
        Stop: It was not confirmed, or nobody owns the pool.
        PoolUnknown: There is no such pool.
        Refused: The owner did not do it, or the new revision failed.
    """
    from pool.control.window import find
    from pool.window.requests import Verb

    voice = asking.voice
    view = asking.check(await find(asking.observer, name))
    deed = ""
    if verb in (Verb.ROLL, Verb.ROLL_BACK):
        how = "to its revision before" if verb is Verb.ROLL_BACK else "to a new revision"
        count = 0 if view.snapshot is None else len(view.snapshot.slots)
        deed = f"Pool {name!r} will be rolled {how}: its {count} members are replaced."
    result = await asking.have_done(view, verb, args, deed)
    if voice.as_json:
        voice.document(pool=name, result=result)
    elif result is not None:
        voice.show(f"pool {name!r}: revision {result['revision']}, {result['ready']} ready")
