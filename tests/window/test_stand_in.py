"""Who stands in for a dead owner leaves the pool as it is, whatever goes wrong on the way."""

from __future__ import annotations

import anyio
import pytest

import pool
from pool.control.stand_in import stand_in
from pool.ownership.keeper import LEVEL
from pool.testing import SimulatedCluster
from pool.window.requests import Request, Verb
from tests.window.worlds import play, replicas


def asked(size: int) -> Request:
    return Request(id="", verb=Verb.SCALE, args={"size": size}, by="the test")


@pytest.mark.parametrize("silent", ["let_go", "keep"])
def test_a_keeper_that_does_not_answer_costs_the_pool_nothing(silent: str) -> None:
    async def main(cluster: SimulatedCluster) -> None:
        async with replicas(cluster, detached=True) as founder:
            await founder.scale(2)
            await founder.detach()
        [keeper] = cluster.actors(LEVEL)
        before = set(cluster.left("a"))
        cluster.hang(keeper, silent)
        with pytest.raises(pool.CallTimeout):
            await stand_in("a", asked(2), cluster)
        await anyio.sleep(30)
        assert set(cluster.left("a")) == before, "nobody was drained, and the keeper is there"
        cluster.unhang()
        async with pool.attach("a", takeover=True, cluster=cluster) as again:
            await again.wait_settled(60)
            assert again.snapshot().ready == 2
        assert not cluster.left("a")

    play(main)


def test_what_is_refused_leaves_the_pool_as_it_was() -> None:
    async def main(cluster: SimulatedCluster) -> None:
        async with replicas(cluster, detached=True) as founder:
            await founder.scale(2)
            await founder.detach()
        before = set(cluster.left("a"))
        with pytest.raises(pool.InfeasibleError):
            await stand_in("a", asked(100), cluster)
        assert set(cluster.left("a")) == before
        async with pool.attach("a", cluster=cluster) as again:
            assert again.desired == 2

    play(main)
