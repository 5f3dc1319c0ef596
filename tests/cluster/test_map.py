"""Items spread over a pool on a real Ray: each exactly once, in order, whoever dies meanwhile."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import pool
from tests import hosts
from tests.tree import (
    BRIEF,
    ON_ONE_NODE,
    ON_TWO_NODES,
    eventually,
    hosts_of,
    is_busy,
    kill,
    pid_of,
    until,
    until_again,
)
from tests.world import World

pytestmark = pytest.mark.ray

TIRELESS = pool.RestartPolicy(intensity=1000, delay_s=0.05, delay_max_s=0.05, jitter=0)


def open_pool(shape: pool.ReplicaShape = ON_ONE_NODE, **options: Any) -> pool.ReplicaPool:
    options = {"restart": TIRELESS, "drain": BRIEF, **options}
    return pool.ReplicaPool("mill", shape=shape, **options)


async def collect(results: AsyncIterator[Any], into: list[Any]) -> None:
    async for out in results:
        into.append(out)  # noqa: PERF401 - kept also when the next one raises


def test_every_item_comes_exactly_once_and_in_order(world: World) -> None:
    """Functions and methods, over replicas and over hosts; an empty input ends at once."""

    async def main() -> None:
        async with open_pool(ON_TWO_NODES, host=hosts.Talkative) as replicas:
            await replicas.scale(2, timeout_s=60)
            items = list(range(150))
            assert [out async for out in replicas.map(abs, items)] == items
            squares = [out async for out in replicas.map("square", items, in_flight=4)]
            assert squares == [item * item for item in items]
            found = [out async for out in replicas.map(hosts.where, items, on="host")]
            assert [item for item, _ in found] == items
            assert {pid for _, pid in found} == {
                host.pid for member in replicas.members() for host in hosts_of(member)
            }
            found = [out async for out in replicas.map(hosts.where, items, on="replica")]
            assert {pid for _, pid in found} == {
                hosts_of(member)[0].pid for member in replicas.members()
            }
            assert [out async for out in replicas.map(abs, [])] == []

    anyio.run(main)


def test_the_input_is_read_no_further_ahead_than_the_bound(world: World) -> None:
    async def main() -> None:
        async with open_pool() as replicas:
            await replicas.scale(2, timeout_s=60)
            read = wanted = 0

            def items() -> Iterator[int]:
                nonlocal read
                while True:
                    read += 1
                    yield read

            results = replicas.map(hosts.slowly, items(), in_flight=2)
            assert read == 0, "nothing is read before somebody wants a result"
            for wanted in range(1, 40):
                assert await anext(results) == wanted
                # Four results wait for each of the two calls on each of the two replicas.
                assert read - wanted <= 4 * 2 * 2
            await anyio.sleep(0.5)
            assert read - wanted <= 4 * 2 * 2, "an idle consumer stops the reading"
            assert not is_busy(replicas)

    anyio.run(main)


@pytest.mark.parametrize("victim", ["host", "replica"])
def test_a_replica_killed_under_a_map_loses_and_doubles_nothing(world: World, victim: str) -> None:
    async def main() -> None:
        async with open_pool(ON_TWO_NODES) as replicas:
            await replicas.scale(2, timeout_s=60)
            items = list(range(200))
            outs = []
            async for out in replicas.map(hosts.slowly, items):
                outs.append(out)
                if out == 20:
                    member = replicas[1]
                    kill(hosts_of(member)[0].pid if victim == "host" else pid_of(member.actor))
            assert outs == items
            await until_again(replicas, rank=1, generation=2)
            assert not is_busy(replicas)

    anyio.run(main)


def test_an_item_that_kills_its_host_ends_as_member_lost_and_all_others_finish(
    world: World,
) -> None:
    """Also those that were in flight beside it, each time."""

    async def main() -> None:
        async with open_pool() as replicas:
            await replicas.scale(1, timeout_s=60)
            items = [*range(1, 10), -1, *range(10, 20)]
            outs = [
                out
                async for out in replicas.map(
                    hosts.poison, items, in_flight=3, errors="return", attempts=2
                )
            ]
            lost = outs[9]
            assert isinstance(lost, pool.MemberLost), outs
            assert "lost 2 members" in " ".join(lost.__notes__)
            assert outs[:9] + outs[10:] == items[:9] + items[10:]
            await until_again(replicas, rank=0, generation=3)

    anyio.run(main)


def test_an_error_ends_the_map_or_takes_the_items_place(world: World) -> None:
    async def main() -> None:
        async with open_pool() as replicas:
            await replicas.scale(1, timeout_s=60)
            outs: list[Any] = []
            with pytest.raises(ValueError, match="seven"):
                await collect(replicas.map(hosts.fail_at_seven, range(50)), outs)
            assert outs == list(range(7)), "everything before the error is yielded"
            outs = [
                out async for out in replicas.map(hosts.fail_at_seven, range(20), errors="return")
            ]
            assert isinstance(outs[7], ValueError)
            assert outs[:7] + outs[8:] == [*range(7), *range(8, 20)]

            def items() -> Iterator[int]:
                yield from range(3)
                raise LookupError("the input's own")

            outs = []
            with pytest.raises(LookupError, match="the input's own"):
                await collect(replicas.map(abs, items()), outs)
            assert outs == [0, 1, 2]

    anyio.run(main)


def test_a_map_waits_for_a_first_member_and_takes_up_new_ones(world: World) -> None:
    async def main() -> None:
        async with open_pool() as replicas:
            seen: set[int] = set()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(replicas.scale, 1)
                with anyio.fail_after(60):
                    async for item, pid in replicas.map(hosts.where, itertools.count()):
                        seen.add(pid)
                        if item == 10:
                            tasks.start_soon(replicas.scale, 2)
                        if len(seen) == 2:
                            break
            assert seen == {hosts_of(member)[0].pid for member in replicas.members()}

    anyio.run(main)


def test_a_member_drained_under_a_map_finishes_its_calls(world: World, tmp_path: Path) -> None:
    """Row E7: what it refuses as `NotAdmitted` is done by another; nothing is cut off."""

    async def main() -> None:
        async with open_pool() as replicas:
            await replicas.scale(2, timeout_s=60)
            outs = []
            async with anyio.create_task_group() as tasks:
                async for out in replicas.map(hosts.slowly, range(300), in_flight=4):
                    outs.append(out)
                    if out == 20:
                        tasks.start_soon(replicas.scale, 1)
            assert outs == list(range(300))
            await replicas.wait_settled(30)
            assert [(report.rung, report.troubles) for report in replicas.reports] == [("hook", ())]
            assert not is_busy(replicas)

    anyio.run(main)


@pytest.mark.parametrize("how", ["cancel", "aclose", "break"])
def test_a_map_that_is_left_early_leaves_the_pool_consistent(world: World, how: str) -> None:
    """INV-11: nothing is sent any more, and the next call finds the pool as it was."""

    async def main() -> None:
        async with open_pool() as replicas:
            await replicas.scale(1, timeout_s=60)
            if how == "cancel":
                with anyio.move_on_after(0.5) as scope:
                    async for _ in replicas.map(hosts.slowly, itertools.count()):
                        pass
                assert scope.cancelled_caught
            else:
                results: Any = replicas.map(hosts.slowly, itertools.count())
                async for out in results:
                    if out == 5:
                        break
                if how == "aclose":
                    await results.aclose()
                    with pytest.raises(pool.PoolClosed):
                        await collect(results, [])
                del results
            await eventually(lambda: not is_busy(replicas))
            assert await replicas.broadcast(abs, -1, flat=True) == [1]
            assert replicas.is_settled
            [report] = await replicas.drain(timeout_s=30)
            assert (report.rung, report.troubles) == ("hook", ())

    anyio.run(main)


def test_a_map_over_a_pool_that_gave_up_raises_that(world: World) -> None:
    async def main() -> None:
        async with open_pool(restart=pool.RestartPolicy(intensity=0)) as replicas:
            await replicas.scale(1, timeout_s=60)
            results = replicas.map(hosts.slowly, itertools.count())
            assert [await anext(results) for _ in range(5)] == list(range(5))
            kill(hosts_of(replicas[0])[0].pid)
            with pytest.raises(pool.PoolFailed, match="crash"), anyio.fail_after(30):
                await collect(results, [])

    anyio.run(main)


def test_a_pool_closed_under_a_map_ends_it(world: World) -> None:
    """INV-11: whoever still waits for a result is told, and does not wait for ever."""

    async def main() -> None:
        raised: list[BaseException] = []

        async def consume() -> None:
            try:
                async for _ in replicas.map(hosts.slowly, itertools.count()):
                    pass
            except pool.PoolError as error:
                raised.append(error)

        async with anyio.create_task_group() as tasks, open_pool() as replicas:
            await replicas.scale(1, timeout_s=60)
            tasks.start_soon(consume)
            await until(replicas, lambda: True)
            await eventually(lambda: is_busy(replicas))
        assert [type(error) for error in raised] == [pool.PoolClosed]

    anyio.run(main)
