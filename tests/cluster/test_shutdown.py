"""Every way out of `async with` leaves nothing on the cluster (INV-4), and says what it had to do.

The fixture `world` looks, after each test, for actors, placement groups and processes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import anyio
import pytest

import pool
from pool import State
from tests import hosts
from tests.tree import (
    BRIEF,
    ON_ONE_NODE,
    ON_TWO_NODES,
    QUICK,
    eventually,
    every_gpu_taken,
    hosts_of,
    is_busy,
    until,
)
from tests.world import World

pytestmark = pytest.mark.ray

SOON_S = 12.0
"""Nobody works and no hook hangs: an end takes well under the drain policy's time and a margin."""


def open_pool(**options: Any) -> pool.ReplicaPool:
    options = {"shape": ON_ONE_NODE, "restart": QUICK, "drain": BRIEF, **options}
    return pool.ReplicaPool("leaving", **options)


def test_a_pool_that_is_left_in_good_order_runs_every_shutdown_hook_and_logs_nothing_above_info(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Rows E7, A10: the hook on every host, the rung `hook`, no troubles."""

    async def main() -> pool.ReplicaPool:
        options = {"shape": ON_TWO_NODES, "host": hosts.Farewell, "host_args": (tmp_path,)}
        async with open_pool(**options) as replicas:
            await replicas.scale(1, timeout_s=60)
            world.watch(*(host.pid for host in hosts_of(replicas[0])))
            with caplog.at_level(logging.DEBUG):
                caplog.clear()
                await replicas.scale(0, timeout_s=30)
        return replicas

    with caplog.at_level(logging.DEBUG, logger="pool"):
        replicas = anyio.run(main)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "leaving_0.1_0.1",
        "leaving_0.1_1.1",
    ]
    assert [(report.rung, report.troubles) for report in replicas.reports] == [("hook", ())]
    assert not [record for record in caplog.records if record.levelno > logging.INFO]
    assert [record for record in caplog.records if record.name == "pool"]


def test_an_exception_in_the_block_arrives_as_itself_and_nothing_is_left(world: World) -> None:
    async def main() -> None:
        async with open_pool() as replicas:
            await replicas.scale(1, timeout_s=60)
            world.watch(*(host.pid for host in hosts_of(replicas[0])))
            raise KeyError("the block's own")

    with pytest.raises(KeyError, match="the block's own"):
        anyio.run(main)


def test_an_exception_does_not_wait_for_work_in_flight(world: World) -> None:
    """Only a block that ended well waits for work; the hook still runs."""

    async def main() -> float:
        began = 0.0
        try:
            async with open_pool(drain=pool.DrainPolicy(timeout_s=60)) as replicas:
                await replicas.scale(1, timeout_s=60)
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(replicas.broadcast, hosts.nap, 50.0)
                    await until(replicas, lambda: True)
                    began = time.monotonic()
                    tasks.cancel_scope.cancel()
                raise KeyError
        except KeyError:
            return time.monotonic() - began

    assert anyio.run(main) < 10


async def pending(replicas: pool.ReplicaPool) -> None:
    with every_gpu_taken():
        try:
            await replicas.scale(1, timeout_s=None)
        finally:
            assert [member.state for member in replicas.members()] == [State.PENDING]


async def starting(replicas: pool.ReplicaPool) -> None:
    try:
        await replicas.scale(1, timeout_s=None)
    finally:
        assert [member.state for member in replicas.members()] == [State.STARTING]


async def ready(replicas: pool.ReplicaPool) -> None:
    await replicas.scale(1, timeout_s=60)
    await anyio.sleep_forever()


async def draining(replicas: pool.ReplicaPool) -> None:
    await replicas.scale(1, timeout_s=60)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(replicas.broadcast, hosts.nap, 20.0)
        await until(replicas, lambda: bool(replicas.snapshot().slots[0].member))
        await anyio.sleep(0.2)
        await replicas.scale(0)


PHASES: dict[str, tuple[Callable[[pool.ReplicaPool], Coroutine[Any, Any, None]], State]] = {
    "pending": (pending, State.PENDING),
    "starting": (starting, State.STARTING),
    "ready": (ready, State.READY),
    "draining": (draining, State.DRAINING),
}


async def until_phase(replicas: pool.ReplicaPool, state: State) -> None:
    await until(replicas, lambda: [member.state for member in replicas.members()] == [state], 60)
    # A state is entered a moment before what it stands for is under way.
    await anyio.sleep(0.3)


@pytest.mark.parametrize("phase", PHASES)
def test_a_cancelled_scope_around_the_pool_leaves_nothing_in_any_phase(
    world: World, phase: str
) -> None:
    """INV-4, INV-11: `anyio` cancels every task inside the scope, the pool's own among them."""
    block, state = PHASES[phase]

    async def main() -> float:
        cancelled = 0.0
        replicas = open_pool(host=hosts.Slow if phase == "starting" else pool.NodeHost)
        with anyio.CancelScope() as scope:
            async with replicas, anyio.create_task_group() as tasks:
                tasks.start_soon(block, replicas)
                await until_phase(replicas, state)
                cancelled = time.monotonic()
                scope.cancel()
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        assert replicas.snapshot().slots == ()
        return time.monotonic() - cancelled

    assert anyio.run(main) < SOON_S


@pytest.mark.parametrize("phase", PHASES)
def test_a_cancelled_asyncio_task_leaves_nothing_in_any_phase(world: World, phase: str) -> None:
    """INV-4, INV-11: `task.cancel()`, as Ctrl-C under `asyncio.run` does it."""
    block, state = PHASES[phase]
    opened: list[pool.ReplicaPool] = []

    async def user() -> None:
        host = hosts.Slow if phase == "starting" else pool.NodeHost
        async with open_pool(host=host) as replicas:
            opened.append(replicas)
            await block(replicas)

    async def main() -> float:
        task = asyncio.create_task(user())
        await eventually(lambda: bool(opened))
        await until_phase(opened[0], state)
        cancelled = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert opened[0].snapshot().slots == ()
        return time.monotonic() - cancelled

    assert asyncio.run(main()) < SOON_S


@pytest.mark.parametrize("phase", PHASES)
def test_an_exception_in_the_block_leaves_nothing_in_any_phase(world: World, phase: str) -> None:
    """INV-4: it arrives, and waits for no work."""
    block, state = PHASES[phase]

    async def main() -> float:
        failed = 0.0
        replicas = open_pool(host=hosts.Slow if phase == "starting" else pool.NodeHost)
        try:
            async with replicas, anyio.create_task_group() as tasks:
                tasks.start_soon(block, replicas)
                await until_phase(replicas, state)
                failed = time.monotonic()
                raise KeyError("the block's own")
        except* KeyError:
            pass
        assert replicas.snapshot().slots == ()
        return time.monotonic() - failed

    assert anyio.run(main) < SOON_S


def test_a_pool_that_is_told_to_hurry_while_it_closes_goes_to_the_kill_rung(world: World) -> None:
    async def main() -> None:
        policy = pool.DrainPolicy(timeout_s=60)
        replicas = open_pool(host=hosts.Reluctant, drain=policy)

        async def hurry() -> None:
            await anyio.sleep(1)
            replicas.hurry()

        async with anyio.create_task_group() as tasks, replicas:
            await replicas.scale(2, timeout_s=60)
            for member in replicas.members():
                world.watch(*(host.pid for host in hosts_of(member)))
            tasks.start_soon(hurry)
        for report in replicas.reports:
            assert (report.rung, report.troubles) == ("kill", ("its shutdown hook was cut short",))
            assert report.took_s < 1 + 2

    anyio.run(main)


def test_a_time_out_around_everything_leaves_nothing(world: World) -> None:
    async def main() -> None:
        with anyio.fail_after(4):
            async with open_pool(host=hosts.Slow) as replicas:
                await replicas.scale(1, timeout_s=None)

    with pytest.raises(TimeoutError):
        anyio.run(main)


def test_cancelling_scale_leaves_the_new_size_in_force(world: World) -> None:
    """INV-11: the pool is consistent, and reaches what was asked for."""

    async def main() -> None:
        async with open_pool() as replicas:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(replicas.scale, 1)
                await until(replicas, lambda: replicas.desired == 1)
                tasks.cancel_scope.cancel()
            assert replicas.desired == 1
            await replicas.wait_settled(60)
            assert [member.state for member in replicas.members()] == [State.READY]

    anyio.run(main)


def test_a_shutdown_hook_that_hangs_costs_its_part_of_the_time_and_is_reported(
    world: World,
) -> None:
    """Row E7: the ladder goes on to `kill`, within its time, and says what was wrong."""

    async def main() -> None:
        policy = pool.DrainPolicy(timeout_s=6)
        async with open_pool(host=hosts.Reluctant, drain=policy) as replicas:
            await replicas.scale(1, timeout_s=60)
            world.watch(*(host.pid for host in hosts_of(replicas[0])))
            [report] = await replicas.drain(timeout_s=60)
            assert report.member == "leaving/0.1"
            assert report.troubles, report
            assert "shutdown hook" in " ".join(report.troubles)
            assert report.took_s < 6 + 2
            assert report.rung == "kill"

    anyio.run(main)


def test_a_shutdown_hook_that_raises_is_reported_and_stops_nothing(world: World) -> None:
    async def main() -> None:
        async with open_pool(host=hosts.Rude) as replicas:
            await replicas.scale(1, timeout_s=60)
            world.watch(*(host.pid for host in hosts_of(replicas[0])))
            [report] = await replicas.drain(timeout_s=60)
            assert "no farewell" in " ".join(report.troubles), report
            assert report.took_s < SOON_S

    anyio.run(main)


def test_drain_waits_for_work_in_flight_and_reports_each_member(world: World) -> None:
    """Row E7: the call's result arrives, then the member leaves in good order."""

    async def main() -> None:
        async with open_pool() as replicas:
            await replicas.scale(2, timeout_s=60)
            results: list[Any] = []

            async def work() -> None:
                results.extend(await replicas.broadcast(hosts.nap, 1.0, flat=True))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(work)
                await eventually(lambda: is_busy(replicas))
                await replicas.drain(timeout_s=60)
            reports = replicas.reports
            assert len(results) == 2
            assert {report.member for report in reports} == {"leaving/0.1", "leaving/1.1"}
            assert {(report.rung, report.troubles) for report in reports} == {("hook", ())}
            assert all(report.took_s >= 0.5 for report in reports)
            assert replicas.members() == []
            assert await replicas.drain() == ()

    anyio.run(main)


def test_work_that_outlasts_its_part_of_the_drain_is_cut_off_and_reported(world: World) -> None:
    async def main() -> None:
        async with open_pool(drain=pool.DrainPolicy(timeout_s=4)) as replicas:
            await replicas.scale(1, timeout_s=60)
            lost: list[BaseException] = []

            async def work() -> None:
                try:
                    await replicas.broadcast(hosts.nap, 60.0)
                except pool.MemberLost as error:
                    lost.append(error)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(work)
                await eventually(lambda: is_busy(replicas))
                await replicas.drain(timeout_s=60)
            [report] = replicas.reports
            assert lost
            assert "work was still in flight" in " ".join(report.troubles)
            assert report.took_s < 4 + 2

    anyio.run(main)


def test_a_pool_that_was_closed_takes_no_calls(world: World) -> None:
    async def main() -> None:
        async with open_pool() as replicas:
            pass
        with pytest.raises(pool.PoolClosed, match="is closed"):
            await replicas.scale(1)
        with pytest.raises(pool.PoolClosed):
            await replicas.broadcast(os.getpid)
        with pytest.raises(pool.PoolClosed, match="opened before"):
            await replicas.__aenter__()

    anyio.run(main)
