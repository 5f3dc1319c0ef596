"""Maps, submitted calls and streams in simulation, while members die and are drained.

Safety: each item is once in the output, and no bound is exceeded. Progress: it ends.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import anyio
import pytest

import pool
from pool.testing import SimNode, SimulatedCluster, run

Story = Callable[[SimulatedCluster, pool.ReplicaPool], Awaitable[None]]
TIRELESS = pool.RestartPolicy(intensity=10_000, delay_s=0.1, delay_max_s=0.1, jitter=0)


class Mill(pool.NodeHost):
    """Have methods of every kind."""

    async def slow(self, item: Any) -> tuple[str, Any]:
        await anyio.sleep(1)
        return self.context.identity.member, item

    def quick(self, item: Any) -> tuple[str, Any]:
        return self.context.identity.member, item

    async def hang(self, item: Any) -> Any:
        if item == 3:
            await anyio.sleep(10_000)
        return item

    def count(self, to: int) -> Iterator[int]:
        yield from range(to)

    async def count_slowly(self, to: int) -> AsyncIterator[int]:
        for number in range(to):
            await anyio.sleep(0.1)
            yield number

    def break_off(self) -> Iterator[int]:
        yield 1
        raise ValueError("enough")

    async def squares(self, items: list[int]) -> list[int]:
        await anyio.sleep(0.1)
        return [item * item for item in items]


def story_of(story: Story, *, size: int = 3, seed: int = 0, **options: Any) -> None:
    """Tell a story of a pool of replicas of one host each."""

    async def main() -> None:
        cluster = SimulatedCluster([SimNode(gpus=8)] * 8, seed=seed)
        shape = pool.ReplicaShape(devices=8)
        replicas = pool.ReplicaPool(
            "r", shape=shape, host=Mill, cluster=cluster, restart=TIRELESS, **options
        )
        cluster.listen(replicas)
        async with replicas:
            await replicas.scale(size, timeout_s=600)
            await story(cluster, replicas)
            assert all(member.in_flight == 0 for member in replicas._incarnations())
        assert cluster.left(replicas.name, replicas.instance) == []

    run(main, seed=seed, limit_s=86_400)


async def endlessly(chance: random.Random, cluster: SimulatedCluster, r: pool.ReplicaPool) -> None:
    """Kill a host, drain a replica, or bring one back, every few seconds."""
    while True:
        await anyio.sleep(chance.uniform(0.5, 8))
        members = [member for member in r.members(serving=True) if member.info is not None]
        if not members:
            continue
        member = chance.choice(members)
        assert member.info is not None
        match chance.choice(["host", "replica", "scale"]):
            case "host":
                cluster.crash(member.info.hosts[0].actor)
            case "replica" if member.actor is not None:
                cluster.crash(member.actor)
            case _:
                r._set_desired(chance.randint(1, 5), "the story wants it")


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("work", ["slow", "quick"])
def test_each_item_is_once_in_the_output_whatever_happens(
    seed: int, work: str, ordered: bool
) -> None:
    chance = random.Random(f"{seed} {work} {ordered}")
    items = list(range(300))

    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(endlessly, chance, cluster, replicas)
            how = replicas.map if ordered else replicas.map_unordered
            in_flight = chance.randint(1, 6)
            results = how(work, items, in_flight=in_flight, attempts=1000)
            seen = [item async for _, item in results]
            assert seen == items if ordered else Counter(seen) == Counter(items)
            tasks.cancel_scope.cancel()

    story_of(story, seed=seed)


def test_submitted_calls_all_end_while_members_die(seed: int) -> None:
    chance = random.Random(seed)

    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(endlessly, chance, cluster, replicas)
            futures = [
                replicas.submit(
                    "slow", item, idempotent=True, attempts=1000, in_flight=4, key=item % 5
                )
                for item in range(100)
            ]
            assert [item for _, item in await asyncio.gather(*futures)] == list(range(100))
            tasks.cancel_scope.cancel()

    story_of(story, seed=seed)


def test_a_submitted_call_is_made_once_unless_it_is_idempotent() -> None:
    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        [member] = replicas.members()
        assert member.info is not None
        future = replicas.submit("slow", 1)
        again = replicas.submit("slow", 2, idempotent=True)
        await anyio.sleep(0.5)
        cluster.crash(member.info.hosts[0].actor)
        with pytest.raises(pool.MemberLost):
            await future
        assert await again == ("r/0.2/0.1", 2)

    story_of(story, size=1)


def test_items_of_one_key_go_to_one_member_while_it_lives() -> None:
    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        results = replicas.map("slow", range(60), key=lambda item: item % 6, in_flight=4)
        homes: dict[int, set[str]] = {}
        async for member, item in results:
            homes.setdefault(item % 6, set()).add(member)
        assert [len(each) for each in homes.values()] == [1] * 6
        assert len(set.union(*homes.values())) == 3, "the keys are spread"

    story_of(story)


def test_an_item_that_takes_too_long_ends_alone() -> None:
    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        results = replicas.map("hang", range(6), timeout_s=2, errors="return")
        outs = [out async for out in results]
        assert isinstance(outs[3], pool.CallTimeout)
        assert outs[:3] + outs[4:] == [0, 1, 2, 4, 5]
        assert results.counts["timed out"] == 1
        await anyio.sleep(1)
        assert results.counts["in flight"] == 0, "the call was stopped on its member"

    story_of(story)


def test_batches_are_made_of_items_and_come_apart_again() -> None:
    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        squares = [out async for out in replicas.map("squares", range(25), batch=10)]
        assert squares == [item * item for item in range(25)]
        outs = [out async for out in replicas.map("slow", range(5), batch=5, errors="return")]
        assert len(outs) == 5
        assert all("return a list" in str(out) for out in outs), "a pair is no list of five"

    story_of(story)


def test_a_batch_that_lost_a_member_is_tried_item_by_item() -> None:
    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        async with anyio.create_task_group() as tasks:

            async def strike() -> None:
                await anyio.sleep(0.05)
                for member in replicas.members():
                    assert member.info is not None
                    cluster.crash(member.info.hosts[0].actor)

            tasks.start_soon(strike)
            results = replicas.map("squares", range(12), batch=6)
            assert [out async for out in results] == [item * item for item in range(12)]
            assert results.counts["retried"] == 2

    story_of(story, size=2)


def test_an_asynchronous_input_is_read_no_further_than_the_bound() -> None:
    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        read = 0
        closed = False

        async def items() -> AsyncIterator[int]:
            nonlocal read, closed
            try:
                for item in itertools.count():
                    await anyio.sleep(0.01)
                    read += 1
                    yield item
            finally:
                closed = True

        async with replicas.map("slow", items(), in_flight=2, buffer=10) as results:
            for wanted in range(20):
                assert (await anext(results))[1] == wanted
                assert read - wanted <= 11
            await anyio.sleep(60)
            assert read - 20 <= 10
        await anyio.sleep(5)
        assert closed

    story_of(story)


def test_no_more_is_under_way_in_all_than_allowed() -> None:
    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        results = replicas.map_unordered("slow", range(40), in_flight=5, in_all=4)
        async for _ in results:
            assert results.counts["in flight"] <= 4

    story_of(story)


@pytest.mark.parametrize("method", ["count", "count_slowly"])
def test_a_stream_yields_the_values_of_a_generator(method: str) -> None:
    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        assert [value async for value in replicas.stream(method, 200)] == list(range(200))
        [out] = [out async for out in replicas.map(method, [3])]
        assert out == [0, 1, 2]
        async with replicas.stream(method, 1000) as values:
            assert await anext(values) == 0
        with pytest.raises(pool.PoolClosed):
            await anext(values)

    story_of(story)


def test_a_stream_ends_with_the_error_of_its_generator_after_its_values() -> None:
    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        values = replicas.stream("break_off")
        assert await anext(values) == 1
        with pytest.raises(ValueError, match="enough"):
            await anext(values)

    story_of(story)


def test_a_stream_that_began_is_not_begun_again() -> None:
    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        [member] = replicas.members()
        assert member.info is not None
        values = replicas.stream("count_slowly", 1000)
        assert await anext(values) == 0
        cluster.crash(member.info.hosts[0].actor)
        with pytest.raises(pool.MemberLost):
            async for _ in values:
                pass

    story_of(story, size=1)


def test_a_shared_value_arrives_as_itself() -> None:
    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        shared = replicas.share([1, 2, 3])
        outs = [out async for out in replicas.map("quick", [shared, 4])]
        assert [item for _, item in outs] == [[1, 2, 3], 4]
        assert (await replicas.submit("quick", shared))[1] == [1, 2, 3]

    story_of(story)


def test_a_cancelled_submission_is_not_sent_any_more() -> None:
    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        futures = [replicas.submit("slow", item, in_flight=1) for item in range(5)]
        await anyio.sleep(0.1)
        for future in futures[1:]:
            future.cancel()
        assert (await futures[0])[1] == 0
        await anyio.sleep(5)
        assert replicas.load == 0

    story_of(story, size=1)


def test_letting_a_map_go_stops_what_is_in_flight() -> None:
    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        async with replicas.map("hang", [3] * 10) as results, anyio.create_task_group() as tasks:
            tasks.start_soon(anext, results)
            await anyio.sleep(5)
            assert results.counts["in flight"] == 6
            tasks.cancel_scope.cancel()
        await anyio.sleep(1)
        assert results.counts["in flight"] == 0
        assert [report.rung for report in await replicas.drain(timeout_s=60)] == ["hook"] * 3

    story_of(story)


def test_closing_the_pool_ends_what_still_waits() -> None:
    waiting: list[asyncio.Future[Any]] = []

    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        await replicas.scale(0)
        waiting.append(replicas.submit("slow", 1))

    async def main() -> None:
        cluster = SimulatedCluster([SimNode(gpus=8)])
        shape = pool.ReplicaShape(devices=8)
        async with pool.ReplicaPool("r", shape=shape, host=Mill, cluster=cluster) as replicas:
            await story(cluster, replicas)
        with pytest.raises(pool.PoolClosed):
            await waiting[0]

    run(main, limit_s=86_400)


@pytest.mark.parametrize("in_flight", [1, 2, 5])
def test_an_input_that_raises_ends_the_map_after_what_was_read(in_flight: int) -> None:
    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        def items() -> Iterator[int]:
            yield from range(13)
            raise LookupError("the input's own")

        results = replicas.map("quick", items(), in_flight=in_flight)
        assert [(await anext(results))[1] for _ in range(13)] == list(range(13))
        with pytest.raises(LookupError, match="the input's own"):
            await anext(results)

    story_of(story, size=1)


def test_progress_is_told_to_whoever_asks() -> None:
    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        told: list[int] = []
        results = replicas.map(
            "slow", range(20), progress=lambda counts: told.append(counts.get("done", 0))
        )
        async for _ in results:
            pass
        assert told == sorted(told)
        assert told[-1] == 20
        assert len(told) > 5

    story_of(story)


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("on", ["replica", "host"])
def test_calls_behind_a_cut_link_are_made_again_when_the_pool_has_done_with_the_member(
    on: str, ordered: bool
) -> None:
    """The cluster tells of the end ten minutes later, and nobody waits for that."""

    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        out: list[int] = []

        async def feed() -> None:
            way = replicas.map if ordered else replicas.map_unordered
            async for _, item in way("slow", range(200), on=on, in_flight=2):
                out.append(item)

        with anyio.fail_after(120):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(feed)
                await anyio.sleep(5)
                cluster.silence_node(replicas[1].nodes[0], for_s=600)
        assert sorted(out) == list(range(200))
        assert not ordered or out == sorted(out)
        with anyio.fail_after(900):
            await replicas.wait_settled(800)

    story_of(story, health=pool.HealthPolicy(period_s=1, timeout_s=1, failures=3))


async def broadcasts(replicas: pool.ReplicaPool) -> None:
    await replicas.broadcast("slow", 1)


async def reads_a_stream(replicas: pool.ReplicaPool) -> None:
    async for _ in replicas.stream("count_slowly", 10_000):
        pass


async def runs(replicas: pool.ReplicaPool) -> None:
    [host] = replicas.hosts()[0]
    await host.run(anyio.sleep, 3600)


async def calls_a_host(replicas: pool.ReplicaPool) -> None:
    [host] = replicas.hosts()[0]
    await host.call(anyio.sleep, 3600)


@pytest.mark.parametrize("way", [broadcasts, reads_a_stream, runs, calls_a_host])
def test_who_waits_behind_a_cut_link_is_told_when_the_pool_has_done_with_the_member(
    way: Callable[[pool.ReplicaPool], Awaitable[None]],
) -> None:
    """As with `map`, but for what cannot be done again elsewhere."""

    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        lost: list[pool.MemberLost] = []

        async def wait() -> None:
            while not lost:
                try:
                    await way(replicas)
                except pool.MemberLost as error:
                    lost.append(error)

        with anyio.fail_after(120):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                await anyio.sleep(5)
                cluster.silence_node(replicas[0].nodes[0], for_s=600)
        assert lost[0].cause == "node_lost"
        with anyio.fail_after(900):
            await replicas.wait_settled(800)

    story_of(story, size=1, health=pool.HealthPolicy(period_s=1, timeout_s=1, failures=3))


def of_no_hash(item: int) -> Any:
    return item if item < 5 else [item]


def that_raises(item: int) -> int:
    if item == 5:
        raise LookupError("the key's own")
    return item


async def slowly(items: range) -> AsyncIterator[int]:
    for item in items:
        await anyio.sleep(0.01)
        yield item


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    ("key", "error"),
    [(of_no_hash, "cannot be hashed"), (that_raises, "the key's own")],
)
def test_a_key_that_is_wrong_ends_the_map_after_what_was_read(
    key: Callable[[int], Any], error: str, is_async: bool
) -> None:
    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        items: Any = slowly(range(10)) if is_async else range(10)
        results = replicas.map("quick", items, key=key)
        assert [(await anext(results))[1] for _ in range(5)] == list(range(5))
        with pytest.raises((pool.ConfigError, LookupError), match=error), anyio.fail_after(60):
            await anext(results)
        assert replicas.load == 0

    story_of(story, size=1)


def test_a_key_that_is_none_is_refused_at_once() -> None:
    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        wrong: Any = 5
        with pytest.raises(pool.ConfigError, match="key is 5"):
            replicas.map("quick", [1], key=wrong)
        wrong = [1]
        with pytest.raises(pool.ConfigError, match="cannot be hashed") as caught:
            replicas.submit("quick", 1, key=wrong)
        assert caught.value.field == "key"
        assert (await replicas.submit("quick", 1, key=(1, "a")))[1] == 1

    story_of(story, size=1)


class Awkward(Exception):
    """Refuse to be written on, as a frozen dataclass does."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)


class Shapeless:
    """Have no length, as an array of no dimension, and no words."""

    def __len__(self) -> int:
        raise TypeError("len() of unsized object")

    def __repr__(self) -> str:
        raise TypeError("no words")


class Odd(pool.NodeHost):
    """Raise, and return, what is awkward to tell of."""

    def leave(self, item: Any) -> Any:
        sys.exit(item)

    async def leave_async(self, item: Any) -> Any:
        await anyio.sleep(0.1)
        sys.exit(item)

    def leave_amid(self, item: Any) -> Iterator[int]:
        yield 1
        sys.exit(item)

    async def leave_amid_async(self, item: Any) -> AsyncIterator[int]:
        yield 1
        sys.exit(item)

    def stop(self, item: Any) -> Any:
        raise StopIteration(item)

    async def stop_async(self, item: Any) -> Any:
        raise StopAsyncIteration(item)

    def refuse(self, item: Any) -> Any:
        raise Awkward(item)

    def shapeless(self, items: list[Any]) -> Any:
        return Shapeless()


def test_awkward_errors_and_values_arrive_and_nobody_waits_for_them() -> None:
    async def main() -> None:
        cluster = SimulatedCluster([SimNode(gpus=8)])
        shape = pool.ReplicaShape(devices=8)
        async with pool.ReplicaPool("r", shape=shape, host=Odd, cluster=cluster) as replicas:
            await replicas.scale(1)
            with anyio.fail_after(60):
                for method in ("stop", "stop_async"):
                    with pytest.raises(RuntimeError, match="Stop"):
                        await replicas.submit(method, 1)
                    with pytest.raises(RuntimeError, match="Stop"):
                        await anext(replicas.map(method, [1]))
                with pytest.raises(Awkward):
                    await replicas.submit("refuse", 1)
                results = replicas.map("shapeless", [1, 2], batch=2, errors="return")
                outs = [out async for out in results]
                assert all("an object of Shapeless" in str(out) for out in outs)
                assert len(outs) == 2
            assert replicas.load == 0

    run(main, limit_s=86_400)


@pytest.mark.parametrize("method", ["leave", "leave_async"])
def test_a_function_that_calls_sys_exit_fails_and_its_member_stays(method: str) -> None:
    """argparse does so, of a mistake in its arguments."""

    async def main() -> None:
        cluster = SimulatedCluster([SimNode(gpus=8)])
        shape = pool.ReplicaShape(devices=8)
        async with pool.ReplicaPool("r", shape=shape, host=Odd, cluster=cluster) as replicas:
            await replicas.scale(1)
            calls: list[Callable[[], Awaitable[Any]]] = [
                lambda: replicas.submit(method, 3),
                lambda: anext(replicas.map(method, [3])),
                lambda: replicas.broadcast(method, 3),
                lambda: replicas.hosts()[0][0].call(method, 3),
                lambda: replicas.run(sys.exit, 3),
            ]
            for call in calls:
                with anyio.fail_after(5), pytest.raises(pool.RemoteError) as caught:
                    await call()
                assert "SystemExit(3), as sys.exit() does" in str(caught.value)
            for amid in ("leave_amid", "leave_amid_async"):
                values = replicas.stream(amid, 3)
                assert await anext(values) == 1
                with anyio.fail_after(5), pytest.raises(pool.RemoteError):
                    await anext(values)
            kinds = {event.kind for event in replicas.events()}
            assert pool.EventKind.MEMBER_FAULT not in kinds, "its member lives"

    run(main, limit_s=86_400)


@pytest.mark.parametrize("way", ["map", "submit", "stream"])
def test_work_for_a_pool_that_nobody_scaled_waits_and_says_so_once(
    way: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        cluster = SimulatedCluster([SimNode(gpus=8)])
        shape = pool.ReplicaShape(devices=8)
        async with pool.ReplicaPool("r", shape=shape, host=Mill, cluster=cluster) as replicas:
            outs: list[Any] = []

            async def work() -> None:
                match way:
                    case "map":
                        outs.append(await anext(replicas.map("count", [3])))
                    case "submit":
                        outs.append(await replicas.submit("count", 3))
                    case _:
                        outs.append([out async for out in replicas.stream("count", 3)])

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(work)
                await anyio.sleep(1)
                assert "work_waits" not in caplog.text
                await anyio.sleep(100)
                assert caplog.text.count("work_waits") == 1
                assert "scale it first, as in `await pool.scale(1)`" in caplog.text
                assert outs == []
                await replicas.scale(1)
            assert outs == [[0, 1, 2]]
            await replicas.scale(0)
            await anyio.sleep(100)
            assert caplog.text.count("work_waits") == 1, "nothing waits any more"

    run(main, limit_s=86_400)
