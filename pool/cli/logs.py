"""`pool logs`: what managed processes write, on whatever node they are."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pool.cli.running import Address, AsJson, Target, run
from pool.cli.voice import Voice

if TYPE_CHECKING:
    from pool.cluster.interface import Observer
    from pool.control.window import PoolView

LINES = 50
LOOK_S = 1.0


def logs(
    target: Target,
    process: Annotated[
        str | None, typer.Argument(metavar="[PROCESS]", help="Only the process of this name.")
    ] = None,
    host: Annotated[int | None, typer.Option(help="Only on this node host.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes.")] = False,
    last: Annotated[int, typer.Option("--last", "-n", min=1, help="Lines, at first.")] = LINES,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Show the logs of managed processes, wherever they run.

    Where several are meant, each line begins with whose it is. The pool's owner reads them; where
    it is gone, the files are named, with their nodes.
    """
    voice = Voice(as_json=as_json)
    run(
        address,
        voice,
        lambda observer: show_logs(
            observer, voice, target, process=process, host=host, follow=follow, last=last
        ),
    )


@dataclass(frozen=True, slots=True)
class Log:
    """Name a log, and how far it was read."""

    slot: int
    host: int
    process: str
    cursor: Mapping[str, Any] | None = None

    @property
    def name(self) -> str:
        """What its lines begin with, among those of others."""
        return f"{self.slot}/{self.host} {self.process}"


async def show_logs(
    observer: Observer,
    voice: Voice,
    target: str,
    *,
    process: str | None = None,
    host: int | None = None,
    follow: bool = False,
    last: int = LINES,
) -> None:
    """Show the logs of processes.

    Raises:
        Stop: There is no such slot or process, or nobody who could read its log.
        PoolUnknown: There is no such pool.
        Refused: The owner could not read it.
    """
    import anyio

    from pool.cli.exits import Exit, Stop
    from pool.cli.targets import find_target, slot_of
    from pool.window.requests import Verb, ask

    view, index = await find_target(observer, target)
    if index is not None:
        slot_of(view, index)
    if not view.can_be_asked:
        raise Stop(Exit.NO_OWNER, _where(view, index))
    found = await ask(observer, view.whom, Verb.PROCESSES, {"slot": index, "host": host})
    every = [Log(each["slot"], each["host"], each["process"]["name"]) for each in found]
    meant = [log for log in every if process in (None, log.process)]
    if not meant:
        there = ", ".join(sorted({log.process for log in every})) or "none"
        raise Stop(Exit.UNKNOWN, f"there is no such process in {target}; there are: {there}.")
    while True:
        texts: list[str] = [""] * len(meant)

        async def read(number: int, texts: list[str] = texts) -> None:
            log = meant[number]
            args: dict[str, Any] = {"slot": log.slot, "host": log.host, "process": log.process}
            args |= {"lines": last} if log.cursor is None else {"cursor": log.cursor}
            answer = await ask(observer, view.whom, Verb.READ_LOG, args)
            texts[number] = answer["text"]
            meant[number] = replace(log, cursor=answer["cursor"])

        async with anyio.create_task_group() as tasks:
            for number in range(len(meant)):
                tasks.start_soon(read, number)
        for log, text in zip(meant, texts, strict=True):
            _say(voice, log, text, named=len(meant) > 1)
        if not follow:
            return
        await anyio.sleep(LOOK_S)


def _say(voice: Voice, log: Log, text: str, *, named: bool) -> None:
    if not text:
        return
    if voice.as_json:
        voice.document(slot=log.slot, host=log.host, process=log.process, text=text)
        return
    for line in text.removesuffix("\n").split("\n"):
        sys.stdout.write(f"{log.name} | {line}\n" if named else f"{line}\n")
    sys.stdout.flush()


def _where(view: PoolView, index: int | None) -> str:
    """Say where the logs of a pool without an owner are."""
    from pool.control.window import hosts_of

    slots = () if view.snapshot is None else view.snapshot.slots
    files = [
        f"\n  {host.address}: {process.log}"
        for slot in slots
        if slot.member is not None and index in (None, slot.index)
        for host in hosts_of(slot.member)
        for process in host.processes
    ]
    where = "".join(files) or " none is known of"
    return f"pool {view.name!r} has no owner who could read its logs. The files, by node:{where}"
