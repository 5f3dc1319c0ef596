"""Signals end a block, then hurry its pools, then go to whoever had them before."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

import anyio
import pytest

import pool
from pool.manager.haste import announce, join

TERM, USR = signal.SIGTERM, signal.SIGUSR1


class Before:
    """Have the signals before the block, and count them."""

    def __init__(self) -> None:
        self.came: list[int] = []

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.came.append(number)


@pytest.fixture
def before() -> Iterator[Before]:
    made = Before()
    were = {number: signal.signal(number, made) for number in (TERM, USR)}
    yield made
    for number, was in were.items():
        assert signal.getsignal(number) is made, "the handler of before was put back"
        signal.signal(number, was)


def test_a_signal_cancels_the_block_and_the_program_goes_on(before: Before) -> None:
    async def main() -> pool.Stop:
        cleaned_up = False
        async with pool.stop_on(TERM, USR) as stop:
            assert (stop.received, stop.count, stop.exit_code) == (None, 0, 0)
            try:
                signal.raise_signal(USR)
                await anyio.sleep_forever()
            finally:
                cleaned_up = True
        assert cleaned_up
        await anyio.sleep(0.001)  # The cancellation is over.
        return stop

    stop = asyncio.run(main())
    assert (stop.received, stop.count, stop.exit_code) == (USR, 1, 128 + USR)
    assert repr(stop).startswith("Stop(received=")
    assert before.came == []


def test_sigterm_is_what_it_catches_when_nothing_is_said(before: Before) -> None:
    async def main() -> pool.Stop:
        async with pool.stop_on() as stop:
            signal.raise_signal(USR)
            signal.raise_signal(TERM)
            await anyio.sleep_forever()
        return stop

    assert asyncio.run(main()).exit_code == 143
    assert before.came == [USR]


def test_a_block_without_a_signal_ends_as_ever(before: Before) -> None:
    async def main() -> None:
        async with pool.stop_on(TERM) as stop:
            await anyio.sleep(0.001)
        assert stop.received is None
        with pytest.raises(KeyError):
            async with pool.stop_on(TERM):
                raise KeyError
        with anyio.move_on_after(0.01) as scope:
            async with pool.stop_on(TERM) as stop:
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        assert stop.received is None

    asyncio.run(main())


def test_the_second_signal_hurries_what_is_in_the_block_and_the_third_is_handed_on(
    before: Before,
) -> None:
    async def main() -> None:
        heard: list[str] = []

        def join_as(name: str) -> None:
            join(lambda run_hooks: heard.append(f"{name}: {'hooks' if run_hooks else 'kill'}"))

        join_as("outside")
        async with pool.stop_on(USR), pool.stop_on(TERM) as stop:
            join_as("first")
            gone = join(lambda run_hooks: heard.append("gone"))
            gone()
            with anyio.CancelScope(shield=True):
                for count in (1, 2, 3):
                    signal.raise_signal(TERM)
                    assert stop.count == count
                    await anyio.sleep(0.01)
                # Who comes late is told as well, on its own thread too.
                join_as("late")
                signal.raise_signal(USR)
                await anyio.sleep(0.01)
        assert heard == [
            "first: hooks",
            "first: kill",
            "late: kill",
            "first: hooks",
            "late: hooks",
        ]

    asyncio.run(main())
    assert before.came == [TERM]


def test_a_second_signal_in_the_middle_of_the_first_takes_nothing_from_it(before: Before) -> None:
    class Interrupted(list[signal.Signals]):
        def append(self, number: signal.Signals) -> None:
            super().append(number)
            if len(self) == 1:
                signal.raise_signal(TERM)

    async def main() -> None:
        heard: list[bool] = []
        async with pool.stop_on(TERM) as stop:
            stop._received = Interrupted()
            join(heard.append)
            try:
                signal.raise_signal(TERM)
                await anyio.sleep_forever()
            finally:
                join(heard.append)
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(0.01)
        assert stop.count == 2
        assert heard == [False, True, False]

    asyncio.run(main())


def test_a_signal_that_was_ignored_before_is_ignored_the_third_time(before: Before) -> None:
    async def main() -> None:
        signal.signal(TERM, signal.SIG_IGN)
        async with pool.stop_on(TERM) as stop:
            for _ in range(4):
                signal.raise_signal(TERM)
        assert stop.count == 4
        assert signal.getsignal(TERM) is signal.SIG_IGN
        signal.signal(TERM, before)

    asyncio.run(main())


def test_a_handler_that_ray_sets_in_the_block_is_replaced_when_a_pool_is_opened(
    before: Before,
) -> None:
    came: list[int] = []

    def handler(number: int, frame: FrameType | None) -> None:
        came.append(number)

    async def main(module: str) -> pool.Stop:
        async with pool.stop_on(TERM) as stop:
            handler.__module__ = module
            signal.signal(TERM, handler)
            announce()
            signal.raise_signal(TERM)
            await anyio.sleep(0.01)
        assert signal.getsignal(TERM) is handler, "who took the signal in the block keeps it"
        signal.signal(TERM, before)
        return stop

    assert asyncio.run(main("ray._private.worker")).received is TERM
    assert came == []
    assert asyncio.run(main("somebody.else")).received is None
    assert came == [TERM]


def test_what_cannot_be_caught_is_refused(before: Before) -> None:
    async def main(*signals: signal.Signals) -> None:
        async with pool.stop_on(*signals):
            raise AssertionError("the block was entered")

    with pytest.raises(pool.ConfigError, match="cannot be caught"):
        asyncio.run(main(TERM, signal.SIGKILL))

    refused: list[BaseException] = []

    def elsewhere() -> None:
        try:
            asyncio.run(main(TERM))
        except pool.ConfigError as error:
            refused.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert "main thread only" in str(refused[0])


def test_a_signal_interrupts_a_script_and_the_second_does_not(before: Before) -> None:
    steps: list[str] = []
    main = threading.main_thread().ident
    assert main is not None
    with pool.blocking.stop_on(TERM) as stop:
        threading.Timer(0.1, signal.pthread_kill, [main, TERM]).start()
        try:
            time.sleep(60)
            steps.append("it went on")
        finally:
            signal.raise_signal(TERM)
            steps.append("cleaned up")
    assert steps == ["cleaned up"]
    assert (stop.received, stop.count) == (TERM, 2)
    assert before.came == []


def test_a_script_that_gets_no_signal_ends_as_ever(before: Before) -> None:
    with pool.blocking.stop_on(TERM) as stop:
        pass
    assert stop.exit_code == 0
    with pytest.raises(KeyError), pool.blocking.stop_on(TERM):
        raise KeyError
