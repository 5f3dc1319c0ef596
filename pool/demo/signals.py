"""Ctrl-C and SIGTERM at moments when they must not strike.

Starting and stopping a cluster is a series of steps that each start or end processes; a signal in
the middle of one would lose track of them. So signals are held back during a step, and raised after
it. Ray sets a SIGTERM handler of its own with each node that it starts, and another, which aborts,
when a process connects; that is undone here.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

HELD = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def held_signals() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back during the block.

    Raises:
        KeyboardInterrupt: At the end, if one of them came.
    """
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)

    before = {number: signal.signal(number, note) for number in HELD}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Let SIGTERM be a Ctrl-C, so that it takes the same way out, also of an event loop."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
