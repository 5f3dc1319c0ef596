"""A pool whose size follows its load, simulated: up at once, down after votes, nobody cut off."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

import pool
from pool.testing import SimNode, SimulatedCluster, run

Story = Callable[[pool.ReplicaPool], Awaitable[None]]


class Mill(pool.NodeHost):
    """Take a second for an item."""

    async def slow(self, item: int) -> int:
        await anyio.sleep(1)
        return item


def story_of(story: Story, nodes: int = 8) -> None:
    async def main() -> None:
        cluster = SimulatedCluster([SimNode(gpus=8)] * nodes)
        shape = pool.ReplicaShape(devices=8)
        replicas = pool.ReplicaPool("r", shape=shape, host=Mill, cluster=cluster)
        cluster.listen(replicas)
        async with replicas:
            await story(replicas)

    run(main, limit_s=86_400)


def decisions(replicas: pool.ReplicaPool) -> list[pool.Event]:
    return [event for event in replicas.events() if event.kind is pool.EventKind.SIZE_DECIDED]


POLICY = pool.ElasticPolicy(min_size=1, max_size=6, target=2, down_votes=3, cooldown_s=5)


def test_a_pool_grows_with_its_work_and_shrinks_after_it_without_losing_any() -> None:
    async def story(replicas: pool.ReplicaPool) -> None:
        await replicas.scale(1, timeout_s=600)
        replicas.autosize(POLICY, period_s=1)
        sizes = []
        async for _ in replicas.map("slow", range(300), in_flight=2):
            sizes.append(replicas.desired)  # noqa: PERF401 - read at each item
        assert max(sizes) == 6
        await anyio.sleep(60)
        assert replicas.desired == 1
        await replicas.wait_settled(60)
        assert {report.rung for report in replicas.reports} == {"hook"}, "nobody was cut off"
        grown = [event for event in decisions(replicas) if event.facts["wanted"] == 6]
        assert "asks for 6 member(s)" in grown[0].facts["reason"]
        assert decisions(replicas)[-1].facts["reason"]

    story_of(story)


def test_a_metric_of_ones_own_decides_and_one_that_fails_changes_nothing() -> None:
    """INV-9: a measure that could not be taken is no load of nothing."""

    async def story(replicas: pool.ReplicaPool) -> None:
        await replicas.scale(2, timeout_s=600)
        wanted: list[Any] = [8]

        async def metric() -> float:
            if wanted[0] is None:
                raise OSError("no answer")
            return float(wanted[0])

        replicas.autosize(POLICY, metric=metric, period_s=1)
        await anyio.sleep(3)
        assert replicas.desired == 4
        wanted[0] = None
        await anyio.sleep(100)
        assert replicas.desired == 4
        assert "could not be measured" in decisions(replicas)[-1].facts["reason"]
        assert "no answer" in decisions(replicas)[-1].facts["reason"]
        replicas.autosize(None)
        wanted[0] = 0
        await anyio.sleep(100)
        assert replicas.desired == 4

    story_of(story)


def test_what_the_cluster_could_never_hold_is_said_and_left() -> None:
    async def story(replicas: pool.ReplicaPool) -> None:
        await replicas.scale(1, timeout_s=600)
        replicas.autosize(POLICY, metric=lambda: 12.0, period_s=1)
        await anyio.sleep(10)
        assert replicas.desired == 1
        assert "cannot be had" in decisions(replicas)[-1].facts["reason"]

    story_of(story, nodes=2)


def test_a_period_that_is_none_is_refused() -> None:
    async def story(replicas: pool.ReplicaPool) -> None:
        with pytest.raises(pool.ConfigError, match="period_s"):
            replicas.autosize(POLICY, period_s=0)

    story_of(story)
