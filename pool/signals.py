"""Let a signal end a block, so that the pools inside of it leave by their ladder.

A process that gets SIGTERM ends at once, and Ray, whose `ray.init` takes that signal for itself,
makes no exception: no shutdown hook runs. Nothing is left on the cluster even so, for Ray removes
what the process owned; but a checkpoint is not written either. `stop_on` makes a signal end the
block as a cancellation does. `pool.blocking.stop_on` is the same for scripts without asyncio.

The first signal ends the block, and no pool in it waits for work in flight any more. With the
second they do not wait for their hooks either. The third goes to whoever had the signal before: it
is the way out of a block that does not end.

Limits: Python runs signal handlers on its main thread, between two of its instructions. A call
that does not return to it, in C or to a device, has to end first.

Why not `loop.add_signal_handler`: it forgets who had the signal before, and a loop that is blocked
never gets to it, so nobody would count.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import FrameType
from typing import Any

import anyio

from pool.errors import ConfigError
from pool.manager.haste import haste

_Handler = Callable[[int, FrameType | None], Any] | int | None


class Stop:
    """Say whether a signal ended the block, and which."""

    def __init__(self) -> None:
        self._received: list[signal.Signals] = []

    @property
    def received(self) -> signal.Signals | None:
        """The first signal that came; None while none has."""
        return self._received[0] if self._received else None

    @property
    def count(self) -> int:
        """How many signals came: with the second, the pools in the block were hurried."""
        return len(self._received)

    @property
    def exit_code(self) -> int:
        """What to give to `sys.exit`: 128 and the signal's number, as shells count; 0 for none.

        That is 143 after SIGTERM and 130 after Ctrl-C.
        """
        return 0 if self.received is None else 128 + self.received

    def __repr__(self) -> str:
        return f"Stop(received={self.received!r}, count={self.count})"


@asynccontextmanager
async def stop_on(*signals: signal.Signals) -> AsyncIterator[Stop]:
    """Cancel the block when a signal comes, so that the pools opened in it drain.

    The block ends as in `anyio.CancelScope`: each `await` in it raises, clean-up runs, and the
    program goes on after the block. A pool that is opened in it closes by its ladder, without
    waiting for work in flight. A second signal hurries these pools (see
    `ResourcePoolManager.hurry`). A third is handed on to whoever had the signal before the block.

    It may be entered before `ray.init` or after: Ray's own handler of SIGTERM is replaced again
    when a pool is opened. On the way out the handlers of before are put back.

    Args:
        *signals: Which signals; SIGTERM when none is given. With `signal.SIGINT` among them Ctrl-C
            takes the same way, rather than that of `asyncio.run`.

    Returns:
        What says, then and afterwards, whether a signal came.

    Raises:
        ConfigError: This is not the main thread, or a signal cannot be caught.

    Cancelling the block from outside is none of its concern, and goes through it.
    """
    stop = Stop()
    loop = asyncio.get_running_loop()
    with anyio.CancelScope() as scope:

        def end() -> None:
            # Wakes the loop up, which may be waiting for something else.
            loop.call_soon_threadsafe(scope.cancel)

        with _caught(signals, stop, end):
            yield stop


class _Stopped(BaseException):
    """End the block of a script without asyncio."""


@contextmanager
def stop_script_on(*signals: signal.Signals) -> Iterator[Stop]:
    """Leave the block when a signal comes, so that the pools opened in it drain.

    For scripts without asyncio, as `pool.blocking.stop_on`. The first signal interrupts whatever
    the main thread does in the block, as Ctrl-C does with KeyboardInterrupt; clean-up runs, and the
    script goes on after the block. The second and third do as with `pool.stop_on`.

    Args:
        *signals: Which signals; SIGTERM when none is given.

    Returns:
        What says, then and afterwards, whether a signal came.

    Raises:
        ConfigError: This is not the main thread, or a signal cannot be caught.
    """
    stop = Stop()

    def end() -> None:
        raise _Stopped

    try:
        with _caught(signals, stop, end):
            yield stop
    except _Stopped:
        pass


@contextmanager
def _caught(
    signals: tuple[signal.Signals, ...], stop: Stop, end: Callable[[], None]
) -> Iterator[None]:
    """Catch the signals: the first calls `end`, the second hurries, the third is handed on."""
    handlers = _Handlers(signals or (signal.SIGTERM,))

    counter = itertools.count(1)

    def handle(number: int, frame: FrameType | None) -> None:
        # NB: the next signal may come before this one is dealt with, and interrupt it anywhere.
        count = next(counter)
        stop._received.append(signal.Signals(number))
        if handlers.is_over:
            return
        if count <= 2:
            found.call(run_hooks=count == 1)
        if count == 1:
            end()
        elif count > 2:
            handlers.hand_on(number, frame)

    with haste(handlers.take_back) as found, handlers.set_to(handle):
        yield


class _Handlers:
    """Set the handlers of some signals, and put back those of before."""

    def __init__(self, signals: tuple[signal.Signals, ...]) -> None:
        self._signals = signals
        self._ours: Callable[[int, FrameType | None], None] | None = None
        self._before: dict[int, _Handler] = {}
        self.is_over = False

    @contextmanager
    def set_to(self, handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            raise ConfigError(
                "signals reach the main thread only; use stop_on there, around the code that "
                "starts this thread",
                "signals",
            )
        self._ours = handler
        try:
            for each in self._signals:
                self._set(each)
            yield
        finally:
            self.is_over = True
            for number, before in self._before.items():
                # Whoever took the signal during the block keeps it.
                if signal.getsignal(number) is handler:
                    signal.signal(number, signal.SIG_DFL if before is None else before)

    def take_back(self) -> None:
        """Take back a signal that Ray took for itself when the process connected."""
        if threading.current_thread() is threading.main_thread():
            for number in self._before:
                if getattr(signal.getsignal(number), "__module__", "").startswith("ray."):
                    self._set(number)

    def hand_on(self, number: int, frame: FrameType | None) -> None:
        """Do what was done with the signal before."""
        before = self._before[number]
        if callable(before):
            before(number, frame)
        elif before != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    def _set(self, number: int) -> None:
        assert self._ours is not None
        try:
            self._before[number] = signal.signal(number, self._ours)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"{number!r} cannot be caught: {error}; give signals as signal.SIGTERM", "signals"
            ) from error
