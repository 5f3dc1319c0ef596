"""Ways out that are in a hurry, or cross with others: nobody waits, nothing is left (INV-4)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

import pool
from pool.testing import FaultPlan, SimNode, SimulatedCluster, run

HOOK_CUT = "its shutdown hook was cut short"
WORK_CUT = "the wait for work in flight was cut short"
AT_ONCE_S = 1.0

Story = Callable[[SimulatedCluster, pool.ReplicaPool], Awaitable[None]]


def play(story: Story, faults: FaultPlan | None = None, **options: Any) -> None:
    """Tell a story of a pool of one replica with two hosts, and look at what it leaves."""

    async def main() -> None:
        cluster = SimulatedCluster([SimNode(gpus=8)] * 2, faults=faults)
        given: dict[str, Any] = {"shape": pool.ReplicaShape(devices=16), "cluster_grows": True}
        replicas = pool.ReplicaPool("r", cluster=cluster, **(given | options))
        await story(cluster, replicas)
        assert cluster.left("r") == []
        assert not [event for event in replicas.events() if event.kind is pool.EventKind.LEFTOVER]

    run(main, limit_s=3600)


def hang_hooks(cluster: SimulatedCluster) -> None:
    for actor in cluster.actors("replica"):
        cluster.hang(actor, "shutdown")


async def hurry_in(seconds: float, replicas: pool.ReplicaPool, run_hooks: bool = False) -> None:
    await anyio.sleep(seconds)
    replicas.hurry(run_hooks=run_hooks)


async def work(replicas: pool.ReplicaPool) -> None:
    with pytest.raises(pool.MemberLost):
        await replicas.broadcast(asyncio.sleep, 1000)


def end_of(replicas: pool.ReplicaPool) -> tuple[str, tuple[str, ...]]:
    """Return how the only member that left did so, and look that it was soon after a second."""
    report = replicas.reports[-1]
    assert report.took_s < 1 + AT_ONCE_S, report
    return report.rung, report.troubles


def test_a_pool_that_closes_goes_to_the_kill_rung_when_it_is_told_to_hurry() -> None:
    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        async with anyio.create_task_group() as tasks, replicas:
            await replicas.scale(1)
            hang_hooks(cluster)
            tasks.start_soon(hurry_in, 1, replicas)
        assert end_of(replicas) == ("kill", (HOOK_CUT,))
        assert pool.EventKind.POOL_HURRIED in {event.kind for event in replicas.events()}

    play(story)


def test_who_drains_is_hurried_and_the_next_who_leaves_after_scaling_up_is_not() -> None:
    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        async with replicas, anyio.create_task_group() as tasks:
            await replicas.scale(1)
            hang_hooks(cluster)
            tasks.start_soon(hurry_in, 1, replicas)
            await replicas.drain()
            assert end_of(replicas) == ("kill", (HOOK_CUT,))
            cluster.unhang()
            await replicas.scale(1)
            await replicas.drain()
            assert end_of(replicas) == ("hook", ())

    play(story)


def test_hooks_that_are_to_run_run_while_work_is_not_waited_for() -> None:
    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        async with replicas, anyio.create_task_group() as tasks:
            await replicas.scale(1)
            tasks.start_soon(work, replicas)
            await anyio.sleep(0.1)
            tasks.start_soon(hurry_in, 1, replicas, True)
            await replicas.drain()
            assert end_of(replicas) == ("hook", (WORK_CUT,))

    play(story)


def test_who_leaves_after_the_hurry_is_killed_at_once() -> None:
    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        async with replicas:
            await replicas.scale(1)
            hang_hooks(cluster)
            replicas.hurry()
        assert end_of(replicas) == ("kill", ())

    play(story)


def test_each_cancellation_by_asyncio_shortens_the_way_of_a_pool_that_closes() -> None:
    """INV-11: the first ends the wait for work, the second the wait for the hook."""

    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        begun = anyio.Event()

        async def user() -> None:
            async with replicas:
                await replicas.scale(1)
                member = replicas.snapshot().slots[0].member
                assert member is not None
                replicas._slots[0].incarnation.call_began()  # type: ignore[union-attr]
                hang_hooks(cluster)
                begun.set()

        task = asyncio.create_task(user())
        await begun.wait()
        await anyio.sleep(0.5)
        task.cancel()
        await anyio.sleep(0.5)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert end_of(replicas) == ("kill", (WORK_CUT, HOOK_CUT))

    play(story)


async def reserving(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
    cluster.lose_node(cluster.nodes[0])
    await replicas.scale(1)


async def starting(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(replicas.scale, 1)
        while not cluster.actors("replica"):  # noqa: ASYNC110 - nobody tells of actors
            await anyio.sleep(0.001)
        cluster.hang(cluster.actors("replica")[0], "start")
        await anyio.sleep_forever()


async def ready(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
    await replicas.scale(1)
    hang_hooks(cluster)
    await anyio.sleep_forever()


async def draining(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
    await replicas.scale(1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(replicas.broadcast, asyncio.sleep, 1000)
        await anyio.sleep(0.5)
        await replicas.drain()


async def stopping(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
    await replicas.scale(1)
    hang_hooks(cluster)
    await replicas.drain()


async def closing(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
    await replicas.scale(1)
    hang_hooks(cluster)


PHASES: dict[str, Story] = {
    "pending": reserving,
    "starting": starting,
    "ready": ready,
    "draining": draining,
    "stopping": stopping,
    "closing": closing,
}


@pytest.mark.parametrize("phase", PHASES)
def test_an_event_loop_that_is_torn_down_leaves_nothing(phase: str) -> None:
    """As `asyncio.run` does it at a second Ctrl-C: every task is cancelled, and run to its end."""

    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        async def user() -> None:
            async with replicas:
                await PHASES[phase](cluster, replicas)

        task = asyncio.create_task(user())
        await anyio.sleep(3)
        states = [str(member.state) for member in replicas.members()]
        assert states == ["stopping" if phase == "closing" else phase]
        # What runs in a simulated actor is another process.
        drivers = [one for one in asyncio.all_tasks() if getattr(one, "life", None) is None]
        drivers.remove(asyncio.current_task())  # type: ignore[arg-type]
        for one in drivers:
            one.cancel()
        begun = anyio.current_time()
        await asyncio.gather(*drivers, return_exceptions=True)
        assert task.done()
        assert anyio.current_time() < begun + AT_ONCE_S

    play(story)


def test_a_scale_that_is_under_way_when_the_pool_closes_is_told_so_and_starts_nobody() -> None:
    """INV-11: its time-out, in the middle of the close, would have given the pool a size again."""

    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        async def scale() -> None:
            with pytest.raises(pool.PoolClosed, match="is closed"):
                await replicas.scale([1, 2], timeout_s=3)
            assert anyio.current_time() - begun < 2 + AT_ONCE_S

        async with anyio.create_task_group() as tasks, replicas:
            await replicas.scale(1)
            begun = anyio.current_time()
            hang_hooks(cluster)
            tasks.start_soon(scale)
            await anyio.sleep(2)
        opened = [event for event in replicas.events() if event.kind is pool.EventKind.SLOT_OPENED]
        assert [event.slot for event in opened] == [0, 1]

    play(story)


@pytest.mark.parametrize("after_s", [0.5, 1.5], ids=["looks for room", "tells its keeper"])
def test_a_scale_that_has_only_begun_when_the_pool_closes_starts_nobody(after_s: float) -> None:
    """The block is left between two awaits of `scale`, before the new size is in force."""

    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        async def scale() -> None:
            with pytest.raises(pool.PoolClosed, match="is closed"), anyio.fail_after(10):
                await replicas.scale(1)

        async with anyio.create_task_group() as tasks, replicas:
            tasks.start_soon(scale)
            await anyio.sleep(after_s)
            assert replicas.desired == 0, "the size is in force already"
        kinds = {event.kind for event in replicas.events()}
        assert not kinds & {pool.EventKind.SLOT_OPENED, pool.EventKind.POOL_SCALED}

    # A message there and back takes a second.
    slow = FaultPlan(call_s=(0.5, 0.5))
    play(story, slow, cluster_grows=False, detached=True)
