"""`pool list`: which pools there are, a line each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pool.cli.running import Address, AsJson, run
from pool.cli.voice import Voice

if TYPE_CHECKING:
    from pool.cluster.interface import Observer


def list_pools(address: Address = None, as_json: AsJson = False) -> None:
    """List the pools, a line each."""
    voice = Voice(as_json=as_json)
    run(address, voice, lambda observer: show_list(observer, voice))


async def show_list(observer: Observer, voice: Voice) -> None:
    """List pools."""
    from pool.control.window import look

    views = await look(observer)
    if voice.as_json:
        voice.document(
            pools=[
                {
                    "name": view.name,
                    "instance": view.instance,
                    "status": view.status,
                    "ready": None if view.snapshot is None else view.snapshot.ready,
                    "desired": None if view.snapshot is None else view.snapshot.desired,
                    "age_s": view.age_s,
                }
                for view in views
            ]
        )
        return
    if not views:
        voice.show("There are no pools.")
        return
    from rich.table import Table
    from rich.text import Text

    from pool.cli.words import STATUS_STYLES, duration

    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("pool", "instance", "status", "ready", "actors", "groups", "shown"):
        table.add_column(column)
    for view in views:
        snapshot = view.snapshot
        table.add_row(
            view.name,
            view.instance,
            Text(view.status, STATUS_STYLES[view.status]),
            "" if snapshot is None else f"{snapshot.ready} of {snapshot.desired}",
            str(len(view.actors)),
            str(len(view.groups)),
            "" if snapshot is None else f"{duration(view.age_s)} ago",
        )
    voice.show(table)
