"""`pool top`: all pools, live."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pool.cli.exits import Exit, Stop
from pool.cli.running import Address, AsJson, run
from pool.cli.voice import Voice

if TYPE_CHECKING:
    from pool.cluster.interface import Observer

LOOK_S = 1.0


def top(address: Address = None, as_json: AsJson = False) -> None:
    """Show all pools, live.

    Keys: q ends it; up and down, or k and j, choose a slot; p, or left and right, the pool.
    With --json, a document of `pool status` each second; none while the cluster does not answer.
    """
    voice = Voice(as_json=as_json)
    run(address, voice, lambda observer: show_top(observer, voice))


async def show_top(observer: Observer, voice: Voice) -> None:
    """Show all pools until a key, or Ctrl-C, ends it.

    Raises:
        Stop: There is no terminal.
    """
    if voice.as_json:
        await _print_forever(observer, voice)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise Stop(Exit.USAGE, "pool top needs a terminal; `pool status` prints the same once.")
    import anyio
    from rich.live import Live

    from pool.cli.frame import Frame

    frame = Frame()
    console = voice.console

    def draw() -> None:
        live.update(frame.draw(console.height), refresh=True)

    async def look_forever() -> None:
        while True:
            await frame.look(observer)
            draw()
            await anyio.sleep(LOOK_S)

    with _keys() as terminal, Live(console=console, screen=True, auto_refresh=False) as live:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(look_forever)
            while True:
                await anyio.wait_readable(terminal)
                pressed = os.read(terminal, 64).decode(errors="replace")
                if not pressed or not frame.press(pressed):
                    tasks.cancel_scope.cancel()
                    break
                draw()


async def _print_forever(observer: Observer, voice: Voice) -> None:
    import anyio

    from pool.control.window import document, look
    from pool.errors import SourceUnavailable

    trouble: str | None = None
    while True:
        try:
            voice.document(pools=[document(view) for view in await look(observer)])
            trouble = ""
        except SourceUnavailable as error:
            if trouble is None:
                raise  # There was no cluster to begin with.
            if trouble != str(error):
                trouble = str(error)
                voice.tell(trouble)
        await anyio.sleep(LOOK_S)


@contextmanager
def _keys() -> Iterator[int]:
    """Have the terminal give each key at once, without showing it."""
    import termios
    import tty

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    try:
        tty.setcbreak(terminal)
        yield terminal
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
