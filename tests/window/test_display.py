"""What is in the way of showing a pool is in the way of nothing else."""

from __future__ import annotations

import anyio

import pool
from pool.control.window import events_of, find, look
from pool.testing import SimulatedCluster
from pool.window.requests import Verb, Whom, ask
from tests.window.worlds import SHAPE, Shy, play, replicas, shown


def test_a_pool_that_cannot_be_shown_hides_no_event_and_keeps_nobody_from_asking() -> None:
    async def main(cluster: SimulatedCluster) -> None:
        async with Shy("a", shape=SHAPE, cluster=cluster) as shy:
            await shy.scale(1)
            await anyio.sleep(10)
            before = await find(cluster, "a")
            assert before.snapshot is None or before.snapshot.ready == 0
            seen = await events_of(cluster, "a", shy.instance)
            assert [each.event for each in seen] == list(shy.events())
            whom = Whom("a", shy.instance, cluster.whoami())
            result = await ask(cluster, whom, Verb.SCALE, {"size": 2}, timeout_s=60)
            assert result["reached"] == 2
            shy.is_mended = True
            await shown(cluster, lambda v: v.snapshot is not None and v.snapshot.ready == 2)

    play(main)


def test_of_a_detached_pool_that_lost_its_owner_another_of_its_name_takes_nothing_down() -> None:
    async def main(cluster: SimulatedCluster) -> None:
        async def drive(view: SimulatedCluster) -> None:
            async with replicas(view, detached=True) as left:
                await left.scale(1)
                await anyio.sleep_forever()

        driver = cluster.drive(drive)
        await shown(cluster, lambda v: v.snapshot is not None and v.snapshot.ready == 1)
        cluster.crash(driver)
        old = await shown(cluster, lambda v: v.status == "owner gone")
        async with replicas(cluster) as other:
            await anyio.sleep(10)
            statuses = {view.instance: view.status for view in await look(cluster, "a")}
            assert statuses == {old.instance: "owner gone", other.instance: "running"}
        async with pool.attach("a", cluster=cluster, takeover=True) as again:
            assert again.desired == 1

    play(main)
