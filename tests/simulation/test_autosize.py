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


def needs_more(load: float) -> float:
    return load


@pytest.mark.parametrize(
    ("policy", "options", "field"),
    [
        (3, {}, "policy"),
        (POLICY, {"metric": 5}, "metric"),
        (POLICY, {"metric": needs_more}, "metric"),
        (POLICY, {"period_s": "1"}, "period_s"),
        (POLICY, {"period_s": None}, "period_s"),
    ],
)
def test_what_cannot_be_right_is_refused_at_the_call_and_the_last_stays_in_force(
    policy: Any, options: dict[str, Any], field: str
) -> None:
    async def story(replicas: pool.ReplicaPool) -> None:
        replicas.autosize(POLICY, metric=lambda: 4.0)
        with pytest.raises(pool.ConfigError) as caught:
            replicas.autosize(policy, **options)
        assert caught.value.field == field
        await anyio.sleep(10)
        assert replicas.desired == 2

    story_of(story)


class Unspeakable(Exception):
    """Have no words."""

    def __repr__(self) -> str:
        raise TypeError("no words")


def raise_it() -> float:
    raise Unspeakable


@pytest.mark.parametrize(
    "metric", [lambda: "x", lambda: [4], lambda: True, lambda: 10**400, raise_it]
)
def test_a_metric_that_gives_no_number_is_warned_of_once_and_changes_nothing(metric: Any) -> None:
    async def story(replicas: pool.ReplicaPool) -> None:
        await replicas.scale(2, timeout_s=600)
        replicas.autosize(POLICY, metric=metric, period_s=1)
        await anyio.sleep(100)
        assert replicas.desired == 2
        assert "could not be measured" in decisions(replicas)[-1].facts["reason"]
        warnings = [
            event for event in replicas.events() if event.kind is pool.EventKind.SOURCE_UNAVAILABLE
        ]
        assert [event.facts["source"] for event in warnings] == ["metric"]

    story_of(story)


class Single:
    """Be a number of another package, as numpy's are."""

    def __float__(self) -> float:
        return 8.0


def test_a_number_of_another_package_is_one() -> None:
    async def story(replicas: pool.ReplicaPool) -> None:
        wanted: Any = Single
        replicas.autosize(POLICY, metric=wanted, period_s=1)
        await anyio.sleep(10)
        assert replicas.desired == 4

    story_of(story)


def test_a_cluster_that_cannot_be_asked_leaves_the_size_and_the_pool_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story(replicas: pool.ReplicaPool) -> None:
        await replicas.scale(1, timeout_s=600)

        async def away() -> Any:
            raise pool.SourceUnavailable("nobody answers")

        with monkeypatch.context() as patch:
            patch.setattr(replicas.cluster, "topology", away)
            replicas.autosize(POLICY, metric=lambda: 8.0, period_s=1)
            await anyio.sleep(5)
            assert replicas.desired == 1
            assert "nobody answers" in decisions(replicas)[-1].facts["reason"]
        await anyio.sleep(5)
        assert replicas.desired == 4

    story_of(story)


@pytest.mark.parametrize("size", [5, [3, 5]])
def test_a_size_that_the_load_overrules_is_given_up_at_once_and_said_so(size: Any) -> None:
    async def story(replicas: pool.ReplicaPool) -> None:
        await replicas.scale(1, timeout_s=600)
        policy = pool.ElasticPolicy(min_size=1, max_size=2, target=2)
        replicas.autosize(policy, metric=lambda: 1.0, period_s=1)
        began = anyio.current_time()
        result = await replicas.scale(size, timeout_s=600)
        assert anyio.current_time() - began < 10
        assert result.superseded
        assert (result.requested, result.desired) == (5, replicas.desired) == (5, 2)

    story_of(story)
