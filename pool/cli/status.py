"""`pool status`: every pool as a tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pool.cli.running import Address, AsJson, run
from pool.cli.voice import Voice

if TYPE_CHECKING:
    from pool.cluster.interface import Observer


def status(
    pool: Annotated[str | None, typer.Argument(metavar="POOL", help="Only this pool.")] = None,
    hosts: Annotated[
        bool, typer.Option("--hosts/--no-hosts", help="Show what is below the replicas.")
    ] = True,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Show every pool: its slots and why each is as it is, hosts, devices, notices, failures.

    A pool whose owner died is shown as it was last, with its age, and with what is left of it.
    """
    voice = Voice(as_json=as_json)
    run(address, voice, lambda observer: show_status(observer, voice, pool, hosts=hosts))


async def show_status(
    observer: Observer, voice: Voice, pool: str | None = None, *, hosts: bool = True
) -> None:
    """Show pools.

    Raises:
        PoolUnknown: There is none of this name.
    """
    from pool.control.window import document, look, look_for

    views = await (look(observer) if pool is None else look_for(observer, pool))
    if voice.as_json:
        voice.document(pools=[document(view) for view in views])
        return
    from pool.cli.tree import draw

    for view in views:
        voice.show(draw(view, hosts=hosts))
    if not views:
        voice.show("There are no pools.")
