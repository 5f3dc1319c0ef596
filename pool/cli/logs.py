"""`pool logs`: what managed processes write, on whatever node they are."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pool.cli.running import Address, AsJson, Target, run
from pool.cli.voice import Voice

if TYPE_CHECKING:
    from pool.cluster.interface import Observer
    from pool.control.window import PoolView

LINES = 50
LOOK_S = 1.0
LOOK_FOR_MORE_S = 5.0
"""How often a follower asks whether there are processes that it does not know yet."""


def logs(
    target: Target,
    process: Annotated[
        str | None, typer.Argument(metavar="PROCESS", help="Only the process of this name.")
    ] = None,
    host: Annotated[int | None, typer.Option(min=0, help="Only on this node host.")] = None,
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


@dataclass(slots=True)
class Log:
    """Hold whose log it is, how far it was read, and what is in the way of reading on."""

    slot: int
    host: int
    process: str
    cursor: Mapping[str, Any] | None = None
    begun: str = ""
    """What was read of a line that is not at its end yet."""
    trouble: str = ""
    is_told: bool = False
    """Whether that was said."""

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

    A follower goes on with whatever can be read, takes in what is started later, and ends with the
    pool, or when the last of the slots was closed.

    Raises:
        Stop: There is no such slot or process, or nobody who could read its log.
        PoolUnknown: There is no such pool.
        Refused: The owner could not read it.
    """
    import anyio

    from pool.cli.exits import Exit, Stop
    from pool.cli.targets import find_target, slot_of
    from pool.errors import PoolError

    view, index = await find_target(observer, target)
    if index is not None:
        slot_of(view, index)
    if not view.can_be_asked:
        raise Stop(Exit.NO_OWNER, _where(view, index))
    every = await _find_logs(observer, view, index, host)
    meant = [log for log in every if process in (None, log.process)]
    if not meant:
        there = ", ".join(sorted({log.process for log in every})) or "none"
        raise Stop(Exit.UNKNOWN, f"there is no such process in {target}; there are: {there}.")
    is_first = True
    look_at = anyio.current_time() + LOOK_FOR_MORE_S
    while True:
        texts = await _read_all(observer, view, meant, last, is_strict=is_first)
        for log, text in zip(meant, texts, strict=True):
            _say(voice, log, text, named=len(meant) > 1, is_last=not follow)
        if not follow:
            return
        is_first = False
        if any(log.trouble for log in meant):
            view, meant = await _go_on(observer, voice, view, index, meant)
            if not meant:
                return
        if not any(texts):
            await anyio.sleep(LOOK_S)
        if anyio.current_time() >= look_at:
            # Who does not answer now is asked again.
            with contextlib.suppress(PoolError):
                every = await _find_logs(observer, view, index, host)
                known = {log.name for log in meant}
                more = [log for log in every if log.name not in known]
                _take_in(meant, [log for log in more if process in (None, log.process)])
            look_at = anyio.current_time() + LOOK_FOR_MORE_S


async def _find_logs(
    observer: Observer, view: PoolView, index: int | None, host: int | None
) -> list[Log]:
    """List the logs of a pool, or of one slot or host of it, as its owner knows them now."""
    from pool.window.requests import Verb, ask

    found = await ask(observer, view.whom, Verb.PROCESSES, {"slot": index, "host": host})
    return [Log(each["slot"], each["host"], each["process"]["name"]) for each in found]


def _take_in(logs: list[Log], more: list[Log]) -> None:
    """Go on with more logs than before."""
    if more and len(logs) == 1 and logs[0].begun:
        sys.stdout.write("\n")  # From here on whole lines are shown, each with its name.
    logs += more


async def _read_all(
    observer: Observer, view: PoolView, logs: list[Log], last: int, *, is_strict: bool
) -> list[str]:
    """Read on in each log; note what is in the way, or raise the first of that."""
    import anyio

    from pool.errors import PoolError
    from pool.window.requests import Verb, ask

    texts = [""] * len(logs)
    errors: list[PoolError] = []

    async def read(number: int) -> None:
        log = logs[number]
        args: dict[str, Any] = {"slot": log.slot, "host": log.host, "process": log.process}
        args |= {"lines": last} if log.cursor is None else {"cursor": log.cursor}
        try:
            answer = await ask(observer, view.whom, Verb.READ_LOG, args)
        except PoolError as error:
            errors.append(error)
            log.is_told, log.trouble = log.is_told and log.trouble == str(error), str(error)
        else:
            texts[number], log.cursor, log.trouble = answer["text"], answer["cursor"], ""

    async with anyio.create_task_group() as tasks:
        for number in range(len(logs)):
            tasks.start_soon(read, number)
    if is_strict and errors:
        raise errors[0]
    return texts


async def _go_on(
    observer: Observer, voice: Voice, view: PoolView, index: int | None, logs: list[Log]
) -> tuple[PoolView, list[Log]]:
    """Say what is in the way of reading, and return whom to ask from now on, for which logs.

    Raises:
        Stop: The pool has no owner any more.
    """
    from pool.cli.exits import Exit, Stop
    from pool.control.window import find
    from pool.errors import PoolUnknown, SourceUnavailable

    try:
        view = await find(observer, f"{view.name}:{view.instance}")
    except PoolUnknown:
        voice.tell(f"pool {view.name!r} has ended")
        return view, []
    except SourceUnavailable:
        pass
    else:
        if not view.can_be_asked:
            raise Stop(Exit.NO_OWNER, _where(view, index))
    slots = () if view.snapshot is None else view.snapshot.slots
    there = {slot.index for slot in slots}
    for log in logs:
        if log.trouble and log.slot not in there:
            voice.tell(f"{log.name}: its slot was closed")
        elif log.trouble and not log.is_told:
            log.is_told = True
            voice.tell(f"{log.name}: {log.trouble}")
    return view, [log for log in logs if not log.trouble or log.slot in there]


def _say(voice: Voice, log: Log, text: str, *, named: bool, is_last: bool) -> None:
    """Print what was read; where several are read, whole lines, unless there will be no more."""
    if voice.as_json:
        if text:
            voice.document(slot=log.slot, host=log.host, process=log.process, text=text)
        return
    if is_last and text and not text.endswith("\n"):
        text += "\n"
    *lines, log.begun = (log.begun + text).split("\n")
    if named:
        text = "".join(f"{log.name} | {line}\n" for line in lines)
    sys.stdout.write(text)
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
