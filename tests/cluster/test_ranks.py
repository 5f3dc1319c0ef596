"""Rank actors on a real Ray: one process for each device, a world for each replica."""

from __future__ import annotations

import functools
import os
import time
from pathlib import Path
from typing import Any

import anyio
import pytest

import pool
from tests.tree import (
    ON_ONE_NODE,
    ON_TWO_NODES,
    QUICK,
    Story,
    eventually,
    hosts_of,
    is_gone,
    kill,
    until,
)
from tests.world import World

pytestmark = pytest.mark.ray


class Trainer:
    """Tell what it sees, and do as it is told."""

    def __init__(self, word: str, number: int = 0) -> None:
        self.word = word
        self.number = number
        self.env = dict(os.environ)
        self.threads: set[int] = set()

    def sees(self, *names: str) -> list[str | None]:
        return [self.env.get(name) for name in names]

    def count(self) -> int:
        self.number += 1
        return self.number

    def pid(self) -> int:
        return os.getpid()


def open_pool(shape: pool.ReplicaShape = ON_TWO_NODES, **options: Any) -> pool.ReplicaPool:
    ranks = options.pop("ranks", None) or pool.Ranks(Trainer, ("hello",), {"number": 3})
    return pool.ReplicaPool("train", shape=shape, restart=QUICK, ranks=ranks, **options)


def test_a_replica_has_one_rank_per_device_each_with_its_device_and_its_rank(world: World) -> None:
    async def main() -> None:
        async with open_pool(ranks=pool.Ranks(Trainer, ("hello",), per_host=2)) as replicas:
            result = await replicas.scale(1, timeout_s=90)
            assert result.is_complete, result
            info = replicas[0].info
            assert info is not None
            assert [rank.rank for rank in info.ranks] == [0, 1, 2, 3]
            assert [rank.local_rank for rank in info.ranks] == [0, 1, 0, 1]
            names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK")
            [seen] = await replicas.broadcast("sees", *names, on="rank")
            assert seen == [
                ["0", "4", "0", "2", "0"],
                ["1", "4", "1", "2", "0"],
                ["2", "4", "0", "2", "1"],
                ["3", "4", "1", "2", "1"],
            ]
            [masters] = await replicas.broadcast("sees", "MASTER_ADDR", "MASTER_PORT", on="rank")
            assert len({tuple(each) for each in masters}) == 1
            assert masters[0][0] == info.hosts[0].address
            [visible] = await replicas.broadcast("sees", "CUDA_VISIBLE_DEVICES", on="rank")
            devices = [",".join(rank.devices["GPU"]) for rank in info.ranks]
            assert [each for [each] in visible] == devices
            assert await replicas.broadcast("count", on="rank", flat=True) == [1, 1, 1, 1]
            pids = await replicas.broadcast("pid", on="rank", flat=True)
            assert pids == [rank.pid for rank in info.ranks]
            world.watch(*pids)

    anyio.run(main)


def test_a_killed_rank_takes_its_replica_with_it_which_comes_back_whole(world: World) -> None:
    async def main() -> None:
        ranks = pool.Ranks(Trainer, ("hello",), per_host=1)
        async with open_pool(ON_ONE_NODE, ranks=ranks) as replicas:
            await replicas.scale(1, timeout_s=90)
            story = Story(replicas)
            before = replicas[0]
            assert before.info is not None
            [rank] = before.info.ranks
            world.watch(rank.pid)
            kill(rank.pid)
            await story.until(pool.EventKind.MEMBER_FAULT)
            [fault] = story.of(pool.EventKind.MEMBER_FAULT)
            assert fault.facts["cause"] == "crash"
            assert "rank actor 0" in fault.facts["reason"], fault
            await until(replicas, lambda: replicas.is_settled, 90)
            after = replicas[0]
            assert after.generation == before.generation + 1
            assert await replicas.broadcast("count", on="rank") == [[1]]

    anyio.run(main)


def test_runs_are_fresh_processes_in_the_bundle_with_its_devices(
    world: World, tmp_path: Path
) -> None:
    def where() -> tuple[int, str | None]:
        return os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES")

    async def main() -> None:
        async with pool.ReplicaPool("runs", shape=ON_ONE_NODE, restart=QUICK) as replicas:
            await replicas.scale(1, timeout_s=90)
            [[(first, seen)]] = await replicas.run(where, timeout_s=60)
            assert seen is not None
            assert len(seen.split(",")) == 2
            [[(second, seen)]] = await replicas.run(where, options=pool.RunOptions(devices=0))
            assert seen == ""
            assert first != second
            [[ref]] = await replicas.run(where, options=pool.RunOptions(references=True))
            pid, _ = await ref
            assert pid not in (first, second)
            [[host]] = replicas.hosts()
            with pytest.raises(pool.ConfigError, match="devices is 3"):
                await host.run(where, options=pool.RunOptions(devices=3))
            with pytest.raises(TimeoutError):
                await host.run(__import__("time").sleep, 600, timeout_s=3)
            mark = tmp_path / "at work"

            async def linger() -> None:
                mark.touch()
                await anyio.sleep(600)

            run = host.begin_run(linger)
            with anyio.fail_after(60):
                while not mark.exists():  # noqa: ASYNC110 - it is another process
                    await anyio.sleep(0.05)
            assert await run.cancel(grace_s=5) == "it is at work, and ended when it was asked to"
            with pytest.raises(pool.RunCancelled):
                await run.result()
            world.watch(first, second, pid)

    anyio.run(main)


def test_runs_share_a_host_as_long_as_its_devices_last_and_then_wait(
    world: World, tmp_path: Path
) -> None:
    """Row E10; INV-12."""

    def work() -> tuple[str, float, float]:
        began = time.monotonic()
        (tmp_path / str(os.getpid())).touch()
        while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < began + 60:
            time.sleep(0.05)  # Until two are at work together.
        time.sleep(0.5)
        return os.environ["CUDA_VISIBLE_DEVICES"], began, time.monotonic()

    async def main() -> None:
        async with pool.ReplicaPool("runs", shape=ON_ONE_NODE, restart=QUICK) as replicas:
            await replicas.scale(1, timeout_s=90)
            [[host]] = replicas.hosts()
            one = pool.RunOptions(devices=1)
            runs = [host.begin_run(work, options=one) for _ in range(4)]
            # Each is a call of its own; which of them arrives first is nobody's promise.
            seen = sorted([await run.result() for run in runs], key=lambda each: each[1])
            first, second, third, fourth = seen
            assert first[1] < second[2], "the first two are at work together"
            assert second[1] < first[2], "the first two are at work together"
            assert third[1] > min(first[2], second[2])
            for one_run, began, ended in seen:
                for other, its_begin, its_end in seen:
                    if one_run == other and began < its_begin:
                        assert ended < its_begin <= its_end, "one device, two runs"
            assert {first[0], second[0]} == {third[0], fourth[0]}

    anyio.run(main)


def test_a_result_by_reference_outlives_the_process_of_its_run(world: World) -> None:
    def make(size: int) -> tuple[int, bytes]:
        return os.getpid(), bytes(size)

    async def main() -> None:
        async with pool.ReplicaPool("runs", shape=ON_ONE_NODE, restart=QUICK) as replicas:
            await replicas.scale(1, timeout_s=90)
            options = pool.RunOptions(references=True)
            [[small]] = await replicas.run(make, 10, options=options, timeout_s=60)
            [[large]] = await replicas.run(make, 5_000_000, options=options, timeout_s=60)
            kill(hosts_of(replicas[0])[0].pid)
            for ref, size in ((small, 10), (large, 5_000_000)):
                pid, result = await ref
                assert len(result) == size
                # Ray tells of a death a moment before the kernel does.
                await eventually(functools.partial(is_gone, pid), 5)

    anyio.run(main)


def test_ranks_of_hosts_that_hold_their_devices_have_each_its_own(world: World) -> None:
    async def main() -> None:
        ranks = pool.Ranks(Trainer, ("hello",))
        async with open_pool(ON_ONE_NODE, ranks=ranks, hosts_hold_devices=True) as replicas:
            await replicas.scale(1, timeout_s=90)
            [[whole]] = await replicas.broadcast(lambda: os.environ["CUDA_VISIBLE_DEVICES"])
            [seen] = await replicas.broadcast("sees", "CUDA_VISIBLE_DEVICES", on="rank")
            assert [each for [each] in seen] == sorted(whole.split(","))
            assert len(seen) == 2

    anyio.run(main)
