"""`pool events`: what pools say of themselves, and from now on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pool.cli.running import Address, AsJson, run
from pool.cli.voice import Voice

if TYPE_CHECKING:
    from rich.text import Text

    from pool.cluster.interface import Observer
    from pool.control.window import NumberedEvent
    from pool.manager.events import Event

LOOK_S = 1.0
LAST = 50


def events(
    pool: Annotated[str | None, typer.Argument(metavar="POOL", help="Only this pool.")] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what happens from now on.")
    ] = False,
    kind: Annotated[
        list[str] | None, typer.Option(help="Only events of this kind. May be given again.")
    ] = None,
    slot: Annotated[int | None, typer.Option(min=0, help="Only events of this slot.")] = None,
    last: Annotated[int, typer.Option("--last", "-n", min=0, help="How many, at first.")] = LAST,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Show the last events of a pool, or of all, oldest first.

    With --json, each is a document on a line of its own.
    """
    from pool.manager.events import EventKind

    known = [each.value for each in EventKind]
    for each in kind or ():
        if each not in known:
            raise typer.BadParameter(f"{each!r} is no kind of event; there are {', '.join(known)}")
    voice = Voice(as_json=as_json)
    run(
        address,
        voice,
        lambda observer: show_events(
            observer, voice, pool, kinds=kind or (), slot=slot, last=last, follow=follow
        ),
    )


async def show_events(
    observer: Observer,
    voice: Voice,
    pool: str | None = None,
    *,
    kinds: list[str] | tuple[str, ...] = (),
    slot: int | None = None,
    last: int = LAST,
    follow: bool = False,
) -> None:
    """Show events.

    Raises:
        PoolUnknown: There is no pool of this name.
    """
    import anyio

    from pool.control.window import events_of, look, look_for
    from pool.errors import PoolUnknown, SourceUnavailable

    seen: dict[tuple[str, str], int] = {}
    is_first = True
    trouble = ""
    while True:
        found: list[tuple[float, str, NumberedEvent]] = []
        try:
            for view in await (look(observer) if pool is None else look_for(observer, pool)):
                key = view.name, view.instance
                for each in await events_of(observer, *key, since=seen.get(key, 0)):
                    seen[key] = each.number + 1
                    event = each.event
                    if event.kind in (kinds or (event.kind,)) and slot in (None, event.slot):
                        found.append((event.at, view.instance, each))
            trouble = ""
        except PoolUnknown:
            if is_first:
                raise
            voice.tell(f"pool {pool!r} has ended")
            return
        except SourceUnavailable as error:
            if is_first:
                raise
            if not trouble:
                trouble = str(error)
                voice.tell(trouble)
        found.sort(key=lambda row: (row[0], row[2].number))
        for _, instance, each in found[-last if last else len(found) :] if is_first else found:
            if voice.as_json:
                voice.document(instance=instance, number=each.number, event=each.event)
            else:
                voice.show(line(each.event, with_pool=pool is None))
        if not follow:
            return
        is_first = False
        await anyio.sleep(LOOK_S)


def line(event: Event, *, with_pool: bool = False) -> Text:
    """Write an event in one line."""
    import time

    from rich.text import Text

    from pool.manager.events import level_of

    style = {"error": "red", "warning": "yellow"}.get(level_of(event.kind, event.facts), "")
    text = Text(time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.at)), "dim")
    text.append(f"  {event.pool}" if with_pool else "").append(f"  {event.kind}", style)
    if event.slot is not None:
        generation = "" if event.generation is None else f".{event.generation}"
        text.append(f"  slot {event.slot}{generation}")
    for key, value in event.facts.items():
        if key != "trace":  # It has many lines; `--json` has them.
            text.append(f"  {key}=", "dim").append(str(value))
    return text
