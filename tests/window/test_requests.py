"""Requests are withdrawn when nobody waits for them, and answered whatever is in the way."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import anyio
import pytest

import pool
from pool.testing import SimNode, SimulatedCluster, run
from pool.window.requests import ANSWER, AWAY_S, Refused, Verb, Whom, ask
from tests.cli.canned import ALIVE, Canned
from tests.window.worlds import play, replicas

LATE_S = 2.0
WHOM = Whom("rollout", "1f2e3d4c", ALIVE)


class Late(Canned):
    """Take what is published some time after it was sent, whoever still waits for that."""

    fails = False

    async def publish(self, values: Mapping[str, bytes]) -> None:
        await asyncio.shield(self._take(values))

    async def _take(self, values: Mapping[str, bytes]) -> None:
        await asyncio.sleep(LATE_S)
        await super().publish(values)
        if self.fails:
            raise pool.SourceUnavailable("it said nothing more")


def test_a_request_that_is_given_up_while_it_is_sent_does_not_arrive_later() -> None:
    async def main() -> None:
        observer = Late()
        before = dict(observer.values)
        with anyio.move_on_after(LATE_S / 2) as scope:
            await ask(observer, WHOM, Verb.SCALE, {"size": 1})
        assert scope.cancelled_caught
        await anyio.sleep(2 * LATE_S)
        assert observer.values == before

    run(main)


def test_a_request_that_arrived_although_sending_it_failed_is_withdrawn() -> None:
    async def main() -> None:
        observer = Late()
        observer.fails = True
        before = dict(observer.values)
        with pytest.raises(pool.SourceUnavailable, match="said nothing more"):
            await ask(observer, WHOM, Verb.SCALE, {"size": 1})
        assert observer.values == before

    run(main)


async def anyhow(pool_: pool.ReplicaPool, cluster: SimulatedCluster, **options: Any) -> Any:
    whom = Whom(pool_.name, pool_.instance, cluster.whoami())
    return await ask(cluster, whom, Verb.SCALE, {"size": 2}, **options)


def test_what_was_taken_is_waited_for_while_the_cluster_is_away_and_its_end_is_told_then() -> None:
    async def main(cluster: SimulatedCluster) -> None:
        cluster.faults = replace(cluster.faults, actor_start_s=(20.0, 20.0))
        async with replicas(cluster) as pool_:
            result = await anyhow(pool_, cluster, on_taken=lambda: cluster.stop_control(AWAY_S / 2))
            assert result["reached"] == 2

    play(main)


def test_a_cluster_that_stays_away_is_not_waited_for() -> None:
    async def main(cluster: SimulatedCluster) -> None:
        async with replicas(cluster) as pool_:
            begun = anyio.current_time()
            with pytest.raises(pool.SourceUnavailable):
                await anyhow(pool_, cluster, on_taken=lambda: cluster.stop_control(3 * AWAY_S))
            assert anyio.current_time() - begun < 2 * AWAY_S

    play(main)


class Deaf(SimulatedCluster):
    """Have one answer arrive although it is said that it did not."""

    refuses = 0

    async def publish(self, values: Mapping[str, bytes]) -> None:
        await super().publish(values)
        if self.refuses and any(ANSWER in key for key in values):
            self.refuses -= 1
            raise pool.SourceUnavailable("nobody answers")


def test_what_cannot_be_said_to_be_taken_is_not_begun() -> None:
    async def main() -> None:
        cluster = Deaf([SimNode(gpus=4)])
        async with replicas(cluster) as pool_:
            cluster.refuses = 3
            with pytest.raises(Refused, match="it was not begun: nobody answers"):
                await anyhow(pool_, cluster)
            assert pool_.desired == 0
            assert (await anyhow(pool_, cluster))["reached"] == 2

    run(main)
