"""One slot's member is let go in good order, and no other slot is touched."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

import pool
from pool.testing import SimNode, SimulatedCluster, run


def play(main: Callable[[pool.ReplicaPool], Awaitable[None]], **options: Any) -> None:
    cluster = SimulatedCluster([SimNode(gpus=8)])

    async def play_it() -> None:
        shape = pool.ReplicaShape(devices=1)
        async with pool.ReplicaPool("a", shape=shape, cluster=cluster, **options) as replicas:
            await replicas.scale(3)
            await replicas.wait_settled(600)
            await main(replicas)
        assert not cluster.left()

    run(play_it)


def test_its_rank_goes_to_a_new_slot_and_the_others_stay() -> None:
    """INV-3."""

    async def main(replicas: pool.ReplicaPool) -> None:
        before = [member.id for member in replicas.members()]
        replicas.drain_slot(1, "a fan is loud")
        replicas.drain_slot(1, "a fan is loud")
        await replicas.wait_drained(1)
        await replicas.wait_settled(600)
        after = [member.id for member in replicas.members()]
        assert (after[0], after[2]) == (before[0], before[2])
        assert after[1] not in before
        [report] = replicas.reports
        assert (report.member, report.rung, report.reason) == (before[1], "hook", "a fan is loud")
        retired = [event for event in replicas.events() if event.kind == "slot_retired"]
        assert [event.facts["reason"] for event in retired] == ["a fan is loud"]

    play(main)


def test_a_spare_takes_its_rank_over_at_once() -> None:
    async def main(replicas: pool.ReplicaPool) -> None:
        [spare] = [member for member in replicas.members() if member.rank is None]
        began = anyio.current_time()
        replicas.drain_slot(replicas[0].slot)
        while (spare.slot, 0) not in [(each.slot, each.rank) for each in replicas.members()]:
            await replicas.changed()
        assert anyio.current_time() - began < 0.1
        await replicas.wait_settled(600)
        assert len(replicas.members()) == 4

    play(main, spares=1)


def test_a_pool_without_surge_has_never_more_than_it_may() -> None:
    """INV-2."""

    async def main(replicas: pool.ReplicaPool) -> None:
        seen = []
        end = replicas.on_change(lambda: seen.append(len(replicas.members())))
        replicas.drain_slot(0)
        await replicas.wait_drained(0)
        await replicas.wait_settled(600)
        end()
        assert max(seen) <= replicas.most == 3

    play(main, surge=0)


def test_a_slot_that_is_not_there_and_a_pool_that_is_closed_are_refused() -> None:
    async def main(replicas: pool.ReplicaPool) -> None:
        with pytest.raises(pool.ConfigError, match="no slot 9; there are: 0, 1, 2"):
            replicas.drain_slot(9)
        other = pool.ReplicaPool("b", shape=replicas.shape, cluster=replicas.cluster)
        with pytest.raises(pool.PoolClosed):
            other.drain_slot(0)

    play(main)
