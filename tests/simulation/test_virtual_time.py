"""The loop in virtual time: it jumps, it says who waits, and it lets nothing real in."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
import time
from functools import partial

import anyio
import anyio.to_thread
import pytest

from pool.errors import ConfigError
from pool.testing import Deadlock, TimeLimit, VirtualTime, run
from pool.testing.virtual_time import LIFE, BusyLoop, RealWorld, VirtualTimeLoop, current_loop


def test_a_year_passes_at_once() -> None:
    begun = time.perf_counter()

    async def main() -> float:
        await anyio.sleep(365 * 86_400)
        return anyio.current_time()

    assert run(main) == 365 * 86_400
    assert time.perf_counter() - begun < 60


def test_time_outs_are_in_virtual_time() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError), anyio.fail_after(10):
            await anyio.sleep_forever()
        return anyio.current_time()

    assert run(main) == 10


def test_timers_fire_in_their_order_and_at_their_exact_time() -> None:
    seen: list[tuple[float, float]] = []

    async def sleeper(delay_s: float) -> None:
        await anyio.sleep(delay_s)
        seen.append((delay_s, anyio.current_time()))

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            for delay_s in (0.3, 0.1, 86_400.7, 0.2):
                tasks.start_soon(sleeper, delay_s)

    run(main)
    assert seen == [(0.1, 0.1), (0.2, 0.2), (0.3, 0.3), (86_400.7, 86_400.7)]


def test_the_clocks_of_the_time_module_go_along() -> None:
    async def main() -> tuple[float, float]:
        monotonic, wall = time.monotonic(), time.time()
        await anyio.sleep(3600)
        return time.monotonic() - monotonic, time.time() - wall

    assert run(main) == (3600, 3600)
    assert abs(time.time() - time.clock_gettime(time.CLOCK_REALTIME)) < 5


def test_a_stall_makes_timers_late() -> None:
    async def main() -> float:
        loop = current_loop()
        loop.call_later(1, loop.stall, 5.0)
        await anyio.sleep(2)
        return anyio.current_time()

    assert run(main) == 6


def test_a_deadlock_names_who_waits_and_where() -> None:
    async def waits_for_nobody() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        await asyncio.create_task(waits_for_nobody(), name="the one")

    with pytest.raises(Deadlock, match=r"the one: .*waits_for_nobody"):
        run(main)


def test_a_run_beyond_its_limit_ends() -> None:
    with pytest.raises(TimeLimit, match="not done after 100 virtual seconds"):
        run(partial(anyio.sleep, 101), limit_s=100)
    with pytest.raises(ConfigError):
        VirtualTime(limit_s=0)


def test_a_busy_loop_is_found() -> None:
    async def main() -> None:
        while True:  # noqa: ASYNC110 - busy is what it is meant to be
            await asyncio.sleep(0)

    with pytest.raises(BusyLoop, match="without time passing"):
        run(main)


def test_functions_for_threads_run_at_once_in_this_thread() -> None:
    async def main() -> set[int]:
        loop = asyncio.get_running_loop()
        return {
            await anyio.to_thread.run_sync(threading.get_ident),
            await asyncio.to_thread(threading.get_ident),
            await loop.run_in_executor(None, threading.get_ident),
        }

    assert run(main) == {threading.get_ident()}


def test_an_error_in_a_function_for_a_thread_arrives() -> None:
    async def main() -> None:
        for call in (asyncio.to_thread(int, "x"), anyio.to_thread.run_sync(int, "x")):
            with pytest.raises(ValueError, match="invalid literal"):
                await call

    run(main)


def test_a_real_thread_that_calls_in_is_refused() -> None:
    errors: list[BaseException] = []

    def intrude(loop: asyncio.AbstractEventLoop) -> None:
        try:
            loop.call_soon_threadsafe(print)
        except RealWorld as error:
            errors.append(error)

    async def main() -> None:
        thread = threading.Thread(target=intrude, args=(asyncio.get_running_loop(),))
        thread.start()
        thread.join()
        await anyio.sleep(1)

    with pytest.raises(RealWorld, match="called into the loop"):
        run(main)
    assert errors


def test_a_real_socket_is_refused() -> None:
    async def main() -> None:
        with socket.socket() as ours:
            asyncio.get_running_loop().add_reader(ours, print)

    with pytest.raises(RealWorld, match="put a fake in its place"):
        run(main)


def test_chance_comes_from_the_seed_and_is_given_back() -> None:
    async def main() -> float:
        return random.random()

    random.seed(5)
    expected = random.Random(5).random()
    assert run(main, seed=1) == run(main, seed=1) != run(main, seed=2)
    assert random.random() == expected


def test_what_is_left_running_is_cancelled_at_the_end() -> None:
    ended = []

    async def lingers() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(5)
            ended.append(anyio.current_time())

    async def main() -> None:
        main.task = asyncio.create_task(lingers())  # type: ignore[attr-defined]
        await anyio.sleep(1)

    run(main)
    assert ended == [6]


def test_the_dead_run_no_further_not_even_a_finally() -> None:
    seen: list[str] = []

    async def lives() -> None:
        try:
            while True:
                await anyio.sleep(1)
                seen.append("beat")
        finally:
            seen.append("finally")

    async def main() -> list[str]:
        loop = current_loop()
        life = loop.new_life()
        context = asyncio.Handle(print, (), loop)._context  # type: ignore[attr-defined]
        context.run(LIFE.set, life)
        main.task = loop.create_task(lives(), context=context)  # type: ignore[attr-defined]
        await anyio.sleep(2.5)
        loop.end_life(life)
        await anyio.sleep(60)
        return list(seen)

    assert run(main) == ["beat", "beat"]


def test_cancellation_reaches_tasks_in_one_order() -> None:
    async def sleeper(number: int, order: list[int]) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            order.append(number)

    async def main() -> list[int]:
        order: list[int] = []
        async with anyio.create_task_group() as tasks:
            for number in range(50):
                tasks.start_soon(sleeper, number, order)
            await anyio.sleep(1)
            tasks.cancel_scope.cancel()
        return order

    assert run(main) == run(main)


def test_time_can_be_advanced_step_by_step() -> None:
    beats = []

    async def beat() -> None:
        while True:
            await anyio.sleep(10)
            beats.append(anyio.current_time())

    async def begin() -> None:
        begin.task = asyncio.create_task(beat())  # type: ignore[attr-defined]

    with VirtualTime() as virtual:
        virtual.run(begin)
        virtual.advance(25)
        assert beats == [10, 20]
        virtual.advance(5)
        assert beats == [10, 20, 30]
        assert virtual.now == 30


def test_the_simulation_needs_virtual_time() -> None:
    async def main() -> VirtualTimeLoop:
        return current_loop()

    with pytest.raises(ConfigError, match=r"pool\.testing\.run"):
        asyncio.run(main())
