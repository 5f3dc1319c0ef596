"""Starts that fail, hang, or wait for room that is not there (INV-6)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import anyio
import pytest

import pool
from pool import EventKind
from tests import hosts
from tests.tree import BRIEF, ON_ONE_NODE, ON_TWO_NODES, QUICK, Story, every_gpu_taken, until
from tests.world import World

pytestmark = pytest.mark.ray


def open_pool(**options: Any) -> pool.ReplicaPool:
    options = {"shape": ON_ONE_NODE, "restart": QUICK, "drain": BRIEF, **options}
    return pool.ReplicaPool("fresh", **options)


def test_a_start_that_always_fails_is_tried_with_back_off_and_then_given_up(
    world: World, tmp_path: Path
) -> None:
    """Rows E17, E18: never retried at once for ever; the error says why each slot is missing."""

    async def main() -> None:
        policy = pool.RestartPolicy(intensity=2, delay_s=0.1, jitter=0)
        count = tmp_path / "count"
        args = (OSError("no weights"), 1000, count)
        async with open_pool(host=hosts.Failing, host_args=args, restart=policy) as replicas:
            story = Story(replicas)
            with pytest.raises(pool.SizeUnreachable, match="no weights") as caught:
                await replicas.scale(1, timeout_s=60)
            assert count.read_text() == "3", "one start and two more"
            assert set(caught.value.missing) == {0}
            cause = caught.value.__cause__
            assert isinstance(cause, pool.PoolFailed)
            assert "start" in cause.cause
            faults = story.of(EventKind.MEMBER_FAULT)
            assert {fault.facts["cause"] for fault in faults} == {pool.Cause.START}
            planned = story.of(EventKind.RESTART_PLANNED)
            assert [event.facts["in_s"] for event in planned] == pytest.approx([0.1, 0.2], abs=0.1)
            assert replicas.desired == 0

    anyio.run(main)


def test_a_start_that_fails_once_succeeds_at_the_next_try(world: World, tmp_path: Path) -> None:
    async def main() -> None:
        args = (OSError("not mounted"), 1, tmp_path / "count")
        async with open_pool(host=hosts.Failing, host_args=args) as replicas:
            result = await replicas.scale(1, timeout_s=60)
            assert result.is_complete
            assert replicas[0].generation == 2

    anyio.run(main)


def test_a_hook_that_says_permanent_is_not_tried_again(world: World, tmp_path: Path) -> None:
    async def main() -> None:
        count = tmp_path / "count"
        args = (pool.Permanent("the licence ran out"), 1000, count)
        async with open_pool(host=hosts.Failing, host_args=args) as replicas:
            with pytest.raises(pool.SizeUnreachable, match="the licence ran out") as caught:
                await replicas.scale(1, timeout_s=60)
            assert count.read_text() == "1"
            assert isinstance(caught.value.__cause__, pool.PoolFailed)
            assert "verdict" in caught.value.__cause__.cause

    anyio.run(main)


def test_a_hook_that_says_temporary_is_tried_again_when_it_says(
    world: World, tmp_path: Path
) -> None:
    async def main() -> None:
        args = (pool.Temporary("the shard is being written", 0.7), 1, tmp_path / "count")
        async with open_pool(host=hosts.Failing, host_args=args) as replicas:
            story = Story(replicas)
            await replicas.scale(1, timeout_s=60)
            [planned] = story.of(EventKind.RESTART_PLANNED)
            assert planned.facts["in_s"] == pytest.approx(0.7, abs=0.05)
            again = next(e for e in story.of(EventKind.MEMBER_STATE) if e.generation == 2)
            assert again.at - planned.at >= 0.65

    anyio.run(main)


def test_a_start_that_hangs_ends_with_its_time_out(world: World) -> None:
    """Row E14: one host that does not get ready is enough, and nothing of the gang stays."""

    async def main() -> None:
        policy = pool.RestartPolicy(intensity=0)
        async with open_pool(
            shape=ON_TWO_NODES, host=hosts.SlowSecond, restart=policy, start_timeout_s=4
        ) as replicas:
            with pytest.raises(pool.SizeUnreachable, match="start") as caught:
                await replicas.scale(1, timeout_s=60)
            assert "time-out" in str(caught.value) or "within" in str(caught.value)

    anyio.run(main)


@pytest.mark.parametrize(
    ("host", "args", "says"),
    [
        (hosts.Dying, (), "worker process has died"),
        (hosts.Given, (OSError("no licence"),), r"OSError: no licence"),
    ],
    ids=["dies in start", "constructor raises"],
)
def test_a_host_that_cannot_even_start_is_told_with_its_reason(
    world: World, host: type[pool.NodeHost], args: tuple[Any, ...], says: str
) -> None:
    async def main() -> None:
        policy = pool.RestartPolicy(intensity=1, delay_s=0.05)
        async with open_pool(host=host, host_args=args, restart=policy) as replicas:
            with pytest.raises(pool.SizeUnreachable, match=says):
                await replicas.scale(1, timeout_s=60)

    anyio.run(main)


def test_a_reservation_that_never_gets_ready_says_what_it_waits_for_and_leaves_no_group(
    world: World,
) -> None:
    """Fault matrix; row C4. Waiting for room is no failure and uses no restart up."""

    async def main() -> None:
        async with open_pool() as replicas:
            with every_gpu_taken():
                groups = world.groups()
                story = Story(replicas)
                with pytest.raises(pool.SizeUnreachable, match="somebody else"):
                    await replicas.scale(1, timeout_s=7)
                [waiting] = story.of(EventKind.SLOT_WAITING)
                assert "somebody else holds 4 GPU" in waiting.facts["reason"]
                assert replicas.failures == ()
                await until(replicas, lambda: not replicas.snapshot().slots)
                assert world.groups() == groups

    anyio.run(main)


def test_partial_success_is_kept_with_a_reason_for_each_slot_that_is_missing(
    world: World,
) -> None:
    """Row E4: the pool goes on trying, and gets there when there is room."""

    async def main() -> None:
        async with open_pool(shape=pool.ReplicaShape(devices=4)) as replicas:
            with every_gpu_taken(nodes=5):
                result = await replicas.scale(2, timeout_s=20)
                assert (result.requested, result.reached, result.desired) == (2, 1, 2)
                assert not result.is_complete
                [(slot, reason)] = result.missing.items()
                assert "somebody else" in reason
                [member] = replicas.members(serving=True)
                assert member.slot != slot
            await replicas.wait_settled(60)
            assert len(replicas.members(serving=True)) == 2
            assert member.id in {member.id for member in replicas.members()}

    anyio.run(main)


def test_a_scale_that_a_later_one_overtakes_says_so(world: World) -> None:
    """Two that scale one pool: the later call wins, the earlier is told."""

    async def main() -> None:
        async with open_pool(host=hosts.Slow) as replicas:
            results: list[pool.ScaleResult] = []

            async def first() -> None:
                results.append(await replicas.scale(2, timeout_s=60))

            began = time.monotonic()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(first)
                await until(replicas, lambda: replicas.desired == 2)
                await replicas.scale(0, timeout_s=30)
            assert [result.superseded for result in results] == [True]
            assert time.monotonic() - began < 30

    anyio.run(main)
