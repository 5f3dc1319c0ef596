"""Rank actors and runs in simulation: started with their replica, lost with it, nothing left."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

import pool
from pool.testing import SimNode, SimulatedCluster, run
from tests.tree import hosts_of

Story = Callable[[SimulatedCluster, pool.ReplicaPool], Awaitable[None]]


class Worker:
    """Count what is asked of it."""

    made: list[str] = []  # noqa: RUF012 - shared on purpose: one process stands for many here

    def __init__(self, word: str) -> None:
        self.word = word
        self.calls = 0
        Worker.made.append(word)

    async def work(self, item: int = 0) -> tuple[str, int]:
        self.calls += 1
        await anyio.sleep(1)
        return self.word, item


class Fragile(Worker):
    """Fail in its constructor."""

    def __init__(self, word: str) -> None:
        super().__init__(word)
        raise pool.Permanent("there is no such model")


def pool_of(story: Story, **options: Any) -> None:
    """Tell a story of a pool of replicas with two hosts each."""

    async def main() -> None:
        cluster = SimulatedCluster([SimNode(gpus=8)] * 6)
        shape = pool.ReplicaShape(devices=16)
        replicas = pool.ReplicaPool("r", shape=shape, cluster=cluster, **options)
        cluster.listen(replicas)
        async with replicas:
            await story(cluster, replicas)
        assert cluster.left(replicas.name, replicas.instance) == []

    run(main, limit_s=86_400)


def ranks(worker: type = Worker, **options: Any) -> pool.Ranks:
    return pool.Ranks(worker, ("hello",), **options)


def test_every_device_has_a_rank_and_every_rank_its_place() -> None:
    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        await replicas.scale(2, timeout_s=600)
        for member in replicas.members():
            assert member.info is not None
            assert [rank.rank for rank in member.info.ranks] == list(range(16))
            assert [len(host.ranks) for host in member.info.hosts] == [8, 8]
        rows = await replicas.broadcast("work", 7, on="rank")
        assert rows == [[("hello", 7)] * 16] * 2

    pool_of(story, ranks=ranks())


def test_a_lost_rank_is_the_loss_of_its_replica_and_of_no_other() -> None:
    """INV-3, INV-4: the whole gang is replaced, with all its ranks."""

    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        await replicas.scale(2, timeout_s=600)
        first, second = replicas.members()
        assert first.info is not None
        cluster.crash(first.info.ranks[3].actor)
        await anyio.sleep(1)
        await replicas.wait_settled(600)
        assert [member.generation for member in replicas.members()] == [2, 1]
        [fault] = [e for e in replicas.events() if e.kind is pool.EventKind.MEMBER_FAULT]
        assert "host 1: rank actor 1" in fault.facts["reason"]
        assert replicas[1].info == second.info
        assert len(await replicas.broadcast("work", on="rank", flat=True)) == 8

    pool_of(story, ranks=ranks(per_host=2))


def test_a_constructor_that_gives_a_verdict_ends_the_tries() -> None:
    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        with pytest.raises(pool.SizeUnreachable, match="there is no such model"):
            await replicas.scale(1, timeout_s=600)
        assert isinstance(replicas.failed, pool.PoolFailed)

    pool_of(story, ranks=ranks(Fragile))


def test_items_are_mapped_over_rank_actors() -> None:
    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        await replicas.scale(1, timeout_s=600)
        results = [result async for result in replicas.map("work", range(40), on="rank")]
        assert results == [("hello", item) for item in range(40)]

    pool_of(story, ranks=ranks(per_host=1))


def test_a_drain_waits_for_the_calls_of_ranks() -> None:
    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        await replicas.scale(1, timeout_s=600)
        calls = asyncio.ensure_future(replicas.broadcast("work", on="rank", flat=True))
        await anyio.sleep(0.1)
        [report] = await replicas.drain(timeout_s=60)
        assert not report.troubles, report
        assert len(await calls) == 2

    pool_of(story, ranks=ranks(per_host=1))


def test_runs_wait_for_their_part_of_the_bundle_in_turn() -> None:
    """INV-12: no two at once on the same devices, and all of them in the end."""
    at_once = most = 0

    async def work(number: int) -> int:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await anyio.sleep(10)
        at_once -= 1
        return number

    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        await replicas.scale(1, timeout_s=600)
        [[host, _]] = replicas.hosts()
        half = pool.RunOptions(devices=4)
        runs = [host.begin_run(work, number, options=half) for number in range(5)]
        assert [await each.result() for each in runs] == list(range(5))
        assert most == 2

    pool_of(story)


def test_a_run_that_is_called_off_gives_its_part_back_wherever_it_was() -> None:
    """INV-11: while it waits for devices, while its process starts, and at work."""

    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        await replicas.scale(1, timeout_s=600)
        [[host, _]] = replicas.hosts()
        said = set()
        for wait_s in (0.0, 0.01, 0.5, 5.0, 20.0):
            first = host.begin_run(anyio.sleep, 3600)
            second = host.begin_run(anyio.sleep, 3600)
            await anyio.sleep(wait_s)
            said.add(await second.cancel())
            said.add(await first.cancel(grace_s=3))
            for each in (first, second):
                with pytest.raises(pool.RunCancelled):
                    await each.result()
        assert "it is at work, and ended when it was asked to" in said
        assert "it was waiting for its part of the bundle" in said
        assert await host.run(work_of(5)) == 5

    pool_of(story)


def work_of(value: int) -> Callable[[], Awaitable[int]]:
    async def work() -> int:
        return value

    return work


def test_a_run_on_a_host_that_dies_is_lost_and_says_so() -> None:
    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        await replicas.scale(1, timeout_s=600)
        [[host, _]] = replicas.hosts()
        one = host.begin_run(anyio.sleep, 3600)
        await anyio.sleep(30)
        cluster.crash(hosts_of(replicas[0])[0].actor)
        with pytest.raises(pool.MemberLost):
            await one.result()
        await replicas.wait_settled(600)

    pool_of(story)


def test_hooks_are_called_around_the_function_also_when_it_raises() -> None:
    """Row E22."""
    said: list[str] = []

    async def work() -> None:
        said.append("work")
        raise ValueError("no")

    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        await replicas.scale(1, timeout_s=600)
        options = pool.RunOptions(
            before=(lambda: said.append("before"),),
            after=(lambda: said.append("first"), lambda: said.append("second")),
        )
        with pytest.raises(ValueError, match="no"):
            await replicas.hosts()[0][0].run(work, options=options)
        assert said == ["before", "work", "first", "second"]

    pool_of(story)


def test_resumable_work_goes_on_after_losses_within_its_budgets() -> None:
    """Row E24: what the platform takes is forgiven nearly for ever, a crash some times."""

    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        await replicas.scale(1, timeout_s=600)
        tries: list[int] = []

        async def work(attempt: int) -> str:
            tries.append(attempt)
            call = asyncio.ensure_future(replicas.broadcast(anyio.sleep, 100))
            await anyio.sleep(10)
            if attempt < 2:
                cluster.crash(hosts_of(replicas[0])[1].actor)
            await call
            return "done"

        outcome = await pool.run_resumable(replicas, work)
        assert (outcome.ending, outcome.attempts) == (pool.Ending.SUCCEEDED, 3)
        assert outcome.unwrap() == "done"
        assert dict(outcome.lost) == {pool.Cause.CRASH: 2}
        tries.clear()
        outcome = await pool.run_resumable(replicas, work, budgets={pool.Cause.CRASH: 1})
        assert outcome.ending is pool.Ending.FAILED
        with pytest.raises(pool.MemberLost):
            outcome.unwrap()

        async def mistaken(attempt: int) -> None:
            raise ValueError("a mistake")

        outcome_of_error = await pool.run_resumable(replicas, mistaken)
        assert outcome_of_error.ending is pool.Ending.ERROR
        assert outcome_of_error.attempts == 1

    pool_of(story, restart=pool.RestartPolicy(intensity=100))


def test_work_whose_node_was_noticed_to_go_counts_as_preempted() -> None:
    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        await replicas.scale(1, timeout_s=600)

        async def work(attempt: int) -> str:
            call = asyncio.ensure_future(replicas.broadcast(anyio.sleep, 500))
            await anyio.sleep(10)
            if not attempt:
                cluster.drain_node(replicas[0].nodes[0], 60)
            await call
            return "done"

        outcome = await pool.run_resumable(replicas, work)
        assert outcome.ending is pool.Ending.SUCCEEDED, outcome
        assert dict(outcome.lost) == {pool.Cause.PREEMPTION: 1}

    pool_of(story)


def test_a_loss_in_a_group_of_errors_is_a_loss() -> None:
    """A task group in the work raises what failed together: the loss, and what it caused."""

    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        await replicas.scale(1, timeout_s=600)

        async def fails() -> None:
            raise RuntimeError("a peer is gone")

        async def work(attempt: int) -> str:
            if not attempt:
                cluster.crash(hosts_of(replicas[0])[1].actor)
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(replicas.broadcast(anyio.sleep, 100))
                    await anyio.sleep(1)
                    tasks.create_task(fails())
            return "done"

        outcome = await pool.run_resumable(replicas, work)
        assert (outcome.ending, outcome.attempts) == (pool.Ending.SUCCEEDED, 2)

    pool_of(story)


def test_a_simulated_host_starts_no_real_process() -> None:
    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        with pytest.raises(pool.SizeUnreachable, match="processes are not simulated"):
            await replicas.scale(1, timeout_s=600)

    pool_of(story, processes=[pool.Process(["sleep", "1"])])


def test_a_run_that_waited_until_its_host_was_drained_gives_its_part_back() -> None:
    """INV-11: the host takes work again, and the next run has the devices."""

    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        await replicas.scale(1, timeout_s=600)
        [[host, _]] = replicas.hosts()
        first = host.begin_run(anyio.sleep, 60)
        late = host.begin_run(work_of(1))
        await anyio.sleep(30)
        actor = hosts_of(replicas[0])[0].actor
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cluster.call, actor, "drain", 300)
            assert await first.result() is None
            with pytest.raises(pool.NotAdmitted):
                await late.result()
        await cluster.call(actor, "restore")
        with anyio.fail_after(60):
            assert await host.run(work_of(2)) == 2

    pool_of(story)
